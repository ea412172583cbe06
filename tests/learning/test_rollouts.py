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
def roll(key):
    def act(key, observation):
        return control.sample_random_actions(POLE, key, observation.shape[0]), observation[:, 0]

    worlds = init_envs(POLE, key, 8)
    return rollout(POLE, act, key, worlds, 400)


def test_a_new_episode_begins_where_one_ended_and_the_last_state_is_kept():
    worlds, steps = jax.device_get(roll(jax.random.key(0)))
    done = steps.terminated | steps.truncated
    # What was reached is what is seen next, but where an episode ended.
    following, reached = steps.observation[1:], steps.final_observation[:-1]
    going_on = ~done[:-1]
    np.testing.assert_array_equal(following[going_on], reached[going_on])
    assert (np.abs(following[done[:-1]]) <= 0.05).all()
    fallen = (np.abs(steps.final_observation[..., 2]) > 12 * 2 * np.pi / 360) | (
        np.abs(steps.final_observation[..., 0]) > 2.4
    )
    np.testing.assert_array_equal(fallen, steps.terminated)
    np.testing.assert_array_equal(steps.extras, steps.observation[..., 0])
    assert worlds.num_finished == done.sum()


def test_the_recent_return_is_the_mean_of_the_last_hundred_episodes():
    worlds, steps = roll(jax.random.key(1))
    gained, ended = np.zeros(8), []
    for reward, done in zip(np.asarray(steps.reward), np.asarray(steps.terminated | steps.truncated), strict=True):
        gained += reward
        ended += gained[done].tolist()
        gained[done] = 0
    assert len(ended) > NUM_RECENT
    np.testing.assert_allclose(mean_recent_return(worlds), np.mean(ended[-NUM_RECENT:]), rtol=1e-6)
    np.testing.assert_array_equal(worlds.return_so_far, gained)


def test_the_recent_return_of_no_episode_is_zero():
    assert mean_recent_return(init_envs(POLE, jax.random.key(0), 2)) == 0


def test_whole_episodes_end_by_falling_or_by_the_clock():
    def pursue(mind, key, observation, gained):
        balancing = jnp.arange(observation.shape[0]) < 4
        action = jnp.where(balancing, lean(observation), 0)
        return mind + 1, action

    lived = jax.device_get(jax.jit(lambda key: collect_episodes(POLE, pursue, jnp.int32(0), key, 8))(jax.random.key(0)))
    np.testing.assert_array_equal(lived.length[:4], 500)
    assert not lived.terminated[:4].any()
    assert lived.terminated[4:].all()
    assert (lived.length[4:] < 15).all()
    np.testing.assert_array_equal(lived.returns, lived.length)
    np.testing.assert_array_equal(lived.valid.sum(axis=1), lived.length)
    last = lived.states[np.arange(8), lived.length]
    np.testing.assert_array_equal(np.abs(last[:, 2]) > 0.2095, lived.terminated)


def test_the_time_limit_truncates_and_does_not_terminate():
    world = control.make_env("Pendulum-v1")

    def act(key, seen):
        return control.sample_random_actions(world, key, 2), ()

    run = jax.jit(lambda key: rollout(world, act, key, init_envs(world, key, 2), 401)[1])
    steps = run(jax.random.key(0))
    assert not steps.terminated.any()
    assert np.flatnonzero(steps.truncated[:, 0]).tolist() == [199, 399]
