"""Text on the terminal as it is generated."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.segment import Segments
from rich.text import Text

from thinking import progress
from thinking.colors import ANSWER, NUMBERED_THOUGHTS, PROMPT, SECONDARY, WRONG


class Marks(NamedTuple):
    """Marks of what is right and what is wrong."""

    right: str
    wrong: str


def choose_marks(console: Console) -> Marks:
    """A check mark and a cross, or words where the terminal has no such characters."""
    marks = Marks("\N{CHECK MARK}", "\N{BALLOT X}")
    try:
        "".join(marks).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return Marks("(right)", "(wrong)")
    return Marks("(right)", "(wrong)") if console.is_dumb_terminal else marks


def color_numbered_thoughts(
    prompt: str, thoughts: Sequence[int], answer: str, *, separator: str = "|", is_correct: bool = True
) -> Text:
    """A line of a prompt, numbered thoughts from 0, and an answer; a number always has the same color."""
    text = Text.assemble((prompt, PROMPT), (" | ", SECONDARY))
    for thought in thoughts:
        text.append(f"{thought} ", style=NUMBERED_THOUGHTS[thought % len(NUMBERED_THOUGHTS)])
    return text.append(f"{separator} ", style=SECONDARY).append(answer, style=ANSWER if is_correct else WRONG)


def show(texts: Iterable[Text], console: Console | None = None) -> None:
    """Print texts one after another as they come, and end the line, also after an exception.

    Styles appear on a terminal alone; a pipe or a file gets plain text, and `NO_COLOR` is respected. The console is
    standard output by default.
    """
    console = console or progress.console()
    try:
        for text in texts:
            # As segments: a text that is printed by itself is fitted to the width, and loses spaces. Assembling it
            # keeps the style of the whole text.
            console.print(Segments(Text.assemble(text).render(console)), soft_wrap=True, end="")
    finally:
        console.print()
