"""Classic control: the worlds that both gymnax and Gymnasium know, behind one interface.

Worlds move on the device, in gymnax; what was learned is judged in Gymnasium. Discrete actions are indices; continuous
ones are vectors in [-1, 1], stretched to what the world takes.

Axes: A dimensions of an action, O dimensions of an observation.
"""

import functools
from dataclasses import dataclass
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from thinking.environment import TimeStep
from thinking.types import Array, Box, Discrete, Space

# The least and the greatest reward of a step, from the worlds' definitions.
_REWARD_RANGES = {
    "CartPole-v1": (0.0, 1.0),
    "Acrobot-v1": (-1.0, 0.0),
    "MountainCar-v0": (-1.0, 0.0),
    "MountainCarContinuous-v0": (-0.1, 100.0),
    "Pendulum-v1": (-(jnp.pi**2 + 0.1 * 8**2 + 0.001 * 2**2), 0.0),
}
NAMES = tuple(_REWARD_RANGES)


@dataclass(frozen=True)
class ControlEnv:
    """A control task.

    Attributes:
        name: as Gymnasium knows it.
        observation_space: the space of what is seen, a box.
        action_space: the space of what can be done.
        max_episode_steps: steps after which an episode is truncated.
        reward_range: the least and the greatest reward of a step.
        action_bounds: lowest and highest continuous action, two tuples [A]; empty where actions are discrete.
    """

    name: str
    observation_space: Box
    action_space: Space
    max_episode_steps: int
    reward_range: tuple[float, float]
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def reset(self, key: Array) -> tuple[Any, Array]:
        """A new episode: the world's state, and what is seen of it [O]. Consumes the key."""
        simulator, settings = _simulator(self.name, self.max_episode_steps)
        observation, state = simulator.reset(key, settings)
        return _fix_dtypes(state), observation

    def step(self, key: Array, state: Any, action: Array) -> TimeStep:
        """Act once; where the episode ends, the next has begun. Consumes the key."""
        simulator, settings = _simulator(self.name, self.max_episode_steps)
        done = simulator.step(key, state, to_native_action(self, action), settings)
        observation, state, reward, terminated, truncated, rest = done
        # An episode that ends by itself in its last step was not cut short.
        truncated = truncated & ~terminated
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return TimeStep(_fix_dtypes(state), observation, reward, terminated, truncated, rest["final_observation"])


def make_env(name: str, max_episode_steps: int | None = None) -> ControlEnv:
    """The world of this name.

    Args:
        name: as Gymnasium knows it.
        max_episode_steps: steps after which an episode is truncated; Gymnasium's own by default.

    Raises:
        ValueError: if it is not one that both libraries know.
    """
    if name not in _REWARD_RANGES:
        raise ValueError(f"name {name}: allowed is one of {', '.join(NAMES)}")
    simulator, settings = _simulator(name)
    with jax.ensure_compile_time_eval():  # a world may be asked for while JAX traces
        actions, stretch = simulator.action_space(settings), ((), ())
        if hasattr(actions, "n"):
            action = Discrete(int(actions.n))
        else:
            action = Box(actions.shape[0])
            ends = (jnp.broadcast_to(end, actions.shape) for end in (actions.low, actions.high))
            stretch = tuple(tuple(end.tolist()) for end in ends)
        observation = Box(simulator.observation_space(settings).shape[0])
    return ControlEnv(
        name,
        observation,
        action,
        max_episode_steps or int(settings.max_steps_in_episode),
        _REWARD_RANGES[name],
        stretch,
    )


def to_native_action(env: ControlEnv, action: Array) -> Array:
    """An action as the world takes it: an index, or [..., A] within its bounds."""
    if isinstance(env.action_space, Discrete):
        return action
    low, high = (jnp.broadcast_to(jnp.asarray(end, jnp.float32), action.shape) for end in env.action_bounds)
    return low + (jnp.clip(action, -1, 1) + 1) / 2 * (high - low)


def sample_random_actions(env: ControlEnv, key: Array, num_actions: int) -> Array:
    """[rows] or [rows, A] uniformly random actions. Consumes the key."""
    if isinstance(env.action_space, Discrete):
        return jax.random.randint(key, (num_actions,), 0, env.action_space.size)
    return jax.random.uniform(key, (num_actions, env.action_space.dims), minval=-1.0, maxval=1.0)


@functools.cache
def _simulator(name: str, max_episode_steps: int | None = None) -> tuple[Any, Any]:
    """Gymnax's world and its settings, as numbers and not as arrays: they may be made while JAX traces."""
    with jax.ensure_compile_time_eval():
        simulator, settings = gymnax.make(name)
        return simulator, settings if max_episode_steps is None else settings.replace(
            max_steps_in_episode=max_episode_steps
        )


def _fix_dtypes(state: Any) -> Any:
    """The world's state with leaves of fixed types, as gymnax counts time in Python numbers at first."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            leaf, jnp.int32 if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.integer) else jnp.float32
        ),
        state,
    )
