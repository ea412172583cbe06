"""An environment that hides a part of its state, so that an agent needs memory.

Axes: O dimensions of an observation.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from thinking.environment import Environment, TimeStep
from thinking.types import Array, State


@dataclass(frozen=True)
class PartialObservation:
    """An environment whose observation is a part of another's.

    Attributes:
        env: the environment.
        indices: of the numbers of its observation that stay, O of them.
        scales: O numbers by which they are divided, so that networks see numbers near 1.
    """

    env: Environment
    indices: tuple[int, ...]
    scales: tuple[float, ...]

    @property
    def max_episode_steps(self) -> int:
        """As of the environment."""
        return self.env.max_episode_steps

    def reset(self, key: Array) -> tuple[State, Array]:
        """Start an episode: state and observation [O]. Consumes the key."""
        state, observation = self.env.reset(key)
        return state, self.select(observation)

    def step(self, key: Array, state: State, action: Array) -> TimeStep:
        """Take one step. Consumes the key."""
        time_step = self.env.step(key, state, action)
        return time_step._replace(observation=self.select(time_step.observation))

    def select(self, observation: Array) -> Array:
        """What is seen of a whole observation [..., any]: [..., O]."""
        selected = observation[..., jnp.array(self.indices)]
        return selected / jnp.broadcast_to(jnp.array(self.scales), selected.shape)
