"""Text on the terminal while it is written."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO


def show(
    pieces: Iterable[Sequence[int]], text_of: Callable[[Sequence[int]], str], *, out: TextIO | None = None
) -> list[int]:
    """Print tokens as they come, and end the line, also where the writing is broken off.

    Args:
        pieces: tokens, some at a time, as `stream` yields them.
        text_of: the text of tokens. All up to now are asked for each time, and what is new is printed, as a word or a
            character may take several tokens.
        out: where to; the standard output by default.

    Returns:
        All tokens.
    """
    out = out or sys.stdout
    tokens, shown = [], ""
    try:
        for piece in pieces:
            tokens.extend(piece)
            text = text_of(tokens)
            # A character that is not yet complete is shown once it is.
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
            if text.startswith(shown):
                out.write(text[len(shown) :])
                out.flush()
                shown = text
    finally:
        out.write("\n")
        out.flush()
    return tokens
