"""The store of episodes, against the rule written out."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.learning.replay_buffer import Episodes, Retention, init_buffer, insert, sample_steps

T, PLACES, NEW = 4, 7, 3
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
RULES = {
    "bands": Retention(num_best=2, num_bins=2),
    "best": Retention(num_best=PLACES, num_bins=0),
    "newest": Retention(2, 2, False),
}
insert_fns = {
    name: jax.jit(lambda buffer, new, rule=rule: insert(buffer, new, rule, lambda lived: lived.returns))
    for name, rule in RULES.items()
}


def episodes(returns, names):
    """Episodes of one step, whose state is their name; a return of None is no episode."""
    count = len(returns)
    rewards = np.zeros((count, T), np.float32)
    rewards[:, 0] = [0 if r is None else r for r in returns]
    states = np.repeat(np.array(names, np.float32)[:, None, None], T + 1, axis=1)
    length = np.array([r is not None for r in returns], np.int32)
    return Episodes(states, np.zeros((count, T), np.int32), rewards, length, np.zeros(count, bool))


def kept_episodes(name, batches):
    """(return, name) of what a store holds after batches of returns, which are named in order."""
    buffer, number = init_buffer(episodes([0], [0]), PLACES), 0
    for returns in batches:
        buffer = insert_fns[name](buffer, episodes(returns, range(number, number + NEW)))
        number += NEW
    is_valid = np.asarray(buffer.length) > 0
    return list(
        zip(
            np.asarray(buffer.returns)[is_valid].tolist(),
            np.asarray(buffer.states)[is_valid, 0, 0].tolist(),
            strict=True,
        )
    )


returns = st.lists(st.lists(st.none() | st.integers(0, 9), min_size=NEW, max_size=NEW), min_size=1, max_size=5)


@given(returns)
@QUICK
def test_a_store_of_the_best_holds_the_best_sorted_the_newest_first_among_equals(batches):
    everything = [
        (value, NEW * batch + place)
        for batch, values in enumerate(batches)
        for place, value in enumerate(values)
        if value is not None
    ]
    newest_batch_first = sorted(everything, key=lambda pair: (-pair[0], -(pair[1] // NEW), pair[1]))
    assert kept_episodes("best", batches) == newest_batch_first[:PLACES]


@given(returns)
@QUICK
def test_the_newest_store_holds_whatever_came_last(batches):
    is_valid = [v for values in batches[::-1] for v in values if v is not None]
    assert [value for value, _ in kept_episodes("newest", batches)] == is_valid[:PLACES]


@given(returns)
@QUICK
def test_a_store_with_bands_keeps_the_best_and_the_lowest_whatever_comes(batches):
    kept_returns = [value for value, _ in kept_episodes("bands", batches)]
    everything = sorted((v for values in batches for v in values if v is not None), reverse=True)
    assert kept_returns == sorted(kept_returns, reverse=True)
    assert kept_returns[:2] == everything[:2]
    assert len(kept_returns) == min(PLACES, len(everything))
    if everything:
        assert kept_returns[-1] == everything[-1]


def test_low_returns_stay_when_many_high_ones_come():
    kept_returns = [
        value
        for value, _ in kept_episodes("bands", [[1, 2, 3], [90, 91, 92], [93, 94, 95], [96, 97, 98], [99, 99, 99]])
    ]
    assert kept_returns[:2] == [99, 99]
    assert set(kept_returns[-2:]) <= {1, 2, 3}


def test_places_are_drawn_from_the_best_by_steps_and_from_all_by_episode():
    buffer = episodes([9, 8, 1, None], range(4))
    buffer = jax.tree.map(jnp.asarray, buffer._replace(length=np.array([3, 1, 2, 0], np.int32)))
    pick = jax.jit(lambda key: sample_steps(buffer, key, 4000, num_best=2, best_fraction=0.5))
    episode, step = jax.device_get(pick(jax.random.key(0)))
    best = np.bincount(episode[:2000], minlength=4) / 2000
    others = np.bincount(episode[2000:], minlength=4) / 2000
    np.testing.assert_allclose(best, [0.75, 0.25, 0, 0], atol=0.04)
    np.testing.assert_allclose(others, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.04)
    assert (step < buffer.length[episode]).all()
    np.testing.assert_allclose(np.bincount(step[episode == 0]) / (episode == 0).sum(), 1 / 3, atol=0.04)


def test_values_stretch_rewards_between_the_least_and_the_greatest():
    falls = episodes([1.0, 1.0], [0, 1])._replace(terminated=np.array([True, False]))
    np.testing.assert_allclose(falls.values(0.5, (0.0, 1.0))[:, 0], [0.5, 1.0])
    late = episodes([-1.0, -1.0], [0, 1])._replace(terminated=np.array([True, False]))
    np.testing.assert_allclose(late.values(0.5, (-1.0, 0.0))[:, 0], [0.5, 0.0])  # to have come there costs no more
    assert jnp.all(late.values(0.5, (-1.0, 0.0))[:, 1:] == 0)


def test_empty_slots_stretch_no_band():
    # The bin key of an empty slot is 0: if it counted, all three would fall into the lower of two bands.
    rule = Retention(num_best=0, num_bins=2)

    def mean_reward(kept):
        return jnp.sum(kept.rewards, axis=1)

    both = insert(init_buffer(episodes([0], [0]), 2), episodes([-10, -9, -8], range(3)), rule, mean_reward)
    np.testing.assert_array_equal(both.returns, [-9, -10])  # the lowest of each band
