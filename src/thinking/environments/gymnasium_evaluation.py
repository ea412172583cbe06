"""Judging in Gymnasium: episodes of its own worlds, with seeds of their own.

Axes: S agents judged side by side (one of each training seed), E episodes of each, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from thinking.environments.control import ControlEnv, to_native_action
from thinking.types import Array

_FIRST_SEED = 1_000_000
"""Gymnasium's seeds count from here; training draws from JAX's generator, so none is ever seen before."""

PlayFn = Callable[[Any, Array, Array], tuple[Any, Array, Any]]
"""`play(mind, observation [S, E, O], gained [S, E]) -> (mind, action [S, E, ...], notes)`; notes are a PyTree
[S, E, ...] of what there is to see."""


class Recording(NamedTuple):
    """One episode as it was seen.

    Attributes:
        observations: [T, O] before each step.
        return_so_far: [T] the return before each step.
        extras: [T, ...] what the player noted at each step.
        total_return: the episode's return.
    """

    observations: np.ndarray
    return_so_far: np.ndarray
    extras: Any
    total_return: float


def reward_threshold(env: ControlEnv) -> float | None:
    """The mean return from which Gymnasium calls the world solved; None where it says nothing."""
    return gymnasium.spec(env.name).reward_threshold


def find_steps_to_threshold(steps: np.ndarray, returns: np.ndarray, threshold: float | None) -> float | None:
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


def evaluate_in_gymnasium(
    env: ControlEnv, play_fn: PlayFn, carry: Any, num_seeds: int, num_episodes: int
) -> tuple[np.ndarray, Recording]:
    """Let S agents play E episodes each, all agents from the same beginnings.

    Args:
        env: the task; Gymnasium's own is played, with its own limit of steps.
        play_fn: how all of them act; compiled here.
        carry: what `play_fn` carries along, as it is at the beginning.
        num_seeds: S.
        num_episodes: E.

    Returns:
        Returns [S, E], and the first agent's first episode.
    """
    made = [[gymnasium.make(env.name) for _ in range(num_episodes)] for _ in range(num_seeds)]
    seen = np.array(
        [[gym_env.reset(seed=_FIRST_SEED + i)[0] for i, gym_env in enumerate(row)] for row in made], np.float32
    )
    gained, alive = np.zeros((num_seeds, num_episodes), np.float32), np.ones((num_seeds, num_episodes), bool)
    step = jax.jit(lambda mind, seen, gained: _play_native(env, *play_fn(mind, seen, gained)))
    frames = []
    while alive.any():
        carry, actions, notes = step(carry, seen, gained)
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
    return gained, Recording(np.stack(observations), np.array(before), shown, float(gained[0, 0]))


def _play_native(env: ControlEnv, carry: Any, action: Array, extras: Any) -> tuple[Any, Array, Any]:
    return carry, to_native_action(env, action), extras
