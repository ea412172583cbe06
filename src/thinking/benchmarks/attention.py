"""What sparse attention saves, against dense attention as JAX itself computes it.

Axes: T tokens of one row, H heads, E dimensions of a head.
"""

from collections.abc import Sequence
from typing import Any

import jax

from thinking.experiment.device import best_seconds
from thinking.networks.attention.patterns import Pattern, TopK, Window
from thinking.networks.attention.sparse import attention

Row = dict[str, Any]
HEADS, SIZE = 4, 32


def measure_attention(*, window: int, tokens: int, long_tokens: Sequence[int], block: int, blocks: int) -> list[Row]:
    """Milliseconds of a forward pass of one row, float32, causal; sparse and dense beside each other.

    Args:
        window: of the windowed pattern.
        tokens: T, at which the window is compared with dense attention.
        long_tokens: lengths at which the window alone is timed; the last one of those up to 16,384 is where the blocks
            by content are compared with dense attention.
        block: tokens of a block of the pattern that goes by content.
        blocks: which each block of queries picks.
    """
    # The long rows come first: what dense attention holds disturbs whatever is timed behind it.
    rows, shortest = [], None
    for length in long_tokens:
        nanoseconds = _seconds(_sparse(Window(window)), length) / length * 1e9
        shortest = shortest or nanoseconds
        rows.append(
            {
                "measured": f"attention, window {window}",
                "tokens": length,
                "ns_per_token": nanoseconds,
                "ns_per_token_over_shortest": nanoseconds / shortest,
            }
        )
    rows.append(_against_dense(Window(window), tokens))
    rows.append(_against_dense(TopK(block, blocks), max(length for length in long_tokens if length <= 2**14)))
    return rows


def _against_dense(pattern: Pattern, tokens: int) -> Row:
    sparse = _seconds(_sparse(pattern), tokens)
    dense = _seconds(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True), tokens)
    return {
        "measured": f"attention, {pattern}",
        "tokens": tokens,
        "ms": sparse * 1e3,
        "dense_ms": dense * 1e3,
        "times_faster_than_dense": dense / sparse,
    }


def _sparse(pattern: Pattern) -> Any:
    return lambda q, k, v: attention(q, k, v, pattern=pattern)


def _seconds(function: Any, tokens: int) -> float:
    inputs = (jax.random.normal(key, (1, tokens, HEADS, SIZE)) for key in jax.random.split(jax.random.key(0), 3))
    return best_seconds(jax.jit(function), *inputs)
