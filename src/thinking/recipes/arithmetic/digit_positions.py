"""Digit positions: token coordinates that let sums be longer than those in training.

Numbers begin with their least significant digit. A token has three coordinates:

- place, from 1: in the question, of a digit in its number; in a thought, the place that the step computes (of a carry,
  behind the comma, the next place); in the answer, the place of the digit to come;
- slot in the question, step or answer, from 0: signs and words up to the first number, that number, the signs and words
  behind it, the next number, and so on;
- part: question, thought or answer.

What predicts the next token then has the same place as the token itself, whatever the length of the numbers. All places
must be trained, so `shuffle_digit_positions` draws random places, similar to abacus embeddings (McLeish et al. 2024)
and randomised positions (Ruoss et al. 2023).

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
    """[B, 3] int32, the coordinates of a token: a `LocateFn` of `generation.completions`.

    Args:
        coordinates: [B, 3] int32, of the previous token; 0 before the first.
        token: [B] int32.
    """
    place, slot, part = coordinates[:, 0], coordinates[:, 1], coordinates[:, 2]
    is_digit = jnp.asarray(_IS_DIGIT)[token]
    question_place = jnp.where(is_digit, place + 1, 0)
    thought_place = place + (is_digit & (slot == CARRY - 1))
    place = jnp.select([part == QUESTION_PART, part == THOUGHT_PART], [question_place, thought_place], place + is_digit)
    slot = slot + (is_digit != (slot % 2 == 1))  # slots of digits are odd
    starts_part = (token == THINK) | (token == ANSWER)
    place, slot = jnp.where(starts_part, 1, place), jnp.where(starts_part | (token == STEP), 0, slot)
    part = jnp.where(token == THINK, THOUGHT_PART, jnp.where(token == ANSWER, ANSWER_PART, part))
    return jnp.stack([place, slot, part], axis=1).astype(jnp.int32)


def compute_coordinates(tokens: Array, segments: Array) -> Array:
    """[B, T, 3] int32, coordinates of packed rows; each segment starts anew, padding has 0.

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

    def step(carry: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (previous, last_segment), (token, segment) = carry, inputs
        coordinates = locate(jnp.where((segment == last_segment)[:, None], previous, 0), token)
        coordinates = jnp.where((segment > 0)[:, None], coordinates, 0)
        return (coordinates, segment), coordinates

    initial = jnp.zeros((len(tokens), NUM_COORDINATES), jnp.int32), jnp.zeros(len(tokens), segments.dtype)
    return jax.lax.scan(step, initial, (tokens.T, segments.T))[1].swapaxes(0, 1)


def shuffle_digit_positions(key: Array, coordinates: Array, max_position: int) -> Array:
    """Permute the places of each row, at random within 1 to `max_position`.

    Order need not be kept, as places are only compared for equality.

    Args:
        key: consumed.
        coordinates: [B, T, 3] int32; place 0 stays.
        max_position: highest place.

    Raises:
        ValueError: if `max_position` is below 1.
    """
    if max_position < 1:
        raise ValueError(f"shuffle_digit_positions: max_position {max_position} is out of range; give at least 1")
    names = jnp.argsort(jax.random.uniform(key, (len(coordinates), max_position)), axis=1) + 1
    names = jnp.pad(names, ((0, 0), (1, 0)))  # place 0 stays
    return jnp.asarray(coordinates).at[:, :, 0].set(jnp.take_along_axis(names, coordinates[:, :, 0], axis=1))


def separate_texts(coordinates: Array, segments: Array) -> Array:
    """[B, T, 3] int32, with the places of each text of a row behind those of the text before it.

    Attention across short texts with disjoint places then trains attention within one long text.

    Args:
        coordinates: [B, T, 3] int32, of `compute_coordinates`.
        segments: [B, T] int32, 0 in padding.
    """
    rows, width = segments.shape
    row, place = jnp.arange(rows)[:, None], coordinates[:, :, 0]
    max_places = jnp.zeros((rows, width + 1), jnp.int32).at[row, segments].max(place)
    offsets = jnp.cumsum(max_places, axis=1) - max_places
    return coordinates.at[:, :, 0].add(jnp.where(place > 0, offsets[row, segments], 0))


def count_digit_positions(rows: PackedRows) -> int:
    """The largest number of places in any row, summed over its texts."""
    return int(jnp.max(separate_texts(compute_coordinates(rows.tokens, rows.segments), rows.segments)[:, :, 0]))


def sample_coordinates(key: Array, tokens: Array, segments: Array, *, max_position: int) -> Array:
    """[B, T, 3] int32, separated and shuffled coordinates: a `CoordinateFn` of `post_training.fine_tuning`.

    Args:
        key: consumed.
        tokens: [B, T] int32.
        segments: [B, T] int32, 0 in padding.
        max_position: highest place, at least `count_digit_positions` of the rows.
    """
    return shuffle_digit_positions(key, separate_texts(compute_coordinates(tokens, segments), segments), max_position)
