"""Recall problems: output tokens seen earlier in the row.

Axes: P pairs, Q queries, T tokens.
"""

import jax
import jax.numpy as jnp

from thinking.environments.sequences.sequence_family import LabelledSequence, SequenceFamily
from thinking.types import Array

_MAX_QUERIES = 32
_COPIED = 8
"""Symbols that `selective_copying` asks for."""
_SYMBOLS = 16


def associative_recall(num_keys: int) -> SequenceFamily:
    """Multi-query associative recall (Arora et al. 2024): pairs of keys and values, then keys.

    The values of the keys at the end, at most 32, are asked for. The size of a problem is its number of pairs, up to
    `num_keys`, whose keys differ; a row packs several problems of `size` pairs each; the last may be cut off.

    Args:
        num_keys: different keys; there are as many values.

    Raises:
        ValueError: by `sample`, for more pairs than keys.
    """

    def count_tokens(max_size: int) -> int:
        return 2 * max_size + min(max_size, _MAX_QUERIES)

    def sample(key: Array, max_size: int, size: Array) -> LabelledSequence:
        if max_size > num_keys:
            raise ValueError(f"associative_recall: {max_size} pairs of {num_keys} keys; give at most {num_keys}")
        permutation_key, value_key, query_key = jax.random.split(key, 3)
        num_tokens = count_tokens(max_size)
        index = jnp.arange(num_tokens, dtype=jnp.int32)
        problem, position = jnp.divmod(index, 2 * size + jnp.minimum(size, _MAX_QUERIES))

        # All pairs of the row, those of a problem one after another.
        pair = jnp.arange(num_tokens // 3 + max_size + 1, dtype=jnp.int32)
        keys = jax.random.permutation(permutation_key, num_keys)[pair % num_keys].astype(jnp.int32)
        values = jax.random.randint(value_key, pair.shape, num_keys, 2 * num_keys)
        # The order of the queries is shuffled within each problem.
        order = jnp.argsort(pair // size + jax.random.uniform(query_key, pair.shape))

        is_query = position >= 2 * size
        shown = problem * size + position // 2
        query = order[problem * size + position - 2 * size]
        pair_tokens = jnp.where(position % 2 == 0, keys[shown], values[shown])
        tokens = jnp.where(is_query, keys[query], pair_tokens)
        return LabelledSequence(
            tokens, jnp.where(is_query, values[query], 0), is_query.astype(jnp.float32), 1 + problem
        )

    return SequenceFamily("associative_recall", sample, count_tokens, 2 * num_keys)


def selective_copying() -> SequenceFamily:
    """Eight symbols are hidden among `max_size` blanks, and asked for in order at the end (Gu & Dao 2023)."""
    blank, asking = 0, 1

    def sample(key: Array, max_size: int, size: Array) -> LabelledSequence:
        del size
        place_key, symbol_key = jax.random.split(key)
        places = jnp.sort(jax.random.permutation(place_key, max_size + _COPIED)[:_COPIED])
        symbols = jax.random.randint(symbol_key, (_COPIED,), 2, 2 + _SYMBOLS)
        stream = jnp.full(max_size + _COPIED, blank).at[places].set(symbols)
        tokens = jnp.concatenate([stream, jnp.full(_COPIED, asking)]).astype(jnp.int32)
        targets = jnp.concatenate([jnp.zeros_like(stream), symbols]).astype(jnp.int32)
        return _ask_at_end(tokens, targets, _COPIED)

    return SequenceFamily("selective_copying", sample, lambda max_size: max_size + 2 * _COPIED, 2 + _SYMBOLS)


def needle() -> SequenceFamily:
    """A marked symbol among `max_size` random ones, asked for at the end of a long row."""
    marker, asking = 0, 1

    def sample(key: Array, max_size: int, size: Array) -> LabelledSequence:
        del size
        place_key, symbol_key = jax.random.split(key)
        symbols = jax.random.randint(symbol_key, (max_size + 1,), 2, 2 + _SYMBOLS)
        place = jax.random.randint(place_key, (), 0, max_size)
        index = jnp.arange(max_size + 2)
        # The marker is inserted before symbols[place].
        tokens = jnp.where(
            index < place, symbols[jnp.minimum(index, max_size)], symbols[jnp.clip(index - 1, 0, max_size)]
        )
        tokens = jnp.where(index == place, marker, tokens).at[-1].set(asking).astype(jnp.int32)
        targets = jnp.zeros(max_size + 2, jnp.int32).at[-1].set(symbols[place])
        return _ask_at_end(tokens, targets, 1)

    return SequenceFamily("needle", sample, lambda max_size: max_size + 2, 2 + _SYMBOLS)


def _ask_at_end(tokens: Array, targets: Array, num_queries: int) -> LabelledSequence:
    """A row whose last tokens are asked for."""
    num_tokens = len(tokens)
    weights = (jnp.arange(num_tokens) >= num_tokens - num_queries).astype(jnp.float32)
    return LabelledSequence(tokens, targets, weights, jnp.ones(num_tokens, jnp.int32))
