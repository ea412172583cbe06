"""Classic control tasks of gymnax and Gymnasium behind one interface.

Training steps run on the device in gymnax; trained agents are evaluated in Gymnasium. Discrete actions are indices.
Continuous actions are vectors in [-1, 1], scaled to the task's bounds.

Axes: A dimensions of an action, O dimensions of an observation.
"""

import functools
from dataclasses import dataclass
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from thinking.environment import TimeStep
from thinking.environments.mountain_car import MountainCarContinuous
from thinking.types import Array, Box, Discrete, Space

# Smallest and largest reward of a step, from the definitions of the tasks.
_REWARD_RANGES = {
    "CartPole-v1": (0.0, 1.0),
    "Acrobot-v1": (-1.0, 0.0),
    "MountainCar-v0": (-1.0, 0.0),
    "MountainCarContinuous-v0": (-0.1, 100.0),
    "Pendulum-v1": (-(jnp.pi**2 + 0.1 * 8**2 + 0.001 * 2**2), 0.0),
}
NAMES = tuple(_REWARD_RANGES)
_CORRECTED = {"MountainCarContinuous-v0": MountainCarContinuous}
"""Environments whose dynamics in gymnax are not Gymnasium's."""


@dataclass(frozen=True)
class ControlEnv:
    """A control task.

    Attributes:
        name: Gymnasium's name.
        observation_space: a box.
        action_space: discrete or a box.
        max_episode_steps: steps after which an episode is truncated.
        reward_range: smallest and largest reward of a step.
        action_bounds: lowest and highest continuous action, two tuples [A]; empty for discrete actions.
    """

    name: str
    observation_space: Box
    action_space: Space
    max_episode_steps: int
    reward_range: tuple[float, float]
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def reset(self, key: Array) -> tuple[Any, Array]:
        """Start an episode: state and observation [O]. Consumes the key."""
        simulator, settings = _simulator(self.name, self.max_episode_steps)
        observation, state = simulator.reset(key, settings)
        return _fix_dtypes(state), observation

    def step(self, key: Array, state: Any, action: Array) -> TimeStep:
        """Take one step. Consumes the key."""
        simulator, settings = _simulator(self.name, self.max_episode_steps)
        step_output = simulator.step_env(key, state, to_native_action(self, action), settings)
        observation, state, reward, terminated, _ = step_output
        # An episode that terminates at its step limit is not truncated.
        truncated = simulator.is_truncated(state, settings) & ~terminated
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return TimeStep(_fix_dtypes(state), observation, reward, terminated, truncated)


def make_env(name: str, max_episode_steps: int | None = None) -> ControlEnv:
    """Make a task by name.

    Args:
        name: Gymnasium's name.
        max_episode_steps: steps after which an episode is truncated; by default Gymnasium's own.

    Raises:
        ValueError: for a name that is not in `NAMES`.
    """
    if name not in _REWARD_RANGES:
        raise ValueError(f"name {name}: allowed is one of {', '.join(NAMES)}")
    simulator, settings = _simulator(name)
    with jax.ensure_compile_time_eval():  # may be called while JAX traces
        native_space, action_bounds = simulator.action_space(settings), ((), ())
        if hasattr(native_space, "n"):
            action_space = Discrete(int(native_space.n))
        else:
            action_space = Box(native_space.shape[0])
            bounds = (jnp.broadcast_to(bound, native_space.shape) for bound in (native_space.low, native_space.high))
            action_bounds = tuple(tuple(bound.tolist()) for bound in bounds)
        observation_space = Box(simulator.observation_space(settings).shape[0])
    return ControlEnv(
        name,
        observation_space,
        action_space,
        max_episode_steps or int(settings.max_steps_in_episode),
        _REWARD_RANGES[name],
        action_bounds,
    )


def to_native_action(env: ControlEnv, action: Array) -> Array:
    """An action as the task takes it: an index, or [..., A] within its bounds."""
    if isinstance(env.action_space, Discrete):
        return action
    low, high = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), action.shape) for bound in env.action_bounds)
    return low + (jnp.clip(action, -1, 1) + 1) / 2 * (high - low)


def sample_random_actions(env: ControlEnv, key: Array, num_actions: int) -> Array:
    """[num_actions] or [num_actions, A] uniformly random actions. Consumes the key."""
    if isinstance(env.action_space, Discrete):
        return jax.random.randint(key, (num_actions,), 0, env.action_space.size)
    return jax.random.uniform(key, (num_actions, env.action_space.dims), minval=-1.0, maxval=1.0)


@functools.cache
def _simulator(name: str, max_episode_steps: int | None = None) -> tuple[Any, Any]:
    """Gymnax's environment and its parameters, as constants even while JAX traces."""
    with jax.ensure_compile_time_eval():
        if name in _CORRECTED:
            simulator = _CORRECTED[name]()
            settings = simulator.default_params
        else:
            simulator, settings = gymnax.make(name)
        return simulator, settings if max_episode_steps is None else settings.replace(
            max_steps_in_episode=max_episode_steps
        )


def _fix_dtypes(state: Any) -> Any:
    """The state with leaves of fixed types; gymnax starts its step counter as a Python number."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            leaf, jnp.int32 if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.integer) else jnp.float32
        ),
        state,
    )
