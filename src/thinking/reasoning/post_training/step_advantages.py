"""Step-level advantages: each step of a thought is rewarded on its own.

A completion is split into spans: the steps of its thought, each with the special token after it, then the answer. A
span has reward 1 if it and all spans before it are correct. Spans after the first error are masked (Lightman et al.
2023, "Let's verify step by step"), and no span is affected by the reward of a later one.

Axes: B rows, G completions of each prompt, N tokens of a completion, S steps of a target chain, L tokens of a step.
"""

from typing import NamedTuple

import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import generalized_advantages
from thinking.learning.statistics import clear_masked
from thinking.reasoning.post_training.advantages import AdvantageFn, completion_mask, make_policy_batch
from thinking.text.vocabulary import END_THINK, STEP, THINK
from thinking.types import Array


class Spans(NamedTuple):
    """Completions split into S steps and the answer.

    Attributes:
        span: [B, N] int32, span of each token; S is the answer.
        is_last: [B, N] bool, last tokens of spans.
        correct: [B, S + 1] float32, 1 if the span and all before it are correct; steps past the end of the target
            chain repeat its last step.
        prefix_correct: [B, S + 1] float32, 1 if all spans before are correct.
        mask: [B, N] float32, 1 for tokens of spans whose prefix is correct.
    """

    span: Array
    is_last: Array
    correct: Array
    prefix_correct: Array
    mask: Array


def split_spans(completions: Completions, outcome: Array, steps: Array) -> Spans:
    """Split completions into spans and verify them; jits.

    Args:
        completions: B completions, whose thoughts have no checks.
        outcome: [B] 1 if the answer is correct, else 0.
        steps: [B, S, L] int32, target chains, padded with 0.
    """
    tokens, num_steps = completions.tokens, steps.shape[1]
    rows, width = tokens.shape
    positions = jnp.arange(width)[None]
    is_valid = positions < completions.length[:, None]
    thought_end = jnp.min(jnp.where((tokens == END_THINK) & is_valid, positions, width), axis=1, keepdims=True)
    is_end = ((tokens == STEP) & is_valid & (positions < thought_end)) | (positions == thought_end)
    step_index = jnp.cumsum(is_end, axis=1) - is_end
    span = jnp.where(positions > thought_end, num_steps, jnp.minimum(step_index, num_steps - 1))

    # Compare with the target thought up to the first difference.
    target = _make_target_text(steps, width)
    is_matching = jnp.cumprod(tokens == target, axis=1)
    num_target_steps = jnp.sum(steps[:, :, 0] > 0, axis=1)[:, None]
    is_target_step = jnp.arange(num_steps)[None] < num_target_steps
    num_matching = jnp.sum(is_matching * is_end, axis=1)[:, None]
    correct = jnp.where(is_target_step, jnp.arange(num_steps)[None] < num_matching, num_matching >= num_target_steps)
    is_solved = correct[:, -1] & (outcome > 0)
    correct = jnp.concatenate([correct, is_solved[:, None]], axis=1).astype(jnp.float32)
    prefix_correct = jnp.concatenate([jnp.ones((rows, 1)), correct[:, :-1]], axis=1)
    mask = (is_valid & ((positions > thought_end) | (step_index < num_steps))) * jnp.take_along_axis(
        prefix_correct, span, axis=1
    )
    return Spans(span, is_end | (positions == completions.length[:, None] - 1), correct, prefix_correct, mask)


def step_group_relative(num_generations: int) -> AdvantageFn:
    """Advantage `(correct - p) / p` of each span, where p is the success rate of the span in its group, for `grpo`.

    It follows the gradient of the log success probability (maximum likelihood reinforcement learning, Tajwar et al.
    2026), so that rare successes have large weight. Division by the standard deviation (Shao et al. 2024) gives them
    too little. It is 0 where a group agrees, and sums to 0 over tokens that a whole group shares.

    Args:
        num_generations: G.
    """

    def advantage_fn(
        completions: Completions, rewards: Array, *, outcome: Array, steps: Array, **columns: Array
    ) -> PolicyBatch:
        spans = split_spans(completions, outcome, steps)
        success_rate, weight = _compute_success_rates(spans, num_generations)
        advantage = _broadcast_to_tokens((spans.correct - success_rate) * weight, spans)
        # The value is trained on all tokens, those after an error included.
        return make_policy_batch(
            completions, advantage, _broadcast_to_tokens(spans.correct, spans), completion_mask(completions)
        )

    return advantage_fn


def step_returns(num_generations: int) -> AdvantageFn:
    """`step_group_relative` as returns, for `reinforce` without a baseline.

    Args:
        num_generations: G.
    """
    group_advantage_fn = step_group_relative(num_generations)

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        batch = group_advantage_fn(completions, rewards, **columns)
        return batch._replace(value_target=batch.advantage)

    return advantage_fn


def step_gae_advantages(num_generations: int, gae_lambda: float = 1.0) -> AdvantageFn:
    """Generalized advantage estimation with each span as an episode, over its success rate p, for `ppo`.

    Args:
        num_generations: G.
        gae_lambda: from 0 (one-step TD error) to 1 (reward minus value).
    """

    def advantage_fn(
        completions: Completions, rewards: Array, *, outcome: Array, steps: Array, **columns: Array
    ) -> PolicyBatch:
        spans, value = split_spans(completions, outcome, steps), completions.value
        next_value = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        token_rewards = jnp.where(spans.is_last, _broadcast_to_tokens(spans.correct, spans), 0.0)
        advantage = generalized_advantages(
            token_rewards.T, value.T, next_value.T, spans.is_last.T, spans.is_last.T, 1.0, gae_lambda
        ).T
        weight = _broadcast_to_tokens(_compute_success_rates(spans, num_generations)[1], spans)
        return make_policy_batch(
            completions,
            clear_masked(advantage, spans.mask) * weight,
            clear_masked(advantage + value, spans.mask),
            spans.mask,
        )

    return advantage_fn


def _compute_success_rates(spans: Spans, num_generations: int) -> tuple[Array, Array]:
    """[B, S + 1] success rate p of spans in a group, among those of correct prefix, and 1 / p, or 0 if p is 0."""
    num_correct, has_correct_prefix = (
        leaf.reshape(-1, num_generations, leaf.shape[1])
        for leaf in (spans.correct * spans.prefix_correct, spans.prefix_correct)
    )
    success_rate = jnp.sum(num_correct, axis=1, keepdims=True) / jnp.maximum(
        jnp.sum(has_correct_prefix, axis=1, keepdims=True), 1
    )
    weight = jnp.where(success_rate > 0, 1 / jnp.maximum(success_rate, 1 / num_generations), 0.0)
    return tuple(
        jnp.broadcast_to(leaf, has_correct_prefix.shape).reshape(spans.correct.shape) for leaf in (success_rate, weight)
    )


def _make_target_text(steps: Array, width: int) -> Array:
    """[B, width] int32, the target thought of steps [B, S, L] with its special tokens, padded with -1."""
    rows = len(steps)
    is_target_step = steps[:, :, :1] > 0
    ends = jnp.where(jnp.pad(is_target_step[:, 1:], ((0, 0), (0, 1), (0, 0))), STEP, END_THINK)
    parts = jnp.concatenate([steps, ends], axis=2).reshape(rows, -1)
    is_valid = jnp.concatenate([steps > 0, is_target_step], axis=2).reshape(rows, -1)
    positions = jnp.where(is_valid, jnp.cumsum(is_valid, axis=1), width)  # from 1, after the think token
    text = jnp.full((rows, width), -1, jnp.int32).at[:, 0].set(THINK)
    return text.at[jnp.arange(rows)[:, None], positions].set(parts, mode="drop")


def _broadcast_to_tokens(value: Array, spans: Spans) -> Array:
    """[B, N] values [B, S + 1] of spans at their tokens, times the mask."""
    return jnp.take_along_axis(value, spans.span, axis=1) * spans.mask
