"""Parsing of problems (the wordings of `WORDINGS`, or symbols with the usual precedence), and of answers."""

import re
from collections.abc import Iterator

from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, WORDINGS, Problem

SIGNS = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE, "%": MODULAR}
PRECEDENCE = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2, "%": 2}
SIGN_VARIANTS = {
    "*": ("\N{MULTIPLICATION SIGN}", "\N{MIDDLE DOT}", "\N{DOT OPERATOR}"),
    "/": ("\N{DIVISION SIGN}", "\N{DIVISION SLASH}"),
    "-": ("\N{MINUS SIGN}", "\N{EN DASH}"),
}
"""Typed variants of the signs."""

SIGN_TRANSLATION = str.maketrans({typed: sign for sign, others in SIGN_VARIANTS.items() for typed in others})

OTHER_WORDINGS = {ADD: ("Add {} to {}",), MULTIPLY: ("{} multiplied by {}",)}
"""Wordings that are understood, beside those of `WORDINGS`, which models are taught."""

_OPENINGS = re.compile(r"^(what is|what's|how much is|how much are|calculate|compute)( the\b)? ?", re.IGNORECASE)

MAX_LENGTH = 1000
"""Maximum characters, so that results stay below the 4300 digits that Python formats."""

MAX_OPERATIONS = 50
"""Maximum operations of an expression, because functions of it are recursive."""


def parse_problem(text: str) -> Problem:
    """Parse a problem.

    A text is a wording of an operation, whose operands are numbers or expressions in brackets; or it is in symbols,
    left-associative, with products and quotients before sums. `What is`, `How much is`, `Calculate` or nothing may be
    in front. Case, spaces, and a final `=`, `?` or `.` are ignored.

    Raises:
        ValueError: if it is no problem; the message says why.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a line of {len(text)} characters is too long; give at most {MAX_LENGTH}")
    question = " ".join(text.translate(SIGN_TRANSLATION).split()).rstrip(" =?.!")
    question = re.sub(r"(?<=[0-9)]) ?[xX] ?(?=[0-9(])", "*", question)
    question = re.sub(r"(?<=[0-9)]) ?: ?(?=[0-9(])", "/", question)
    question = _OPENINGS.sub("", question)
    if not re.search("[0-9]", question):
        raise ValueError(f"{_short(text)} is no arithmetic")
    for operation, pattern, order in WORDING_PATTERNS:
        if match := pattern.fullmatch(question):
            operands = [_expression(operand, bracketed=True) for operand in match.groups()]
            return _problem(operation, tuple(operands[index] for index in order))
    problem = _expression(question)
    if not isinstance(problem, Problem):
        raise ValueError(f"{_short(text)} is a number, which asks nothing")
    return problem


_ANSWER = re.compile("(0|-?[1-9][0-9]*)(?:r(0|[1-9][0-9]*))?")


def parse_answer(text: str) -> tuple[int, int | None] | None:
    """The value and the remainder of an answer, the latter None without one.

    It reads the one form that `format_answer` writes, most significant digit first, as rewards do. Anything else gives
    None: `015`, `-0` and `3r00` are no answers.
    """
    match = _ANSWER.fullmatch(text)
    return None if match is None else (int(match[1]), None if match[2] is None else int(match[2]))


def _compile_wordings() -> Iterator[tuple[str, re.Pattern[str], tuple[int, ...]]]:
    """The pattern of each wording, and the order of the operands among its groups."""
    for operation, wordings in WORDINGS.items():
        for wording in (*wordings[1:], *OTHER_WORDINGS.get(operation, ())):
            wording = _OPENINGS.sub("", wording)
            positions = [int(position) for position in re.findall(r"{(\d)}", wording)]
            words = re.sub(r"{\d?}", "{}", wording.rstrip("?")).split("{}")
            groups = " ?([^a-z]+?) ?".join(re.escape(word.strip()) for word in words)
            order = [positions.index(position) for position in range(len(positions))] or range(len(words) - 1)
            yield operation, re.compile(groups, re.IGNORECASE), tuple(order)


WORDING_PATTERNS = tuple(_compile_wordings())


def _expression(text: str, bracketed: bool = False) -> Problem | int:
    """Parse symbols by Dijkstra's shunting yard; `bracketed` requires a number or one pair of brackets."""
    values: list[Problem | int] = []
    signs: list[str] = []
    operations, complete = 0, False  # complete: a sign may follow, but no number
    for token in _tokens(text):
        if complete and (token == "(" or token.isdigit()):
            raise ValueError(f"there is no sign in front of {_short(token)} in {_short(text)}")
        if token == "-" and not complete:
            raise ValueError(f"{_short(text)} holds a negative number; give numbers from 0")
        if not complete and token in ("+", "*", "/", "%", ")"):
            raise ValueError(f"there is no number in front of {token} in {_short(text)}")
        if token.isdigit():
            values.append(int(token))
        elif token == "(":
            signs.append(token)
        elif token == ")":
            while signs and signs[-1] != "(":
                _apply_sign(signs.pop(), values)
            if not signs:
                raise ValueError(f"a bracket is closed in {_short(text)} that was never opened")
            signs.pop()
        else:
            operations += 1
            if operations > MAX_OPERATIONS:
                raise ValueError(f"an expression of more than {MAX_OPERATIONS} operations is too long")
            while signs and PRECEDENCE[signs[-1]] >= PRECEDENCE[token]:
                _apply_sign(signs.pop(), values)
            if bracketed and not signs:
                raise ValueError(f"put brackets around {_short(text)}")
            signs.append(token)
        complete = token == ")" or token.isdigit()
    if not complete:
        raise ValueError(f"there is no number at the end of {_short(text)}")
    while signs:
        if signs[-1] == "(":
            raise ValueError(f"a bracket is not closed in {_short(text)}")
        _apply_sign(signs.pop(), values)
    return values.pop()


def _tokens(text: str) -> Iterator[str]:
    for token, other in re.findall(r"([0-9]+|[-+*/%()])|([^-+*/%()0-9\s]+)", text):
        if other:
            raise ValueError(f"{_short(other)} in {_short(text)} is not understood")
        yield token


def _apply_sign(sign: str, values: list[Problem | int]) -> None:
    """Replace the last two values by the problem that the sign makes of them."""
    right, left = values.pop(), values.pop()
    if sign != "%":
        values.append(_problem(SIGNS[sign], (left, right)))
    elif isinstance(left, Problem) and left.operation == ADD:
        values.append(_problem(MODULAR, (*left.operands, right)))
    else:
        raise ValueError("the left side of % must be a sum in brackets, as in (57+8)%7")


def _problem(operation: str, operands: tuple[Problem | int, ...]) -> Problem:
    try:
        return Problem(operation, operands)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("Problem: ")) from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
