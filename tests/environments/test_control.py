"""Control worlds, against Gymnasium's own."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments import control
from thinking.kernels import Discrete

STEPS = 60


def put(env, name, state):
    """Puts Gymnasium's world where gymnax's is."""
    inner = env.unwrapped
    if name == "CartPole-v1":
        inner.state = np.array([state.x, state.x_dot, state.theta, state.theta_dot], np.float64)
    elif name == "Acrobot-v1":
        angles = [state.joint_angle1, state.joint_angle2, state.velocity_1, state.velocity_2]
        inner.state = np.array(angles, np.float64)
    elif name == "Pendulum-v1":
        inner.state = np.array([state.theta, state.theta_dot], np.float64)
    else:
        inner.state = np.array([state.position, state.velocity], np.float64)


@pytest.mark.parametrize("name", control.NAMES)
def test_every_world_moves_as_gymnasiums_does(name):
    world = control.make_env(name)
    state, _ = world.reset(jax.random.key(0))
    actions = control.sample_random_actions(world, jax.random.key(1), STEPS)

    def move(state, pair):
        moment = world.step(pair[0], state, pair[1])
        return moment.state, (state, moment)

    keys = jax.random.split(jax.random.key(2), STEPS)
    before, moments = jax.device_get(jax.jit(lambda s: jax.lax.scan(move, s, (keys, actions))[1])(state))
    native = np.asarray(control.to_native_action(world, actions))
    env = gymnasium.make(name).env  # without the time limit
    for t in range(STEPS):
        env.reset(seed=0)
        put(env, name, jax.tree.map(lambda leaf, t=t: leaf[t], before))
        observation, reward, terminated, _, _ = env.step(native[t])
        np.testing.assert_allclose(moments.final_observation[t], observation, atol=2e-4)
        assert moments.reward[t] == pytest.approx(float(reward), abs=2e-4)
        assert bool(moments.terminated[t]) == terminated
        low, high = world.reward_range
        assert low - 1e-5 <= float(reward) <= high + 1e-5


@pytest.mark.parametrize("name", control.NAMES)
def test_spaces_and_limits_are_gymnasiums(name):
    world, spec = control.make_env(name), gymnasium.spec(name)
    env = gymnasium.make(name)
    assert world.max_episode_steps == spec.max_episode_steps
    assert (world.observation_space.dims,) == env.observation_space.shape
    if isinstance(world.action_space, Discrete):
        assert world.action_space.size == env.action_space.n
    else:
        extremes = control.to_native_action(world, jnp.array([[-1.0], [1.0], [5.0]]))
        low, high = env.action_space.low, env.action_space.high
        np.testing.assert_allclose(extremes, np.stack([low, high, high]))


def test_an_unknown_world_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"^name CartPole-v2: allowed is one of CartPole-v1, .*Pendulum-v1"):
        control.make_env("CartPole-v2")
