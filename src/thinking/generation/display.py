"""Text on the terminal while it is written, in colours that tell a thought from an answer."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from rich.console import Console
from rich.segment import Segments
from rich.text import Text

from thinking import progress
from thinking.colors import ANSWER, LATENT_THOUGHTS, MARK, PROMPT, THOUGHT, WRONG
from thinking.text.vocabulary import ANSWER_KIND, MARK_KIND, NO_KIND, PROMPT_KIND, THOUGHT_KIND, Vocabulary, token_kinds

STYLES = {NO_KIND: "", PROMPT_KIND: PROMPT, THOUGHT_KIND: THOUGHT, ANSWER_KIND: ANSWER, MARK_KIND: MARK}
"""How each part of a text looks."""

WIDTH = 512
"""Rows are filled up to so many tokens, and beyond to twice as many, so that few shapes are compiled."""


def color_tokens(tokens: Sequence[int], prompt_length: int, vocabulary: Vocabulary) -> Text:
    """The text of a row, each part in its style.

    Args:
        tokens: [T], prompt and what was written, or what was written alone.
        prompt_length: how many of them are the prompt.
        vocabulary: of the tokens.

    Raises:
        ValueError: if a token is beyond the vocabulary.
    """
    width = WIDTH
    while width < len(tokens):
        width *= 2
    row = np.zeros((1, width), np.int32)
    row[0, : len(tokens)] = tokens
    found = np.asarray(_kinds(row, np.int32([len(tokens)]), np.int32([prompt_length])))[0, : len(tokens)]
    text = Text(end="")
    for kind, part in itertools.groupby(zip(found.tolist(), tokens, strict=True), key=lambda pair: pair[0]):
        text.append(vocabulary.decode([token for _, token in part]), STYLES[kind])
    return text


_kinds = jax.jit(token_kinds)


def color_numbered_thoughts(
    prompt: str, thoughts: Sequence[int], answer: str, *, separator: str = "|", is_correct: bool = True
) -> Text:
    """A line of a prompt, thoughts that are numbers, and an answer; a number always has the same color.

    Args:
        prompt: what was thought about.
        thoughts: their numbers, from 0.
        answer: what was said behind them.
        separator: between thoughts and answer.
        is_correct: whether the answer is right.
    """
    text = Text.assemble((prompt, PROMPT), (" | ", MARK))
    for thought in thoughts:
        text.append(f"{thought} ", style=LATENT_THOUGHTS[thought % len(LATENT_THOUGHTS)])
    return text.append(f"{separator} ", style=MARK).append(answer, style=ANSWER if is_correct else WRONG)


def show_growing_text(
    token_chunks: Iterable[Sequence[int]], to_text: Callable[[Sequence[int]], Text]
) -> Iterator[Text]:
    """What is new in a text each time that tokens come.

    Args:
        token_chunks: tokens, some at a time, as `make_streamer` yields them.
        to_text: the text of tokens. All up to now are asked for each time, as what a token means may hang on those
            before it, and a word or a character may take several.
    """
    tokens, shown = [], ""
    for piece in token_chunks:
        tokens.extend(piece)
        text = to_text(tokens)
        # A character that is not yet complete is shown once it is.
        whole = text[: len(text.plain.rstrip("\N{REPLACEMENT CHARACTER}"))]
        if whole.plain.startswith(shown):
            yield whole[len(shown) :]
            shown = whole.plain


def show(texts: Iterable[Text], console: Console | None = None) -> None:
    """Print texts as they come, and end the line, also where the writing is broken off.

    Styles are seen on a terminal alone; a pipe or a file gets the words, and `NO_COLOR` is heeded.

    Args:
        texts: behind one another in one line, unless they break it.
        console: where to; the standard output by default.
    """
    console = console or progress.console()
    try:
        for text in texts:
            # As segments, since a text that is printed by itself is fitted to the width: it would lose spaces. A style
            # of the whole is rendered as that of a part.
            console.print(Segments(Text.assemble(text).render(console)), soft_wrap=True, end="")
    finally:
        console.print()
