"""Rewards of completions, computed from their tokens; all jit.

A reward reads its own columns, one row a completion, and ignores the others. Each raises ValueError if the numbers of
rows differ.

Axes: B rows, P tokens of a prompt, N of a completion, K of an answer, S steps of a target chain, L tokens of a step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thinking.generation.answers import find_answers, tokens_and_mask
from thinking.generation.completions import Completions
from thinking.text.vocabulary import ANSWER, BACK, CHECK, END, END_THINK, SPECIAL_TOKENS, STEP, THINK
from thinking.types import Array

RewardTerm = Callable[..., Array]
"""`reward(prompts [B, P], completions, **columns) -> [B] float32`, higher is better."""


def outcome_reward(prompts: Array, completions: Completions, *, answers: Array, **columns: Any) -> Array:
    """[B] 1 if the answer is correct, else 0.

    The answer is the tokens between the last answer token outside thoughts and the next end token.

    Args:
        prompts: [B, P].
        completions: B completions.
        answers: [B, K] int32, correct answers, padded with 0.
        **columns: ignored.
    """
    _check("outcome_reward", prompts, completions, answers=answers)
    start, count, complete = find_answers(completions)
    answer_length = jnp.sum(answers > 0, axis=1)
    positions = jnp.arange(answers.shape[1])[None]
    last = completions.tokens.shape[1] - 1
    predicted = jnp.take_along_axis(completions.tokens, jnp.minimum(start[:, None] + positions, last), axis=1)
    is_equal = jnp.all((predicted == answers) | (positions >= answer_length[:, None]), axis=1)
    return (is_equal & complete & (count == answer_length)).astype(jnp.float32)


def format_reward(prompts: Array, completions: Completions, **columns: Any) -> Array:
    """[B] 1 for a completion `<think> ... </think><answer> ... <end>`, else 0.

    The think, end-of-thought and end tokens occur once. The answer has at least one token, and none that is special.

    Args:
        prompts: [B, P].
        completions: B completions.
        **columns: ignored.
    """
    _check("format_reward", prompts, completions)
    tokens, positions, is_valid = tokens_and_mask(completions)
    length = completions.length[:, None]
    thought_end = jnp.max(jnp.where((tokens == END_THINK) & is_valid, positions, -1), axis=1, keepdims=True)
    occurs_once = [jnp.sum((tokens == token) & is_valid, axis=1) == 1 for token in (THINK, END_THINK, END)]
    is_expected = jnp.select(
        [positions == 0, positions == thought_end + 1, positions == length - 1],
        [tokens == THINK, tokens == ANSWER, tokens == END],
        (positions <= thought_end) | (tokens >= len(SPECIAL_TOKENS)),
    )
    is_well_formed = (
        jnp.all(is_expected | ~is_valid, axis=1)
        & (thought_end[:, 0] >= 1)
        & (completions.length >= thought_end[:, 0] + 4)
    )
    return (is_well_formed & occurs_once[0] & occurs_once[1] & occurs_once[2]).astype(jnp.float32)


def length_reward(prompts: Array, completions: Completions, **columns: Any) -> Array:
    """[B] the unused fraction of the budget of N tokens.

    Args:
        prompts: [B, P].
        completions: B completions.
        **columns: ignored.
    """
    _check("length_reward", prompts, completions)
    return 1 - completions.length.astype(jnp.float32) / completions.tokens.shape[1]


def process_reward(prompts: Array, completions: Completions, *, steps: Array, **columns: Any) -> Array:
    """[B] correct steps of the first thought, over the number of its steps or of target steps, whichever is larger.

    A step is correct if it equals the target step of the same index. A step that ends in the token
    BACK is retracted and does not count. What follows the token CHECK in a step is ignored.

    Args:
        prompts: [B, P].
        completions: B completions.
        steps: [B, S, L] int32, target chains, padded with 0.
        **columns: ignored.
    """
    _check("process_reward", prompts, completions, steps=steps)
    tokens, positions, is_valid = tokens_and_mask(completions)
    rows, width = tokens.shape
    start = jnp.min(jnp.where((tokens == THINK) & is_valid, positions, width), axis=1, keepdims=True)
    is_after_start = (positions > start) & is_valid
    thought_end = jnp.min(jnp.where(is_after_start & (tokens == END_THINK), positions, width), axis=1, keepdims=True)
    in_thought = is_after_start & (positions < thought_end)
    is_end = (in_thought & ((tokens == STEP) | (tokens == BACK))) | (positions == thought_end)
    # End of each token's step, and of the step before.
    step_end = jax.lax.cummin(jnp.where(is_end, positions, width), axis=1, reverse=True)
    previous_end = jax.lax.cummax(jnp.where(is_end, positions, -1), axis=1)
    is_retracted = (step_end < width) & (jnp.take_along_axis(tokens, jnp.minimum(step_end, width - 1), axis=1) == BACK)
    in_check = jax.lax.cummax(jnp.where(in_thought & (tokens == CHECK), positions, -1), axis=1) > previous_end
    is_content, is_kept_end = in_thought & ~is_end & ~is_retracted & ~in_check, is_end & ~is_retracted
    step_index = jnp.cumsum(is_kept_end, axis=1) - is_kept_end
    count = jnp.cumsum(is_content, axis=1) - is_content
    offset = count - jax.lax.cummax(jnp.where(is_end, count, 0), axis=1)
    num_target_steps, max_length = steps.shape[1:]
    # The extra slot catches steps that are too long. Tokens count from 1, since 0 marks an empty slot.
    predicted = jnp.zeros((rows, num_target_steps, max_length + 1), jnp.int32)
    predicted = predicted.at[
        jnp.arange(rows)[:, None], jnp.where(is_content, step_index, num_target_steps), jnp.minimum(offset, max_length)
    ].max(tokens + 1, mode="drop")
    is_correct = jnp.where(steps > 0, steps + 1, 0) == predicted[..., :max_length]
    is_correct = jnp.all(is_correct, axis=2) & (predicted[..., max_length] == 0) & (steps[..., 0] > 0)
    is_unfinished = jnp.any(in_thought & (step_end == width), axis=1)
    num_steps = jnp.sum(is_kept_end, axis=1) + is_unfinished
    denominator = jnp.maximum(jnp.maximum(num_steps, jnp.sum(steps[..., 0] > 0, axis=1)), 1)
    return jnp.sum(is_correct, axis=1).astype(jnp.float32) / denominator


def combine_rewards(**terms: tuple[float, RewardTerm]) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """A weighted sum of rewards: `reward_fn(prompts, completions, **columns) -> (total [B], {name: [B], unweighted})`.

    Args:
        **terms: (weight, reward) by name.

    Raises:
        ValueError: without terms.
    """
    if not terms:
        raise ValueError("combine_rewards: there are no rewards; give at least one")

    def reward_fn(prompts: Array, completions: Completions, **columns: Any) -> tuple[Array, dict[str, Array]]:
        rewards = {name: term(prompts, completions, **columns) for name, (_, term) in terms.items()}
        total = sum(weight * rewards[name] for name, (weight, _) in terms.items())
        return total, rewards

    return reward_fn


def _check(name: str, prompts: Array, completions: Completions, **columns: Array) -> None:
    rows = completions.tokens.shape[0]
    if prompts.shape[0] != rows:
        raise ValueError(f"{name}: {prompts.shape[0]} prompts for {rows} completions; give one for each")
    for column, values in columns.items():
        if values.shape[0] != rows:
            raise ValueError(f"{name}: {column} has {values.shape[0]} rows for {rows} completions; give one for each")
