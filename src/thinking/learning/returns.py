"""Returns, advantages and state values from rewards.

Values are bootstrapped after a truncation but not after a termination (Pardo et al. 2018, "Time limits in
reinforcement learning").

Axes: T steps, E episodes or environments.
"""

import jax
import jax.numpy as jnp

from thinking.learning.statistics import standardize
from thinking.types import Array


def returns_to_go(rewards: Array, discount: float) -> Array:
    """[E, T] discounted returns-to-go of rewards [E, T], which must be 0 past the end."""

    def step(next_return: Array, reward: Array) -> tuple[Array, Array]:
        current = reward + discount * next_return
        return current, current

    return jax.lax.scan(step, jnp.zeros_like(rewards[:, 0]), rewards.T, reverse=True)[1].T


def bootstrapped_returns(
    rewards: Array, length: Array, terminated: Array, final_value: Array, discount: float
) -> Array:
    """[E, T] discounted returns-to-go of episodes; 0 past the end.

    Args:
        rewards: [E, T]; any values past the end.
        length: [E] int32, number of steps.
        terminated: [E] bool; otherwise the episode was truncated.
        final_value: [E], value of the final state, which follows a truncated episode; any value after a termination.
        discount: discount factor.
    """
    steps_left = length[:, None] - jnp.arange(rewards.shape[1])[None]
    bootstrap = jnp.where(terminated, 0.0, discount * final_value)[:, None]
    rewards = jnp.where(steps_left > 0, rewards, 0.0) + jnp.where(steps_left == 1, bootstrap, 0.0)
    return returns_to_go(rewards, discount)


def generalized_advantages(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    done: Array,
    discount: float,
    gae_lambda: float,
) -> Array:
    """[T, E] advantages by generalized advantage estimation (Schulman et al. 2016).

    Args:
        rewards: [T, E].
        values: [T, E] of the observations before the steps.
        next_values: [T, E] of the final observations of the steps, before any reset.
        terminated: [T, E] bool.
        done: [T, E] bool, terminated or truncated.
        discount: discount factor.
        gae_lambda: from 0 (one-step TD error) to 1 (Monte Carlo return).
    """
    td_errors = rewards + discount * jnp.where(terminated, 0.0, next_values) - values

    def step(next_advantage: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        td_error, is_done = inputs
        advantage = td_error + discount * gae_lambda * jnp.where(is_done, 0.0, next_advantage)
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(td_errors[0]), (td_errors, done), reverse=True, unroll=16)[1]


def state_values(rewards: Array, valid: Array, terminated: Array, discount: float, terminal_reward: float) -> Array:
    """[E, T] discounted averages of future rewards, `(1 - g) sum_k g ** k r_k`, in the range of the rewards.

    After a truncation the average is over the observed steps only. Past the end it is 0.

    Args:
        rewards: [E, T].
        valid: [E, T] bool, mask of steps, a prefix.
        terminated: [E] bool.
        discount: discount factor g, in (0, 1).
        terminal_reward: reward of every step after a termination.
    """
    total_weight = 1 / (1 - discount)
    end = jnp.where(terminated, total_weight * terminal_reward, 0.0), jnp.where(terminated, total_weight, 0.0)

    def step(future: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        reward, is_valid = inputs
        total = jnp.where(is_valid, reward + discount * future[0], future[0])
        weight = jnp.where(is_valid, 1 + discount * future[1], future[1])
        return (total, weight), jnp.where(is_valid, total / jnp.maximum(weight, 1), 0.0)

    return jax.lax.scan(step, end, (rewards.T, valid.T), reverse=True)[1].T


def group_advantages(rewards: Array, group_size: int) -> Array:
    """[B] rewards normalised by the mean and standard deviation of their group (Shao et al. 2024).

    They are 0 if the rewards of a group are equal up to rounding.

    Args:
        rewards: [B], group by group.
        group_size: must divide B.

    Raises:
        ValueError: if it does not.
    """
    if group_size < 1 or rewards.shape[0] % group_size:
        raise ValueError(
            f"group_advantages: groups of {group_size} do not divide {rewards.shape[0]} rewards; take a divisor"
        )
    grouped = rewards.reshape(-1, group_size)
    return standardize(grouped, jnp.ones_like(grouped), axis=1).reshape(-1)
