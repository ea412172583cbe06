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
from thinking.reasoning.search.budgets import outcome_row
from thinking.reasoning.search.step_tree import by_step_tree
from thinking.reasoning.search.strategies import (
    Attempts,
    Choose,
    Solutions,
    by_beam,
    by_log_prob,
    by_value,
    by_vote,
    chosen,
    in_chunks,
    rewrite,
    sample,
)
from thinking.recipes.arithmetic.verification import checked, first_that_stands
from thinking.types import Array, Params

GREEDY, VOTE, VALUE, LIKELIEST, CHECK = "greedy", "vote", "value", "likeliest", "check"
BEAM, REVISION, TREE = "beam", "revision", "tree"
METHODS = (GREEDY, VOTE, VALUE, LIKELIEST, CHECK, BEAM, REVISION, TREE)
"""The likeliest token each time; of several samples the commonest answer, the one that the value head prefers, the
likeliest, or one that stands its check; a beam; attempts that are checked, and taken back to their least certain step
until one stands; and a tree of steps."""

CHOICES: dict[str, Choose] = {VOTE: by_vote, VALUE: by_value, LIKELIEST: by_log_prob}
SIZES = {BEAM: (2, 8), TREE: (1, 4)}
"""Widths and simulations that are compared; of attempts there are the powers of 2."""
PROPOSALS, STEP_TOKENS = 3, 12
"""Of a tree: steps proposed at each node, and tokens of the longest."""
ROWS = 64
"""Problems that are searched at once."""


class Searcher(NamedTuple):
    """A model that can be asked in any of these ways.

    Attributes:
        model: a decoder.
        params: its parameters.
        max_tokens: N.
        temperature: at which attempts and steps are drawn.
        least_first: how numbers are written.
    """

    model: Decoder
    params: Params
    max_tokens: int
    temperature: float = 1.0
    least_first: bool = False


def solve(
    by: Searcher, method: str, size: int, key: Array, problems: Sequence[Problem], prompts: Array, lengths: Array
) -> Solutions:
    """Answers by one method, on the host.

    Args:
        by: who is asked.
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
        return _run(by, method, size, key, prompts, lengths)
    attempts = _run(by, REVISION if method == REVISION else VOTE, size, key, prompts, lengths)
    return _settled(by, method, size, problems, attempts, None)


def compare(
    by: Searcher, key: Array, problems: Sequence[Problem], prompts: Array, lengths: Array, right: Callable, most: int
) -> list[dict[str, Any]]:
    """Rows of every method at several sizes: how many of the problems are solved, and for how many tokens each.

    Args:
        by: who is asked.
        key: consumed.
        problems: B of them.
        prompts: [B, P] int32, how they are asked.
        lengths: [B] int32.
        right: `right(solutions) -> [B]`, 1 or 0.
        most: attempts of the largest size.
    """
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    found = []

    def note(method: str, size: int, solutions: Solutions) -> None:
        found.append(outcome_row(method, size, right(solutions), solutions.spent))

    for method, sizes in {GREEDY: (1,), **SIZES}.items():
        for size in sizes:
            note(method, size, _run(by, method, size, key, prompts, lengths))
    for kind, methods in {VOTE: (VOTE, VALUE, LIKELIEST, CHECK), REVISION: (REVISION,)}.items():
        attempts = _run(by, kind, counts[-1], key, prompts, lengths)
        checks = checked(functools.partial(_ask, by), problems, attempts, by.least_first)
        for method in methods:
            for count in counts:
                note(method, count, _settled(by, method, count, problems, attempts, checks))
    return found


def _run(by: Searcher, method: str, size: int, key: Array, prompts: Array, lengths: Array) -> Any:
    """What the decoder writes: solutions of one method, or attempts."""
    search = _search(by.model, method, size, by.max_tokens, by.temperature)
    return in_chunks(functools.partial(search, by.params), key, prompts, lengths, min(ROWS, len(lengths)))


@functools.lru_cache(maxsize=64)
def _search(model: Decoder, method: str, size: int, max_tokens: int, temperature: float) -> Callable:
    """`search(params, key, prompts, lengths)`, compiled once."""
    sampling = Sampling(temperature=temperature)
    room = {"max_tokens": max_tokens}

    def search(params: Params, key: Array, prompts: Array, lengths: Array) -> Solutions | Attempts:
        asked = model, params, key, prompts, lengths
        if method == VOTE:
            return sample(*asked, attempts=size, sampling=sampling, **room)
        if method == REVISION:
            return rewrite(*asked, attempts=size, sampling=sampling, **room)
        if method == BEAM:
            return by_beam(model, params, prompts, lengths, width=size, **room)
        if method == TREE:
            steps = {"step_tokens": STEP_TOKENS, "max_steps": -(-max_tokens // 8)}
            tree = {"proposals": PROPOSALS, "simulations": size, "temperature": temperature}
            return by_step_tree(*asked, **tree, **steps, **room)
        return chosen(sample(*asked, attempts=1, sampling=Sampling(temperature=0.0), **room), by_log_prob)

    return jax.jit(search)


def _settled(
    by: Searcher, method: str, count: int, problems: Sequence[Problem], attempts: Attempts, checks: Any
) -> Solutions:
    """The choice among the first `count` attempts."""
    first = jax.tree.map(lambda leaf: leaf[:, :count], attempts)
    if method in CHOICES:
        return jax.device_get(chosen(first, CHOICES[method]))
    if checks is None:
        checks = checked(functools.partial(_ask, by), problems, attempts, by.least_first)
    otherwise = np.asarray(by_vote(first.written) if method == CHECK else by_log_prob(first.written))
    return first_that_stands(attempts, checks, otherwise, count)


def _ask(by: Searcher, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """What the model writes, greedily, for questions of its own."""
    if not prompts:
        return [], []
    # One width for all, so that one program is compiled.
    width = -(-max(map(len, prompts)) // 8) * 8
    tokens, lengths = np.zeros((len(prompts), width), np.int32), np.array([len(each) for each in prompts], np.int32)
    for row, each in zip(tokens, prompts, strict=True):
        row[: len(each)] = each
    search = functools.partial(_search(by.model, GREEDY, 1, by.max_tokens, by.temperature), by.params)
    found = in_chunks(search, jax.random.key(0), tokens, lengths, 4 * ROWS)  # nothing is left to chance
    return [row[:count].tolist() for row, count in zip(found.tokens, found.length, strict=True)], found.length.tolist()
