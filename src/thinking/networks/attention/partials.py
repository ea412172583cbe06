"""Attention in parts: softmax over some of the keys, to be merged with softmax over others.

Within a step heads stand before tokens, as products over tokens are then several times faster on a CPU.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head, N blocks of Q queries
that look at S keys each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import Pattern, is_visible
from thinking.types import Array


class Tokens(NamedTuple):
    """Where tokens stand, and which of them belong together.

    Attributes:
        positions: [B or 1, ..., T] int32.
        segments: [B or 1, ..., T] int32; tokens see each other within a segment, and what is not above 0 is padding.
    """

    positions: Array
    segments: Array


class Rows(NamedTuple):
    """What attends and what is attended to.

    Attributes:
        q: [B, T, G, R, E].
        k: [B, T, G, E]; turned to heads before tokens step by step, as whole long rows would leave the caches.
        v: [B, T, G, E].
        tokens: [B or 1, T].
    """

    q: Array
    k: Array
    v: Array
    tokens: Tokens


class Partial(NamedTuple):
    """Softmax over some of the keys, not yet divided by its total; all float32.

    Attributes:
        mixed: [..., E] the values, weighted by exp(logit - peak).
        peak: [...] the highest logit, -inf where no key is seen; constant in gradients, as it cancels out.
        total: [...] the sum of the weights.
    """

    mixed: Array
    peak: Array
    total: Array


class Sizes(NamedTuple):
    """How the work is cut up. Results do not depend on it, but time and memory do.

    Attributes:
        short: rows of up to so many tokens are computed under one mask.
        chunk: queries that look at the same keys.
        pairs: of queries and keys, over all rows and heads, that are held at once.
    """

    short: int = 128
    chunk: int = 64
    pairs: int = 2**20


MaskFn = Callable[[Tokens, Tokens], Array]
"""`allowed(queries [..., Q], keys [..., S]) -> [..., Q, S] bool`."""


def make_mask_fn(part: Pattern, earlier: tuple[Pattern, ...], causal: bool) -> MaskFn:
    """Which pairs a part of a pattern sees that no earlier one does; all of them go by places."""

    def allowed(queries: Tokens, keys: Tokens) -> Array:
        query, key = queries.positions[..., :, None], keys.positions[..., None, :]
        segment = keys.segments[..., None, :]
        found = (queries.segments[..., :, None] == segment) & (segment > 0) & is_visible(part, query, key)
        for other in earlier:
            found &= ~is_visible(other, query, key)
        return found & (key <= query) if causal else found

    return allowed


def weigh(q: Array, k: Array, v: Array, mask: Array) -> Partial:
    """Blocks of queries look at keys, each at its own.

    Args:
        q: [B, G, N, R, Q, E].
        k: [B, G, N, S, E].
        v: [B, G, N, S, E].
        mask: [B or 1, G or 1, N, Q, S] bool, what each query sees.

    Returns:
        A partial softmax [B, G, N, R, Q].
    """
    logits = jnp.einsum("bgnrqe,bgnse->bgnrqs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    logits = jnp.where(mask[:, :, :, None], logits, -jnp.inf)
    peak = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
    weights = jnp.exp(logits - _finite(peak)[..., None])
    mixed = jnp.einsum("bgnrqs,bgnse->bgnrqe", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return Partial(mixed, peak, jnp.sum(weights, axis=-1))


def merge(parts: list[Partial]) -> Partial:
    """One softmax over the keys of all parts."""
    peak = parts[0].peak
    for part in parts[1:]:
        peak = jnp.maximum(peak, part.peak)
    scales = [jnp.exp(part.peak - _finite(peak)) for part in parts]
    pairs = list(zip(parts, scales, strict=True))
    mixed = sum(part.mixed * scale[..., None] for part, scale in pairs)
    return Partial(mixed, peak, sum(part.total * scale for part, scale in pairs))


def finish(partial: Partial) -> Array:
    """[..., E] the softmax-weighted values; zeros for what saw nothing."""
    return partial.mixed / jnp.where(partial.total > 0, partial.total, 1)[..., None]


def map_in_steps(look: Callable[[Array, Array, Tokens], Partial], rows: Rows, step_size: int, chunk: int) -> Partial:
    """Queries, `step_size` at a time, so that no more is held at once; gradients compute each step again.

    Args:
        look: `look(start [], q [B, G, N, R, chunk, E], tokens [B or 1, N, chunk]) -> Partial [B, G, N, R, chunk]`.
        rows: whose T is a multiple of the step.
        step_size: queries at a time.
        chunk: of which the step is a multiple.

    Returns:
        A partial softmax [B, T, G, R].
    """

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(len(x), -1, step_size // chunk, chunk, *x.shape[2:]), 1, 0)

    def one(x: tuple[Array, Array, Tokens]) -> Partial:
        start, q, tokens = x
        found = look(start, q.transpose(0, 3, 1, 4, 2, 5), tokens)
        return jax.tree.map(lambda x: jnp.moveaxis(x, (2, 4), (1, 2)), found)

    each = jnp.arange(0, rows.q.shape[1], step_size), cut(rows.q), jax.tree.map(cut, rows.tokens)
    if len(each[0]) == 1:
        found = jax.tree.map(lambda x: x[None], one(jax.tree.map(lambda x: x[0], each)))
    else:
        found = jax.lax.map(jax.checkpoint(one), each)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[4:]), found)


def compute_step_size(rows: Rows, keys: int, chunk: int, sizes: Sizes) -> int:
    """How many queries to take at a time if each chunk of them looks at so many keys; a multiple of the chunk."""
    heads, tokens = rows.q[:, 0, :, :, 0].size, rows.q.shape[1]
    most = max(1, sizes.pairs // (heads * keys * chunk))
    most = 1 << most.bit_length() - 1  # a power of 2, as lengths often are multiples of one and need no padding then
    chunks = -(-tokens // chunk)
    return -(-chunks // -(-chunks // most)) * chunk  # as even as it goes, so that little is padded


def pad_rows(rows: Rows, multiple: int) -> Rows:
    """The rows with padding behind, up to a multiple of so many tokens."""
    missing = -rows.k.shape[1] % multiple
    return jax.tree.map(lambda x: pad_axis(x, 1, 0, missing), rows)


def pad_axis(x: Array, axis: int, before: int, behind: int) -> Array:
    """The array with so many zeros before and behind along an axis."""
    if not before and not behind:
        return x
    return jnp.pad(x, [(before, behind) if i == axis else (0, 0) for i in range(x.ndim)])


def take_first(partial: Partial, num_tokens: int) -> Partial:
    """Of [B, T, G, R] the first tokens."""
    return jax.tree.map(lambda x: x[:, :num_tokens], partial)


def _finite(peak: Array) -> Array:
    return jnp.where(peak > -jnp.inf, peak, 0)
