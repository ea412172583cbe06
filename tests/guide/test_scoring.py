"""Scores of examples and value targets, against plain Python and problems with a known optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide import Trajectories, guide, monte_carlo, temporal_difference
from thinking.guide.abstraction import skip_step
from thinking.guide.hindsight import Pairs, make_examples, select_pairs
from thinking.guide.scoring import score_by_bootstrapping, score_trajectory
from thinking.kernels import Box, Context, Discrete, table, transformer

T, DISCOUNT = 6, 0.7
T_INDEX, J_INDEX = np.triu_indices(T, 1)
hypothesis_settings = settings(max_examples=20, deadline=None, derandomize=True)
reward_lists = st.lists(st.floats(0, 1, width=32), min_size=T, max_size=T).map(lambda x: np.array(x, np.float32))


def trajectory(rewards=None, values=None, length=T):
    return Trajectories(np.arange(T, dtype=np.int32), np.int32(length), rewards=rewards, values=values)


@jax.jit
def trajectory_scores():
    return score_trajectory(monte_carlo(DISCOUNT), trajectory(), Pairs(T_INDEX, J_INDEX))


@jax.jit
def trajectory_scores_with_rewards(rewards):
    return score_trajectory(monte_carlo(DISCOUNT, reward=True), trajectory(rewards), Pairs(T_INDEX, J_INDEX))


@given(reward_lists)
@hypothesis_settings
def test_monte_carlo_scores_match_the_discounted_sum(rewards):
    scores = np.asarray(trajectory_scores_with_rewards(rewards))
    for row, (t, j) in enumerate(zip(T_INDEX, J_INDEX, strict=True)):
        expected = (1 - DISCOUNT) * sum(DISCOUNT ** (i - t) * rewards[i] for i in range(t, j)) + DISCOUNT ** (j - t)
        assert float(scores[row]) == pytest.approx(expected, rel=1e-4)
        assert -1e-6 <= scores[row] <= 1 + 1e-6
    scores_without_rewards = trajectory_scores()
    np.testing.assert_allclose(scores_without_rewards, DISCOUNT ** (J_INDEX - T_INDEX), rtol=1e-6)


@functools.cache
def make_scores_fn(reward):
    """Maps rewards to Monte Carlo scores, and to TD scores for expected, unknown and maximal next scores."""
    pairs = Pairs(T_INDEX, J_INDEX)

    @jax.jit
    def compute_scores(rewards):
        scored_trajectory = trajectory(rewards)
        next_pairs = pairs._replace(t=np.minimum(pairs.t + 1, pairs.j))
        next_scores = score_trajectory(monte_carlo(DISCOUNT, reward=reward), scored_trajectory, next_pairs)
        unknown_scores = jnp.full(T_INDEX.shape, -jnp.inf)
        scoring = temporal_difference(DISCOUNT, reward=reward)
        return (
            score_trajectory(scoring, scored_trajectory, pairs),
            score_by_bootstrapping(scoring, scored_trajectory, pairs, next_scores),
            score_by_bootstrapping(scoring, scored_trajectory, pairs, unknown_scores),
            score_by_bootstrapping(scoring, scored_trajectory, pairs, jnp.ones(T_INDEX.shape)),
        )

    return compute_scores


@pytest.mark.parametrize("reward", [False, True])
@given(rewards=reward_lists)
@hypothesis_settings
def test_bootstrapped_scores_of_exact_expectations_equal_monte_carlo(reward, rewards):
    monte_carlo_scores, exact_scores, unknown_scores, optimistic_scores = jax.device_get(
        make_scores_fn(reward)(rewards)
    )
    np.testing.assert_allclose(exact_scores, monte_carlo_scores, rtol=1e-4)
    np.testing.assert_allclose(unknown_scores, monte_carlo_scores, rtol=1e-4)
    is_far = J_INDEX > T_INDEX + 1
    step_rewards = (1 - DISCOUNT) * rewards[T_INDEX] if reward else np.zeros(len(T_INDEX))
    np.testing.assert_allclose(optimistic_scores[is_far], (step_rewards + DISCOUNT)[is_far], rtol=1e-5)
    np.testing.assert_allclose(optimistic_scores[~is_far], monte_carlo_scores[~is_far], rtol=1e-5)


def test_bootstrapping_combines_segments_of_different_trajectories():
    # The trajectories are 0 -> 1 -> 4 and 5 -> 1 -> 2 -> 3 -> 4. The shortest way from 5 to 4 is 5 -> 1 -> 4, which
    # no trajectory contains as a whole.
    kernel = table(input=Discrete(6), value=Discrete(6), target=Discrete(6))
    trajectories = [[0, 1, 4, 4, 4], [5, 1, 2, 3, 4]]
    lengths = [3, 5]
    scores = {}
    for name, scoring in {"monte carlo": monte_carlo(0.5), "bootstrapped": temporal_difference(0.5)}.items():
        model = guide(layers=[kernel], abstraction=skip_step(2), scoring=scoring)
        state, observe = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.observe)
        for states, length in zip(trajectories, lengths, strict=True):
            state, _ = observe(state, Trajectories(np.int32([states]), np.int32([length])))
        layer_state = jax.tree.map(lambda leaf: np.asarray(leaf)[0], state.layers[0])
        query = Context(np.int32([[5]]), np.int32([1]))
        scores[name] = float(jax.jit(kernel.infer)(layer_state, query, np.int32([4])).score[0])
    assert scores["monte carlo"] == 0.5**4
    assert scores["bootstrapped"] == 0.5**2  # the first step, then the step of the first trajectory


def test_value_targets_train_on_every_state_but_the_last():
    values = np.linspace(0, 1, T).astype(np.float32)
    value_trajectory = trajectory(rewards=np.zeros(T, np.float32), values=values, length=5)._replace(
        states=np.eye(T, dtype=np.float32)
    )
    levels = np.stack([np.arange(T) < 5, np.isin(np.arange(T), [0, 3, 4])])

    @jax.jit
    def make_scored_examples(value_trajectory, levels):
        pairs = select_pairs(value_trajectory, 1, 2, None)
        scores = [
            score_trajectory(monte_carlo(DISCOUNT, reward=reward), value_trajectory, pairs) for reward in (True, False)
        ]
        return make_examples(value_trajectory, value_trajectory.states, levels, 1, 1, pairs), *scores

    rows, scores_with_rewards, scores_without_rewards = make_scored_examples(value_trajectory, levels)
    assert rows.mask.tolist() == [1, 1, 1, 1, 0]
    np.testing.assert_array_equal(np.asarray(rows.target)[:, 0], values[:-1])
    np.testing.assert_array_equal(np.argmax(rows.value, axis=1)[:4], [3, 3, 3, 4])
    np.testing.assert_allclose(scores_with_rewards, values[:-1])
    np.testing.assert_allclose(scores_without_rewards, 1)


def sample_corridor_paths(key, num_paths):
    """Walks over positions -2 to 2, one step left or right; the return is higher further right."""
    sides = jax.random.bernoulli(key, 0.5, (num_paths, 4))
    steps = jnp.where(sides, 1.0, -1.0)
    positions = jnp.clip(jnp.cumsum(steps, axis=1), -2, 2)
    positions = jnp.concatenate([jnp.zeros((num_paths, 1)), positions], axis=1)
    values = jnp.repeat((positions[:, -1:] + 2) / 4, 5, axis=1)
    actions = jnp.concatenate([sides, sides[:, -1:]], axis=1).astype(jnp.int32)
    return Trajectories(positions[..., None], jnp.full(num_paths, 5, jnp.int32), actions, rewards=values, values=values)


def test_target_return_selects_the_action():
    position, options = (
        Box(1),
        {"input": Box(1), "optimizer": optax.adam(1e-2), "width": 16, "num_heads": 2, "num_slots": 1},
    )
    lowest = transformer(**options, value=Discrete(2), target=position)
    top = transformer(**options, value=position, target=Box(1))
    model = guide(layers=[lowest, top], abstraction=skip_step(2), scoring=temporal_difference(reward=True))

    def step(state, key):
        return model.observe(state, sample_corridor_paths(key, 32))

    @jax.jit
    def train_and_react(key):
        state, _ = jax.lax.scan(step, model.init(key), jax.random.split(key, 150))
        memory = model.init_memory(2)
        memory = memory._replace(count=memory.count + 1)  # both rows are in the middle
        return model.react(state, memory, jnp.array([[0.0], [1.0]]))

    reaction = train_and_react(jax.random.key(0))
    assert reaction.value.tolist() == [0, 1]
    assert reaction.targets[0][0, 0] < -0.5 < 0.5 < reaction.targets[0][1, 0]


def test_trajectories_without_the_required_fields_are_rejected():
    options = {"input": Box(2), "optimizer": optax.adam(1e-2), "width": 8, "num_heads": 2, "num_slots": 1}
    value_guide = guide(layers=[transformer(**options, value=Box(2), target=Box(1))], abstraction=skip_step(2))
    state = jax.eval_shape(value_guide.init, jax.random.key(0))
    vector_trajectory = Trajectories(jnp.zeros((1, 3, 2)), jnp.array([3], jnp.int32))
    with pytest.raises(ValueError, match=r"pursues values: give Trajectories\(values=...\)"):
        jax.eval_shape(value_guide.observe, state, vector_trajectory)
    kernel = table(input=Discrete(6), value=Discrete(6), target=Discrete(6))
    state_guide = guide(layers=[kernel], abstraction=skip_step(2), scoring=monte_carlo(reward=True))
    index_trajectory = Trajectories(jnp.zeros((1, 3), jnp.int32), jnp.array([3], jnp.int32))
    state = jax.eval_shape(state_guide.init, jax.random.key(0))
    with pytest.raises(ValueError, match="scores with reward need trajectories with rewards"):
        jax.eval_shape(state_guide.observe, state, index_trajectory)
    with pytest.raises(ValueError, match="pursues states, but the trajectories have values"):
        jax.eval_shape(state_guide.observe, state, index_trajectory._replace(values=jnp.zeros((1, 3))))
    with pytest.raises(ValueError, match="discount 1"):
        temporal_difference(1.0)
