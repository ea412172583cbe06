"""Problems as tokens: training examples and prompts.

Axes: R problems, P tokens of the longest prompt, K of the longest answer, S steps of the longest chain, L tokens of the
longest step.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import (
    CHAIN_OF_THOUGHT,
    DIRECT,
    SELF_CORRECTION,
    add_self_corrections,
    make_chain,
)
from thinking.environments.arithmetic.problems import WORDINGS, Problem, format_answer, format_question
from thinking.text.packing import PackedRows, pack
from thinking.text.vocabulary import Vocabulary

SYMBOLS = tuple("0123456789+-*/%=(),r")
VERBAL_TOKENS = (
    *("Calculate", " the", " sum", " difference", " product", " quotient", " of ", " and ", "What", " is ", " plus "),
    *(" minus ", " times ", " divided", " by ", " modulo ", "Add ", "Subtract ", " from ", "Multiply ", "Divide ", "?"),
)
VOCABULARY = Vocabulary(SYMBOLS + VERBAL_TOKENS)
"""One token per digit, sign and word of the wordings."""


class Example(NamedTuple):
    """A prompt, perhaps a thought, and the answer.

    Attributes:
        tokens: [T].
        prompt_length: tokens of the prompt.
        weights: [T] loss weights: 0 in the prompt, in injected errors and in answers of sub-tasks; else 1.
    """

    tokens: list[int]
    prompt_length: int
    weights: list[float]


class PromptArrays(NamedTuple):
    """Prompts, with the answers and steps that rewards compare with.

    Attributes:
        tokens: [R, P] int32, left-aligned, padded with 0.
        lengths: [R] int32, from 1.
        answers: [R, K] int32, correct answers without special tokens, padded with 0.
        steps: [R, S, L] int32, worked steps without special tokens, padded with 0.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    answers: np.ndarray
    steps: np.ndarray


def encode_prompt(problem: Problem, wording: int = 0, reverse_digits: bool = False) -> list[int]:
    """The tokens of a prompt."""
    return VOCABULARY.encode("<begin>" + format_question(problem, wording, reverse_digits))


def encode_example(
    problem: Problem,
    style: str = CHAIN_OF_THOUGHT,
    *,
    wording: int = 0,
    reverse_digits: bool = False,
    error_fraction: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Example:
    """A training example.

    Args:
        problem: the problem.
        style: of the thought, one of `chains.STYLES`.
        wording: an index of the operation's wordings.
        reverse_digits: write numbers with the least significant digit first.
        error_fraction: of SELF_CORRECTION, the probability of an injected error in a step.
        rng: of the errors; its state changes.

    Raises:
        ValueError: for an unknown style, or SELF_CORRECTION without an rng.
    """
    prompt = encode_prompt(problem, wording, reverse_digits)
    steps = make_chain(problem, style, reverse_digits)
    spans = _split_subtask_answers("<step>".join(steps))
    if style == SELF_CORRECTION:
        if rng is None:
            raise ValueError(f"encode_example: style {style!r} injects errors; give an rng")
        spans = add_self_corrections(steps, error_fraction, rng)
    if style != DIRECT:
        spans = [("<think>", False), *spans, ("</think>", False)]
    tokens, weights = list(prompt), [0.0] * len(prompt)
    for text, is_given in [*spans, (f"<answer>{format_answer(problem, reverse_digits)}<end>", False)]:
        span_tokens = VOCABULARY.encode(text)
        tokens += span_tokens
        weights += [float(not is_given)] * len(span_tokens)
    return Example(tokens, len(prompt), weights)


def _split_subtask_answers(thought: str) -> list[tuple[str, bool]]:
    """Spans of a thought, each with whether it is the answer of a sub-task.

    The solver inserts these answers, so they are not trained: that would train answers without thoughts.
    """
    spans = re.split("(?<=<answer>)([^<]*)", thought)
    return [(span, index % 2 == 1) for index, span in enumerate(spans)]


def encode_examples(
    problems: Sequence[Problem],
    seed: int,
    source_index: int,
    *,
    styles: Sequence[str] = (CHAIN_OF_THOUGHT,),
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
    error_fraction: float = 0.1,
) -> list[Example]:
    """One example per problem, of a random style and wording; a pure function of its arguments.

    Args:
        problems: the problems.
        seed: of the draws.
        source_index: index of the source, which the draws depend on too.
        styles: of the thoughts.
        verbal_fraction: fraction of prompts in words instead of symbols.
        reverse_digits: write numbers with the least significant digit first.
        error_fraction: of SELF_CORRECTION, the probability of an injected error in a step.
    """
    rng = np.random.default_rng([seed, source_index, 1])  # independent of the draws of the problems
    examples = []
    for problem in problems:
        style = styles[rng.integers(len(styles))]
        wording = int(rng.integers(1, len(WORDINGS[problem.operation]))) if rng.random() < verbal_fraction else 0
        examples.append(
            encode_example(
                problem, style, wording=wording, reverse_digits=reverse_digits, error_fraction=error_fraction, rng=rng
            )
        )
    return examples


def pack_examples(examples: Sequence[Example], length: int) -> PackedRows:
    """Pack examples into rows of `length` tokens.

    Raises:
        ValueError: if one does not fit, or there is none.
    """
    return pack([each.tokens for each in examples], length, [each.weights for each in examples])


def encode_prompts(
    problems: Sequence[Problem],
    style: str = CHAIN_OF_THOUGHT,
    *,
    wordings: Sequence[int] | None = None,
    reverse_digits: bool = False,
) -> PromptArrays:
    """Prompts as arrays, with answers and steps.

    Args:
        problems: the problems.
        style: of the worked steps; DIRECT has none, and S is 1.
        wordings: of each problem; symbols by default.
        reverse_digits: write numbers with the least significant digit first.

    Raises:
        ValueError: if there is no problem, or not one wording for each.
    """
    if not problems:
        raise ValueError("encode_prompts: there are no problems; give at least one")
    wordings = [0] * len(problems) if wordings is None else wordings
    if len(wordings) != len(problems):
        raise ValueError(f"encode_prompts: {len(wordings)} wordings for {len(problems)} problems; give one for each")
    prompts = [
        encode_prompt(problem, wording, reverse_digits) for problem, wording in zip(problems, wordings, strict=True)
    ]
    chains = [[VOCABULARY.encode(step) for step in make_chain(problem, style, reverse_digits)] for problem in problems]
    max_steps = max(1, *map(len, chains))
    longest = max((len(step) for steps in chains for step in steps), default=1)
    padded = [_pad(steps + [[]] * (max_steps - len(steps)), longest) for steps in chains]
    return PromptArrays(
        tokens=_pad(prompts),
        lengths=np.array([len(prompt) for prompt in prompts], np.int32),
        answers=_pad([VOCABULARY.encode(format_answer(problem, reverse_digits)) for problem in problems]),
        steps=np.stack(padded),
    )


def _pad(sequences: Sequence[Sequence[int]], length: int | None = None) -> np.ndarray:
    length = max(map(len, sequences)) if length is None else length
    padded = np.zeros((len(sequences), length), np.int32)
    for index, sequence in enumerate(sequences):
        padded[index, : len(sequence)] = sequence
    return padded
