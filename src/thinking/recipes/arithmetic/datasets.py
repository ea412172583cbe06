"""What a model is taught, what it practises on, and what it is examined in, source by source."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import REVISED, WORKED, chain, revised, slipped
from thinking.environments.arithmetic.problems import WORDINGS, Problem
from thinking.environments.arithmetic.sources import WORDS, problems_of
from thinking.recipes.arithmetic.rows import VOCABULARY, Prompts, Row, packed, prompts, row, rows
from thinking.text.packing import Packed


class Lessons(NamedTuple):
    """Worked texts, source by source.

    Attributes:
        packed: rows of tokens, each of one source.
        starts: [L + 1], the first row of each source, and how many rows there are.
        longest: tokens of the longest text, prompt and all.
    """

    packed: Packed
    starts: list[int]
    longest: int


class Exam(NamedTuple):
    """Problems and how they are asked.

    Attributes:
        problems: R of them.
        prompts: their tokens, and what answers are judged by.
        subject: of each problem, by what its result is counted.
        starts: [L + 1], the first problem of each source, and how many there are.
        longest: tokens of the longest worked text behind its prompt, in the REVISED style with every step taken back.
    """

    problems: list[Problem]
    prompts: Prompts
    subject: list[str]
    starts: list[int]
    longest: int


def lessons(
    sources: Sequence[str],
    style: str = WORKED,
    *,
    count: int,
    length: int,
    seed: int,
    speech: float = 0.5,
    least_first: bool = False,
    slip: float = 0.1,
) -> Lessons:
    """Worked texts to learn from.

    Args:
        sources: their names, in the order of a curriculum.
        style: of the thoughts.
        count: problems drawn of each source that is not enumerated.
        length: tokens of a packed row.
        seed: of everything drawn.
        speech: the share that is asked in words instead of symbols.
        least_first: whether all numbers begin with their least significant digit.
        slip: of the REVISED style, the probability that a step is wrong at first.

    Raises:
        ValueError: for an unknown source, or a text that is longer than a row.
    """
    parts: list[Packed] = []
    longest = 0
    for number, source in enumerate(sources):
        problems = problems_of(source, count, seed, style=style)
        written = rows(problems, seed, number, styles=(style,), speech=speech, least_first=least_first, slip=slip)
        longest = max(longest, *(len(each.tokens) for each in written))
        parts.append(_packed(written, length, source))
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)]).tolist()
    return Lessons(Packed(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True))), starts, longest)


def exam(
    sources: Sequence[str],
    style: str = WORKED,
    *,
    count: int,
    seed: int,
    test: bool = True,
    speech: float = 0.5,
    least_first: bool = False,
) -> Exam:
    """Problems to be asked.

    Args:
        sources: their names, in the order of a curriculum.
        style: of the worked steps that they are judged by.
        count: problems drawn of each source that is not enumerated.
        seed: of everything drawn.
        test: whether they are held out; else they are what may be practised on.
        speech: the share that is asked in words instead of symbols.
        least_first: whether all numbers begin with their least significant digit.

    Raises:
        ValueError: for an unknown source.
    """
    rng = np.random.default_rng([seed, test, 2])
    problems, subject, starts = [], [], [0]
    for source in sources:
        found = problems_of(source, count, seed, test, style)
        problems += found
        subject += [f"{source} {each.operation}" if source == WORDS else source for each in found]
        starts.append(len(problems))
    wordings = [
        int(rng.integers(1, len(WORDINGS[each.operation]))) if rng.random() < speech else 0 for each in problems
    ]
    asked = prompts(problems, style, wordings=wordings, least_first=least_first)
    return Exam(problems, asked, subject, starts, _longest(problems, asked, style, least_first))


def with_slips(asked: Exam, style: str, *, seed: int, least_first: bool = False) -> Exam:
    """The same problems, each with a thought begun that has just gone wrong: its last step has one wrong digit.

    Args:
        asked: an exam.
        style: of the thoughts, WORKED or REVISED: whether the steps before were checked.
        seed: of the slips; those of both styles are the same.
        least_first: whether all numbers begin with their least significant digit.
    """
    rng = np.random.default_rng([seed, 3])
    begun = []
    for problem, tokens, length in zip(asked.problems, asked.prompts.tokens, asked.prompts.lengths, strict=True):
        steps = chain(problem, WORKED, least_first)
        place = int(rng.integers(len(steps)))
        slip = slipped(steps[place], rng)
        before = [f"{each}<step>" for each in steps]
        if style == REVISED:
            before = [text for text, _ in revised(steps, 0.0, np.random.default_rng())]  # nothing is left to chance
        text = f"<think>{''.join(before[:place])}{slip}"
        begun.append([*tokens[:length].tolist(), *VOCABULARY.encode(text)])
    lengths = np.array([len(each) for each in begun], np.int32)
    tokens = np.zeros((len(begun), lengths.max()), np.int32)
    for place, each in zip(tokens, begun, strict=True):
        place[: len(each)] = each
    return asked._replace(prompts=asked.prompts._replace(tokens=tokens, lengths=lengths))


def _longest(problems: Sequence[Problem], asked: Prompts, style: str, least_first: bool) -> int:
    """Tokens of the longest worked text behind its prompt; in the REVISED style each step is taken back once."""
    if style == REVISED:
        slips = {"slip": 1.0, "rng": np.random.default_rng(0)}
        texts = (row(each, style, least_first=least_first, **slips) for each in problems)
        return max(len(text.tokens) - text.prompt for text in texts)
    # A thought between its marks, its steps, a mark between any two; the answer behind its mark, and the end.
    thought = np.sum(asked.steps > 0, axis=(1, 2)) + np.sum(asked.steps[:, :, 0] > 0, axis=1)
    return int(np.max(thought + np.sum(asked.answers > 0, axis=1))) + 3


def _packed(written: Sequence[Row], length: int, source: str) -> Packed:
    longest = max(len(each.tokens) for each in written)
    if longest > length:
        raise ValueError(f"length {length}: a text of {source} has {longest} tokens; give a longer row")
    return packed(written, length)
