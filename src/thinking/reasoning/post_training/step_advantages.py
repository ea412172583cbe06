"""Credit step by step: each step of a thought learns from its own mistake alone.

A text is cut into pieces: the steps of its thought, each with the mark behind it, then the answer. A piece earns 1 if
it is right and all before it are. Behind the first mistake nothing is judged (Lightman et al. 2023, "Let's verify step
by step"): what builds on it cannot be right, however well it is made. No piece is credited with what came of a later
one, so a wrong digit does not blame the right ones before it.

Axes: B rows, G completions of each problem, N tokens of a completion, S steps of a worked chain, L tokens of a step.
"""

from typing import NamedTuple

import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import generalized_advantages
from thinking.reasoning.post_training.advantages import AdvantageFn, completion_mask, make_policy_batch
from thinking.text.vocabulary import END_THINK, STEP, THINK
from thinking.types import Array


class Spans(NamedTuple):
    """A text in pieces: S steps and the answer.

    Attributes:
        span: [B, N] int32, which one a token belongs to; S is the answer.
        is_last: [B, N] bool, the tokens that end one.
        correct: [B, S + 1] float32, 1 where it and all before it are right; of steps that are not wanted the same as
            of the last one that is.
        prefix_correct: [B, S + 1] float32, 1 where all before it are right.
        mask: [B, N] float32, 1 for tokens of pieces that are judged.
    """

    span: Array
    is_last: Array
    correct: Array
    prefix_correct: Array
    mask: Array


def split_spans(completions: Completions, outcome: Array, steps: Array) -> Spans:
    """Cut texts into pieces and judge them; all jit.

    Args:
        completions: what was written; thoughts without checks.
        outcome: [B] 1 where the answer is right, else 0.
        steps: [B, S, L] int32, the worked chain; 0 behind each step, and in steps beyond the last.
    """
    tokens, most = completions.tokens, steps.shape[1]
    rows, width = tokens.shape
    place = jnp.arange(width)[None]
    written = place < completions.length[:, None]
    done = jnp.min(jnp.where((tokens == END_THINK) & written, place, width), axis=1, keepdims=True)
    ends = ((tokens == STEP) & written & (place < done)) | (place == done)
    step = jnp.cumsum(ends, axis=1) - ends
    piece = jnp.where(place > done, most, jnp.minimum(step, most - 1))

    # What should be written: each step with the mark behind it, one behind the other; the first mistake ends it.
    text = _make_target_text(steps, width)
    fine = jnp.cumprod(tokens == text, axis=1)
    count = jnp.sum(steps[:, :, 0] > 0, axis=1)[:, None]
    wanted = jnp.arange(most)[None] < count
    reached = jnp.sum(fine * ends, axis=1)[:, None]
    right = jnp.where(wanted, jnp.arange(most)[None] < reached, reached >= count)
    solved = right[:, -1] & (outcome > 0)
    right = jnp.concatenate([right, solved[:, None]], axis=1).astype(jnp.float32)
    judged = jnp.concatenate([jnp.ones((rows, 1)), right[:, :-1]], axis=1)
    mask = (written & ((place > done) | (step < most))) * jnp.take_along_axis(judged, piece, axis=1)
    return Spans(piece, ends | (place == completions.length[:, None] - 1), right, judged, mask)


def step_group_relative(num_generations: int) -> AdvantageFn:
    """Every token is worth how much better its piece did than the same piece of the others of its problem, in shares.

    That is `(right - share) / share`, where `share` of the group got the piece right. It follows the log of the
    probability to be right (maximum likelihood reinforcement learning, Tajwar et al. 2026): a rare success counts as
    much as if it had been shown. Divided by a standard deviation, as in Shao et al. 2024, it is drowned by what is
    nearly learned, and what is seldom right is soon never tried. Where a group agrees nothing can be told, and it is 0.
    What the texts of a group share before they part is credited with nothing. For `grpo`.

    Args:
        num_generations: G.
    """

    def advantage_fn(
        completions: Completions, rewards: Array, *, outcome: Array, steps: Array, **columns: Array
    ) -> PolicyBatch:
        found = split_spans(completions, outcome, steps)
        share, weight = _compute_success_rates(found, num_generations)
        better = _broadcast_to_tokens((found.correct - share) * weight, found)
        # Behind a mistake nothing is credited, but the value learns that nothing comes of it.
        return make_policy_batch(
            completions, better, _broadcast_to_tokens(found.correct, found), completion_mask(completions)
        )

    return advantage_fn


def step_returns(num_generations: int) -> AdvantageFn:
    """The same as the return of each token: for `reinforce` without a baseline of its own.

    Args:
        num_generations: G.
    """
    group_advantage_fn = step_group_relative(num_generations)

    def advantage_fn(completions: Completions, rewards: Array, **columns: Array) -> PolicyBatch:
        found = group_advantage_fn(completions, rewards, **columns)
        return found._replace(value_target=found.advantage)

    return advantage_fn


def step_gae_advantages(num_generations: int, gae_lambda: float = 1.0) -> AdvantageFn:
    """The same, but how much better is told by the value head: for `ppo`.

    By generalized advantage estimation with each piece as an episode, in shares of how much of the group got it right.

    Args:
        num_generations: G.
        gae_lambda: lambda, from 0 (the next value alone) to 1 (what the piece earned alone).
    """

    def advantage_fn(
        completions: Completions, rewards: Array, *, outcome: Array, steps: Array, **columns: Array
    ) -> PolicyBatch:
        found, value = split_spans(completions, outcome, steps), completions.value
        following = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
        earned = jnp.where(found.is_last, _broadcast_to_tokens(found.correct, found), 0.0)
        advantage = generalized_advantages(
            earned.T, value.T, following.T, found.is_last.T, found.is_last.T, 1.0, gae_lambda
        ).T
        weight = _broadcast_to_tokens(_compute_success_rates(found, num_generations)[1], found)
        return make_policy_batch(completions, advantage * weight, (advantage + value) * found.mask, found.mask)

    return advantage_fn


def _compute_success_rates(spans: Spans, num_generations: int) -> tuple[Array, Array]:
    """[B, S + 1] the share of a piece's group, of those that are judged, that got it right; and one over it, or 0."""
    right, judged = (
        leaf.reshape(-1, num_generations, leaf.shape[1])
        for leaf in (spans.correct * spans.prefix_correct, spans.prefix_correct)
    )
    share = jnp.sum(right, axis=1, keepdims=True) / jnp.maximum(jnp.sum(judged, axis=1, keepdims=True), 1)
    weight = jnp.where(share > 0, 1 / jnp.maximum(share, 1 / num_generations), 0.0)
    return tuple(jnp.broadcast_to(leaf, judged.shape).reshape(spans.correct.shape) for leaf in (share, weight))


def _make_target_text(steps: Array, width: int) -> Array:
    """[B, width] int32, the thought that steps [B, S, L] make up, from the mark that opens it; -1 behind it."""
    rows = len(steps)
    wanted = steps[:, :, :1] > 0
    closing = jnp.where(jnp.pad(wanted[:, 1:], ((0, 0), (0, 1), (0, 0))), STEP, END_THINK)
    parts = jnp.concatenate([steps, closing], axis=2).reshape(rows, -1)
    real = jnp.concatenate([steps > 0, wanted], axis=2).reshape(rows, -1)
    spot = jnp.where(real, jnp.cumsum(real, axis=1), width)  # from 1, behind the mark that opens
    text = jnp.full((rows, width), -1, jnp.int32).at[:, 0].set(THINK)
    return text.at[jnp.arange(rows)[:, None], spot].set(parts, mode="drop")


def _broadcast_to_tokens(value: Array, spans: Spans) -> Array:
    """[B, N] a piece's value [B, S + 1] at each of its tokens that count."""
    return jnp.take_along_axis(value, spans.span, axis=1) * spans.mask
