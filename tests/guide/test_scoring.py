"""Scores of examples, and layers that pursue a value, against sums written out and choices whose best is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide import Path, guide, monte_carlo, temporal_difference
from thinking.guide.abstraction import skip_step
from thinking.guide.hindsight import Pairs, make_examples, select_pairs
from thinking.guide.scoring import path_score, td_score
from thinking.kernels import Box, Context, Discrete, table, transformer

T, G = 6, 0.7
T_INDEX, J_INDEX = np.triu_indices(T, 1)
QUICK = settings(max_examples=20, deadline=None, derandomize=True)
gains = st.lists(st.floats(0, 1, width=32), min_size=T, max_size=T).map(lambda x: np.array(x, np.float32))


def path(rewards=None, values=None, length=T):
    return Path(np.arange(T, dtype=np.int32), np.int32(length), rewards=rewards, values=values)


@jax.jit
def path_scores():
    return path_score(monte_carlo(G), path(), Pairs(T_INDEX, J_INDEX))


@jax.jit
def path_scores_with_rewards(rewards):
    return path_score(monte_carlo(G, reward=True), path(rewards), Pairs(T_INDEX, J_INDEX))


@given(gains)
@QUICK
def test_monte_carlo_scores_are_discounted_rewards_and_how_near_the_goal_was(rewards):
    scores = np.asarray(path_scores_with_rewards(rewards))
    for row, (t, j) in enumerate(zip(T_INDEX, J_INDEX, strict=True)):
        expected = (1 - G) * sum(G ** (i - t) * rewards[i] for i in range(t, j)) + G ** (j - t)
        assert float(scores[row]) == pytest.approx(expected, rel=1e-4)
        assert -1e-6 <= scores[row] <= 1 + 1e-6
    near = path_scores()
    np.testing.assert_allclose(near, G ** (J_INDEX - T_INDEX), rtol=1e-6)


@functools.cache
def bootstrapping(reward):
    """Of rewards: Monte Carlo scores, and TD scores of layers that expect just those, nothing, and 1."""
    pairs = Pairs(T_INDEX, J_INDEX)

    @jax.jit
    def both(rewards):
        mine = path(rewards)
        after = pairs._replace(t=np.minimum(pairs.t + 1, pairs.j))
        expected = path_score(monte_carlo(G, reward=reward), mine, after)
        unknown = jnp.full(T_INDEX.shape, -jnp.inf)
        scoring = temporal_difference(G, reward=reward)
        return (
            path_score(scoring, mine, pairs),
            td_score(scoring, mine, pairs, expected),
            td_score(scoring, mine, pairs, unknown),
            td_score(scoring, mine, pairs, jnp.ones(T_INDEX.shape)),
        )

    return both


@pytest.mark.parametrize("reward", [False, True])
@given(rewards=gains)
@QUICK
def test_a_layer_that_expects_the_monte_carlo_score_bootstraps_to_it(reward, rewards):
    monte_carlo_scores, same, unknown, hopeful = jax.device_get(bootstrapping(reward)(rewards))
    np.testing.assert_allclose(same, monte_carlo_scores, rtol=1e-4)
    np.testing.assert_allclose(unknown, monte_carlo_scores, rtol=1e-4)
    far = J_INDEX > T_INDEX + 1
    gained = (1 - G) * rewards[T_INDEX] if reward else np.zeros(len(T_INDEX))
    np.testing.assert_allclose(hopeful[far], (gained + G)[far], rtol=1e-5)
    np.testing.assert_allclose(hopeful[~far], monte_carlo_scores[~far], rtol=1e-5)


def test_bootstrapping_finds_the_score_of_a_way_that_nobody_took_whole():
    # 0 -> 1 -> 4 was walked, and 1 -> 2 -> 3 -> 4 after a detour; then 5 -> 1 -> 2 -> 3 -> 4: from 1 there is a
    # shorter way than the one that was walked from 5.
    kernel = table(input=Discrete(6), value=Discrete(6), target=Discrete(6))
    paths_walked = [[0, 1, 4, 4, 4], [5, 1, 2, 3, 4]]
    lengths = [3, 5]
    scores = {}
    for name, scoring in {"monte carlo": monte_carlo(0.5), "bootstrapped": temporal_difference(0.5)}.items():
        g = guide(layers=[kernel], abstraction=skip_step(2), scoring=scoring)
        state, observe = jax.jit(g.init)(jax.random.key(0)), jax.jit(g.observe)
        for path_states, length in zip(paths_walked, lengths, strict=True):
            state, _ = observe(state, Path(np.int32([path_states]), np.int32([length])))
        layer = jax.tree.map(lambda leaf: np.asarray(leaf)[0], state.layers[0])
        question = Context(np.int32([[5]]), np.int32([1]))
        scores[name] = float(jax.jit(kernel.infer)(layer, question, np.int32([4])).score[0])
    assert scores["monte carlo"] == 0.5**4
    assert scores["bootstrapped"] == 0.5**2  # one step, and then the one that the first walk told of


def test_a_layer_that_pursues_a_value_learns_from_every_state_but_the_last():
    values = np.linspace(0, 1, T).astype(np.float32)
    mine = path(rewards=np.zeros(T, np.float32), values=values, length=5)._replace(states=np.eye(T, dtype=np.float32))
    levels = np.stack([np.arange(T) < 5, np.isin(np.arange(T), [0, 3, 4])])

    @jax.jit
    def make_scored_examples(mine, levels):
        pairs = select_pairs(mine, 1, 2, None)
        scores = [path_score(monte_carlo(G, reward=reward), mine, pairs) for reward in (True, False)]
        return make_examples(mine, mine.states, levels, 1, 1, pairs), *scores

    rows, rewarded, unrewarded = make_scored_examples(mine, levels)
    assert rows.mask.tolist() == [1, 1, 1, 1, 0]
    np.testing.assert_array_equal(np.asarray(rows.target)[:, 0], values[:-1])
    np.testing.assert_array_equal(np.argmax(rows.value, axis=1)[:4], [3, 3, 3, 4])
    np.testing.assert_allclose(rewarded, values[:-1])
    np.testing.assert_allclose(unrewarded, 1)


def corridor(key, num_paths):
    """Walks over positions -2 to 2, one step left or right; the return is higher further right."""
    sides = jax.random.bernoulli(key, 0.5, (num_paths, 4))
    steps = jnp.where(sides, 1.0, -1.0)
    positions = jnp.clip(jnp.cumsum(steps, axis=1), -2, 2)
    positions = jnp.concatenate([jnp.zeros((num_paths, 1)), positions], axis=1)
    values = jnp.repeat((positions[:, -1:] + 2) / 4, 5, axis=1)
    actions = jnp.concatenate([sides, sides[:, -1:]], axis=1).astype(jnp.int32)
    return Path(positions[..., None], jnp.full(num_paths, 5, jnp.int32), actions, rewards=values, values=values)


def test_the_target_return_is_the_return():
    place, spaces = (
        Box(1),
        {"input": Box(1), "optimizer": optax.adam(1e-2), "width": 16, "num_heads": 2, "num_slots": 1},
    )
    low = transformer(**spaces, value=Discrete(2), target=place)
    top = transformer(**spaces, value=place, target=Box(1))
    g = guide(layers=[low, top], abstraction=skip_step(2), scoring=temporal_difference(reward=True))

    def step(state, key):
        return g.observe(state, corridor(key, 32))

    @jax.jit
    def learned(key):
        state, _ = jax.lax.scan(step, g.init(key), jax.random.split(key, 150))
        memory = g.init_memory(2)
        memory = memory._replace(count=memory.count + 1)  # both stand in the middle
        return g.react(state, memory, jnp.array([[0.0], [1.0]]))

    reaction = learned(jax.random.key(0))
    assert reaction.value.tolist() == [0, 1]
    assert reaction.targets[0][0, 0] < -0.5 < 0.5 < reaction.targets[0][1, 0]


def test_paths_must_tell_what_is_pursued_and_scored():
    two = {"input": Box(2), "optimizer": optax.adam(1e-2), "width": 8, "num_heads": 2, "num_slots": 1}
    of_values = guide(layers=[transformer(**two, value=Box(2), target=Box(1))], abstraction=skip_step(2))
    state = jax.eval_shape(of_values.init, jax.random.key(0))
    plain = Path(jnp.zeros((1, 3, 2)), jnp.array([3], jnp.int32))
    with pytest.raises(ValueError, match=r"pursues values: give Path\(values=...\)"):
        jax.eval_shape(of_values.observe, state, plain)
    kernel = table(input=Discrete(6), value=Discrete(6), target=Discrete(6))
    of_states = guide(layers=[kernel], abstraction=skip_step(2), scoring=monte_carlo(reward=True))
    path_states = Path(jnp.zeros((1, 3), jnp.int32), jnp.array([3], jnp.int32))
    state = jax.eval_shape(of_states.init, jax.random.key(0))
    with pytest.raises(ValueError, match="scores with reward need paths with rewards"):
        jax.eval_shape(of_states.observe, state, path_states)
    with pytest.raises(ValueError, match="pursues states, but the paths tell values"):
        jax.eval_shape(of_states.observe, state, path_states._replace(values=jnp.zeros((1, 3))))
    with pytest.raises(ValueError, match="discount 1"):
        temporal_difference(1.0)
