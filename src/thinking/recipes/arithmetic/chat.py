"""A chat about arithmetic: typed problems are answered by a search method, with thoughts in plain words."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from thinking import progress
from thinking.colors import ANSWER, PROMPT, THOUGHT, WRONG
from thinking.environments.arithmetic.chains import DIRECT, SUBTASKS, make_chain
from thinking.environments.arithmetic.parsing import parse_problem
from thinking.environments.arithmetic.plain_words import explain_step
from thinking.generation.chat_loop import chat, is_at_terminal
from thinking.generation.display import choose_marks
from thinking.recipes.arithmetic.answering import (
    MAX_PROMPT_LENGTH,
    AnswerFn,
    make_searched_answer,
    make_streamed_answer,
    make_subtask_answer,
)
from thinking.recipes.arithmetic.replies import (
    FormatFn,
    Question,
    make_json_format,
    make_line_format,
    make_terminal_format,
    refuse_as_json,
)
from thinking.recipes.arithmetic.rows import encode_prompt
from thinking.recipes.arithmetic.searches import GREEDY, SearchModel
from thinking.recipes.arithmetic.training_range import TrainingRange, describe_range, draw_examples, is_in_range
from thinking.types import Array

_NUM_EXAMPLES = 8


class ChatSettings(NamedTuple):
    """How a chat answers.

    Attributes:
        training_range: what the model was taught.
        style: of its thoughts; with SUBTASKS they are solved greedily, each in its own context.
        method: one of `searches.METHODS`; a greedy answer is streamed.
        size: completions, width of the beam, or simulations of each tree.
        verbose: show candidates with their checks, and the tokens written.
        as_json: reply with an object a line.
    """

    training_range: TrainingRange
    style: str
    method: str = GREEDY
    size: int = 1
    verbose: bool = False
    as_json: bool = False


def run_chat(
    search_model: SearchModel,
    settings: ChatSettings,
    key: Array,
    *,
    lines: Iterable[str] | None = None,
    console: Console | None = None,
) -> None:
    """Answer typed problems until the input ends.

    Args:
        search_model: the model.
        settings: how it answers.
        key: of all answers.
        lines: the problems; standard input by default.
        console: the output; standard output by default.
    """
    console = console or progress.console()
    at_terminal = lines is None and is_at_terminal(console)
    answer = _make_answer(search_model, settings, key)
    format_reply = _make_format(settings, console, at_terminal=at_terminal)
    examples = draw_examples(settings.training_range, np.random.default_rng(0))
    explanation = functools.partial(_explain_chat, settings, examples)
    commands = {
        "help": explanation if at_terminal else lambda: _in_one_line(explanation()),
        "examples": lambda: [Text("    ".join(itertools.islice(examples, _NUM_EXAMPLES)))],
    }
    chat(
        functools.partial(read_question, search_model, settings.training_range),
        lambda question: format_reply(question, answer(question)),
        greeting=explanation() if at_terminal and not settings.as_json else (),
        commands={} if settings.as_json else commands,
        lines=lines,
        console=console,
        **({"refuse": refuse_as_json} if settings.as_json else {}),
    )


def _make_answer(search_model: SearchModel, settings: ChatSettings, key: Array) -> AnswerFn:
    _, style, method, size, verbose, _ = settings
    if style == SUBTASKS:
        return make_subtask_answer(search_model)
    if method == GREEDY:
        return make_streamed_answer(search_model, style)
    return make_searched_answer(search_model, style, method, size, key, verbose=verbose)


def _make_format(settings: ChatSettings, console: Console, *, at_terminal: bool) -> FormatFn:
    if settings.as_json:
        return make_json_format(verbose=settings.verbose)
    make = make_terminal_format if at_terminal else make_line_format
    return make(choose_marks(console), verbose=settings.verbose)


def _explain_chat(settings: ChatSettings, examples: Iterator[str]) -> Iterator[Text]:
    """What the model can do, how to ask, and how to read its thoughts."""
    yield Text(f"This model was taught to {describe_range(settings.training_range)}.\n")
    questions = list(itertools.islice(examples, 3))
    yield Text.assemble("Ask as in: ", ("    ".join(questions), PROMPT), "\n")
    if settings.style == SUBTASKS:
        yield Text("Each line of a thought is a smaller problem, with those that it asks for below it.\n")
    elif settings.style != DIRECT:
        step = make_chain(parse_problem(questions[0]))[0]
        yield Text.assemble(
            f"It thinks in steps. The thought of {questions[0]} begins with ",
            (step, THOUGHT),
            f": {explain_step(step)}.\n",
        )
    yield Text.assemble(
        "Colours: ", ("thought", THOUGHT), ", ", ("right answer", ANSWER), ", ", ("what is wrong", WRONG), ". "
    )
    yield Text("Type help, examples, or quit.")


def _in_one_line(texts: Iterable[Text]) -> Iterator[Text]:
    yield Text(" ".join(Text().join(texts).plain.split("\n")))


def read_question(search_model: SearchModel, training_range: TrainingRange, line: str) -> Question:
    """Parse a line.

    Raises:
        ValueError: if it is no problem, or too long.
    """
    try:
        problem = parse_problem(line)
    except ValueError as refusal:
        example = next(draw_examples(training_range, np.random.default_rng(0)))
        raise ValueError(f"{refusal}; ask as in {example}, or type examples") from None
    tokens = encode_prompt(problem, 0, search_model.reverse_digits)
    if len(tokens) > MAX_PROMPT_LENGTH:
        raise ValueError(f"that is a question of {len(tokens)} tokens; ask one of at most {MAX_PROMPT_LENGTH}")
    return Question(problem, tokens, is_in_range(training_range, problem))
