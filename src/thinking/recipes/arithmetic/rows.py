"""Problems as rows of tokens: to learn from, and to be asked.

Axes: R rows, P tokens of the longest prompt, K of the longest answer, S steps of the longest chain, L tokens of the
longest step.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import DIRECT, REVISED, WORKED, chain, revised
from thinking.environments.arithmetic.problems import WORDINGS, Problem, answer, question
from thinking.text.packing import Packed, pack
from thinking.text.vocabulary import Vocabulary

SYMBOLS = tuple("0123456789+-*/%=(),r")
SPEECH = (
    *("Calculate", " the", " sum", " difference", " product", " quotient", " of ", " and ", "What", " is ", " plus "),
    *(" minus ", " times ", " divided", " by ", " modulo ", "Add ", "Subtract ", " from ", "Multiply ", "Divide ", "?"),
)
VOCABULARY = Vocabulary(SYMBOLS + SPEECH)
"""Each digit is a token, each word of the wordings another."""


class Row(NamedTuple):
    """A problem, perhaps a thought, and the answer.

    Attributes:
        tokens: [T].
        prompt: how many of them ask.
        weights: [T], what each counts when it is predicted: 0 in the prompt, in slips, and in what others answer.
            Else it is 1.
    """

    tokens: list[int]
    prompt: int
    weights: list[float]


class Prompts(NamedTuple):
    """Questions, and by what their answers are judged.

    Attributes:
        tokens: [R, P] int32, each beginning at the left; 0 beyond its length.
        lengths: [R] int32, from 1.
        answers: [R, K] int32, the right ones, without marks; 0 beyond.
        steps: [R, S, L] int32, the worked steps, without marks around them; 0 beyond.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    answers: np.ndarray
    steps: np.ndarray


def prompt(problem: Problem, wording: int = 0, least_first: bool = False) -> list[int]:
    """The tokens that ask."""
    return VOCABULARY.encode("<begin>" + question(problem, wording, least_first))


def row(
    problem: Problem,
    style: str = WORKED,
    *,
    wording: int = 0,
    least_first: bool = False,
    slip: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Row:
    """A problem and its answer.

    Args:
        problem: what is asked.
        style: of the thought, one of `chains.STYLES`.
        wording: an index of the operation's wordings.
        least_first: whether all numbers begin with their least significant digit.
        slip: of REVISED, the probability that a step is wrong at first.
        rng: of slips; is advanced.

    Raises:
        ValueError: for an unknown style, or slips without an rng.
    """
    asked = prompt(problem, wording, least_first)
    steps = chain(problem, style, least_first)
    pieces = _asked_and_answered("<step>".join(steps))
    if style == REVISED:
        if rng is None:
            raise ValueError(f"row: style {style!r} draws slips; give an rng")
        pieces = revised(steps, slip, rng)
    if style != DIRECT:
        pieces = [("<think>", False), *pieces, ("</think>", False)]
    tokens, weights = list(asked), [0.0] * len(asked)
    for text, given in [*pieces, (f"<answer>{answer(problem, least_first)}<end>", False)]:
        written = VOCABULARY.encode(text)
        tokens += written
        weights += [float(not given)] * len(written)
    return Row(tokens, len(asked), weights)


def _asked_and_answered(thought: str) -> list[tuple[str, bool]]:
    """Pieces of a thought, and of each whether it is the answer of a sub-task.

    That is put in by whoever solves it; to learn it would be to learn problems without their thoughts.
    """
    pieces = re.split("(?<=<answer>)([^<]*)", thought)
    return [(piece, index % 2 == 1) for index, piece in enumerate(pieces)]


def rows(
    problems: Sequence[Problem],
    seed: int,
    step: int,
    *,
    styles: Sequence[str] = (WORKED,),
    speech: float = 0.5,
    least_first: bool = False,
    slip: float = 0.1,
) -> list[Row]:
    """One row of each problem, of a style and a wording drawn evenly; a pure function of its arguments.

    Args:
        problems: what is asked.
        seed: of all steps.
        step: of the draw.
        styles: of the thoughts.
        speech: the share that is asked in words instead of symbols.
        least_first: whether all numbers begin with their least significant digit.
        slip: of REVISED, the probability that a step is wrong at first.
    """
    rng = np.random.default_rng([seed, step, 1])  # not the numbers that drew the problems
    found = []
    for problem in problems:
        style = styles[rng.integers(len(styles))]
        wording = int(rng.integers(1, len(WORDINGS[problem.operation]))) if rng.random() < speech else 0
        found.append(row(problem, style, wording=wording, least_first=least_first, slip=slip, rng=rng))
    return found


def packed(rows: Sequence[Row], length: int) -> Packed:
    """Rows of `length` tokens to train on, with several problems in each.

    Raises:
        ValueError: if one does not fit, or there is none.
    """
    return pack([each.tokens for each in rows], length, [each.weights for each in rows])


def prompts(
    problems: Sequence[Problem],
    style: str = WORKED,
    *,
    wordings: Sequence[int] | None = None,
    least_first: bool = False,
) -> Prompts:
    """Questions as arrays, with what rewards ask for.

    Args:
        problems: what is asked.
        style: of the worked steps; of DIRECT there are none, and S is 1.
        wordings: of each problem; symbols by default.
        least_first: whether all numbers begin with their least significant digit.

    Raises:
        ValueError: if there is no problem, or not one wording for each.
    """
    if not problems:
        raise ValueError("prompts: there are no problems; give at least one")
    wordings = [0] * len(problems) if wordings is None else wordings
    if len(wordings) != len(problems):
        raise ValueError(f"prompts: {len(wordings)} wordings for {len(problems)} problems; give one for each")
    asked = [prompt(each, wording, least_first) for each, wording in zip(problems, wordings, strict=True)]
    worked = [[VOCABULARY.encode(step) for step in chain(each, style, least_first)] for each in problems]
    most = max(1, *map(len, worked))
    longest = max((len(step) for steps in worked for step in steps), default=1)
    filled = [_padded(steps + [[]] * (most - len(steps)), longest) for steps in worked]
    return Prompts(
        tokens=_padded(asked),
        lengths=np.array([len(each) for each in asked], np.int32),
        answers=_padded([VOCABULARY.encode(answer(each, least_first)) for each in problems]),
        steps=np.stack(filled),
    )


def _padded(sequences: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    length = max(map(len, sequences)) if length is None else length
    padded = np.zeros((len(sequences), length), np.int32)
    for index, sequence in enumerate(sequences):
        padded[index, : len(sequence)] = sequence
    return padded
