"""Rollouts of policies with a memory.

Axes: T steps, E environments.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.t_maze import NUM_ACTIONS, OBSERVATION_DIM, TMaze
from thinking.learning.recurrent_rollouts import collect_recurrent_batch
from thinking.learning.rollouts import init_envs
from thinking.networks.blocks import BlockConfig
from thinking.networks.recurrent_policy import recurrent_policy
from thinking.types import Discrete

ENV, NUM_ENVS, DISCOUNT, LAMBDA = TMaze(2), 3, 0.9, 0.8
POLICY = recurrent_policy(OBSERVATION_DIM, Discrete(NUM_ACTIONS), ("gru",), BlockConfig(8, 2, feed_forward=8))


@pytest.fixture(scope="module")
def collected():
    """Parameters, and two rollouts of 40 steps, the second where the first ended."""
    params = POLICY.init(jax.random.key(0))
    # Values that differ from step to step.
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    first = init_envs(ENV, jax.random.key(1), NUM_ENVS, POLICY.init_state(NUM_ENVS))

    @jax.jit
    def collect(key, env_state):
        return collect_recurrent_batch(ENV, POLICY, params, key, env_state, 40, discount=DISCOUNT, gae_lambda=LAMBDA)

    middle, first_batch = collect(jax.random.key(2), first)
    _, second_batch = collect(jax.random.key(3), middle)
    return params, [jax.device_get(batch) for batch in (first_batch, second_batch)]


def replay(params, observations, actions):
    """Values, log-probabilities, rewards, ends and values after each step of one environment, step by step."""
    value, steps = jax.jit(POLICY.value), []
    advance = jax.jit(lambda state, observation: POLICY.act(params, jax.random.key(0), state, observation)[0])
    memory, maze, position, sign, count = POLICY.init_state(1), ENV, 0, observations[0][0], 0
    for observation, action in zip(observations, actions, strict=True):
        if count == 0:
            sign = observation[0]
        before = float(value(params, memory, observation[None])[0])
        memory = advance(memory, observation[None])
        count += 1
        terminated = position == maze.length and action != 1
        walks = action == 1 and position < maze.length
        reward = float((action == 2) == (sign == 1)) if terminated else 0.0 if walks else -0.1
        position = min(position + (action == 1), maze.length)
        truncated = count == maze.max_episode_steps and not terminated
        final = np.float32([0, position == maze.length, 1])
        after = float(value(params, memory, final[None])[0])
        steps.append((before, reward, terminated, truncated, after))
        if terminated or truncated:
            memory, position, count = POLICY.init_state(1), 0, 0
    return [np.array(column) for column in zip(*steps, strict=True)]


def test_values_and_advantages_are_those_of_a_replay_step_by_step(collected):
    params, batches = collected
    for env in range(NUM_ENVS):
        observations = np.concatenate([batch.inputs.observation[env] for batch in batches])
        actions = np.concatenate([batch.action[env] for batch in batches])
        before, reward, terminated, truncated, after = replay(params, observations, actions)
        done = terminated | truncated
        assert terminated.sum() > 1
        for part, batch in enumerate(batches):
            span = slice(40 * part, 40 * part + 40)
            advantage, expected = 0.0, np.zeros(40)
            for step in range(40)[::-1]:
                index = 40 * part + step
                error = reward[index] + DISCOUNT * after[index] * (not terminated[index]) - before[index]
                advantage = error + DISCOUNT * LAMBDA * advantage * (not done[index])
                expected[step] = advantage
            np.testing.assert_allclose(batch.advantage[env], expected, atol=1e-5)
            np.testing.assert_allclose(batch.value_target[env], expected + before[span], atol=1e-5)
            starts = np.concatenate([[False], done[span][:-1]])
            np.testing.assert_array_equal(batch.inputs.is_start[env], starts)


def test_log_probabilities_are_those_of_the_rows(collected):
    params, batches = collected
    for batch in batches:
        evaluation = POLICY.evaluate_actions(params, jax.tree.map(jnp.asarray, batch.inputs), batch.action)
        np.testing.assert_allclose(evaluation.log_prob, batch.log_prob, atol=1e-5)
        assert (batch.mask == 1).all()
