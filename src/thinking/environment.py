"""The interface of an environment, as rollouts use it.

Axes: O dimensions of an observation.
"""

from typing import NamedTuple, Protocol

from thinking.types import Array, State


class TimeStep(NamedTuple):
    """One step of an environment.

    Attributes:
        state: environment state after the step.
        observation: [O] of that state.
        reward: [] float32.
        terminated: [] bool, the episode reached a terminal state.
        truncated: [] bool, the episode reached its step limit, and did not terminate.
    """

    state: State
    observation: Array
    reward: Array
    terminated: Array
    truncated: Array


class Environment(Protocol):
    """Constants and pure functions. Who steps an environment resets it when its episode ends.

    Attributes:
        max_episode_steps: steps after which the environment truncates an episode.
    """

    max_episode_steps: int

    def reset(self, key: Array) -> tuple[State, Array]:
        """Start an episode: state and observation [O]. Consumes the key."""

    def step(self, key: Array, state: State, action: Array) -> TimeStep:
        """Take one step. Consumes the key."""
