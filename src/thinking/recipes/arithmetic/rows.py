"""Problems as rows of tokens: to learn from, and to be asked.

Axes: R rows, P tokens of the longest prompt, K of the longest answer, S steps of the longest chain, L tokens of the
longest step.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import DIRECT, REVISED, WORKED, add_self_corrections, chain
from thinking.environments.arithmetic.problems import WORDINGS, Problem, format_answer, format_question
from thinking.text.packing import PackedRows, pack
from thinking.text.vocabulary import Vocabulary

SYMBOLS = tuple("0123456789+-*/%=(),r")
VERBAL_TOKENS = (
    *("Calculate", " the", " sum", " difference", " product", " quotient", " of ", " and ", "What", " is ", " plus "),
    *(" minus ", " times ", " divided", " by ", " modulo ", "Add ", "Subtract ", " from ", "Multiply ", "Divide ", "?"),
)
VOCABULARY = Vocabulary(SYMBOLS + VERBAL_TOKENS)
"""Each digit is a token, each word of the wordings another."""


class Example(NamedTuple):
    """A problem, perhaps a thought, and the answer.

    Attributes:
        tokens: [T].
        prompt_length: how many of them ask.
        weights: [T], what each counts when it is predicted: 0 in the prompt, in slips, and in what others answer.
            Else it is 1.
    """

    tokens: list[int]
    prompt_length: int
    weights: list[float]


class PromptArrays(NamedTuple):
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


def encode_prompt(problem: Problem, wording: int = 0, reverse_digits: bool = False) -> list[int]:
    """The tokens that ask."""
    return VOCABULARY.encode("<begin>" + format_question(problem, wording, reverse_digits))


def encode_example(
    problem: Problem,
    style: str = WORKED,
    *,
    wording: int = 0,
    reverse_digits: bool = False,
    error_fraction: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Example:
    """A problem and its answer.

    Args:
        problem: what is asked.
        style: of the thought, one of `chains.STYLES`.
        wording: an index of the operation's wordings.
        reverse_digits: whether all numbers begin with their least significant digit.
        error_fraction: of REVISED, the probability that a step is wrong at first.
        rng: of slips; is advanced.

    Raises:
        ValueError: for an unknown style, or slips without an rng.
    """
    asked = encode_prompt(problem, wording, reverse_digits)
    steps = chain(problem, style, reverse_digits)
    pieces = _split_subtask_answers("<step>".join(steps))
    if style == REVISED:
        if rng is None:
            raise ValueError(f"encode_example: style {style!r} draws slips; give an rng")
        pieces = add_self_corrections(steps, error_fraction, rng)
    if style != DIRECT:
        pieces = [("<think>", False), *pieces, ("</think>", False)]
    tokens, weights = list(asked), [0.0] * len(asked)
    for text, given in [*pieces, (f"<answer>{format_answer(problem, reverse_digits)}<end>", False)]:
        written = VOCABULARY.encode(text)
        tokens += written
        weights += [float(not given)] * len(written)
    return Example(tokens, len(asked), weights)


def _split_subtask_answers(thought: str) -> list[tuple[str, bool]]:
    """Pieces of a thought, and of each whether it is the answer of a sub-task.

    That is put in by whoever solves it; to learn it would be to learn problems without their thoughts.
    """
    pieces = re.split("(?<=<answer>)([^<]*)", thought)
    return [(piece, index % 2 == 1) for index, piece in enumerate(pieces)]


def encode_examples(
    problems: Sequence[Problem],
    seed: int,
    step: int,
    *,
    styles: Sequence[str] = (WORKED,),
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
    error_fraction: float = 0.1,
) -> list[Example]:
    """One row of each problem, of a style and a wording drawn evenly; a pure function of its arguments.

    Args:
        problems: what is asked.
        seed: of all steps.
        step: of the draw.
        styles: of the thoughts.
        verbal_fraction: the share that is asked in words instead of symbols.
        reverse_digits: whether all numbers begin with their least significant digit.
        error_fraction: of REVISED, the probability that a step is wrong at first.
    """
    rng = np.random.default_rng([seed, step, 1])  # not the numbers that drew the problems
    found = []
    for problem in problems:
        style = styles[rng.integers(len(styles))]
        wording = int(rng.integers(1, len(WORDINGS[problem.operation]))) if rng.random() < verbal_fraction else 0
        found.append(
            encode_example(
                problem, style, wording=wording, reverse_digits=reverse_digits, error_fraction=error_fraction, rng=rng
            )
        )
    return found


def pack_examples(examples: Sequence[Example], length: int) -> PackedRows:
    """Rows of `length_reward` tokens to train on, with several problems in each.

    Raises:
        ValueError: if one does not fit, or there is none.
    """
    return pack([each.tokens for each in examples], length, [each.weights for each in examples])


def encode_prompts(
    problems: Sequence[Problem],
    style: str = WORKED,
    *,
    wordings: Sequence[int] | None = None,
    reverse_digits: bool = False,
) -> PromptArrays:
    """Questions as arrays, with what rewards ask for.

    Args:
        problems: what is asked.
        style: of the worked steps; of DIRECT there are none, and S is 1.
        wordings: of each problem; symbols by default.
        reverse_digits: whether all numbers begin with their least significant digit.

    Raises:
        ValueError: if there is no problem, or not one wording for each.
    """
    if not problems:
        raise ValueError("encode_prompts: there are no problems; give at least one")
    wordings = [0] * len(problems) if wordings is None else wordings
    if len(wordings) != len(problems):
        raise ValueError(f"encode_prompts: {len(wordings)} wordings for {len(problems)} problems; give one for each")
    asked = [encode_prompt(each, wording, reverse_digits) for each, wording in zip(problems, wordings, strict=True)]
    worked = [[VOCABULARY.encode(step) for step in chain(each, style, reverse_digits)] for each in problems]
    most = max(1, *map(len, worked))
    longest = max((len(step) for steps in worked for step in steps), default=1)
    filled = [_pad(steps + [[]] * (most - len(steps)), longest) for steps in worked]
    return PromptArrays(
        tokens=_pad(asked),
        lengths=np.array([len(each) for each in asked], np.int32),
        answers=_pad([VOCABULARY.encode(format_answer(each, reverse_digits)) for each in problems]),
        steps=np.stack(filled),
    )


def _pad(sequences: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    length = max(map(len, sequences)) if length is None else length
    padded = np.zeros((len(sequences), length), np.int32)
    for index, sequence in enumerate(sequences):
        padded[index, : len(sequence)] = sequence
    return padded
