"""Search methods by name.

Axes: B problems, P tokens of the longest prompt, M completions of each, N maximum tokens of a completion.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from thinking.environments.arithmetic.problems import Problem
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.best_first import search_best_first
from thinking.reasoning.search.budgets import make_outcome_row
from thinking.reasoning.search.step_tree import solve_by_step_tree
from thinking.reasoning.search.strategies import (
    ChooseFn,
    Samples,
    Solutions,
    choose_by_log_prob,
    choose_by_value,
    choose_by_vote,
    choose_solution,
    rewrite,
    sample_completions,
    solve_by_beam,
    solve_in_batches,
)
from thinking.recipes.arithmetic.verification import Verification, choose_first_verified, verify_samples
from thinking.types import Array, Params

GREEDY, VOTE, VALUE, LIKELIHOOD, VERIFIER = "greedy", "majority_vote", "best_value", "best_likelihood", "verifier"
BEAM, REVISION, BEST_FIRST, TREE = "beam_search", "revision", "best_first", "tree_search"
METHODS = (GREEDY, VOTE, VALUE, LIKELIHOOD, VERIFIER, BEAM, REVISION, BEST_FIRST, TREE)
"""Greedy decoding; of several samples the majority answer, the one of highest value, the likeliest, or a verified one;
beam search; sequential revision (rewriting from the least certain step until a completion is verified); best-first
search of the tree of completions until one is verified; a tree of steps."""

CHOOSE_FNS: dict[str, ChooseFn] = {VOTE: choose_by_vote, VALUE: choose_by_value, LIKELIHOOD: choose_by_log_prob}
SIZES = {BEAM: (2, 8), TREE: (1, 4)}
"""Beam widths and simulations to compare; numbers of samples are powers of 2."""
NUM_PROPOSALS, MAX_STEP_TOKENS = 3, 12
"""Steps proposed at each node of a tree, and maximum tokens of a step."""
BATCH_SIZE = 64
"""Problems per batch."""


class SearchModel(NamedTuple):
    """A model to search with.

    Attributes:
        decoder: a decoder.
        params: its parameters.
        max_new_tokens: N.
        temperature: sampling temperature of completions and steps.
        reverse_digits: numbers have their least significant digit first.
    """

    decoder: Decoder
    params: Params
    max_new_tokens: int
    temperature: float = 1.0
    reverse_digits: bool = False


def solve(
    search_model: SearchModel,
    method: str,
    size: int,
    key: Array,
    problems: Sequence[Problem],
    prompts: Array,
    lengths: Array,
) -> Solutions:
    """Solutions by one method, on the host.

    Args:
        search_model: the model.
        method: one of METHODS.
        size: completions, width of the beam, or simulations of each tree; unused by greedy.
        key: consumed.
        problems: B of them.
        prompts: [B, P] int32.
        lengths: [B] int32.

    Raises:
        ValueError: for an unknown method.
    """
    if method in (GREEDY, BEAM, TREE):
        return _run_method(search_model, method, size, key, prompts, lengths)
    samples = sample_candidates(search_model, method, size, key, prompts, lengths)
    return select_solutions(search_model, method, size, problems, samples)


def sample_candidates(
    search_model: SearchModel, method: str, size: int, key: Array, prompts: Array, lengths: Array
) -> Samples:
    """The completions [B, size] that a method chooses from; of methods with `has_candidates`.

    Raises:
        ValueError: for another method.
    """
    if not has_candidates(method):
        names = ", ".join(filter(has_candidates, METHODS))
        raise ValueError(f"solve: method {method!r} has no candidates; take one of {names}")
    kind = method if method in (REVISION, BEST_FIRST) else VOTE
    return _run_method(search_model, kind, size, key, prompts, lengths)


def has_candidates(method: str) -> bool:
    """Whether a method chooses from several completions."""
    return method in (VOTE, VALUE, LIKELIHOOD, VERIFIER, REVISION, BEST_FIRST)


def verify_candidates(search_model: SearchModel, problems: Sequence[Problem], samples: Samples) -> Verification:
    """Check completions [B, M] of B problems by the inverse problems, which the model answers."""
    answer_fn = functools.partial(_answer_prompts, search_model)
    return verify_samples(answer_fn, problems, samples, search_model.reverse_digits)


def compare_methods(
    search_model: SearchModel,
    key: Array,
    problems: Sequence[Problem],
    prompts: Array,
    lengths: Array,
    is_correct_fn: Callable,
    max_samples: int,
) -> list[dict[str, Any]]:
    """Rows of every method at several sizes: problems solved, and tokens generated.

    Args:
        search_model: the model.
        key: consumed.
        problems: B of them.
        prompts: [B, P] int32.
        lengths: [B] int32.
        is_correct_fn: `is_correct_fn(solutions) -> [B]`, 1 or 0.
        max_samples: maximum number of samples.
    """
    counts = [2**power for power in range(max_samples.bit_length()) if 2**power <= max_samples]
    rows = []

    def add_row(method: str, size: int, solutions: Solutions) -> None:
        rows.append(make_outcome_row(method, size, is_correct_fn(solutions), solutions.num_tokens))

    for method, sizes in {GREEDY: (1,), **SIZES}.items():
        for size in sizes:
            add_row(method, size, _run_method(search_model, method, size, key, prompts, lengths))
    sampled = {VOTE: (VOTE, VALUE, LIKELIHOOD, VERIFIER), REVISION: (REVISION,), BEST_FIRST: (BEST_FIRST,)}
    for kind, methods in sampled.items():
        samples = _run_method(search_model, kind, counts[-1], key, prompts, lengths)
        verification = verify_candidates(search_model, problems, samples)
        for method in methods:
            for count in counts:
                add_row(method, count, select_solutions(search_model, method, count, problems, samples, verification))
    return rows


def _run_method(search_model: SearchModel, method: str, size: int, key: Array, prompts: Array, lengths: Array) -> Any:
    search = _make_search(search_model.decoder, method, size, search_model.max_new_tokens, search_model.temperature)
    return solve_in_batches(
        functools.partial(search, search_model.params), key, prompts, lengths, min(BATCH_SIZE, len(lengths))
    )


@functools.lru_cache(maxsize=64)
def _make_search(decoder: Decoder, method: str, size: int, max_new_tokens: int, temperature: float) -> Callable:
    """`search(params, key, prompts, lengths)`, jitted and cached."""
    sampling = Sampling(temperature=temperature)
    budget = {"max_new_tokens": max_new_tokens}

    def search(params: Params, key: Array, prompts: Array, lengths: Array) -> Solutions | Samples:
        inputs = decoder, params, key, prompts, lengths
        if method == VOTE:
            return sample_completions(*inputs, num_samples=size, sampling=sampling, **budget)
        if method == REVISION:
            return rewrite(*inputs, num_samples=size, sampling=sampling, **budget)
        if method == BEST_FIRST:
            return search_best_first(decoder, params, prompts, lengths, num_samples=size, **budget)
        if method == BEAM:
            return solve_by_beam(decoder, params, prompts, lengths, width=size, **budget)
        if method == TREE:
            step_limits = {"max_step_tokens": MAX_STEP_TOKENS, "max_steps": -(-max_new_tokens // 8)}
            tree_options = {"num_proposals": NUM_PROPOSALS, "num_simulations": size, "temperature": temperature}
            return solve_by_step_tree(*inputs, **tree_options, **step_limits, **budget)
        return choose_solution(
            sample_completions(*inputs, num_samples=1, sampling=Sampling(temperature=0.0), **budget), choose_by_log_prob
        )

    return jax.jit(search)


_choose_solution = jax.jit(choose_solution, static_argnums=1)
_apply_choose_fn = jax.jit(lambda choose_fn, completions: choose_fn(completions), static_argnums=0)


def select_solutions(
    search_model: SearchModel,
    method: str,
    num_samples: int,
    problems: Sequence[Problem],
    samples: Samples,
    checks: Verification | None = None,
) -> Solutions:
    """The solutions that a method chooses among the first samples of each problem, on the host.

    Args:
        search_model: the model.
        method: one with `has_candidates`.
        num_samples: samples to choose from.
        problems: B of them.
        samples: of `sample_candidates`.
        checks: of the samples, where they are known.
    """
    first = jax.tree.map(lambda leaf: leaf[:, :num_samples], samples)
    if method in CHOOSE_FNS:
        return jax.device_get(_choose_solution(first, CHOOSE_FNS[method]))
    if checks is None:
        checks = verify_candidates(search_model, problems, samples)
    choose_fn = choose_by_vote if method == VERIFIER else choose_by_log_prob
    fallback = np.asarray(_apply_choose_fn(choose_fn, first.completions))
    return choose_first_verified(samples, checks, fallback, num_samples)


def _answer_prompts(search_model: SearchModel, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Greedy completions of prompts, and their numbers of tokens."""
    if not prompts:
        return [], []
    # One common width, so that one program is compiled.
    width = -(-max(map(len, prompts)) // 8) * 8
    tokens, lengths = np.zeros((len(prompts), width), np.int32), np.array([len(each) for each in prompts], np.int32)
    for row, each in zip(tokens, prompts, strict=True):
        row[: len(each)] = each
    search = functools.partial(
        _make_search(search_model.decoder, GREEDY, 1, search_model.max_new_tokens, search_model.temperature),
        search_model.params,
    )
    solutions = solve_in_batches(
        search, jax.random.key(0), tokens, lengths, 4 * BATCH_SIZE
    )  # greedy: the key is unused
    completions = [row[:count].tolist() for row, count in zip(solutions.tokens, solutions.length, strict=True)]
    return completions, solutions.length.tolist()
