"""Credit for rewards: what each token of a text learns from what the whole of it earned.

Axes: B rows, Q problems with G completions each, N tokens of the longest completion.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import generalized_advantages, group_advantages
from thinking.types import Array

AdvantageFn = Callable[..., PolicyBatch]
"""`credit(completions, rewards [B], **told) -> Experience`, without inputs: what each token [B, N] learns from rewards.
It is told each single reward and each column by name, and lets those be that it does not know."""


def return_to_go_advantages(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
    """Every token is worth what the whole earned: for `reinforce`, which takes the value off itself."""
    mask = completion_mask(completions)
    target = broadcast_to_tokens(rewards, mask)
    return make_policy_batch(completions, target, target, mask)


def gae_advantages(gae_lambda: float = 1.0) -> AdvantageFn:
    """Advantages over the value head by generalized advantage estimation, the reward coming at the end: for `ppo`.

    Args:
        gae_lambda: lambda, from 0 (the next value alone) to 1 (the reward alone).
    """

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        mask, value = completion_mask(completions), completions.value
        last = jnp.arange(mask.shape[1])[None] == completions.length[:, None] - 1
        following = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        earned = jnp.where(last, rewards[:, None], 0.0)
        advantage = generalized_advantages(earned.T, value.T, following.T, last.T, last.T, 1.0, gae_lambda).T
        return make_policy_batch(completions, advantage * mask, (advantage + value) * mask, mask)

    return advantage_fn


def group_relative(num_generations: int) -> AdvantageFn:
    """Every token is worth how much better its completion did than the others of its problem: for `grpo`.

    Args:
        num_generations: G.
    """

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        mask = completion_mask(completions)
        advantage = broadcast_to_tokens(group_advantages(rewards, num_generations), mask)
        return make_policy_batch(completions, advantage, broadcast_to_tokens(rewards, mask), mask)

    return advantage_fn


def best_of_group(num_generations: int, min_reward: float = 1.0) -> AdvantageFn:
    """Of the completions of a problem the best is learned, if it earned enough: for `imitation` (expert iteration).

    Args:
        num_generations: G.
        min_reward: what it must have earned.
    """

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        grouped = rewards.reshape(-1, num_generations)
        best = jax.nn.one_hot(jnp.argmax(grouped, axis=1), num_generations) * (grouped >= min_reward)
        written = completion_mask(completions)
        chosen = broadcast_to_tokens(best.reshape(-1), written)
        return make_policy_batch(completions, chosen, broadcast_to_tokens(rewards, written), written)

    return advantage_fn


def completion_mask(completions: Completions) -> Array:
    """[B, N] float32, 1 for every token that was written."""
    place = jnp.arange(completions.tokens.shape[1])[None]
    return (place < completions.length[:, None]).astype(jnp.float32)


def broadcast_to_tokens(value: Array, mask: Array) -> Array:
    """[B, N] a row's value [B] at each of its tokens."""
    return value[:, None] * mask


def make_policy_batch(completions: Completions, advantage: Array, target: Array, mask: Array) -> PolicyBatch:
    """What was written, with what it is worth [B, N]."""
    return PolicyBatch((), completions.tokens, completions.log_prob, advantage, target, mask)
