"""Returns, advantages and state values from rewards.

Truncation is not termination: after a termination nothing follows, but where only the time was up, life would have
gone on, and its value is estimated (Pardo et al. 2018, "Time limits in reinforcement learning").

Axes: T steps, E episodes or worlds.
"""

import jax
import jax.numpy as jnp

from thinking.types import Array


def returns_to_go(rewards: Array, discount: float) -> Array:
    """[E, T] discounted sums of rewards [E, T] from each step to the end; rewards beyond the end must be 0."""

    def back(later: Array, reward: Array) -> tuple[Array, Array]:
        here = reward + discount * later
        return here, here

    return jax.lax.scan(back, jnp.zeros_like(rewards[:, 0]), rewards.T, reverse=True)[1].T


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
        values: [T, E] of the states before the steps.
        next_values: [T, E] of the states that the steps reached, before a new episode began.
        terminated: [T, E] bool, nothing follows.
        done: [T, E] bool, terminated or truncated: what follows belongs to another episode.
        discount: of rewards.
        gae_lambda: lambda, from 0 (one step of life) to 1 (all of it).
    """
    surprises = rewards + discount * jnp.where(terminated, 0.0, next_values) - values

    def back(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        surprise, over = step
        here = surprise + discount * gae_lambda * jnp.where(over, 0.0, later)
        return here, here

    return jax.lax.scan(back, jnp.zeros_like(surprises[0]), (surprises, done), reverse=True)[1]


def state_values(rewards: Array, valid: Array, terminated: Array, discount: float, terminal_reward: float) -> Array:
    """[E, T] discounted averages of the rewards to come, `(1 - g) sum_k g ** k r_k`, in the range of the rewards.

    After a termination every reward is `terminal_reward`. After a truncation the average of what was lived stands for
    what was not. Beyond the end it is 0.

    Args:
        rewards: [E, T].
        valid: [E, T] bool, which steps were made, a prefix.
        terminated: [E] bool.
        discount: g, in (0, 1).
        terminal_reward: the reward of every step after a termination.
    """
    forever = 1 / (1 - discount)
    end = jnp.where(terminated, forever * terminal_reward, 0.0), jnp.where(terminated, forever, 0.0)

    def back(later: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        reward, made = step
        total = jnp.where(made, reward + discount * later[0], later[0])
        weight = jnp.where(made, 1 + discount * later[1], later[1])
        return (total, weight), jnp.where(made, total / jnp.maximum(weight, 1), 0.0)

    return jax.lax.scan(back, end, (rewards.T, valid.T), reverse=True)[1].T


def group_advantages(rewards: Array, group_size: int) -> Array:
    """[B] how much better each reward is than its group's mean, in the group's standard deviations (Shao et al. 2024).

    Where a group agrees nothing can be told, and it is 0.

    Args:
        rewards: [B], group by group.
        group_size: how many belong together; must divide B.

    Raises:
        ValueError: if it does not.
    """
    if group_size < 1 or rewards.shape[0] % group_size:
        raise ValueError(
            f"group_advantages: groups of {group_size} do not divide {rewards.shape[0]} rewards; take a divisor"
        )
    grouped = rewards.reshape(-1, group_size)
    centred = grouped - jnp.mean(grouped, axis=1, keepdims=True)
    # Of equal rewards the mean may differ by rounding, which must not count as a difference.
    alike = jnp.all(grouped == grouped[:, :1], axis=1, keepdims=True)
    spread = jnp.std(grouped, axis=1, keepdims=True)
    return jnp.where(alike, 0.0, centred / jnp.where(alike, 1.0, spread)).reshape(-1)
