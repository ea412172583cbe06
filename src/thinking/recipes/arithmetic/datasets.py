"""Training and evaluation sets of R problems from L sources."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import (
    CHAIN_OF_THOUGHT,
    DIRECT,
    SELF_CORRECTION,
    add_self_corrections,
    inject_error,
    make_chain,
)
from thinking.environments.arithmetic.problems import WORDINGS, Problem
from thinking.environments.arithmetic.sources import SMALL_NUMBER_PROBLEMS, sample_problems
from thinking.environments.arithmetic.split import SPLITS, Split, list_facts, list_solution_problems
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
    """Training examples, source by source.

    Attributes:
        packed_rows: rows of tokens, each of one source.
        starts: [L + 1], the first row of each source, then the number of rows.
        max_length: tokens of the longest example, prompt included.
    """

    packed_rows: PackedRows
    starts: list[int]
    max_length: int


class EvaluationSet(NamedTuple):
    """Problems and their prompts.

    Attributes:
        problems: R of them.
        prompts: token arrays, with the answers and steps that rewards compare with.
        subjects: [R], the group of results that each problem counts in.
        starts: [L + 1], the first problem of each source, then the number of problems.
        max_completion_length: tokens of the longest completion; in SELF_CORRECTION, with every step corrected once.
    """

    problems: list[Problem]
    prompts: PromptArrays
    subjects: list[str]
    starts: list[int]
    max_completion_length: int


def make_training_set(
    sources: Sequence[str],
    style: str = CHAIN_OF_THOUGHT,
    *,
    num_problems: int,
    row_length: int,
    seed: int,
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
    error_fraction: float = 0.1,
) -> TrainingSet:
    """Worked problems to train on.

    The DIRECT style has no chains. For a fair comparison it also gets what chains show: with each source the problems
    whose results the chains of that source write out, and with the first one all of `split.list_facts`.

    Args:
        sources: in the order of a curriculum.
        style: of the chains of thought.
        num_problems: problems sampled from each source that does not list all of its problems.
        row_length: tokens of a packed row.
        seed: of all draws.
        verbal_fraction: fraction of prompts in words instead of symbols.
        reverse_digits: write numbers with the least significant digit first.
        error_fraction: of the SELF_CORRECTION style, the probability of an injected error in a step.

    Raises:
        ValueError: for an unknown source, or an example longer than a row.
    """
    parts: list[PackedRows] = []
    longest = 0
    for number, source in enumerate(sources):
        problems = sample_problems(source, num_problems, seed, style=style)
        if style == DIRECT:
            shown = dict.fromkeys(each for problem in problems for each in list_solution_problems(problem))
            problems += [*shown, *(list_facts() if number == 0 else ())]
        examples = encode_examples(
            problems,
            seed,
            number,
            styles=(style,),
            verbal_fraction=verbal_fraction,
            reverse_digits=reverse_digits,
            error_fraction=error_fraction,
        )
        longest = max(longest, *(len(each.tokens) for each in examples))
        parts.append(_pack_rows(examples, row_length, source))
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)]).tolist()
    return TrainingSet(PackedRows(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True))), starts, longest)


def make_evaluation_set(
    sources: Sequence[str],
    style: str = CHAIN_OF_THOUGHT,
    *,
    num_problems: int,
    seed: int,
    split: Split = "test",
    verbal_fraction: float = 0.5,
    reverse_digits: bool = False,
) -> EvaluationSet:
    """Problems to evaluate or post-train on.

    Args:
        sources: in the order of a curriculum.
        style: of the worked steps.
        num_problems: problems sampled from each source that does not list all of its problems.
        seed: of all draws.
        split: of the problems.
        verbal_fraction: fraction of prompts in words instead of symbols.
        reverse_digits: write numbers with the least significant digit first.

    Raises:
        ValueError: for an unknown source.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), 2])
    problems, subjects, starts = [], [], [0]
    for source in sources:
        sampled = sample_problems(source, num_problems, seed, split, style)
        problems += sampled
        subjects += [
            f"{source} {problem.operation}" if source == SMALL_NUMBER_PROBLEMS else source for problem in sampled
        ]
        starts.append(len(problems))
    wordings = [
        int(rng.integers(1, len(WORDINGS[problem.operation]))) if rng.random() < verbal_fraction else 0
        for problem in problems
    ]
    prompts = encode_prompts(problems, style, wordings=wordings, reverse_digits=reverse_digits)
    return EvaluationSet(
        problems, prompts, subjects, starts, _compute_max_completion(problems, prompts, style, reverse_digits)
    )


def inject_errors(
    evaluation_set: EvaluationSet, style: str, *, seed: int, reverse_digits: bool = False
) -> EvaluationSet:
    """The same problems, each prompt continued by a partial chain whose last step has one wrong digit.

    Args:
        evaluation_set: the problems.
        style: of the chains, CHAIN_OF_THOUGHT or SELF_CORRECTION; in the latter, earlier steps are marked as checked.
        seed: of the errors, which are the same in both styles.
        reverse_digits: write numbers with the least significant digit first.
    """
    rng = np.random.default_rng([seed, 3])
    prompts = []
    for problem, tokens, length in zip(
        evaluation_set.problems, evaluation_set.prompts.tokens, evaluation_set.prompts.lengths, strict=True
    ):
        steps = make_chain(problem, CHAIN_OF_THOUGHT, reverse_digits)
        index = int(rng.integers(len(steps)))
        wrong_step = inject_error(steps[index], rng)
        correct_steps = [f"{step}<step>" for step in steps]
        if style == SELF_CORRECTION:
            correct_steps = [text for text, _ in add_self_corrections(steps, 0.0, np.random.default_rng())]  # no errors
        text = f"<think>{''.join(correct_steps[:index])}{wrong_step}"
        prompts.append([*tokens[:length].tolist(), *VOCABULARY.encode(text)])
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    tokens = np.zeros((len(prompts), lengths.max()), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return evaluation_set._replace(prompts=evaluation_set.prompts._replace(tokens=tokens, lengths=lengths))


def _compute_max_completion(
    problems: Sequence[Problem], prompts: PromptArrays, style: str, reverse_digits: bool
) -> int:
    """Tokens of the longest worked completion; in the SELF_CORRECTION style each step is corrected once."""
    if style == SELF_CORRECTION:
        options = {"error_fraction": 1.0, "rng": np.random.default_rng(0)}
        examples = (encode_example(problem, style, reverse_digits=reverse_digits, **options) for problem in problems)
        return max(len(example.tokens) - example.prompt_length for example in examples)
    # Special tokens around the thought and between its steps, before the answer, and at the end.
    thought_length = np.sum(prompts.steps > 0, axis=(1, 2)) + np.sum(prompts.steps[:, :, 0] > 0, axis=1)
    return int(np.max(thought_length + np.sum(prompts.answers > 0, axis=1))) + 3


def _pack_rows(examples: Sequence[Example], row_length: int, source: str) -> PackedRows:
    longest = max(len(each.tokens) for each in examples)
    if longest > row_length:
        raise ValueError(f"row_length {row_length}: an example of {source} has {longest} tokens; give a longer row")
    return pack_examples(examples, row_length)
