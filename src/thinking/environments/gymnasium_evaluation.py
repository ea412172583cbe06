"""Judging in Gymnasium: episodes of its own worlds, with seeds of their own.

Axes: S agents judged side by side (one of each training seed), E episodes of each, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from thinking.environments.control import World, native_action
from thinking.types import Array

_FIRST_SEED = 1_000_000
"""Gymnasium's seeds count from here; training draws from JAX's generator, so none is ever seen before."""

Play = Callable[[Any, Array, Array], tuple[Any, Array, Any]]
"""`play(mind, observation [S, E, O], gained [S, E]) -> (mind, action [S, E, ...], notes)`; notes are a PyTree
[S, E, ...] of what there is to see."""


class Film(NamedTuple):
    """One episode as it was seen.

    Attributes:
        observations: [T, O] before each step.
        gained: [T] the return before each step.
        notes: [T, ...] what the player noted at each step.
        total: the episode's return.
    """

    observations: np.ndarray
    gained: np.ndarray
    notes: Any
    total: float


def reward_threshold(world: World) -> float | None:
    """The mean return from which Gymnasium calls the world solved; None where it says nothing."""
    return gymnasium.spec(world.name).reward_threshold


def steps_until(steps: np.ndarray, returns: np.ndarray, threshold: float | None) -> float | None:
    """Environment steps until a return first came to the threshold, the mean over seeds.

    Args:
        steps: [S, P] of each seed at each judgement.
        returns: [S, P].
        threshold: the return, or None.

    Returns:
        The mean; None if a seed never came there, or there is no threshold.
    """
    if threshold is None or not (there := returns >= threshold).any(axis=1).all():
        return None
    return float(np.take_along_axis(steps, there.argmax(axis=1)[:, None], axis=1).mean())


def judge(world: World, play: Play, mind: Any, agents: int, count: int) -> tuple[np.ndarray, Film]:
    """Let S agents play E episodes each, all agents from the same beginnings.

    Args:
        world: the task; Gymnasium's own is played, with its own limit of steps.
        play: how all of them act; compiled here.
        mind: what `play` carries along, as it is at the beginning.
        agents: S.
        count: E.

    Returns:
        Returns [S, E], and the first agent's first episode.
    """
    made = [[gymnasium.make(world.name) for _ in range(count)] for _ in range(agents)]
    seen = np.array([[env.reset(seed=_FIRST_SEED + i)[0] for i, env in enumerate(row)] for row in made], np.float32)
    gained, alive = np.zeros((agents, count), np.float32), np.ones((agents, count), bool)
    step = jax.jit(lambda mind, seen, gained: _native(world, *play(mind, seen, gained)))
    frames = []
    while alive.any():
        mind, actions, notes = step(mind, seen, gained)
        actions, shown = jax.device_get((actions, jax.tree.map(lambda leaf: leaf[0, 0], notes)))
        if alive[0, 0]:
            frames.append((seen[0, 0].copy(), float(gained[0, 0]), shown))
        for place in np.argwhere(alive):
            row, column = place
            moment = made[row][column].step(actions[row, column])
            seen[row, column], reward, terminated, truncated = moment[:4]
            gained[row, column] += reward
            alive[row, column] = not (terminated or truncated)
    for env in (env for row in made for env in row):
        env.close()
    observations, before, shown = zip(*frames, strict=True)
    shown = jax.tree.map(lambda *leaves: np.stack(leaves), *shown)
    return gained, Film(np.stack(observations), np.array(before), shown, float(gained[0, 0]))


def _native(world: World, mind: Any, action: Array, notes: Any) -> tuple[Any, Array, Any]:
    return mind, native_action(world, action), notes
