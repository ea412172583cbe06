"""Where tokens are by the places of digits, not by their number in the text: so sums may be longer than any learned.

Numbers begin with their least significant digit. Three coordinates tell of a token

- its place, from 1: of a digit of the question its place in the number; in a thought the place that the step works on,
  but of a carry, behind the comma, the place to which it is carried; in an answer the place of the digit to come;
- its slot in the question, the step or the answer, from 0: signs and words up to the first number, that number, the
  signs and words behind it, the next number, and so on;
- its part: question, thought or answer.

Whatever a token has to look up to say the next one then stands at its own place, however long the numbers are. What
was learned at one place serves at another if all were seen: `shuffle_digit_positions` has short sums name their places at random in
training, somewhat as abacus embeddings (McLeish et al. 2024) and randomised positions (Ruoss et al. 2023) do.

Axes: B rows, T tokens of a row, 3 coordinates.
"""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.packing import PackedRows
from thinking.text.vocabulary import ANSWER, STEP, THINK
from thinking.types import Array

NUM_COORDINATES = 3
QUESTION_PART, THOUGHT_PART, ANSWER_PART = range(3)

CARRY = 9
"""The slot of the carry in a step of the form `7+8+0=5,1`."""

_IS_DIGIT = np.isin(np.arange(len(VOCABULARY)), VOCABULARY.encode("0123456789"))


def locate(coordinates: Array, token: Array) -> Array:
    """[B, 3] int32, where a token is, given where the one before it was; 0 before the first.

    As `generation.completions` asks for it, with `coordinates=COORDINATES`.

    Args:
        coordinates: [B, 3] int32.
        token: [B] int32.
    """
    place, slot, part = coordinates[:, 0], coordinates[:, 1], coordinates[:, 2]
    digit = jnp.asarray(_IS_DIGIT)[token]
    asked = jnp.where(digit, place + 1, 0)
    worked = place + (digit & (slot == CARRY - 1))
    place = jnp.select([part == QUESTION_PART, part == THOUGHT_PART], [asked, worked], place + digit)
    slot = slot + (digit != (slot % 2 == 1))  # slots of digits are odd
    opened = (token == THINK) | (token == ANSWER)
    place, slot = jnp.where(opened, 1, place), jnp.where(opened | (token == STEP), 0, slot)
    part = jnp.where(token == THINK, THOUGHT_PART, jnp.where(token == ANSWER, ANSWER_PART, part))
    return jnp.stack([place, slot, part], axis=1).astype(jnp.int32)


def compute_coordinates(tokens: Array, segments: Array) -> Array:
    """[B, T, 3] int32, where tokens of packed rows are; each segment is located by itself, padding is at 0.

    Args:
        tokens: [B, T] int32.
        segments: [B, T] int32, 0 in padding.

    Raises:
        ValueError: if the shapes differ.
    """
    if tokens.ndim != 2 or tokens.shape != segments.shape:
        raise ValueError(
            f"compute_coordinates: tokens {tokens.shape} and segments {segments.shape}; give both as [rows, tokens]"
        )

    def step(carry: tuple[Array, Array], each: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (before, last), (token, segment) = carry, each
        where = locate(jnp.where((segment == last)[:, None], before, 0), token)
        where = jnp.where((segment > 0)[:, None], where, 0)
        return (where, segment), where

    begin = jnp.zeros((len(tokens), NUM_COORDINATES), jnp.int32), jnp.zeros(len(tokens), segments.dtype)
    return jax.lax.scan(step, begin, (tokens.T, segments.T))[1].swapaxes(0, 1)


def shuffle_digit_positions(key: Array, coordinates: Array, max_position: int) -> Array:
    """The same coordinates with other places, for training: each row draws a permutation of 1 to `max_position`.

    No order is kept, as a place is only ever compared with itself: so all are seen alike, and all beside each other.

    Args:
        key: consumed.
        coordinates: [B, T, 3] int32; place 0 stays.
        max_position: of all places.

    Raises:
        ValueError: if there is no place.
    """
    if max_position < 1:
        raise ValueError(f"shuffle_digit_positions: max_position {max_position} is out of range; give at least 1")
    names = jnp.argsort(jax.random.uniform(key, (len(coordinates), max_position)), axis=1) + 1
    names = jnp.pad(names, ((0, 0), (1, 0)))  # place 0 is named 0
    return jnp.asarray(coordinates).at[:, :, 0].set(jnp.take_along_axis(names, coordinates[:, :, 0], axis=1))


def separate_texts(coordinates: Array, segments: Array) -> Array:
    """[B, T, 3] int32, the same where each text of a row has places of its own, those behind the text before it.

    Texts that see each other then disturb each other no more than the far places of a long text do: a model that has
    learned to find its way in a row of many short texts finds it in one long text.

    Args:
        coordinates: [B, T, 3] int32, of `places`.
        segments: [B, T] int32, 0 in padding.
    """
    rows, width = segments.shape
    row, place = jnp.arange(rows)[:, None], coordinates[:, :, 0]
    most = jnp.zeros((rows, width + 1), jnp.int32).at[row, segments].max(place)
    before = jnp.cumsum(most, axis=1) - most
    return coordinates.at[:, :, 0].add(jnp.where(place > 0, before[row, segments], 0))


def count_digit_positions(rows: PackedRows) -> int:
    """How many places the texts of a row have together, of the row that has most."""
    return int(jnp.max(separate_texts(compute_coordinates(rows.tokens, rows.segments), rows.segments)[:, :, 0]))


def sample_coordinates(key: Array, tokens: Array, segments: Array, *, max_position: int) -> Array:
    """[B, T, 3] int32, places to learn from, as `post_training.fine_tuning` asks for them: apart, and shuffled.

    Args:
        key: consumed.
        tokens: [B, T] int32.
        segments: [B, T] int32, 0 in padding.
        max_position: of all places; at least as many as the texts of a row have together.
    """
    return shuffle_digit_positions(key, separate_texts(compute_coordinates(tokens, segments), segments), max_position)
