"""Credit for rewards: what each token of a text learns from what the whole of it earned.

Axes: B rows, Q problems with G completions each, N tokens of the longest completion.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import Experience
from thinking.learning.returns import generalized_advantages, group_advantages
from thinking.types import Array

Credit = Callable[..., Experience]
"""`credit(completions, rewards [B], **told) -> Experience`, without inputs: what each token [B, N] learns from rewards.
It is told each single reward and each column by name, and lets those be that it does not know."""


def by_return(completions: Completions, rewards: Array, **told: Array) -> Experience:
    """Every token is worth what the whole earned: for `reinforce`, which takes the value off itself."""
    mask = written_mask(completions)
    target = spread_out(rewards, mask)
    return experience_of(completions, target, target, mask)


def by_value(decay: float = 1.0) -> Credit:
    """Advantages over the value head by generalized advantage estimation, the reward coming at the end: for `ppo`.

    Args:
        decay: lambda, from 0 (the next value alone) to 1 (the reward alone).
    """

    def credit(completions: Completions, rewards: Array, **told: Array) -> Experience:
        mask, value = written_mask(completions), completions.value
        last = jnp.arange(mask.shape[1])[None] == completions.length[:, None] - 1
        following = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        earned = jnp.where(last, rewards[:, None], 0.0)
        advantage = generalized_advantages(earned.T, value.T, following.T, last.T, last.T, 1.0, decay).T
        return experience_of(completions, advantage * mask, (advantage + value) * mask, mask)

    return credit


def by_group(group: int) -> Credit:
    """Every token is worth how much better its completion did than the others of its problem: for `grpo`.

    Args:
        group: G.
    """

    def credit(completions: Completions, rewards: Array, **told: Array) -> Experience:
        mask = written_mask(completions)
        advantage = spread_out(group_advantages(rewards, group), mask)
        return experience_of(completions, advantage, spread_out(rewards, mask), mask)

    return credit


def by_best(group: int, least: float = 1.0) -> Credit:
    """Of the completions of a problem the best is learned, if it earned enough: for `imitation` (expert iteration).

    Args:
        group: G.
        least: what it must have earned.
    """

    def credit(completions: Completions, rewards: Array, **told: Array) -> Experience:
        grouped = rewards.reshape(-1, group)
        best = jax.nn.one_hot(jnp.argmax(grouped, axis=1), group) * (grouped >= least)
        written = written_mask(completions)
        chosen = spread_out(best.reshape(-1), written)
        return experience_of(completions, chosen, spread_out(rewards, written), written)

    return credit


def written_mask(completions: Completions) -> Array:
    """[B, N] float32, 1 for every token that was written."""
    place = jnp.arange(completions.tokens.shape[1])[None]
    return (place < completions.length[:, None]).astype(jnp.float32)


def spread_out(value: Array, mask: Array) -> Array:
    """[B, N] a row's value [B] at each of its tokens."""
    return value[:, None] * mask


def experience_of(completions: Completions, advantage: Array, target: Array, mask: Array) -> Experience:
    """What was written, with what it is worth [B, N]."""
    return Experience((), completions.tokens, completions.log_prob, advantage, target, mask)
