"""Collecting experience: whole episodes, and rollouts with automatic resets."""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments import control
from thinking.learning.rollouts import NUM_RECENT, collect_episodes, init_envs, mean_recent_return, rollout

CARTPOLE = control.make_env("CartPole-v1")


def balancing_policy(observation):
    """Pushes towards the side to which the pole falls."""
    return (observation[:, 2] + 0.5 * observation[:, 3] > 0).astype(jnp.int32)


@jax.jit
def run_rollout(key):
    def act(carry, key, observation):
        return carry, control.sample_random_actions(CARTPOLE, key, observation.shape[0]), observation[:, 0]

    env_state = init_envs(CARTPOLE, key, 8)
    return rollout(CARTPOLE, act, key, env_state, 400)


def test_rollout_resets_and_keeps_the_final_observation():
    env_state, trajectory = jax.device_get(run_rollout(jax.random.key(0)))
    done = trajectory.terminated | trajectory.truncated
    # The final observation is the next observation, except at the end of an episode.
    next_observation, final_observation = trajectory.observation[1:], trajectory.final_observation[:-1]
    is_active = ~done[:-1]
    np.testing.assert_array_equal(next_observation[is_active], final_observation[is_active])
    assert (np.abs(next_observation[done[:-1]]) <= 0.05).all()
    is_terminal = (np.abs(trajectory.final_observation[..., 2]) > 12 * 2 * np.pi / 360) | (
        np.abs(trajectory.final_observation[..., 0]) > 2.4
    )
    np.testing.assert_array_equal(is_terminal, trajectory.terminated)
    np.testing.assert_array_equal(trajectory.extras, trajectory.observation[..., 0])
    assert env_state.num_finished == done.sum()
    starts = next_observation[done[:-1]]
    assert len(np.unique(starts, axis=0)) == len(starts) > 50, "every reset has a key of its own"


def test_mean_recent_return_averages_the_last_100_episodes():
    env_state, trajectory = run_rollout(jax.random.key(1))
    return_so_far, episode_returns = np.zeros(8), []
    for reward, done in zip(
        np.asarray(trajectory.reward), np.asarray(trajectory.terminated | trajectory.truncated), strict=True
    ):
        return_so_far += reward
        episode_returns += return_so_far[done].tolist()
        return_so_far[done] = 0
    assert len(episode_returns) > NUM_RECENT
    np.testing.assert_allclose(mean_recent_return(env_state), np.mean(episode_returns[-NUM_RECENT:]), rtol=1e-6)
    np.testing.assert_array_equal(env_state.return_so_far, return_so_far)


def test_mean_recent_return_of_no_episode_is_zero():
    assert mean_recent_return(init_envs(CARTPOLE, jax.random.key(0), 2)) == 0


def test_collect_episodes_ends_by_termination_or_truncation():
    def policy(carry, key, observation, return_so_far):
        is_balancing = jnp.arange(observation.shape[0]) < 4
        action = jnp.where(is_balancing, balancing_policy(observation), 0)
        return carry + 1, action

    episodes = jax.device_get(
        jax.jit(lambda key: collect_episodes(CARTPOLE, policy, jnp.int32(0), key, 8))(jax.random.key(0))
    )
    np.testing.assert_array_equal(episodes.length[:4], 500)
    assert not episodes.terminated[:4].any()
    assert episodes.terminated[4:].all()
    assert (episodes.length[4:] < 15).all()
    np.testing.assert_array_equal(episodes.returns, episodes.length)
    np.testing.assert_array_equal(episodes.valid.sum(axis=1), episodes.length)
    final_states = episodes.states[np.arange(8), episodes.length]
    np.testing.assert_array_equal(np.abs(final_states[:, 2]) > 0.2095, episodes.terminated)
    # What has ended stands still.
    np.testing.assert_array_equal(episodes.states[4:, -1], final_states[4:])


def test_time_limit_truncates_and_does_not_terminate():
    env = control.make_env("Pendulum-v1")

    def act(carry, key, observation):
        return carry, control.sample_random_actions(env, key, 2), ()

    run = jax.jit(lambda key: rollout(env, act, key, init_envs(env, key, 2), 401)[1])
    trajectory = run(jax.random.key(0))
    assert not trajectory.terminated.any()
    assert np.flatnonzero(trajectory.truncated[:, 0]).tolist() == [199, 399]
