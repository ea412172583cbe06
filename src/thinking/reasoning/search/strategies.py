"""Test-time compute with a decoder: parallel samples, sequential revisions and beam search.

All strategies jit and count generated tokens, so that they can be compared at equal budgets. Tokens that are only read,
of the prompt or kept from an earlier sample, are not counted.

Axes: B problems, P tokens of the longest prompt, M samples of each problem, N tokens of a completion.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import apply_in_batches
from thinking.generation.answers import find_answers
from thinking.generation.completions import Completions, generate
from thinking.generation.sampling import Sampling, fold_in_rows, split_by_row
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_path, majority_vote, split_samples
from thinking.reasoning.search.interface import check_budgets
from thinking.reasoning.search.token_model import make_token_model
from thinking.text.vocabulary import BACK, END, END_THINK, PAD, STEP
from thinking.types import Array, Params

STEP_ENDS = (STEP, BACK, END_THINK, END)
"""Tokens that end a step."""


class Samples(NamedTuple):
    """Samples in order; a prefix is the result of a smaller budget.

    Attributes:
        completions: arrays [B, M, ...].
        num_tokens: [B, M] int32, tokens generated for each.
    """

    completions: Completions
    num_tokens: Array


class Solutions(NamedTuple):
    """The selected completions, in the format that rewards read.

    Attributes:
        tokens: [B, N] int32, the end token included; 0 past `length`.
        length: [B] int32.
        num_tokens: [B] int32, all tokens generated for the problem.
    """

    tokens: Array
    length: Array
    num_tokens: Array


ChooseFn = Callable[[Completions], Array]
"""`choose_fn(completions [B, M, ...]) -> [B] int32`, index of the selected sample. Unfinished ones are eligible only if
all are; then it is sample 0."""


def choose_by_log_prob(completions: Completions) -> Array:
    """The sample of highest log-probability."""
    return _choose_highest(completions, jnp.sum(completions.log_prob, axis=2))


def choose_by_value(completions: Completions) -> Array:
    """The sample of highest value before its last token (Cobbe et al. 2021)."""
    return _choose_highest(completions, _last_value(completions))


def choose_by_vote(completions: Completions) -> Array:
    """A sample with the most frequent answer (Wang et al. 2022); ties go to the larger total probability."""
    answers, valid = _extract_answers(completions)
    return majority_vote(answers, valid, jnp.sum(completions.log_prob, axis=2))


def choose_solution(samples: Samples, choose_fn: ChooseFn, num_samples: int | None = None) -> Solutions:
    """The selected completion among the first `num_samples`, all by default, and their cost.

    Raises:
        ValueError: if `num_samples` is out of range.
    """
    num_available = samples.num_tokens.shape[1]
    num_samples = num_available if num_samples is None else num_samples
    if not 1 <= num_samples <= num_available:
        raise ValueError(f"choose_solution: num_samples {num_samples} is out of range; give 1 to {num_available}")
    completions = jax.tree.map(lambda leaf: leaf[:, :num_samples], samples.completions)
    best = choose_fn(completions)
    problems = jnp.arange(len(best))
    num_tokens = jnp.sum(samples.num_tokens[:, :num_samples], axis=1)
    return Solutions(completions.tokens[problems, best], completions.length[problems, best], num_tokens)


def sample_completions(
    decoder: Decoder,
    params: Params,
    key: Array,
    prompts: Array,
    lengths: Array,
    *,
    num_samples: int,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
) -> Samples:
    """Independent samples.

    Args:
        decoder: a decoder.
        params: its parameters.
        key: consumed; one, or [B].
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, from 1.
        num_samples: M.
        max_new_tokens: N.
        sampling: sampling options.
    """
    check_budgets("sample_completions", num_samples=num_samples)
    keys = split_samples(split_by_row(key, len(prompts)), num_samples)
    inputs = jnp.repeat(prompts, num_samples, axis=0), jnp.repeat(lengths, num_samples)
    completions = generate(
        decoder, params, keys, *inputs, max_new_tokens=max_new_tokens, sampling=sampling, stop_tokens=(END,)
    )
    completions = jax.tree.map(lambda leaf: leaf.reshape(-1, num_samples, *leaf.shape[1:]), completions)
    return Samples(completions, completions.length)


def rewrite(
    decoder: Decoder,
    params: Params,
    key: Array,
    prompts: Array,
    lengths: Array,
    *,
    num_samples: int,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
) -> Samples:
    """Sequential revision (Snell et al. 2024) by a model that is not trained for it.

    The first sample is greedy. Each later one keeps the previous sample up to its step of lowest probability and
    samples the rest. A resampled step is skipped until a step before it changes, or all have been resampled.

    Args:
        decoder: a decoder.
        params: its parameters.
        key: consumed; one, or [B].
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, from 1.
        num_samples: M.
        max_new_tokens: N.
        sampling: sampling options of all but the first.
    """
    check_budgets("rewrite", num_samples=num_samples)

    row_keys = split_by_row(key, len(prompts))

    def generate_from(number: Array | int, sampling: Sampling, forced: Array) -> Completions:
        return generate(
            decoder,
            params,
            fold_in_rows(row_keys, jnp.asarray(number)),
            prompts,
            lengths,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_tokens=(END,),
            forced_tokens=forced,
        )

    def revise(carry: tuple[Completions, Array], number: Array) -> tuple[tuple[Completions, Array], Samples]:
        completions, visited = carry
        num_kept = _find_least_certain_step(completions, visited)
        positions = jnp.arange(max_new_tokens)[None]
        visited = _mark_visited(completions, visited, num_kept)
        completions = generate_from(number, sampling, jnp.where(positions < num_kept[:, None], completions.tokens, -1))
        return (completions, visited), Samples(completions, completions.length - num_kept)

    first = generate_from(0, Sampling(temperature=0.0), jnp.full((len(prompts), max_new_tokens), -1, jnp.int32))
    visited = jnp.zeros((len(prompts), max_new_tokens), bool)
    revisions = jax.lax.scan(revise, (first, visited), jnp.arange(1, num_samples))[1]
    first_sample = Samples(first, first.length)
    return jax.tree.map(
        lambda one, more: jnp.moveaxis(jnp.concatenate([one[None], more]), 0, 1), first_sample, revisions
    )


def solve_by_beam(
    decoder: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    *,
    width: int,
    max_new_tokens: int,
    length_penalty: float | Array = 0.0,
) -> Solutions:
    """The best completion of a beam search; arguments as of `sample_completions` and `beam_search.beam`."""
    step_fn, root = make_token_model(
        decoder, params, prompts, lengths, max_new_tokens=max_new_tokens, stop_tokens=(END,)
    )
    candidates = beam(step_fn, root, width=width, max_steps=max_new_tokens, length_penalty=length_penalty)
    actions, length = best_path(candidates)
    return Solutions(jnp.maximum(actions, PAD), length, candidates.num_model_calls)


def solve_in_batches(solve_fn: Callable[..., Any], key: Array, prompts: Array, lengths: Array, batch_size: int) -> Any:
    """Apply a strategy to many problems in batches, which bounds the memory and changes no solution.

    Args:
        solve_fn: `solve_fn(keys, prompts, lengths) -> PyTree` of arrays [rows, ...], jitted; the keys are one a row.
        key: consumed; one, or [R].
        prompts: [R, P] int32.
        lengths: [R] int32.
        batch_size: B, problems of a call.

    Returns:
        A PyTree of NumPy arrays [R, ...].
    """
    row_keys = split_by_row(key, len(lengths))

    def solve_chunk(chunk: tuple[Array, Array, Array]) -> Any:
        indices, batch_prompts, batch_lengths = chunk
        return solve_fn(row_keys[indices], batch_prompts, batch_lengths)

    return apply_in_batches(solve_chunk, (np.arange(len(lengths)), prompts, lengths), batch_size)


def _choose_highest(completions: Completions, score: Array) -> Array:
    return jnp.argmax(jnp.where(completions.stopped, score, -jnp.inf), axis=1).astype(jnp.int32)


def _last_value(completions: Completions) -> Array:
    """[B, M] value before the last token."""
    last = jnp.maximum(completions.length - 1, 0)[:, :, None]
    return jnp.take_along_axis(completions.value, last, axis=2)[:, :, 0]


def _extract_answers(completions: Completions) -> tuple[Array, Array]:
    """Answers [B, M, N], padded with PAD, and which samples have one [B, M]."""
    num_problems, num_samples, width = completions.tokens.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), completions)
    start, count, complete = find_answers(flat)
    positions = jnp.arange(width)[None]
    shifted = jnp.take_along_axis(flat.tokens, jnp.minimum(start[:, None] + positions, width - 1), axis=1)
    answers = jnp.where(positions < count[:, None], shifted, PAD)
    return answers.reshape(num_problems, num_samples, width), complete.reshape(num_problems, num_samples)


def _is_step_start(completions: Completions) -> Array:
    """[B, N] bool, first tokens of steps."""
    ends = jnp.isin(completions.tokens, jnp.array(STEP_ENDS, jnp.int32))
    is_valid = jnp.arange(completions.tokens.shape[1])[None] < completions.length[:, None]
    return jnp.pad(ends[:, :-1], ((0, 0), (1, 0)), constant_values=True) & is_valid


def _is_revisable(is_step_start: Array, visited: Array) -> Array:
    """[B, N] bool, starts of steps to choose from: those not visited, or all if every one was."""
    unvisited = is_step_start & ~visited
    return jnp.where(jnp.any(unvisited, axis=1, keepdims=True), unvisited, is_step_start)


def _find_least_certain_step(completions: Completions, visited: Array) -> Array:
    """[B] int32, start of the revisable step of lowest probability."""
    is_start = _is_step_start(completions)
    step = jnp.cumsum(is_start, axis=1) - 1
    rows = jnp.arange(len(step))[:, None]
    step_log_prob = jnp.zeros_like(completions.log_prob).at[rows, step].add(completions.log_prob)
    step_log_prob = jnp.take_along_axis(step_log_prob, step, axis=1)
    return jnp.argmin(jnp.where(_is_revisable(is_start, visited), step_log_prob, jnp.inf), axis=1).astype(jnp.int32)


def _mark_visited(completions: Completions, visited: Array, num_kept: Array) -> Array:
    """[B, N] bool, visited steps after the one at `num_kept` [B] is resampled with all that follows."""
    positions = jnp.arange(visited.shape[1])[None]
    is_start = _is_step_start(completions)
    visited = visited & jnp.any(is_start & ~visited, axis=1, keepdims=True)  # reset once all are visited
    return jnp.where(positions < num_kept[:, None], visited, positions == num_kept[:, None])
