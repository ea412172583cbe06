"""Sparse attention, compared with JAX's dense attention.

Axes: T tokens of one row, H heads, E dimensions of a head.
"""

from typing import Any

import jax

from thinking.benchmarks.config import MAX_TOP_K_TOKENS, AttentionConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.networks.attention.patterns import Pattern, TopK, Window
from thinking.networks.attention.sparse import attention

HEADS, SIZE = 4, 32


def measure_attention(config: AttentionConfig, setup: Setup) -> Measurement:
    """Milliseconds of a causal forward pass of one row in float32, sparse and dense."""
    del setup
    # Long rows first, as the memory of dense attention disturbs later timings.
    rows, shortest, window = [], None, Window(config.window)
    for length in config.long_sequence_lengths:
        nanoseconds = _measure_seconds(_sparse_attention(window), length) / length * 1e9
        shortest = shortest or nanoseconds
        rows.append(
            {
                "benchmark": f"attention, window {config.window}",
                "tokens": length,
                "ns_per_token": nanoseconds,
                "ns_per_token_over_shortest": nanoseconds / shortest,
            }
        )
    longest = max(length for length in config.long_sequence_lengths if length <= MAX_TOP_K_TOKENS)
    rows.append(_compare_with_dense(window, config.sequence_length))
    rows.append(_compare_with_dense(TopK(config.block_size, config.num_blocks), longest))
    return Measurement(rows)


def _compare_with_dense(pattern: Pattern, tokens: int) -> Row:
    sparse = _measure_seconds(_sparse_attention(pattern), tokens)
    dense = _measure_seconds(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True), tokens)
    return {
        "benchmark": f"attention, {pattern}",
        "tokens": tokens,
        "ms": sparse * 1e3,
        "dense_ms": dense * 1e3,
        "times_faster_than_dense": dense / sparse,
    }


def _sparse_attention(pattern: Pattern) -> Any:
    return lambda q, k, v: attention(q, k, v, pattern=pattern)


def _measure_seconds(function: Any, tokens: int) -> float:
    inputs = (jax.random.normal(key, (1, tokens, HEADS, SIZE)) for key in jax.random.split(jax.random.key(0), 3))
    return measure_best_seconds(jax.jit(function), *inputs)
