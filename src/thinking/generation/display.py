"""Text on the terminal as it is generated, coloured by part: prompt, thought, answer."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from rich.console import Console
from rich.segment import Segments
from rich.text import Text

from thinking import progress
from thinking.colors import ANSWER, MARK, NUMBERED_THOUGHTS, PROMPT, THOUGHT, WRONG
from thinking.text.vocabulary import (
    ANSWER_KIND,
    NO_KIND,
    PROMPT_KIND,
    SPECIAL_KIND,
    THOUGHT_KIND,
    Vocabulary,
    token_kinds,
)

STYLES = {NO_KIND: "", PROMPT_KIND: PROMPT, THOUGHT_KIND: THOUGHT, ANSWER_KIND: ANSWER, SPECIAL_KIND: MARK}
"""The style of each part of a text."""

WIDTH = 512
"""Rows are padded to this many tokens, or to a power of two times it, so that few shapes are compiled."""


def color_tokens(tokens: Sequence[int], prompt_length: int, vocabulary: Vocabulary) -> Text:
    """The text of a row, each part in its style.

    Args:
        tokens: [T], prompt and completion, or the completion alone.
        prompt_length: number of prompt tokens.
        vocabulary: of the tokens.

    Raises:
        ValueError: if a token is beyond the vocabulary.
    """
    width = WIDTH
    while width < len(tokens):
        width *= 2
    row = np.zeros((1, width), np.int32)
    row[0, : len(tokens)] = tokens
    kinds = np.asarray(_kinds(row, np.int32([len(tokens)]), np.int32([prompt_length])))[0, : len(tokens)]
    text = Text(end="")
    for kind, part in itertools.groupby(zip(kinds.tolist(), tokens, strict=True), key=lambda pair: pair[0]):
        text.append(vocabulary.decode([token for _, token in part]), STYLES[kind])
    return text


_kinds = jax.jit(token_kinds)


def color_numbered_thoughts(
    prompt: str, thoughts: Sequence[int], answer: str, *, separator: str = "|", is_correct: bool = True
) -> Text:
    """A line of a prompt, numbered thoughts from 0, and an answer; a number always has the same color."""
    text = Text.assemble((prompt, PROMPT), (" | ", MARK))
    for thought in thoughts:
        text.append(f"{thought} ", style=NUMBERED_THOUGHTS[thought % len(NUMBERED_THOUGHTS)])
    return text.append(f"{separator} ", style=MARK).append(answer, style=ANSWER if is_correct else WRONG)


def show_growing_text(
    token_chunks: Iterable[Sequence[int]], to_text: Callable[[Sequence[int]], Text]
) -> Iterator[Text]:
    """The new part of a text, each time that tokens arrive.

    `token_chunks` are those of `make_streamer`. `to_text` gets all tokens so far: what a token means may depend on
    earlier ones, and a character may take several.
    """
    tokens, printed = [], ""
    for chunk in token_chunks:
        tokens.extend(chunk)
        text = to_text(tokens)
        # An incomplete character is held back.
        complete = text[: len(text.plain.rstrip("\N{REPLACEMENT CHARACTER}"))]
        if complete.plain.startswith(printed):
            yield complete[len(printed) :]
            printed = complete.plain


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
