"""Replies of a chat about arithmetic: for a person at a terminal, as a line, or as JSON."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from rich.text import Text

from thinking.colors import ANSWER, PROMPT, SECONDARY, THOUGHT, WRONG
from thinking.environments.arithmetic.parsing import parse_answer
from thinking.environments.arithmetic.plain_words import say_answer
from thinking.environments.arithmetic.problems import Problem, format_answer, format_expression
from thinking.generation.display import Marks

OUT_OF_RANGE = "out of range: it was not taught such problems"
_STEP_WIDTH = 14


class Question(NamedTuple):
    """A problem, its prompt, and whether the model was taught such problems."""

    problem: Problem
    tokens: list[int]
    in_range: bool


class Thought(NamedTuple):
    """A step of a thought.

    Attributes:
        text: as the model wrote it, but with the most significant digit of numbers first.
        words: what it says.
        is_correct: whether the worked chain has it; None where that is not known.
    """

    text: str
    words: str = ""
    is_correct: bool | None = None


class Candidate(NamedTuple):
    """A completion to choose from, and the model's own check of it.

    Attributes:
        answer: most significant digit first; empty if it has none.
        check: the inverse problem with the result that would confirm the answer; empty where there is none.
        is_verified: whether the model finds that result.
        thoughts: its steps.
    """

    answer: str
    check: str
    is_verified: bool
    thoughts: tuple[Thought, ...] = ()


class Conclusion(NamedTuple):
    """The end of a reply.

    Attributes:
        answer: most significant digit first; empty if there is none.
        effort: how it was found, and how many tokens were written.
        candidates: to choose from; none for methods that have no candidates.
        failure: why there is no answer; empty if that is not known.
    """

    answer: str
    effort: str
    candidates: tuple[Candidate, ...] = ()
    failure: str = ""


Part = Thought | Conclusion
FormatFn = Callable[[Question, Iterable[Part]], Iterator[Text]]
"""`format(question, parts)`: thoughts as they come, then the conclusion."""


def make_terminal_format(marks: Marks, *, verbose: bool) -> FormatFn:
    """Thoughts line by line, each in plain words, then the answer and whether it is right."""

    def format_for_terminal(question: Question, parts: Iterable[Part]) -> Iterator[Text]:
        for part in parts:
            if isinstance(part, Thought):
                yield _color_thought(part, marks)
                continue
            if verbose:
                yield from _list_candidates(part, marks)
            yield _conclude(question, part, marks)

    return format_for_terminal


def make_line_format(marks: Marks, *, verbose: bool) -> FormatFn:
    """Problem, answer, and whether it is right, in one line."""

    def format_as_line(question: Question, parts: Iterable[Part]) -> Iterator[Text]:
        for part in parts:
            if isinstance(part, Conclusion):
                yield _conclude(question, part, marks)
                if verbose:
                    checks = "".join(f"; {_describe_candidate(each, marks)}" for each in part.candidates)
                    yield Text(f"; {part.effort}{checks}", SECONDARY)

    return format_as_line


def make_json_format(*, verbose: bool) -> FormatFn:
    """An object with `problem`, `thoughts`, `answer`, `right` and `in_range`.

    `answer` is null where there is none; of a division there is `remainder` too. If `verbose`, there are `effort` and
    `candidates`.
    """

    def format_as_json(question: Question, parts: Iterable[Part]) -> Iterator[Text]:
        *thoughts, conclusion = parts
        record = {
            "problem": format_expression(question.problem),
            "thoughts": [thought.text for thought in thoughts],
            **_read_answer(conclusion.answer),
            "right": is_right(question.problem, conclusion.answer),
            "in_range": question.in_range,
        }
        if verbose:
            candidates = [
                {**_read_answer(each.answer), "check": each.check, "verified": each.is_verified}
                for each in conclusion.candidates
            ]
            record |= {"effort": conclusion.effort, "candidates": candidates}
        yield Text(json.dumps(record))

    return format_as_json


def refuse_as_json(line: str, reason: str) -> Text:
    """The object of a line that is no problem."""
    return Text(json.dumps({"problem": line, "error": reason or "a blank line"}))


def is_right(problem: Problem, answer: str) -> bool:
    """Whether an answer, most significant digit first, is the right one in its only form."""
    return answer == format_answer(problem)


def _color_thought(thought: Thought, marks: Marks) -> Text:
    is_wrong = thought.is_correct is False
    words = thought.words + f" {marks.wrong}" * is_wrong
    text = f"  {thought.text:{_STEP_WIDTH}}" if words else f"  {thought.text}"
    return Text.assemble((text, WRONG if is_wrong else THOUGHT), (f" {words}" if words else "", SECONDARY), "\n")


def _conclude(question: Question, conclusion: Conclusion, marks: Marks) -> Text:
    right = is_right(question.problem, conclusion.answer)
    said = f"no answer ({conclusion.failure})" if conclusion.failure else say_answer(conclusion.answer)
    style = ANSWER if right else WRONG
    text = Text.assemble((format_expression(question.problem), PROMPT), " = ", (said, style), " ")
    text.append(marks.right if right else f"{marks.wrong} it is {say_answer(format_answer(question.problem))}", style)
    if not question.in_range:
        text.append(f"  {OUT_OF_RANGE}", SECONDARY)
    return text


def _list_candidates(conclusion: Conclusion, marks: Marks) -> Iterator[Text]:
    for number, candidate in enumerate(conclusion.candidates, start=1):
        yield Text(f"  candidate {number}: {_describe_candidate(candidate, marks)}\n", SECONDARY)
    yield Text(f"  {conclusion.effort}\n", SECONDARY)


def _describe_candidate(candidate: Candidate, marks: Marks) -> str:
    if not candidate.check:
        return f"{say_answer(candidate.answer)}, without a check"
    mark = marks.right if candidate.is_verified else marks.wrong
    return f"{say_answer(candidate.answer)}, checked by {candidate.check} {mark}"


def _read_answer(answer: str) -> dict[str, Any]:
    parsed = parse_answer(answer)
    if parsed is None:
        return {"answer": None}
    return {"answer": parsed[0]} if parsed[1] is None else {"answer": parsed[0], "remainder": parsed[1]}
