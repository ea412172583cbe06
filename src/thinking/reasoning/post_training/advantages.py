"""Token-level advantages of completion rewards.

Axes: B rows, Q prompts with G completions each, N tokens of the longest completion.
"""

from collections.abc import Callable

import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import generalized_advantages, group_advantages
from thinking.learning.statistics import clear_masked
from thinking.types import Array

AdvantageFn = Callable[..., PolicyBatch]
"""`advantage_fn(completions, rewards [B], **columns) -> PolicyBatch` of arrays [B, N], without inputs. Columns are the
prompts' columns and the single rewards, by name; unknown ones are ignored."""


def return_to_go_advantages(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
    """The reward as return of every token, for `reinforce`, which subtracts its own baseline."""
    mask = completion_mask(completions)
    target = broadcast_to_tokens(rewards, mask)
    return make_policy_batch(completions, target, target, mask)


def gae_advantages(gae_lambda: float = 1.0) -> AdvantageFn:
    """Generalized advantage estimation with the value head and the reward at the last token, for `ppo`.

    Args:
        gae_lambda: from 0 (one-step TD error) to 1 (reward minus value).
    """

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        mask, value = completion_mask(completions), completions.value
        is_last = jnp.arange(mask.shape[1])[None] == completions.length[:, None] - 1
        next_value = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        token_rewards = jnp.where(is_last, rewards[:, None], 0.0)
        advantage = generalized_advantages(
            token_rewards.T, value.T, next_value.T, is_last.T, is_last.T, 1.0, gae_lambda
        ).T
        return make_policy_batch(
            completions, clear_masked(advantage, mask), clear_masked(advantage + value, mask), mask
        )

    return advantage_fn


def group_relative(num_generations: int) -> AdvantageFn:
    """Rewards normalised within the completions of a prompt, at every token, for `grpo`.

    Args:
        num_generations: G.
    """

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        mask = completion_mask(completions)
        advantage = broadcast_to_tokens(group_advantages(rewards, num_generations), mask)
        return make_policy_batch(completions, advantage, broadcast_to_tokens(rewards, mask), mask)

    return advantage_fn


def best_of_group(num_generations: int) -> AdvantageFn:
    """1 at the tokens of each prompt's correct completion of highest reward, else 0, for `expert_iteration`.

    Correctness is the reward `outcome` alone: other rewards choose among correct completions, and never make up for a
    wrong answer.

    Args:
        num_generations: G.
    """

    def advantage_fn(completions: Completions, rewards: Array, *, outcome: Array, **columns: Array) -> PolicyBatch:
        is_correct = (outcome >= 1).reshape(-1, num_generations)
        best = jnp.argmax(jnp.where(is_correct, rewards.reshape(-1, num_generations), -jnp.inf), axis=1)
        is_best = is_correct & (jnp.arange(num_generations)[None] == best[:, None])
        mask = completion_mask(completions)
        advantage = broadcast_to_tokens(is_best.reshape(-1).astype(jnp.float32), mask)
        return make_policy_batch(completions, advantage, broadcast_to_tokens(rewards, mask), mask)

    return advantage_fn


def completion_mask(completions: Completions) -> Array:
    """[B, N] float32, 1 for generated tokens, 0 for padding."""
    positions = jnp.arange(completions.tokens.shape[1])[None]
    return (positions < completions.length[:, None]).astype(jnp.float32)


def broadcast_to_tokens(value: Array, mask: Array) -> Array:
    """[B, N] values [B] at every token whose mask is above 0, else 0."""
    return clear_masked(jnp.broadcast_to(value[:, None], mask.shape), mask)


def make_policy_batch(completions: Completions, advantage: Array, value_target: Array, mask: Array) -> PolicyBatch:
    """A batch of completions with advantages, value targets and mask [B, N]; inputs are ()."""
    return PolicyBatch((), completions.tokens, completions.log_prob, advantage, value_target, mask)
