"""Ways to spend more tokens on a problem: several attempts, attempts mended, beams, and trees of steps.

All of them write with one decoder, jit, and tell how many tokens they wrote, so that they can be compared at equal
budgets. What is read counts nothing: the prompt, and what an attempt keeps of the one before. What was written counts,
whether it became part of the answer or not.

Axes: B problems, P tokens of the longest prompt, M attempts at each problem, N tokens of the longest attempt.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.batching import apply_in_batches
from thinking.generation.answers import find_answers
from thinking.generation.completions import Completions, generate
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_path, majority_vote
from thinking.reasoning.search.interface import check_budgets
from thinking.reasoning.search.token_model import make_token_model
from thinking.text.vocabulary import BACK, END, END_THINK, PAD, STEP
from thinking.types import Array, Params

STEP_ENDS = (STEP, BACK, END_THINK, END)
"""The tokens that end a step of a text."""


class Samples(NamedTuple):
    """What was tried, the earlier first: the first so many are what a smaller budget would have bought.

    Attributes:
        completions: completions [B, M, ...].
        num_tokens: [B, M] int32, tokens written for each.
    """

    completions: Completions
    num_tokens: Array


class Solutions(NamedTuple):
    """What was chosen in the end; rewards read it as they read completions.

    Attributes:
        tokens: [B, N] int32, the end included; 0 beyond `length_reward`.
        length: [B] int32.
        num_tokens: [B] int32, all tokens that were written for the problem.
    """

    tokens: Array
    length: Array
    num_tokens: Array


ChooseFn = Callable[[Completions], Array]
"""`choose(written [B, M, ...]) -> [B] int32`, which attempt is the answer. One without an end is chosen only where
none has an end, the first."""


def choose_by_log_prob(completions: Completions) -> Array:
    """The one that the model finds likeliest."""
    return _choose_highest(completions, jnp.sum(completions.log_prob, axis=2))


def choose_by_value(completions: Completions) -> Array:
    """The one that the value head thinks best, once all but its end is written (Cobbe et al. 2021)."""
    return _choose_highest(completions, _last_value(completions))


def choose_by_vote(completions: Completions) -> Array:
    """One with the commonest answer (Wang et al. 2022); of equally common ones, the likelier together."""
    answers, valid = _extract_answers(completions)
    return majority_vote(answers, valid, jnp.exp(jnp.sum(completions.log_prob, axis=2)))


def choose_solution(samples: Samples, choose_fn: ChooseFn, num_samples: int | None = None) -> Solutions:
    """The answer among the first `num_samples` attempts, all by default, and what these cost.

    Raises:
        ValueError: if there are not so many.
    """
    made = samples.num_tokens.shape[1]
    num_samples = made if num_samples is None else num_samples
    if not 1 <= num_samples <= made:
        raise ValueError(
            f"choose_solution: num_samples {num_samples} is out of range; give 1 to {made}, as many attempts as were made"
        )
    written = jax.tree.map(lambda leaf: leaf[:, :num_samples], samples.completions)
    best = choose_fn(written)
    problem = jnp.arange(len(best))
    spent = jnp.sum(samples.num_tokens[:, :num_samples], axis=1)
    return Solutions(written.tokens[problem, best], written.length[problem, best], spent)


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
    """Attempts side by side, each for itself. One at temperature 0 is the greedy answer.

    Args:
        decoder: a decoder.
        params: its parameters.
        key: is consumed.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1.
        num_samples: M.
        max_new_tokens: N.
        sampling: how tokens are drawn.
    """
    check_budgets("sample_completions", num_samples=num_samples)
    asked = jnp.repeat(prompts, num_samples, axis=0), jnp.repeat(lengths, num_samples)
    written = generate(
        decoder, params, key, *asked, max_new_tokens=max_new_tokens, sampling=sampling, stop_tokens=(END,)
    )
    written = jax.tree.map(lambda leaf: leaf.reshape(-1, num_samples, *leaf.shape[1:]), written)
    return Samples(written, written.length)


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
    """Attempts one after another: each keeps the one before up to its least certain step, and goes on from there.

    The first is the greedy answer. A step is as certain as it is likely, and one that was taken back is let stand as
    long as nothing before it changes, until all have been. This is sequential revision (Snell et al. 2024) by a model
    that was never taught to revise.

    Args:
        decoder: a decoder.
        params: its parameters.
        key: is consumed.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1.
        num_samples: M.
        max_new_tokens: N.
        sampling: how all but the first are drawn.
    """
    check_budgets("rewrite", num_samples=num_samples)

    def write(key: Array, sampling: Sampling, forced: Array) -> Completions:
        return generate(
            decoder,
            params,
            key,
            prompts,
            lengths,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop_tokens=(END,),
            forced_tokens=forced,
        )

    def again(before: tuple[Completions, Array], key: Array) -> tuple[tuple[Completions, Array], Samples]:
        written, tried = before
        kept = _find_least_certain_step(written, tried)
        place = jnp.arange(max_new_tokens)[None]
        tried = _mark_visited(written, tried, kept)
        written = write(key, sampling, jnp.where(place < kept[:, None], written.tokens, -1))
        return (written, tried), Samples(written, written.length - kept)

    keys = jax.random.split(key, num_samples)
    first = write(keys[0], Sampling(temperature=0.0), jnp.full((len(prompts), max_new_tokens), -1, jnp.int32))
    tried = jnp.zeros((len(prompts), max_new_tokens), bool)
    later = jax.lax.scan(again, (first, tried), keys[1:])[1]
    begun = Samples(first, first.length)
    return jax.tree.map(lambda one, more: jnp.moveaxis(jnp.concatenate([one[None], more]), 0, 1), begun, later)


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
    """The likeliest whole text that a beam finds; arguments are those of `sample` and of `beam.beam`."""
    advance, root = make_token_model(
        decoder, params, prompts, lengths, max_new_tokens=max_new_tokens, stop_tokens=(END,)
    )
    found = beam(advance, root, width=width, max_steps=max_new_tokens, length_penalty=length_penalty)
    actions, length = best_path(found)
    return Solutions(jnp.maximum(actions, PAD), length, found.num_model_calls)


def solve_in_batches(solve_fn: Callable[..., Any], key: Array, prompts: Array, lengths: Array, batch_size: int) -> Any:
    """What a method says of many problems, so many at a time, which bounds the memory.

    Args:
        solve_fn: `method(key, prompts, lengths) -> PyTree` of arrays [rows, ...], jitted.
        key: is consumed.
        prompts: [R, P] int32.
        lengths: [R] int32.
        batch_size: B, problems of a call.

    Returns:
        A PyTree of NumPy arrays [R, ...].
    """

    def call(chunk: tuple[Array, Array, Array]) -> Any:
        number, asked, length = chunk
        return solve_fn(jax.random.fold_in(key, number[0]), asked, length)

    return apply_in_batches(call, (jnp.arange(len(lengths)), prompts, lengths), batch_size)


def _choose_highest(completions: Completions, score: Array) -> Array:
    return jnp.argmax(jnp.where(completions.stopped, score, -jnp.inf), axis=1).astype(jnp.int32)


def _last_value(completions: Completions) -> Array:
    """[B, M] what the state is worth in which the last token was written."""
    last = jnp.maximum(completions.length - 1, 0)[:, :, None]
    return jnp.take_along_axis(completions.value, last, axis=2)[:, :, 0]


def _extract_answers(completions: Completions) -> tuple[Array, Array]:
    """Answers [B, M, N], PAD behind them, and which attempts have one [B, M]."""
    problems, attempts, width = completions.tokens.shape
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), completions)
    start, count, complete = find_answers(flat)
    place = jnp.arange(width)[None]
    shifted = jnp.take_along_axis(flat.tokens, jnp.minimum(start[:, None] + place, width - 1), axis=1)
    answers = jnp.where(place < count[:, None], shifted, PAD)
    return answers.reshape(problems, attempts, width), complete.reshape(problems, attempts)


def _is_step_start(completions: Completions) -> Array:
    """[B, N] bool, which tokens are the first of a step."""
    ends = jnp.isin(completions.tokens, jnp.array(STEP_ENDS, jnp.int32))
    real = jnp.arange(completions.tokens.shape[1])[None] < completions.length[:, None]
    return jnp.pad(ends[:, :-1], ((0, 0), (1, 0)), constant_values=True) & real


def _is_revisable(is_step_start: Array, visited: Array) -> Array:
    """[B, N] bool, the steps that may be taken back: all, where each was tried."""
    left = is_step_start & ~visited
    return jnp.where(jnp.any(left, axis=1, keepdims=True), left, is_step_start)


def _find_least_certain_step(completions: Completions, visited: Array) -> Array:
    """[B] int32, where the least likely step begins, of those that may be taken back."""
    begins = _is_step_start(completions)
    step = jnp.cumsum(begins, axis=1) - 1
    rows = jnp.arange(len(step))[:, None]
    likely = jnp.zeros_like(completions.log_prob).at[rows, step].add(completions.log_prob)
    likely = jnp.take_along_axis(likely, step, axis=1)
    return jnp.argmin(jnp.where(_is_revisable(begins, visited), likely, jnp.inf), axis=1).astype(jnp.int32)


def _mark_visited(completions: Completions, visited: Array, num_kept: Array) -> Array:
    """Which steps [B, N] have been tried, now that the one at `num_kept` [B] is, and what follows it is written anew."""
    place = jnp.arange(visited.shape[1])[None]
    begins = _is_step_start(completions)
    visited = visited & jnp.any(begins & ~visited, axis=1, keepdims=True)  # once all have been, none has
    return jnp.where(place < num_kept[:, None], visited, place == num_kept[:, None])
