"""The vocabulary of texts with thoughts.

A text is a prompt, an optional thought between special tokens, an answer after its special token, and the end token:
`<begin>57+8=<think>7+8+0=5,1<step>5+0+1=6,0</think><answer>65<end>`.

Axes: B rows, T tokens of a row.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from thinking.types import Array

SPECIAL_TOKENS = (
    "<pad>",
    "<begin>",
    "<end>",
    "<think>",
    "</think>",
    "<step>",
    "<ask>",
    "<answer>",
    "<check>",
    "<back>",
)
PAD, BEGIN, END, THINK, END_THINK, STEP, ASK, ANSWER, CHECK, BACK = range(len(SPECIAL_TOKENS))
"""The first tokens of every vocabulary: padding; begin and end of a text; begin and end of a thought; step separator;
begin of a sub-task, and of its answer or the final answer; begin of a check; retraction of the last step."""


@dataclass(frozen=True)
class Vocabulary:
    """Texts as tokens. Decoding concatenates words, so words include their own spaces.

    No word is a prefix of another, so texts and token sequences correspond one to one.

    Attributes:
        words: after the special tokens; `words[i]` is token `len(SPECIAL_TOKENS) + i`.

    Raises:
        ValueError: if a word is empty, occurs twice, or is a prefix of another word or special token.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if "" in self.words:
            raise ValueError("Vocabulary: a word is empty; leave it out")
        ordered = sorted(SPECIAL_TOKENS + self.words)  # extensions of a word directly follow it
        for word, following in itertools.pairwise(ordered):
            if following.startswith(word):
                raise ValueError(
                    f"Vocabulary: {word!r} is a prefix of {following!r}, so tokens are ambiguous; change one"
                )

    def __len__(self) -> int:
        return len(SPECIAL_TOKENS) + len(self.words)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text.

        Raises:
            ValueError: for a part that is no word.
        """
        tokens, pattern = _token_reader(self)
        encoded, position = [], 0
        while position < len(text):
            match = pattern.match(text, position)
            if match is None:
                unknown = re.compile(r"\s*\S*").match(text, position).group()[:20]
                raise ValueError(
                    f"Vocabulary: {unknown!r} at {position} of {text[:60]!r} is not understood; "
                    f"use its {len(self)} words"
                )
            encoded.append(tokens[match.group()])
            position = match.end()
        return encoded

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens [T].

        Raises:
            ValueError: for a token out of range.
        """
        words = SPECIAL_TOKENS + self.words
        for token in tokens:
            if not 0 <= token < len(words):
                raise ValueError(f"Vocabulary: token {token} is out of range; allowed is 0 to {len(words) - 1}")
        return "".join(words[token] for token in tokens)


@functools.lru_cache(maxsize=16)
def _token_reader(vocabulary: Vocabulary) -> tuple[dict[str, int], re.Pattern[str]]:
    words = SPECIAL_TOKENS + vocabulary.words
    return {word: token for token, word in enumerate(words)}, re.compile("|".join(map(re.escape, words)))


def is_in_thought(tokens: Array) -> Array:
    """[B, T] bool, whether a token of [B, T] belongs to a thought, with its think token and without its end.

    A thought without an end extends to the end.
    """
    positions = jnp.arange(tokens.shape[1])[None]
    last_begin, last_end = (
        jax.lax.cummax(jnp.where(tokens == token, positions, -1), axis=1) for token in (THINK, END_THINK)
    )
    return last_begin > last_end
