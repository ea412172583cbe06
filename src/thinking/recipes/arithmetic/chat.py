"""A conversation about arithmetic: a typed problem is answered by any method of search, thoughts in colour."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from rich.text import Text

from thinking.colors import ANSWER, MARK, THOUGHT
from thinking.environments.arithmetic.parsing import SYNTAX_HINT, parse_problem
from thinking.environments.arithmetic.problems import Problem
from thinking.generation.chat import chat
from thinking.generation.completions import make_streamer
from thinking.generation.display import color_tokens, show_growing_text
from thinking.generation.sampling import Sampling
from thinking.reasoning.search.subtasks import SOLVED, format_trace, make_solver
from thinking.recipes.arithmetic.evaluation import MAX_CONTEXTS, MAX_DEPTH
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt
from thinking.recipes.arithmetic.searches import BEAM, GREEDY, REVISION, TREE, SearchModel, solve
from thinking.text.vocabulary import END
from thinking.types import Array

MAX_PROMPT_LENGTH = 48
"""Tokens of a question."""


class Question(NamedTuple):
    """A problem and how it is asked."""

    problem: Problem
    tokens: list[int]


ReplyFn = Callable[[Question], Iterable[Text]]


def run_chat(
    search_model: SearchModel,
    method: str,
    size: int,
    key: Array,
    *,
    use_subtasks: bool = False,
    lines: Iterable[str] | None = None,
) -> None:
    """Answer typed problems until there are no more.

    Args:
        search_model: who is asked.
        method: one of `searches.METHODS`; a greedy answer is seen while it is written.
        size: attempts, width of the beam, or simulations of each tree.
        key: of all answers.
        use_subtasks: whether thoughts ask for sub-tasks; then these are solved, greedily, and the tree of them is shown.
        lines: what is asked; the standard input by default.
    """
    if use_subtasks:
        reply = _make_subtask_reply(search_model)
    else:
        reply = (
            _make_streaming_reply(search_model)
            if method == GREEDY
            else _make_search_reply(search_model, method, size, key)
        )
    order = "; numbers are written with their last digit first" if search_model.reverse_digits else ""
    chat(_make_reader(search_model), reply, greeting=f"{SYNTAX_HINT}{order}; quit leaves", lines=lines)


def _make_reader(search_model: SearchModel) -> Callable[[str], Question]:
    def understand(line: str) -> Question:
        problem = parse_problem(line)
        tokens = encode_prompt(problem, 0, search_model.reverse_digits)
        if len(tokens) > MAX_PROMPT_LENGTH:
            raise ValueError(f"that is a question of {len(tokens)} tokens; ask one of at most {MAX_PROMPT_LENGTH}")
        return Question(problem, tokens)

    return understand


def _make_streaming_reply(search_model: SearchModel) -> ReplyFn:
    greedily = Sampling(temperature=0.0)
    new = min(search_model.max_new_tokens, search_model.decoder.context_length - MAX_PROMPT_LENGTH)
    stream = make_streamer(
        search_model.decoder,
        max_prompt_tokens=MAX_PROMPT_LENGTH,
        max_new_tokens=new,
        chunk_size=1,
        stop_tokens=(END,),
        sampling=greedily,
    )

    def reply(question: Question) -> Iterator[Text]:
        asked = len(question.tokens)
        written = stream(search_model.params, jax.random.key(0), question.tokens)
        yield from show_growing_text(
            itertools.chain([question.tokens], written), lambda tokens: _color_tokens(tokens, asked)
        )

    return reply


def _make_search_reply(search_model: SearchModel, method: str, size: int, key: Array) -> ReplyFn:
    numbers = itertools.count()

    def reply(question: Question) -> Iterator[Text]:
        tokens, asked = np.zeros((1, MAX_PROMPT_LENGTH), np.int32), len(question.tokens)
        tokens[0, :asked] = question.tokens
        now = jax.random.fold_in(key, next(numbers))
        found = solve(search_model, method, size, now, [question.problem], tokens, np.int32([asked]))
        written = np.asarray(found.tokens)[0, : int(found.length[0])].tolist()
        yield _color_tokens([*question.tokens, *written], asked)
        of = {BEAM: f"a beam of {size}", TREE: f"trees of {size}", REVISION: f"up to {size} attempts"}
        yield Text(f"\n{method}, {of.get(method, f'{size} paths')}, {int(found.num_tokens[0])} tokens written", MARK)

    return reply


def _make_subtask_reply(search_model: SearchModel) -> ReplyFn:
    ask = make_solver(
        search_model.decoder, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS, batch_size=1
    )  # one context is written at a time

    def reply(question: Question) -> Iterator[Text]:
        (found,) = ask(search_model.params, jax.random.key(0), [question.tokens])
        yield Text("\n".join(format_trace(found.trace, VOCABULARY)), THOUGHT)
        said = VOCABULARY.decode(found.answer) if found.outcome == SOLVED else found.outcome
        yield Text(f"\n{VOCABULARY.decode(question.tokens[1:])}{said}", ANSWER)
        yield Text(f"\n{found.num_contexts} contexts, {found.depth} deep, {found.num_tokens} tokens written", MARK)

    return reply


def _color_tokens(tokens: list[int], prompt_length: int) -> Text:
    """All but the mark that begins it."""
    return color_tokens(tokens[1:], prompt_length - 1, VOCABULARY)
