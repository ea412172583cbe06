"""The replay buffer of episodes, against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.learning.replay_buffer import Episodes, Retention, init_buffer, insert, sample_steps

T, CAPACITY, BATCH_SIZE = 4, 7, 3
hypothesis_settings = settings(max_examples=30, deadline=None, derandomize=True)
RETENTIONS = {
    "bins": Retention(num_best=2, num_bins=2),
    "best": Retention(num_best=CAPACITY, num_bins=0),
    "newest": Retention(2, 2, False),
}
insert_fns = {
    name: jax.jit(lambda buffer, new, rule=rule: insert(buffer, new, rule, lambda episodes: episodes.returns))
    for name, rule in RETENTIONS.items()
}


def make_episodes(returns, ids):
    """Episodes of one step, whose state is their id; a return of None stands for an empty row."""
    num_episodes = len(returns)
    rewards = np.zeros((num_episodes, T), np.float32)
    rewards[:, 0] = [0 if r is None else r for r in returns]
    states = np.repeat(np.array(ids, np.float32)[:, None, None], T + 1, axis=1)
    length = np.array([r is not None for r in returns], np.int32)
    return Episodes(states, np.zeros((num_episodes, T), np.int32), rewards, length, np.zeros(num_episodes, bool))


def kept_episodes(name, batches):
    """(return, id) of the episodes in a buffer after batches of returns; ids count up."""
    buffer, next_id = init_buffer(make_episodes([0], [0]), CAPACITY), 0
    for returns in batches:
        buffer = insert_fns[name](buffer, make_episodes(returns, range(next_id, next_id + BATCH_SIZE)))
        next_id += BATCH_SIZE
    is_valid = np.asarray(buffer.length) > 0
    return list(
        zip(
            np.asarray(buffer.returns)[is_valid].tolist(),
            np.asarray(buffer.states)[is_valid, 0, 0].tolist(),
            strict=True,
        )
    )


return_batches = st.lists(
    st.lists(st.none() | st.integers(0, 9), min_size=BATCH_SIZE, max_size=BATCH_SIZE), min_size=1, max_size=5
)


@given(return_batches)
@hypothesis_settings
def test_best_retention_sorts_by_return_with_newest_first_on_ties(batches):
    return_id_pairs = [
        (value, BATCH_SIZE * batch_index + index)
        for batch_index, values in enumerate(batches)
        for index, value in enumerate(values)
        if value is not None
    ]
    newest_batch_first = sorted(return_id_pairs, key=lambda pair: (-pair[0], -(pair[1] // BATCH_SIZE), pair[1]))
    assert kept_episodes("best", batches) == newest_batch_first[:CAPACITY]


@given(return_batches)
@hypothesis_settings
def test_newest_retention_keeps_the_latest_episodes(batches):
    latest_returns = [v for values in batches[::-1] for v in values if v is not None]
    assert [value for value, _ in kept_episodes("newest", batches)] == latest_returns[:CAPACITY]


@given(return_batches)
@hypothesis_settings
def test_bin_retention_keeps_the_best_and_the_lowest_return(batches):
    kept_returns = [value for value, _ in kept_episodes("bins", batches)]
    sorted_returns = sorted((v for values in batches for v in values if v is not None), reverse=True)
    assert kept_returns == sorted(kept_returns, reverse=True)
    assert kept_returns[:2] == sorted_returns[:2]
    assert len(kept_returns) == min(CAPACITY, len(sorted_returns))
    if sorted_returns:
        assert kept_returns[-1] == sorted_returns[-1]


def test_bin_retention_keeps_low_returns_among_many_high_ones():
    kept_returns = [
        value for value, _ in kept_episodes("bins", [[1, 2, 3], [90, 91, 92], [93, 94, 95], [96, 97, 98], [99, 99, 99]])
    ]
    assert kept_returns[:2] == [99, 99]
    assert set(kept_returns[-2:]) <= {1, 2, 3}


def test_sample_steps_mixes_best_by_step_and_all_by_episode():
    buffer = make_episodes([9, 8, 1, None], range(4))
    buffer = jax.tree.map(jnp.asarray, buffer._replace(length=np.array([3, 1, 2, 0], np.int32)))
    sample = jax.jit(lambda key: sample_steps(buffer, key, 4000, num_best=2, best_fraction=0.5))
    episode, step = jax.device_get(sample(jax.random.key(0)))
    best = np.bincount(episode[:2000], minlength=4) / 2000
    others = np.bincount(episode[2000:], minlength=4) / 2000
    np.testing.assert_allclose(best, [0.75, 0.25, 0, 0], atol=0.04)
    np.testing.assert_allclose(others, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.04)
    assert (step < buffer.length[episode]).all()
    np.testing.assert_allclose(np.bincount(step[episode == 0]) / (episode == 0).sum(), 1 / 3, atol=0.04)


def test_values_scale_rewards_by_their_range():
    nonnegative_rewards = make_episodes([1.0, 1.0], [0, 1])._replace(terminated=np.array([True, False]))
    np.testing.assert_allclose(nonnegative_rewards.values(0.5, (0.0, 1.0))[:, 0], [0.5, 1.0])
    negative_rewards = make_episodes([-1.0, -1.0], [0, 1])._replace(terminated=np.array([True, False]))
    # No more cost after the terminal state.
    np.testing.assert_allclose(negative_rewards.values(0.5, (-1.0, 0.0))[:, 0], [0.5, 0.0])
    assert jnp.all(negative_rewards.values(0.5, (-1.0, 0.0))[:, 1:] == 0)


def test_empty_slots_do_not_widen_the_bins():
    # The bin key of an empty slot is 0: if it counted, all three would be in the lower of two bins.
    retention = Retention(num_best=0, num_bins=2)

    def mean_reward(episodes):
        return jnp.sum(episodes.rewards, axis=1)

    buffer = insert(
        init_buffer(make_episodes([0], [0]), 2), make_episodes([-10, -9, -8], range(3)), retention, mean_reward
    )
    np.testing.assert_array_equal(buffer.returns, [-9, -10])  # the lowest of each bin
