"""Every way to search for an answer, by name: one problem for a conversation, or many for a comparison.

Axes: B problems, P tokens of the longest prompt, M attempts at each, N tokens of the longest attempt.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from thinking.environments.arithmetic.problems import Problem
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
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
from thinking.recipes.arithmetic.verification import choose_first_verified, verify_samples
from thinking.types import Array, Params

GREEDY, VOTE, VALUE, LIKELIEST, CHECK = "greedy", "vote", "value", "likeliest", "check"
BEAM, REVISION, TREE = "beam", "revision", "tree"
METHODS = (GREEDY, VOTE, VALUE, LIKELIEST, CHECK, BEAM, REVISION, TREE)
"""The likeliest token each time; of several samples the commonest answer, the one that the value head prefers, the
likeliest, or one that stands its check; a beam; attempts that are checked, and taken back to their least certain step
until one stands; and a tree of steps."""

CHOOSE_FNS: dict[str, ChooseFn] = {VOTE: choose_by_vote, VALUE: choose_by_value, LIKELIEST: choose_by_log_prob}
SIZES = {BEAM: (2, 8), TREE: (1, 4)}
"""Widths and simulations that are compared; of attempts there are the powers of 2."""
NUM_PROPOSALS, MAX_STEP_TOKENS = 3, 12
"""Of a tree: steps proposed at each node, and tokens of the longest."""
BATCH_SIZE = 64
"""Problems that are searched at once."""


class SearchModel(NamedTuple):
    """A model that can be asked in any of these ways.

    Attributes:
        decoder: a decoder.
        params: its parameters.
        max_new_tokens: N.
        temperature: at which attempts and steps are drawn.
        reverse_digits: how numbers are written.
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
    """Answers by one method, on the host.

    Args:
        search_model: who is asked.
        method: one of METHODS.
        size: attempts, width of the beam, or simulations of each tree; greedy has none.
        key: consumed.
        problems: B of them.
        prompts: [B, P] int32, how they are asked.
        lengths: [B] int32.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"solve: method {method!r} is unknown; take one of {', '.join(METHODS)}")
    if method in (GREEDY, BEAM, TREE):
        return _run_method(search_model, method, size, key, prompts, lengths)
    attempts = _run_method(search_model, REVISION if method == REVISION else VOTE, size, key, prompts, lengths)
    return _select_solutions(search_model, method, size, problems, attempts, None)


def compare_methods(
    search_model: SearchModel,
    key: Array,
    problems: Sequence[Problem],
    prompts: Array,
    lengths: Array,
    is_correct_fn: Callable,
    max_samples: int,
) -> list[dict[str, Any]]:
    """Rows of every method at several sizes: how many of the problems are solved, and for how many tokens each.

    Args:
        search_model: who is asked.
        key: consumed.
        problems: B of them.
        prompts: [B, P] int32, how they are asked.
        lengths: [B] int32.
        is_correct_fn: `right(solutions) -> [B]`, 1 or 0.
        max_samples: attempts of the largest size.
    """
    counts = [2**power for power in range(max_samples.bit_length()) if 2**power <= max_samples]
    found = []

    def note(method: str, size: int, solutions: Solutions) -> None:
        found.append(make_outcome_row(method, size, is_correct_fn(solutions), solutions.num_tokens))

    for method, sizes in {GREEDY: (1,), **SIZES}.items():
        for size in sizes:
            note(method, size, _run_method(search_model, method, size, key, prompts, lengths))
    for kind, methods in {VOTE: (VOTE, VALUE, LIKELIEST, CHECK), REVISION: (REVISION,)}.items():
        attempts = _run_method(search_model, kind, counts[-1], key, prompts, lengths)
        checks = verify_samples(
            functools.partial(_answer_prompts, search_model), problems, attempts, search_model.reverse_digits
        )
        for method in methods:
            for count in counts:
                note(method, count, _select_solutions(search_model, method, count, problems, attempts, checks))
    return found


def _run_method(search_model: SearchModel, method: str, size: int, key: Array, prompts: Array, lengths: Array) -> Any:
    """What the decoder writes: solutions of one method, or attempts."""
    search = _make_search(search_model.decoder, method, size, search_model.max_new_tokens, search_model.temperature)
    return solve_in_batches(
        functools.partial(search, search_model.params), key, prompts, lengths, min(BATCH_SIZE, len(lengths))
    )


@functools.lru_cache(maxsize=64)
def _make_search(decoder: Decoder, method: str, size: int, max_new_tokens: int, temperature: float) -> Callable:
    """`search(params, key, prompts, lengths)`, compiled once."""
    sampling = Sampling(temperature=temperature)
    room = {"max_new_tokens": max_new_tokens}

    def search(params: Params, key: Array, prompts: Array, lengths: Array) -> Solutions | Samples:
        asked = decoder, params, key, prompts, lengths
        if method == VOTE:
            return sample_completions(*asked, num_samples=size, sampling=sampling, **room)
        if method == REVISION:
            return rewrite(*asked, num_samples=size, sampling=sampling, **room)
        if method == BEAM:
            return solve_by_beam(decoder, params, prompts, lengths, width=size, **room)
        if method == TREE:
            steps = {"max_step_tokens": MAX_STEP_TOKENS, "max_steps": -(-max_new_tokens // 8)}
            tree = {"num_proposals": NUM_PROPOSALS, "num_simulations": size, "temperature": temperature}
            return solve_by_step_tree(*asked, **tree, **steps, **room)
        return choose_solution(
            sample_completions(*asked, num_samples=1, sampling=Sampling(temperature=0.0), **room), choose_by_log_prob
        )

    return jax.jit(search)


def _select_solutions(
    search_model: SearchModel, method: str, num_samples: int, problems: Sequence[Problem], samples: Samples, checks: Any
) -> Solutions:
    """The choice among the first `num_samples` attempts."""
    first = jax.tree.map(lambda leaf: leaf[:, :num_samples], samples)
    if method in CHOOSE_FNS:
        return jax.device_get(choose_solution(first, CHOOSE_FNS[method]))
    if checks is None:
        checks = verify_samples(
            functools.partial(_answer_prompts, search_model), problems, samples, search_model.reverse_digits
        )
    otherwise = np.asarray(
        choose_by_vote(first.completions) if method == CHECK else choose_by_log_prob(first.completions)
    )
    return choose_first_verified(samples, checks, otherwise, num_samples)


def _answer_prompts(search_model: SearchModel, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """What the model writes, greedily, for questions of its own."""
    if not prompts:
        return [], []
    # One width for all, so that one program is compiled.
    width = -(-max(map(len, prompts)) // 8) * 8
    tokens, lengths = np.zeros((len(prompts), width), np.int32), np.array([len(each) for each in prompts], np.int32)
    for row, each in zip(tokens, prompts, strict=True):
        row[: len(each)] = each
    search = functools.partial(
        _make_search(search_model.decoder, GREEDY, 1, search_model.max_new_tokens, search_model.temperature),
        search_model.params,
    )
    found = solve_in_batches(search, jax.random.key(0), tokens, lengths, 4 * BATCH_SIZE)  # nothing is left to chance
    return [row[:count].tolist() for row, count in zip(found.tokens, found.length, strict=True)], found.length.tolist()
