"""Partial attention: softmax over some of the keys, to be merged with softmax over others.

Within a step of `map_in_steps` heads precede tokens, which makes products over tokens several times faster on a CPU.

Axes: B rows, G key-value heads, R query heads that share each, T tokens, E dimensions of a head, N blocks of Q queries
that each see S keys.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import Pattern, is_visible
from thinking.types import Array


class TokenPositions(NamedTuple):
    """Positions and segments of tokens.

    Attributes:
        positions: [B or 1, ..., T] int32.
        segments: [B or 1, ..., T] int32; tokens see each other within a segment, and 0 or less is padding.
    """

    positions: Array
    segments: Array


class QKV(NamedTuple):
    """Queries, keys and values.

    Attributes:
        q: [B, T, G, R, E].
        k: [B, T, G, E]; transposed to heads before tokens step by step, as whole long rows do not fit the CPU's caches.
        v: [B, T, G, E].
        tokens: [B or 1, T].
    """

    q: Array
    k: Array
    v: Array
    tokens: TokenPositions


class PartialSoftmax(NamedTuple):
    """Unnormalized softmax over some of the keys; all float32.

    Attributes:
        weighted_values: [..., E] the values, weighted by exp(logit - max_logit).
        max_logit: [...] the highest logit, -inf where no key is visible; constant in gradients, as it cancels out.
        denominator: [...] the sum of the weights.
    """

    weighted_values: Array
    max_logit: Array
    denominator: Array


class BlockSizes(NamedTuple):
    """Block sizes of the computation. They affect time and memory, not results.

    Attributes:
        max_tokens_for_one_mask: rows of up to so many tokens are computed under one mask.
        chunk_size: number of queries that share their keys.
        max_pairs: maximum pairs of queries and keys at once, over all rows and heads.
    """

    max_tokens_for_one_mask: int = 128
    chunk_size: int = 64
    max_pairs: int = 2**20


MaskFn = Callable[[TokenPositions, TokenPositions], Array]
"""`mask_fn(queries [..., Q], keys [..., S]) -> [..., Q, S] bool`."""


def make_mask_fn(part: Pattern, earlier: tuple[Pattern, ...], causal: bool) -> MaskFn:
    """The pairs that a part of a pattern sees and no earlier part does; all of them go by positions."""

    def mask_fn(queries: TokenPositions, keys: TokenPositions) -> Array:
        query, key = queries.positions[..., :, None], keys.positions[..., None, :]
        segment = keys.segments[..., None, :]
        visible = (queries.segments[..., :, None] == segment) & (segment > 0) & is_visible(part, query, key)
        for other in earlier:
            visible &= ~is_visible(other, query, key)
        return visible & (key <= query) if causal else visible

    return mask_fn


def partial_softmax(q: Array, k: Array, v: Array, mask: Array) -> PartialSoftmax:
    """A partial softmax [B, G, N, R, Q] of blocks of queries, each over its own keys.

    Args:
        q: [B, G, N, R, Q, E].
        k: [B, G, N, S, E], as is `v`.
        v: the values.
        mask: [B or 1, G or 1, N, Q, S] bool, what each query sees.
    """
    logits = jnp.einsum("bgnrqe,bgnse->bgnrqs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    logits = jnp.where(mask[:, :, :, None], logits, -jnp.inf)
    max_logit = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
    weights = jnp.exp(logits - _finite(max_logit)[..., None])
    weighted_values = jnp.einsum("bgnrqs,bgnse->bgnrqe", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return PartialSoftmax(weighted_values, max_logit, jnp.sum(weights, axis=-1))


def merge(parts: list[PartialSoftmax]) -> PartialSoftmax:
    """One softmax over the keys of all parts."""
    max_logit = parts[0].max_logit
    for part in parts[1:]:
        max_logit = jnp.maximum(max_logit, part.max_logit)
    scales = [jnp.exp(part.max_logit - _finite(max_logit)) for part in parts]
    pairs = list(zip(parts, scales, strict=True))
    weighted_values = sum(part.weighted_values * scale[..., None] for part, scale in pairs)
    return PartialSoftmax(weighted_values, max_logit, sum(part.denominator * scale for part, scale in pairs))


def normalize(partial: PartialSoftmax) -> Array:
    """[..., E] the softmax-weighted values; zeros for a query that sees nothing."""
    return partial.weighted_values / jnp.where(partial.denominator > 0, partial.denominator, 1)[..., None]


def map_in_steps(
    attend: Callable[[Array, Array, TokenPositions], PartialSoftmax], rows: QKV, step_size: int, chunk: int
) -> PartialSoftmax:
    """A partial softmax [B, T, G, R], computed for `step_size` queries at a time to bound memory.

    Gradients recompute each step.

    Args:
        attend: `attend(start [], q [B, G, N, R, chunk, E], tokens [B or 1, N, chunk])`, a PartialSoftmax
            [B, G, N, R, chunk].
        rows: whose T is a multiple of `step_size`.
        step_size: a multiple of `chunk`.
        chunk: queries of a block.
    """

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(len(x), -1, step_size // chunk, chunk, *x.shape[2:]), 1, 0)

    def run_step(x: tuple[Array, Array, TokenPositions]) -> PartialSoftmax:
        start, q, tokens = x
        partial = attend(start, q.transpose(0, 3, 1, 4, 2, 5), tokens)
        return jax.tree.map(lambda x: jnp.moveaxis(x, (2, 4), (1, 2)), partial)

    steps = jnp.arange(0, rows.q.shape[1], step_size), cut(rows.q), jax.tree.map(cut, rows.tokens)
    if len(steps[0]) == 1:
        partial = jax.tree.map(lambda x: x[None], run_step(jax.tree.map(lambda x: x[0], steps)))
    else:
        partial = jax.lax.map(jax.checkpoint(run_step), steps)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[4:]), partial)


def compute_step_size(rows: QKV, keys: int, chunk: int, sizes: BlockSizes) -> int:
    """Queries per step, if each chunk sees so many keys; a multiple of the chunk."""
    heads, tokens = rows.q[:, 0, :, :, 0].size, rows.q.shape[1]
    max_chunks = max(1, sizes.max_pairs // (heads * keys * chunk))
    max_chunks = 1 << max_chunks.bit_length() - 1  # lengths are often multiples of a power of 2: no padding
    chunks = -(-tokens // chunk)
    return -(-chunks // -(-chunks // max_chunks)) * chunk  # even steps need little padding


def pad_rows(rows: QKV, multiple: int) -> QKV:
    """The rows, padded at the end to a multiple of so many tokens."""
    missing = -rows.k.shape[1] % multiple
    return jax.tree.map(lambda x: pad_axis(x, 1, 0, missing), rows)


def pad_axis(x: Array, axis: int, before: int, after: int) -> Array:
    """The array with zeros added before and after it along an axis."""
    if not before and not after:
        return x
    return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])


def take_first(partial: PartialSoftmax, num_tokens: int) -> PartialSoftmax:
    """The first tokens of [B, T, G, R]."""
    return jax.tree.map(lambda x: x[:, :num_tokens], partial)


def _finite(max_logit: Array) -> Array:
    return jnp.where(max_logit > -jnp.inf, max_logit, 0)
