"""The T-maze (Bakker 2001): a sign at the start of a corridor tells which way to turn at its end.

Only the first observation shows the sign. All steps of the corridor look alike, so an agent must remember the sign for
as long as it walks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.environment import TimeStep
from thinking.types import Array

LEFT, FORWARD, RIGHT = range(3)
NUM_ACTIONS = 3
OBSERVATION_DIM = 3


class TMazeState(NamedTuple):
    """Where the agent is.

    Attributes:
        sign: [] int32, -1 for left, 1 for right.
        position: [] int32, from 0 to the length of the corridor, where the junction is.
        num_steps: [] int32, steps so far.
    """

    sign: Array
    position: Array
    num_steps: Array


@dataclass(frozen=True)
class TMaze:
    """A T-maze.

    An observation is [sign, or 0 after the start; 1 at the junction, else 0; 1]. In the corridor an agent walks on with
    `FORWARD` and stands still otherwise; at the junction `LEFT` or `RIGHT` ends the episode, with a reward of 1 if it
    is the way of the sign, else 0. Each step of standing still costs 0.1, as in the paper, so that walking is learned
    without a memory.

    Attributes:
        length: steps from the start to the junction, at least 1.
    """

    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"TMaze: length {self.length} is out of range; give at least 1")

    @property
    def max_episode_steps(self) -> int:
        """A random walk arrives after three times the length on average."""
        return 4 * self.length + 8

    def reset(self, key: Array) -> tuple[TMazeState, Array]:
        """Start an episode: state and observation [3]. Consumes the key."""
        sign = jnp.where(jax.random.bernoulli(key), 1, -1).astype(jnp.int32)
        state = TMazeState(sign, jnp.int32(0), jnp.int32(0))
        return state, self._observe(state)

    def step(self, key: Array, state: TMazeState, action: Array) -> TimeStep:
        """Take one step, which is not random."""
        del key
        is_junction = state.position == self.length
        terminated = is_junction & (action != FORWARD)
        is_right_way = action == jnp.where(state.sign > 0, RIGHT, LEFT)
        position = jnp.where(action == FORWARD, jnp.minimum(state.position + 1, self.length), state.position)
        stands_still = (position == state.position) & ~terminated
        reward = (terminated & is_right_way).astype(jnp.float32) - 0.1 * stands_still
        state = TMazeState(state.sign, position, state.num_steps + 1)
        truncated = (state.num_steps >= self.max_episode_steps) & ~terminated
        return TimeStep(state, self._observe(state), reward, terminated, truncated)

    def _observe(self, state: TMazeState) -> Array:
        sign = jnp.where(state.num_steps == 0, state.sign, 0)
        return jnp.stack([sign, state.position == self.length, jnp.ones(())]).astype(jnp.float32)
