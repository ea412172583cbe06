"""Evaluation in Gymnasium's environments with seeds of their own.

Axes: S agents evaluated side by side (one per training seed), E episodes of each, P evaluations, O dimensions of an
observation, T steps of an episode, A dimensions of an action.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from thinking.environments.control import ControlEnv, to_native_action
from thinking.types import Array

_FIRST_SEED = 1_000_000
"""First seed of the evaluation. Training uses JAX's generator, so no episode is repeated."""

BatchPolicyFn = Callable[[Any, Array, Array], tuple[Any, Array, Any]]
"""`play(carry, observation [S, E, O], return_so_far [S, E]) -> (carry, action [S, E, ...], extras)`.

Extras are a PyTree [S, E, ...] to record."""


class Recording(NamedTuple):
    """One recorded episode.

    Attributes:
        observations: [T, O] before each step.
        return_so_far: [T] the return before each step.
        extras: [T, ...] the policy's extras at each step.
        total_return: the episode's return.
    """

    observations: np.ndarray
    return_so_far: np.ndarray
    extras: Any
    total_return: float


def reward_threshold(env: ControlEnv) -> float | None:
    """The mean return at which Gymnasium counts the task as solved, or None."""
    return gymnasium.spec(env.name).reward_threshold


def find_steps_to_threshold(steps: np.ndarray, returns: np.ndarray, threshold: float | None) -> float | None:
    """Environment steps until the return first reached a threshold, averaged over seeds.

    Args:
        steps: [S, P] at each evaluation.
        returns: [S, P].
        threshold: the return, or None.

    Returns:
        The mean; None without a threshold, or if a seed never reached it.
    """
    if threshold is None or not (reached := returns >= threshold).any(axis=1).all():
        return None
    return float(np.take_along_axis(steps, reached.argmax(axis=1)[:, None], axis=1).mean())


def evaluate_in_gymnasium(
    env: ControlEnv, policy_fn: BatchPolicyFn, carry: Any, num_seeds: int, num_episodes: int
) -> tuple[np.ndarray, Recording]:
    """Run E episodes with each of S agents; all agents have the same initial states.

    Args:
        env: the task; Gymnasium's version is used, with its own step limit.
        policy_fn: the policy of all agents; compiled here.
        carry: the policy's initial carry.
        num_seeds: S.
        num_episodes: E.

    Returns:
        Returns [S, E], and a recording of the first agent's first episode.
    """
    envs = [[gymnasium.make(env.name) for _ in range(num_episodes)] for _ in range(num_seeds)]
    observation = np.array(
        [[gym_env.reset(seed=_FIRST_SEED + i)[0] for i, gym_env in enumerate(row)] for row in envs], np.float32
    )
    returns, running = np.zeros((num_seeds, num_episodes), np.float32), np.ones((num_seeds, num_episodes), bool)
    step = jax.jit(lambda carry, observation, returns: _play_native(env, *policy_fn(carry, observation, returns)))
    frames = []
    while running.any():
        carry, actions, extras = step(carry, observation, returns)
        actions, recorded = jax.device_get((actions, jax.tree.map(lambda leaf: leaf[0, 0], extras)))
        if running[0, 0]:
            frames.append((observation[0, 0].copy(), float(returns[0, 0]), recorded))
        for index in np.argwhere(running):
            row, column = index
            step_output = envs[row][column].step(actions[row, column])
            observation[row, column], reward, terminated, truncated = step_output[:4]
            returns[row, column] += reward
            running[row, column] = not (terminated or truncated)
    for env in (env for row in envs for env in row):
        env.close()
    observations, returns_so_far, recorded = zip(*frames, strict=True)
    recorded = jax.tree.map(lambda *leaves: np.stack(leaves), *recorded)
    return returns, Recording(np.stack(observations), np.array(returns_so_far), recorded, float(returns[0, 0]))


def _play_native(env: ControlEnv, carry: Any, action: Array, extras: Any) -> tuple[Any, Array, Any]:
    return carry, to_native_action(env, action), extras
