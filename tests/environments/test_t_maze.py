"""The T-maze and partial observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments import control
from thinking.environments.partial_observation import PartialObservation
from thinking.environments.t_maze import FORWARD, LEFT, RIGHT, TMaze


def play_by_hand(sign, length, actions):
    """Observations, rewards and the number of steps of an episode, by the rules in words."""
    position, observations, rewards = 0, [[sign, 0, 1]], []
    for action in actions[: 4 * length + 8]:
        if position == length and action != FORWARD:
            rewards.append(float((action == RIGHT) == (sign == 1)))
            observations.append([0, 1, 1])
            break
        walks = action == FORWARD and position < length
        position += walks
        observations.append([0, int(position == length), 1])
        rewards.append(0.0 if walks else -0.1)
    return observations, rewards


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    length=st.integers(1, 5),
    actions=st.lists(st.sampled_from([LEFT, FORWARD, FORWARD, RIGHT]), min_size=30, max_size=30),
)
def test_episodes_follow_the_rules(seed, length, actions):
    env, run_step = TMaze(length), jax.jit(TMaze.step, static_argnums=0)
    state, observation = env.reset(jax.random.key(seed))
    observations, rewards = [observation], []
    for action in actions:
        step = run_step(env, jax.random.key(0), state, jnp.int32(action))
        state = step.state
        observations.append(step.observation)
        rewards.append(float(step.reward))
        if step.terminated or step.truncated:
            break
    expected_observations, expected_rewards = play_by_hand(int(observation[0]), length, actions)
    np.testing.assert_array_equal(observations, expected_observations)
    assert rewards == pytest.approx(expected_rewards)


def test_both_signs_occur_and_an_idle_agent_is_truncated():
    env = TMaze(1)
    signs = jax.vmap(lambda key: env.reset(key)[0].sign)(jax.random.split(jax.random.key(0), 100))
    assert set(np.asarray(signs).tolist()) == {-1, 1}
    state, _ = env.reset(jax.random.key(0))
    for number in range(env.max_episode_steps):
        step = env.step(jax.random.key(0), state, jnp.int32(LEFT))
        state = step.state
        assert bool(step.truncated) == (number == env.max_episode_steps - 1)
        assert not step.terminated


def test_a_corridor_has_a_length():
    with pytest.raises(ValueError, match="length 0 is out of range"):
        TMaze(0)


def test_a_partial_observation_is_a_part_of_the_whole():
    whole = control.make_env("CartPole-v1")
    env = PartialObservation(whole, (0, 2), (2.0, 0.5))
    key = jax.random.key(3)
    state, observation = env.reset(key)
    whole_state, whole_observation = whole.reset(key)
    np.testing.assert_allclose(observation, [whole_observation[0] / 2, whole_observation[2] / 0.5])
    step, whole_step = env.step(key, state, jnp.int32(1)), whole.step(key, whole_state, jnp.int32(1))
    np.testing.assert_allclose(step.observation, [whole_step.observation[0] / 2, whole_step.observation[2] / 0.5])
    jax.tree.map(np.testing.assert_array_equal, step.state, whole_step.state)
    assert env.max_episode_steps == 500
