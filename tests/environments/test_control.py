"""Control environments against Gymnasium."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments import control
from thinking.kernels import Discrete

STEPS = 60


def set_state(gymnasium_env, name, state):
    """Sets the state of Gymnasium's environment to that of gymnax."""
    unwrapped_env = gymnasium_env.unwrapped
    if name == "CartPole-v1":
        unwrapped_env.state = np.array([state.x, state.x_dot, state.theta, state.theta_dot], np.float64)
    elif name == "Acrobot-v1":
        angles = [state.joint_angle1, state.joint_angle2, state.velocity_1, state.velocity_2]
        unwrapped_env.state = np.array(angles, np.float64)
    elif name == "Pendulum-v1":
        unwrapped_env.state = np.array([state.theta, state.theta_dot], np.float64)
    else:
        unwrapped_env.state = np.array([state.position, state.velocity], np.float64)


@pytest.mark.parametrize("name", control.NAMES)
def test_environments_step_as_in_gymnasium(name):
    env = control.make_env(name)
    state, _ = env.reset(jax.random.key(0))
    actions = control.sample_random_actions(env, jax.random.key(1), STEPS)

    def step(state, key_and_action):
        time_step = env.step(key_and_action[0], state, key_and_action[1])
        done = time_step.terminated | time_step.truncated
        next_state = jax.tree.map(
            lambda new, old: jnp.where(done, new, old), env.reset(key_and_action[0])[0], time_step.state
        )
        return next_state, (state, time_step)

    keys = jax.random.split(jax.random.key(2), STEPS)
    states, time_steps = jax.device_get(jax.jit(lambda s: jax.lax.scan(step, s, (keys, actions))[1])(state))
    native_actions = np.asarray(control.to_native_action(env, actions))
    gymnasium_env = gymnasium.make(name).env  # without the time limit
    for t in range(STEPS):
        gymnasium_env.reset(seed=0)
        set_state(gymnasium_env, name, jax.tree.map(lambda leaf, t=t: leaf[t], states))
        observation, reward, terminated, _, _ = gymnasium_env.step(native_actions[t])
        np.testing.assert_allclose(time_steps.observation[t], observation, atol=2e-4)
        assert time_steps.reward[t] == pytest.approx(float(reward), abs=2e-4)
        assert bool(time_steps.terminated[t]) == terminated
        low, high = env.reward_range
        assert low - 1e-5 <= float(reward) <= high + 1e-5


@pytest.mark.parametrize("name", control.NAMES)
def test_spaces_and_limits_match_gymnasium(name):
    env, spec = control.make_env(name), gymnasium.spec(name)
    gymnasium_env = gymnasium.make(name)
    assert env.max_episode_steps == spec.max_episode_steps
    assert (env.observation_space.dims,) == gymnasium_env.observation_space.shape
    if isinstance(env.action_space, Discrete):
        assert env.action_space.size == gymnasium_env.action_space.n
    else:
        extremes = control.to_native_action(env, jnp.array([[-1.0], [1.0], [5.0]]))
        low, high = gymnasium_env.action_space.low, gymnasium_env.action_space.high
        np.testing.assert_allclose(extremes, np.stack([low, high, high]))


def test_unknown_names_are_rejected():
    with pytest.raises(ValueError, match=r"^name CartPole-v2: allowed is one of CartPole-v1, .*Pendulum-v1"):
        control.make_env("CartPole-v2")
