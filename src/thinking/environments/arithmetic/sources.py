"""Sources of problems by name: `words`, all word problems; or an operation and the digits of its longer operand."""

import numpy as np

from thinking.environments.arithmetic.drawing import STEPS, Level, draw
from thinking.environments.arithmetic.problems import DIVIDE, MULTIPLY, WORDINGS, Problem
from thinking.environments.arithmetic.split import held_out, trainable, word_problems
from thinking.errors import UserError

WORDS = "words"
"""The source of all word problems."""

REPEATED = 20
"""How often products and quotients stand among the word problems to learn from: there are a hundred times fewer of them
than of sums and differences."""


def level_of(source: str) -> Level | None:
    """What a name stands for; None for all word problems.

    Raises:
        UserError: if it stands for nothing.
    """
    if source == WORDS:
        return None
    operation, _, digits = source.partition(":")
    if operation not in (*WORDINGS, *STEPS) or not digits.isdecimal() or int(digits) < 1:
        names = ", ".join((*WORDINGS, *STEPS))
        raise UserError(f"{source!r} is no source of problems: give {WORDS}, or OPERATION:DIGITS with one of {names}")
    return Level(operation, int(digits))


def problems_of(source: str, count: int, seed: int, test: bool = False) -> list[Problem]:
    """Problems of a source, on one side of the split; a pure function of the arguments.

    Args:
        source: its name. All word problems are given, whatever the count: to learn from, products and quotients
            `REPEATED` times.
        count: how many to draw.
        seed: of the draw.
        test: whether they are held out.
    """
    level = level_of(source)
    if level is None:
        chosen = [each for each in word_problems() if (held_out if test else trainable)(each)]
        few = [each for each in chosen if each.operation in (MULTIPLY, DIVIDE)]
        return chosen if test else chosen + (REPEATED - 1) * few
    rng = np.random.default_rng([seed, test, *source.encode()])
    return [draw(rng, level, test) for _ in range(count)]
