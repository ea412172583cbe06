"""Words of a language to think in, and what part each token of a text plays.

A text is a prompt, then perhaps a thought between marks, then an answer behind its mark, then the end:
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

MARKS = ("<pad>", "<begin>", "<end>", "<think>", "</think>", "<step>", "<ask>", "<answer>", "<check>", "<back>")
PAD, BEGIN, END, THINK, END_THINK, STEP, ASK, ANSWER, CHECK, BACK = range(len(MARKS))
"""The first tokens of every vocabulary: padding, the begin and end of a text, the begin and end of a thought, what
separates its steps, what opens a question to oneself and what its answer (or the answer of all), what opens a look
back at a step, and what ends a step by taking it back."""

NO_KIND, PROMPT_KIND, THOUGHT_KIND, ANSWER_KIND, MARK_KIND = range(5)
"""What part a token plays; padding plays none."""


@dataclass(frozen=True)
class Vocabulary:
    """Texts as tokens. Decoding joins words without anything between them, so words bring their own spaces.

    No word is how another begins, so every text has one reading, and every row of tokens another text.

    Attributes:
        words: behind the marks; `words[i]` is token `len(MARKS) + i`.

    Raises:
        ValueError: if a word is empty, stands twice, or is how another word or mark begins.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if "" in self.words:
            raise ValueError("Vocabulary: a word is empty; leave it out")
        ordered = sorted(MARKS + self.words)  # what begins with a word comes right behind it
        for word, following in itertools.pairwise(ordered):
            if following.startswith(word):
                raise ValueError(f"Vocabulary: {word!r} is how {following!r} begins; no reading is sure, change either")

    def __len__(self) -> int:
        return len(MARKS) + len(self.words)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text.

        Raises:
            ValueError: if a part of it is no word.
        """
        tokens, reading = _token_reader(self)
        found, place = [], 0
        while place < len(text):
            match = reading.match(text, place)
            if match is None:
                unknown = re.compile(r"\s*\S*").match(text, place).group()[:20]
                raise ValueError(
                    f"Vocabulary: {unknown!r} at {place} of {text[:60]!r} is not understood; use its {len(self)} words"
                )
            found.append(tokens[match.group()])
            place = match.end()
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens [T].

        Raises:
            ValueError: if one is beyond the vocabulary.
        """
        words = MARKS + self.words
        for token in tokens:
            if not 0 <= token < len(words):
                raise ValueError(f"Vocabulary: token {token} is out of range; allowed is 0 to {len(words) - 1}")
        return "".join(words[token] for token in tokens)


@functools.lru_cache(maxsize=16)
def _token_reader(vocabulary: Vocabulary) -> tuple[dict[str, int], re.Pattern[str]]:
    words = MARKS + vocabulary.words
    return {word: token for token, word in enumerate(words)}, re.compile("|".join(map(re.escape, words)))


def token_kinds(tokens: Array, lengths: Array, prompt_lengths: Array) -> Array:
    """[B, T] int32, which part each token plays: NO_KIND, PROMPT_KIND, THOUGHT_KIND, ANSWER_KIND or MARK_KIND.

    All of a prompt is prompt, its marks too. A thought that is not closed goes on to the end.

    Args:
        tokens: [B, T] int32.
        lengths: [B] int32, tokens of each row.
        prompt_lengths: [B] int32, how many of them are its prompt; 0 where there is none, as in completions.
    """
    _check_rows("token_kinds", tokens, lengths)
    place = jnp.arange(tokens.shape[1])[None]
    real, prompt = place < lengths[:, None], place < prompt_lengths[:, None]
    thought = is_in_thought(jnp.where(prompt | ~real, PAD, tokens))
    kind = jnp.where(thought, THOUGHT_KIND, ANSWER_KIND)
    kind = jnp.where(tokens < len(MARKS), MARK_KIND, kind)
    return jnp.where(real, jnp.where(prompt, PROMPT_KIND, kind), NO_KIND).astype(jnp.int32)


def is_in_thought(tokens: Array) -> Array:
    """[B, T] bool, which tokens stand in a thought, the mark that opens it included, the one that closes it not."""
    place = jnp.arange(tokens.shape[1])[None]
    opened, closed = (jax.lax.cummax(jnp.where(tokens == mark, place, -1), axis=1) for mark in (THINK, END_THINK))
    return opened > closed


def _check_rows(name: str, tokens: Array, lengths: Array) -> None:
    if tokens.ndim != 2 or lengths.shape != tokens.shape[:1]:
        raise ValueError(f"{name}: tokens {tokens.shape} and lengths {lengths.shape}; give [rows, tokens] and [rows]")
