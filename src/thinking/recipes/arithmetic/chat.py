"""A chat about arithmetic: typed problems are answered by a search method, with thoughts in colour."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from rich.text import Text

from thinking.colors import ANSWER, MARK, THOUGHT
from thinking.environments.arithmetic.parsing import SYNTAX_HINT, parse_problem
from thinking.environments.arithmetic.problems import Problem
from thinking.generation.chat_loop import chat
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
"""Maximum tokens of a prompt."""


class Question(NamedTuple):
    """A problem and its prompt."""

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
    """Answer typed problems until the input ends.

    Args:
        search_model: the model.
        method: one of `searches.METHODS`; a greedy answer is streamed.
        size: completions, width of the beam, or simulations of each tree.
        key: of all answers.
        use_subtasks: solve sub-tasks greedily, each in its own context, and show their tree.
        lines: the problems; standard input by default.
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
    def read_question(line: str) -> Question:
        problem = parse_problem(line)
        tokens = encode_prompt(problem, 0, search_model.reverse_digits)
        if len(tokens) > MAX_PROMPT_LENGTH:
            raise ValueError(f"that is a question of {len(tokens)} tokens; ask one of at most {MAX_PROMPT_LENGTH}")
        return Question(problem, tokens)

    return read_question


def _make_streaming_reply(search_model: SearchModel) -> ReplyFn:
    sampling = Sampling(temperature=0.0)
    max_new_tokens = min(search_model.max_new_tokens, search_model.decoder.context_length - MAX_PROMPT_LENGTH)
    stream = make_streamer(
        search_model.decoder,
        max_prompt_tokens=MAX_PROMPT_LENGTH,
        max_new_tokens=max_new_tokens,
        chunk_size=1,
        stop_tokens=(END,),
        sampling=sampling,
    )

    def reply(question: Question) -> Iterator[Text]:
        prompt_length = len(question.tokens)
        chunks = stream(search_model.params, jax.random.key(0), question.tokens)
        yield from show_growing_text(
            itertools.chain([question.tokens], chunks), lambda tokens: _color_tokens(tokens, prompt_length)
        )

    return reply


def _make_search_reply(search_model: SearchModel, method: str, size: int, key: Array) -> ReplyFn:
    numbers = itertools.count()

    def reply(question: Question) -> Iterator[Text]:
        tokens, prompt_length = np.zeros((1, MAX_PROMPT_LENGTH), np.int32), len(question.tokens)
        tokens[0, :prompt_length] = question.tokens
        answer_key = jax.random.fold_in(key, next(numbers))
        solutions = solve(search_model, method, size, answer_key, [question.problem], tokens, np.int32([prompt_length]))
        completion = np.asarray(solutions.tokens)[0, : int(solutions.length[0])].tolist()
        yield _color_tokens([*question.tokens, *completion], prompt_length)
        sizes = {BEAM: f"a beam of {size}", TREE: f"trees of {size}", REVISION: f"up to {size} completions"}
        description = sizes.get(method, f"{size} completions")
        yield Text(f"\n{method}, {description}, {int(solutions.num_tokens[0])} tokens written", MARK)

    return reply


def _make_subtask_reply(search_model: SearchModel) -> ReplyFn:
    solve_subtasks = make_solver(
        search_model.decoder, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS, batch_size=1
    )  # one context at a time

    def reply(question: Question) -> Iterator[Text]:
        (solution,) = solve_subtasks(search_model.params, jax.random.key(0), [question.tokens])
        yield Text("\n".join(format_trace(solution.trace, VOCABULARY)), THOUGHT)
        answer = VOCABULARY.decode(solution.answer) if solution.outcome == SOLVED else solution.outcome
        yield Text(f"\n{VOCABULARY.decode(question.tokens[1:])}{answer}", ANSWER)
        yield Text(
            f"\n{solution.num_contexts} contexts, {solution.depth} deep, {solution.num_tokens} tokens written", MARK
        )

    return reply


def _color_tokens(tokens: list[int], prompt_length: int) -> Text:
    return color_tokens(tokens[1:], prompt_length - 1, VOCABULARY)  # without the begin token
