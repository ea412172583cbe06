"""What an environment is to those who collect experience in it. They know no environment by name.

Axes: O dimensions of an observation.
"""

from typing import NamedTuple, Protocol

from thinking.types import Array, State


class TimeStep(NamedTuple):
    """One step of an environment.

    Attributes:
        state: of the environment; where the episode ended, of a new one.
        observation: [O] of that state.
        reward: [] float32.
        terminated: [] bool, the task is over.
        truncated: [] bool, the time is up, though the task is not over.
        final_observation: [O] at the end of the step, before a new episode began.
    """

    state: State
    observation: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_observation: Array


class Environment(Protocol):
    """A task to act in: constants and pure functions. An episode that ends is followed by a new one at once.

    Attributes:
        max_episode_steps: steps after which an episode is truncated.
    """

    max_episode_steps: int

    def reset(self, key: Array) -> tuple[State, Array]:
        """Begin an episode: the state, and what is observed of it [O]. Consumes the key."""

    def step(self, key: Array, state: State, action: Array) -> TimeStep:
        """Act once. Consumes the key."""
