"""Sources of problems by name: `words` for all word problems, or an operation and the digits of its longer operand."""

import re

import numpy as np

from thinking.environments.arithmetic.chains import WORKED
from thinking.environments.arithmetic.problems import DIVIDE, MODULAR, MULTIPLY, WORDINGS, Problem
from thinking.environments.arithmetic.sampling import NUM_OPERATIONS, Level, sample_problem
from thinking.environments.arithmetic.split import is_held_out, is_trainable, word_problems

WORD_PROBLEMS = "words"
"""The source of all word problems."""

NUM_REPEATS = 20
"""How often products and quotients stand among the word problems to learn from: there are a hundred times fewer of them
than of sums and differences."""

MAX_DIGITS = 1000
"""Digits of a number at most: their product has fewer than the 4300 that Python turns into text."""


def parse_source(source: str) -> tuple[Level, int | None] | None:
    """What a name stands for, and how many problems it asks for, if it does; None for all word problems.

    Raises:
        ValueError: if it stands for nothing.
    """
    if source == WORD_PROBLEMS:
        return None
    found = re.fullmatch(r"([a-z_]+):(\d+)(?:x(\d+))?(?::(\d+))?", source)
    numbers = [int(number) for number in found.groups()[1:] if number] if found else []
    if not found or found[1] not in (*WORDINGS, *NUM_OPERATIONS) or 0 in numbers or int(found[3] or 1) > int(found[2]):
        names = ", ".join((*WORDINGS, *NUM_OPERATIONS))
        raise ValueError(
            f"source {source}: no source of problems; give {WORD_PROBLEMS}, or OPERATION:DIGITS as in "
            f"add:3, multiply:4x2 (digits of the longer and the other operand) or add:3:500 (so many problems), "
            f"with one of {names}"
        )
    if int(found[2]) > MAX_DIGITS:
        raise ValueError(f"source {source}: allowed are 1 to {MAX_DIGITS} digits; give fewer")
    if found[3] and found[1] in (MODULAR, *NUM_OPERATIONS):
        raise ValueError(f"source {source}: {found[1]} has a single operand; give {found[1]}:{found[2]}")
    level = Level(found[1], int(found[2]), int(found[3]) if found[3] else None)
    return level, int(found[4]) if found[4] else None


def sample_problems(
    source: str, num_problems: int, seed: int, held_out: bool = False, style: str = WORKED
) -> list[Problem]:
    """Problems of a source, on one side of the split; a pure function of the arguments.

    Args:
        source: its name. All word problems are given, whatever the count: to learn from, products and quotients
            `NUM_REPEATS` times.
        num_problems: how many to draw, unless the name tells.
        seed: of the draw.
        held_out: whether they are held out.
        style: of the texts to learn from, which show nothing that is held out.
    """
    named = parse_source(source)
    if named is None:
        chosen = [each for each in word_problems() if (is_held_out(each) if held_out else is_trainable(each, style))]
        few = [each for each in chosen if each.operation in (MULTIPLY, DIVIDE)]
        return chosen if held_out else chosen + (NUM_REPEATS - 1) * few
    (level, told), rng = named, np.random.default_rng([seed, held_out, *source.encode()])
    return [sample_problem(rng, level, held_out, style) for _ in range(told or num_problems)]
