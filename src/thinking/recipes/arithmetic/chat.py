"""A conversation about arithmetic: a typed problem is answered by any method of search, thoughts in colour."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from rich.text import Text

from thinking.colors import ANSWER, MARK, THOUGHT
from thinking.environments.arithmetic.parsing import UNDERSTOOD, read
from thinking.environments.arithmetic.problems import Problem
from thinking.generation.chat import chat
from thinking.generation.completions import streamer
from thinking.generation.display import coloured, growing
from thinking.generation.sampling import Sampling
from thinking.reasoning.search.subtasks import SOLVED, outline, solver
from thinking.recipes.arithmetic.evaluation import DEEPEST, MOST
from thinking.recipes.arithmetic.rows import VOCABULARY, prompt
from thinking.recipes.arithmetic.searches import BEAM, GREEDY, REVISION, TREE, Searcher, solve
from thinking.text.vocabulary import END
from thinking.types import Array

LONGEST = 48
"""Tokens of a question."""


class Question(NamedTuple):
    """A problem and how it is asked."""

    problem: Problem
    tokens: list[int]


Reply = Callable[[Question], Iterable[Text]]


def talk(
    by: Searcher, method: str, size: int, key: Array, *, asks: bool = False, lines: Iterable[str] | None = None
) -> None:
    """Answer typed problems until there are no more.

    Args:
        by: who is asked.
        method: one of `searches.METHODS`; a greedy answer is seen while it is written.
        size: attempts, width of the beam, or simulations of each tree.
        key: of all answers.
        asks: whether thoughts ask for sub-tasks; then these are solved, greedily, and the tree of them is shown.
        lines: what is asked; the standard input by default.
    """
    if asks:
        reply = _by_recursion(by)
    else:
        reply = _as_it_is_written(by) if method == GREEDY else _by_search(by, method, size, key)
    order = "; numbers are written with their last digit first" if by.least_first else ""
    chat(_reader(by), reply, greeting=f"{UNDERSTOOD}{order}; quit leaves", lines=lines)


def _reader(by: Searcher) -> Callable[[str], Question]:
    def understand(line: str) -> Question:
        problem = read(line)
        tokens = prompt(problem, 0, by.least_first)
        if len(tokens) > LONGEST:
            raise ValueError(f"that is a question of {len(tokens)} tokens; ask one of at most {LONGEST}")
        return Question(problem, tokens)

    return understand


def _as_it_is_written(by: Searcher) -> Reply:
    greedily = Sampling(temperature=0.0)
    new = min(by.max_tokens, by.model.context_length - LONGEST)
    stream = streamer(
        by.model, prompt_tokens=LONGEST, max_new_tokens=new, every=1, stop_tokens=(END,), sampling=greedily
    )

    def reply(question: Question) -> Iterator[Text]:
        asked = len(question.tokens)
        written = stream(by.params, jax.random.key(0), question.tokens)
        yield from growing(itertools.chain([question.tokens], written), lambda tokens: _shown(tokens, asked))

    return reply


def _by_search(by: Searcher, method: str, size: int, key: Array) -> Reply:
    numbers = itertools.count()

    def reply(question: Question) -> Iterator[Text]:
        tokens, asked = np.zeros((1, LONGEST), np.int32), len(question.tokens)
        tokens[0, :asked] = question.tokens
        now = jax.random.fold_in(key, next(numbers))
        found = solve(by, method, size, now, [question.problem], tokens, np.int32([asked]))
        written = np.asarray(found.tokens)[0, : int(found.length[0])].tolist()
        yield _shown([*question.tokens, *written], asked)
        of = {BEAM: f"a beam of {size}", TREE: f"trees of {size}", REVISION: f"up to {size} attempts"}
        yield Text(f"\n{method}, {of.get(method, f'{size} paths')}, {int(found.spent[0])} tokens written", MARK)

    return reply


def _by_recursion(by: Searcher) -> Reply:
    ask = solver(by.model, max_depth=DEEPEST, max_contexts=MOST, batch=1)  # one context is written at a time

    def reply(question: Question) -> Iterator[Text]:
        (found,) = ask(by.params, jax.random.key(0), [question.tokens])
        yield Text("\n".join(outline(found.trace, VOCABULARY)), THOUGHT)
        said = VOCABULARY.decode(found.answer) if found.outcome == SOLVED else found.outcome
        yield Text(f"\n{VOCABULARY.decode(question.tokens[1:])}{said}", ANSWER)
        yield Text(f"\n{found.contexts} contexts, {found.depth} deep, {found.tokens} tokens written", MARK)

    return reply


def _shown(tokens: list[int], asked: int) -> Text:
    """All but the mark that begins it."""
    return coloured(tokens[1:], asked - 1, VOCABULARY)
