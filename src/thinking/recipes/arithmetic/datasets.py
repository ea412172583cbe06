"""What a model is taught, what it practises on, and what it is examined in, source by source."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import REVISED, WORKED, add_self_corrections, chain, inject_error
from thinking.environments.arithmetic.problems import WORDINGS, Problem
from thinking.environments.arithmetic.sources import WORD_PROBLEMS, sample_problems
from thinking.recipes.arithmetic.rows import (
    VOCABULARY,
    Example,
    PromptArrays,
    encode_example,
    encode_examples,
    encode_prompts,
    pack_examples,
)
from thinking.text.packing import PackedRows


class TrainingSet(NamedTuple):
    """Worked texts, source by source.

    Attributes:
        packed_rows: rows of tokens, each of one source.
        starts: [L + 1], the first row of each source, and how many rows there are.
        max_length: tokens of the longest text, prompt and all.
    """

    packed_rows: PackedRows
    starts: list[int]
    max_length: int


class EvaluationSet(NamedTuple):
    """Problems and how they are asked.

    Attributes:
        problems: R of them.
        prompts: their tokens, and what answers are judged by.
        subjects: of each problem, by what its result is counted.
        starts: [L + 1], the first problem of each source, and how many there are.
        max_completion_length: tokens of the longest worked text behind its prompt, in the REVISED style with every step taken back.
    """

    problems: list[Problem]
    prompts: PromptArrays
    subjects: list[str]
    starts: list[int]
    max_completion_length: int


def make_training_set(
    sources: Sequence[str],
    style: str = WORKED,
    *,
    num_problems: int,
    row_length: int,
    seed: int,
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
    error_fraction: float = 0.1,
) -> TrainingSet:
    """Worked texts to learn from.

    Args:
        sources: their names, in the order of a curriculum.
        style: of the thoughts.
        num_problems: problems drawn of each source that is not enumerated.
        row_length: tokens of a packed row.
        seed: of everything drawn.
        verbal_fraction: the share that is asked in words instead of symbols.
        reverse_digits: whether all numbers begin with their least significant digit.
        error_fraction: of the REVISED style, the probability that a step is wrong at first.

    Raises:
        ValueError: for an unknown source, or a text that is longer than a row.
    """
    parts: list[PackedRows] = []
    longest = 0
    for number, source in enumerate(sources):
        problems = sample_problems(source, num_problems, seed, style=style)
        written = encode_examples(
            problems,
            seed,
            number,
            styles=(style,),
            verbal_fraction=verbal_fraction,
            reverse_digits=reverse_digits,
            error_fraction=error_fraction,
        )
        longest = max(longest, *(len(each.tokens) for each in written))
        parts.append(_pack_rows(written, row_length, source))
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)]).tolist()
    return TrainingSet(PackedRows(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True))), starts, longest)


def make_evaluation_set(
    sources: Sequence[str],
    style: str = WORKED,
    *,
    num_problems: int,
    seed: int,
    test: bool = True,
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
) -> EvaluationSet:
    """Problems to be asked.

    Args:
        sources: their names, in the order of a curriculum.
        style: of the worked steps that they are judged by.
        num_problems: problems drawn of each source that is not enumerated.
        seed: of everything drawn.
        test: whether they are held out; else they are what may be practised on.
        verbal_fraction: the share that is asked in words instead of symbols.
        reverse_digits: whether all numbers begin with their least significant digit.

    Raises:
        ValueError: for an unknown source.
    """
    rng = np.random.default_rng([seed, test, 2])
    problems, subject, starts = [], [], [0]
    for source in sources:
        found = sample_problems(source, num_problems, seed, test, style)
        problems += found
        subject += [f"{source} {each.operation}" if source == WORD_PROBLEMS else source for each in found]
        starts.append(len(problems))
    wordings = [
        int(rng.integers(1, len(WORDINGS[each.operation]))) if rng.random() < verbal_fraction else 0
        for each in problems
    ]
    asked = encode_prompts(problems, style, wordings=wordings, reverse_digits=reverse_digits)
    return EvaluationSet(
        problems, asked, subject, starts, _compute_max_completion(problems, asked, style, reverse_digits)
    )


def inject_errors(
    evaluation_set: EvaluationSet, style: str, *, seed: int, reverse_digits: bool = False
) -> EvaluationSet:
    """The same problems, each with a thought begun that has just gone wrong: its last step has one wrong digit.

    Args:
        evaluation_set: an exam.
        style: of the thoughts, WORKED or REVISED: whether the steps before were checked.
        seed: of the slips; those of both styles are the same.
        reverse_digits: whether all numbers begin with their least significant digit.
    """
    rng = np.random.default_rng([seed, 3])
    begun = []
    for problem, tokens, length in zip(
        evaluation_set.problems, evaluation_set.prompts.tokens, evaluation_set.prompts.lengths, strict=True
    ):
        steps = chain(problem, WORKED, reverse_digits)
        place = int(rng.integers(len(steps)))
        slip = inject_error(steps[place], rng)
        before = [f"{each}<step>" for each in steps]
        if style == REVISED:
            before = [
                text for text, _ in add_self_corrections(steps, 0.0, np.random.default_rng())
            ]  # nothing is left to chance
        text = f"<think>{''.join(before[:place])}{slip}"
        begun.append([*tokens[:length].tolist(), *VOCABULARY.encode(text)])
    lengths = np.array([len(each) for each in begun], np.int32)
    tokens = np.zeros((len(begun), lengths.max()), np.int32)
    for place, each in zip(tokens, begun, strict=True):
        place[: len(each)] = each
    return evaluation_set._replace(prompts=evaluation_set.prompts._replace(tokens=tokens, lengths=lengths))


def _compute_max_completion(
    problems: Sequence[Problem], prompts: PromptArrays, style: str, reverse_digits: bool
) -> int:
    """Tokens of the longest worked text behind its prompt; in the REVISED style each step is taken back once."""
    if style == REVISED:
        slips = {"error_fraction": 1.0, "rng": np.random.default_rng(0)}
        texts = (encode_example(each, style, reverse_digits=reverse_digits, **slips) for each in problems)
        return max(len(text.tokens) - text.prompt_length for text in texts)
    # A thought between its marks, its steps, a mark between any two; the answer behind its mark, and the end.
    thought = np.sum(prompts.steps > 0, axis=(1, 2)) + np.sum(prompts.steps[:, :, 0] > 0, axis=1)
    return int(np.max(thought + np.sum(prompts.answers > 0, axis=1))) + 3


def _pack_rows(examples: Sequence[Example], row_length: int, source: str) -> PackedRows:
    longest = max(len(each.tokens) for each in examples)
    if longest > row_length:
        raise ValueError(f"row_length {row_length}: a text of {source} has {longest} tokens; give a longer row")
    return pack_examples(examples, row_length)
