"""Steps of chains and answers in plain words, for people who do not know their notation."""

import re

from thinking.environments.arithmetic.parsing import parse_answer

_STEPS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"\d\+\d\+\d=(\d),(\d)", "digit {}, carry {}"),
        (r"\d-\d-\d=(\d),(\d)", "digit {}, borrow {}"),
        (r"\d\*\d\+\d=(\d),(\d)", "digit {}, carry {}"),
        (r"\d+/\d=(\d),(\d)", "digit {}, rest {}"),
        (r"\d+/\d{2,}=(\d)", "digit {}"),
        (r"=(\d+)", "makes {}"),
        (r"=[-\d+*/%()]+", "is left to work out"),
    )
)
"""Patterns of the steps of `chains`, and what a step says."""


def explain_step(step: str) -> str:
    """What a step found, as `digit 5, carry 1` for `7+8+0=5,1`; empty for a text that is no step."""
    for pattern, words in _STEPS:
        if match := pattern.fullmatch(step):
            return words.format(*match.groups())
    return ""


def say_answer(answer: str) -> str:
    """An answer as people say it: `8` for `8r0`, and `8, remainder 2` for `8r2`; `no answer` for any other text."""
    parsed = parse_answer(answer)
    if parsed is None:
        return "no answer"
    return f"{parsed[0]}, remainder {parsed[1]}" if parsed[1] else str(parsed[0])


def reverse_numbers(text: str) -> str:
    """The text with the digits of each number in the other order."""
    return re.sub("[0-9]+", lambda digits: digits[0][::-1], text)
