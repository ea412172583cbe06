"""What a completion is worth, told from its tokens; all jit.

A reward reads the columns that it knows, one row for each completion, and lets the others be.

Axes: B rows, P tokens of a prompt, N of a completion, K of an answer, S steps of a worked chain, L tokens of a step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thinking.generation.answers import find_answers, tokens_and_mask
from thinking.generation.completions import Completions
from thinking.text.vocabulary import ANSWER, BACK, CHECK, END, END_THINK, MARKS, STEP, THINK
from thinking.types import Array

RewardTerm = Callable[..., Array]
"""`reward(prompts [B, P], completions, **columns) -> [B] float32`, higher is better."""


def outcome_reward(prompts: Array, completions: Completions, *, answers: Array, **columns: Any) -> Array:
    """[B] 1 where the answer is the right one, else 0.

    The answer is what stands between the last answer mark outside thoughts and the first end behind it.

    Args:
        prompts: not read.
        completions: what was written.
        answers: [B, K] int32, the right ones; 0 behind each.
        **columns: not read.
    """
    _check("outcome_reward", prompts, completions, answers=answers)
    start, count, complete = find_answers(completions)
    wanted = jnp.sum(answers > 0, axis=1)
    spot = jnp.arange(answers.shape[1])[None]
    last = completions.tokens.shape[1] - 1
    given = jnp.take_along_axis(completions.tokens, jnp.minimum(start[:, None] + spot, last), axis=1)
    same = jnp.all((given == answers) | (spot >= wanted[:, None]), axis=1)
    return (same & complete & (count == wanted)).astype(jnp.float32)


def format_reward(prompts: Array, completions: Completions, **columns: Any) -> Array:
    """[B] 1 where it is one thought, then one answer, then the end, else 0.

    A thought opens at once and closes once; the answer's mark is next, at least one token follows it and no mark, and
    the end is the last token.

    Args:
        prompts: not read.
        completions: what was written.
        **columns: not read.
    """
    _check("format_reward", prompts, completions)
    tokens, place, real = tokens_and_mask(completions)
    length = completions.length[:, None]
    closed = jnp.max(jnp.where((tokens == END_THINK) & real, place, -1), axis=1, keepdims=True)
    once = [jnp.sum((tokens == mark) & real, axis=1) == 1 for mark in (THINK, END_THINK, END)]
    wanted = jnp.select(
        [place == 0, place == closed + 1, place == length - 1],
        [tokens == THINK, tokens == ANSWER, tokens == END],
        (place <= closed) | (tokens >= len(MARKS)),
    )
    fine = jnp.all(wanted | ~real, axis=1) & (closed[:, 0] >= 1) & (completions.length >= closed[:, 0] + 4)
    return (fine & once[0] & once[1] & once[2]).astype(jnp.float32)


def length_reward(prompts: Array, completions: Completions, **columns: Any) -> Array:
    """[B] the share of the budget of N tokens that was not used.

    Args:
        prompts: not read.
        completions: what was written.
        **columns: not read.
    """
    _check("length_reward", prompts, completions)
    return 1 - completions.length.astype(jnp.float32) / completions.tokens.shape[1]


def process_reward(prompts: Array, completions: Completions, *, steps: Array, **columns: Any) -> Array:
    """[B] the share of right steps in the first thought: of those written or of those wanted, whichever are more.

    A step is right if it says what the worked chain says at its place. A step that was taken back is as if it had
    never been made, and its check is not part of any step.

    Args:
        prompts: not read.
        completions: what was written.
        steps: [B, S, L] int32, the worked chain; 0 behind each step, and in steps beyond the last.
        **columns: not read.
    """
    _check("process_reward", prompts, completions, steps=steps)
    tokens, place, real = tokens_and_mask(completions)
    rows, width = tokens.shape
    start = jnp.min(jnp.where((tokens == THINK) & real, place, width), axis=1, keepdims=True)
    after = (place > start) & real
    done = jnp.min(jnp.where(after & (tokens == END_THINK), place, width), axis=1, keepdims=True)
    inside = after & (place < done)
    ends = (inside & ((tokens == STEP) | (tokens == BACK))) | (place == done)
    # Where the step of each token ends, and where the one before it did.
    end = jax.lax.cummin(jnp.where(ends, place, width), axis=1, reverse=True)
    before = jax.lax.cummax(jnp.where(ends, place, -1), axis=1)
    back = (end < width) & (jnp.take_along_axis(tokens, jnp.minimum(end, width - 1), axis=1) == BACK)
    checked = jax.lax.cummax(jnp.where(inside & (tokens == CHECK), place, -1), axis=1) > before
    content, kept = inside & ~ends & ~back & ~checked, ends & ~back
    step = jnp.cumsum(kept, axis=1) - kept
    count = jnp.cumsum(content, axis=1) - content
    spot = count - jax.lax.cummax(jnp.where(ends, count, 0), axis=1)
    wanted, longest = steps.shape[1:]
    # One more place than a step may have catches what is too long; tokens count from 1, as a model may write padding.
    written = jnp.zeros((rows, wanted, longest + 1), jnp.int32)
    written = written.at[jnp.arange(rows)[:, None], jnp.where(content, step, wanted), jnp.minimum(spot, longest)].max(
        tokens + 1, mode="drop"
    )
    right = jnp.where(steps > 0, steps + 1, 0) == written[..., :longest]
    right = jnp.all(right, axis=2) & (written[..., longest] == 0) & (steps[..., 0] > 0)
    open_end = jnp.any(inside & (end == width), axis=1)
    given = jnp.sum(kept, axis=1) + open_end
    most = jnp.maximum(jnp.maximum(given, jnp.sum(steps[..., 0] > 0, axis=1)), 1)
    return jnp.sum(right, axis=1).astype(jnp.float32) / most


def combine_rewards(**terms: tuple[float, RewardTerm]) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """A weighted sum of rewards, as `reward(prompts, completions, **columns) -> (total [B], {name: [B]})`.

    Args:
        **terms: by name, a weight and a reward. Beside the total each one is told, unweighted.

    Raises:
        ValueError: if there is none.
    """
    if not terms:
        raise ValueError("combine_rewards: there are no rewards; give at least one")

    def reward_fn(prompts: Array, completions: Completions, **columns: Any) -> tuple[Array, dict[str, Array]]:
        each = {name: term(prompts, completions, **columns) for name, (_, term) in terms.items()}
        total = sum(weight * each[name] for name, (weight, _) in terms.items())
        return total, each

    return reward_fn


def _check(name: str, prompts: Array, completions: Completions, **columns: Array) -> None:
    rows = completions.tokens.shape[0]
    if prompts.shape[0] != rows:
        raise ValueError(f"{name}: {prompts.shape[0]} prompts for {rows} completions; give one for each")
    for column, values in columns.items():
        if values.shape[0] != rows:
            raise ValueError(f"{name}: {column} has {values.shape[0]} rows for {rows} completions; give one for each")
