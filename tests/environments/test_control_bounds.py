"""Control environments move as Gymnasium's do, from states at and beyond each bound of each variable."""

import functools
import math

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments import control

ANGLE = 12 * 2 * math.pi / 360
BOUNDS = {
    "CartPole-v1": {"x": (-2.4, 2.4), "x_dot": (-5.0, 5.0), "theta": (-ANGLE, ANGLE), "theta_dot": (-5.0, 5.0)},
    "Acrobot-v1": {
        "joint_angle1": (-math.pi, math.pi),
        "joint_angle2": (-math.pi, math.pi),
        "velocity_1": (-4 * math.pi, 4 * math.pi),
        "velocity_2": (-9 * math.pi, 9 * math.pi),
    },
    "MountainCar-v0": {"position": (-1.2, 0.5, 0.6), "velocity": (-0.07, 0.07)},
    "MountainCarContinuous-v0": {"position": (-1.2, 0.45, 0.6), "velocity": (-0.07, 0.07)},
    "Pendulum-v1": {"theta": (-math.pi, math.pi), "theta_dot": (-8.0, 8.0)},
}
"""Every variable of a state, with its bounds; of what is unbounded, some large values."""

MARGIN = 1e-4
"""Nearer than this to where an episode ends, float32 and float64 may differ."""


def values_around(bounds):
    """Strategies for a variable: exactly at a bound, a little to either side of one, and anywhere up to beyond."""
    low, high = min(bounds), max(bounds)
    span = high - low
    at = st.sampled_from(bounds)
    near = st.builds(lambda bound, shift: bound + shift * span, at, st.floats(-0.1, 0.1))
    return st.one_of(at, near, st.floats(low - 0.2 * span, high + 0.2 * span))


def states_and_actions(name):
    env = control.make_env(name)
    if hasattr(env.action_space, "size"):
        action = st.integers(0, env.action_space.size - 1)
    else:
        action = st.one_of(st.sampled_from((-1.0, 0.0, 1.0)), st.floats(-1.5, 1.5)).map(lambda x: [x])
    return st.tuples(st.fixed_dictionaries({key: values_around(b) for key, b in BOUNDS[name].items()}), action)


@functools.cache
def make_tools(name):
    env = control.make_env(name)
    start, _ = env.reset(jax.random.key(0))
    step = jax.jit(lambda state, action: env.step(jax.random.key(1), state, action))
    return env, start, step, gymnasium.make(name).unwrapped


def distance_to_end(name, observation, state):
    """How far the outcome is from where an episode ends; infinite where it cannot end."""
    if name == "CartPole-v1":
        return min(abs(abs(state[0]) - 2.4), abs(abs(state[2]) - ANGLE))
    if name == "Acrobot-v1":
        return abs(-np.cos(state[0]) - np.cos(state[1] + state[0]) - 1)
    if name.startswith("MountainCar"):
        return min(abs(observation[0] - BOUNDS[name]["position"][1]), abs(observation[1]) or 1.0)
    return math.inf


def has_ended(name, variables):
    """Whether an episode of the cart pole has ended: Gymnasium leaves undefined what a further step gains."""
    return name == "CartPole-v1" and (abs(variables["x"]) >= 2.4 or abs(variables["theta"]) >= ANGLE)


def step_both(name, variables, action):
    """One step from the same state: our time step; Gymnasium's observation, reward and terminated; distance to end."""
    env, start, step, gymnasium_env = make_tools(name)
    rounded = {key: np.float32(variables[key]) for key in BOUNDS[name]}
    action = jnp.asarray(action, jnp.int32 if isinstance(action, int) else jnp.float32)
    time_step = jax.device_get(step(start.replace(**rounded), action))
    gymnasium_env.reset(seed=0)
    gymnasium_env.state = np.array(list(map(float, rounded.values())))
    expected = gymnasium_env.step(np.asarray(control.to_native_action(env, action)))[:3]
    return time_step, expected, distance_to_end(name, expected[0], gymnasium_env.state)


@pytest.mark.parametrize("name", control.NAMES)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_steps_at_and_beyond_the_bounds_match_gymnasium(name, data):
    variables, action = data.draw(states_and_actions(name))
    time_step, (observation, reward, terminated), distance = step_both(name, variables, action)
    # Acrobot's equations of motion amplify rounding at high velocities.
    np.testing.assert_allclose(time_step.observation, observation, rtol=1e-3, atol=2e-3 if "Acrobot" in name else 2e-5)
    if distance > MARGIN:
        assert bool(time_step.terminated) == terminated
        if not has_ended(name, variables):
            np.testing.assert_allclose(time_step.reward, reward, rtol=1e-4, atol=1e-5)


def test_left_wall_stops_the_continuous_mountain_car():
    time_step, (observation, _, _), _ = step_both(
        "MountainCarContinuous-v0", {"position": -1.19, "velocity": -0.06}, [1.0]
    )
    assert time_step.observation[1] == observation[1] == 0


def test_continuous_mountain_car_rolling_back_over_the_goal_does_not_terminate():
    time_step, (_, reward, terminated), _ = step_both(
        "MountainCarContinuous-v0", {"position": 0.55, "velocity": -0.02}, [0.0]
    )
    assert not terminated
    assert not time_step.terminated
    assert time_step.reward == reward == 0


@pytest.mark.parametrize("name", control.NAMES)
@pytest.mark.parametrize("steps_left", [1, 2])
def test_episodes_are_truncated_at_the_time_limit(name, steps_left):
    env, start, step, _ = make_tools(name)
    limit = gymnasium.spec(name).max_episode_steps
    action = control.sample_random_actions(env, jax.random.key(0), 1)[0]
    assert bool(step(start.replace(time=jnp.int32(limit - steps_left)), action).truncated) == (steps_left == 1)
