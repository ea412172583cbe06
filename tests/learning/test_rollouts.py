"""Collecting experience: whole episodes, and worlds that begin anew."""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments import control
from thinking.learning.rollouts import NUM_RECENT, collect_episodes, init_envs, mean_recent_return, rollout

POLE = control.make_env("CartPole-v1")


def lean(observation):
    """Balances: pushes to where the pole falls."""
    return (observation[:, 2] + 0.5 * observation[:, 3] > 0).astype(jnp.int32)


@jax.jit
def run_rollout(key):
    def act(key, observation):
        return control.sample_random_actions(POLE, key, observation.shape[0]), observation[:, 0]

    env_state = init_envs(POLE, key, 8)
    return rollout(POLE, act, key, env_state, 400)


def test_a_new_episode_begins_where_one_ended_and_the_last_state_is_kept():
    env_state, trajectory = jax.device_get(run_rollout(jax.random.key(0)))
    done = trajectory.terminated | trajectory.truncated
    # What was reached is what is seen next, but where an episode ended.
    following, final_observation = trajectory.observation[1:], trajectory.final_observation[:-1]
    is_active = ~done[:-1]
    np.testing.assert_array_equal(following[is_active], final_observation[is_active])
    assert (np.abs(following[done[:-1]]) <= 0.05).all()
    fallen = (np.abs(trajectory.final_observation[..., 2]) > 12 * 2 * np.pi / 360) | (
        np.abs(trajectory.final_observation[..., 0]) > 2.4
    )
    np.testing.assert_array_equal(fallen, trajectory.terminated)
    np.testing.assert_array_equal(trajectory.extras, trajectory.observation[..., 0])
    assert env_state.num_finished == done.sum()


def test_the_recent_return_is_the_mean_of_the_last_hundred_episodes():
    env_state, trajectory = run_rollout(jax.random.key(1))
    return_so_far, ended = np.zeros(8), []
    for reward, done in zip(
        np.asarray(trajectory.reward), np.asarray(trajectory.terminated | trajectory.truncated), strict=True
    ):
        return_so_far += reward
        ended += return_so_far[done].tolist()
        return_so_far[done] = 0
    assert len(ended) > NUM_RECENT
    np.testing.assert_allclose(mean_recent_return(env_state), np.mean(ended[-NUM_RECENT:]), rtol=1e-6)
    np.testing.assert_array_equal(env_state.return_so_far, return_so_far)


def test_the_recent_return_of_no_episode_is_zero():
    assert mean_recent_return(init_envs(POLE, jax.random.key(0), 2)) == 0


def test_whole_episodes_end_by_falling_or_by_the_clock():
    def policy(carry, key, observation, return_so_far):
        balancing = jnp.arange(observation.shape[0]) < 4
        action = jnp.where(balancing, lean(observation), 0)
        return carry + 1, action

    episodes = jax.device_get(
        jax.jit(lambda key: collect_episodes(POLE, policy, jnp.int32(0), key, 8))(jax.random.key(0))
    )
    np.testing.assert_array_equal(episodes.length[:4], 500)
    assert not episodes.terminated[:4].any()
    assert episodes.terminated[4:].all()
    assert (episodes.length[4:] < 15).all()
    np.testing.assert_array_equal(episodes.returns, episodes.length)
    np.testing.assert_array_equal(episodes.valid.sum(axis=1), episodes.length)
    last = episodes.states[np.arange(8), episodes.length]
    np.testing.assert_array_equal(np.abs(last[:, 2]) > 0.2095, episodes.terminated)


def test_the_time_limit_truncates_and_does_not_terminate():
    env = control.make_env("Pendulum-v1")

    def act(key, observation):
        return control.sample_random_actions(env, key, 2), ()

    run = jax.jit(lambda key: rollout(env, act, key, init_envs(env, key, 2), 401)[1])
    trajectory = run(jax.random.key(0))
    assert not trajectory.terminated.any()
    assert np.flatnonzero(trajectory.truncated[:, 0]).tolist() == [199, 399]
