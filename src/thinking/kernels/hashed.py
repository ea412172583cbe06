"""The hashed table, for more possible queries than fit in memory.

A set-associative cache (as in processors): a key may be in any of the `WAYS` entries of one bucket, and every entry
stores the whole key, so a collision never returns another key's value. A full bucket evicts its lowest score.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Context, Hypothesis, Kernel, Spaces, Transition, checked_kernel
from thinking.kernels.keys import encode_digits
from thinking.types import Array, Metrics

WAYS = 16
_EMPTY = -1


class HashedState(NamedTuple):
    """Buckets of full keys.

    Attributes:
        key: [buckets, WAYS, C + 1] int32, -1 for an empty entry.
        value: [buckets, WAYS] int32 or [buckets, WAYS, D] float32.
        score: [buckets, WAYS] float32, -inf for an empty entry.
    """

    key: Array
    value: Array
    score: Array


def hashed_table(spaces: Spaces, context_length: int, radices: tuple[int, ...], capacity: int) -> Kernel:
    """An exact kernel of bounded size; built by `table` when there are too many keys to index.

    What it stores is exact. A full bucket drops the lowest score among its entries and the new one (of ties the new
    one). A capacity of at most `WAYS` is a single bucket.

    Args:
        spaces: discrete input and target; any value.
        context_length: C.
        radices: number of values of each key column, as of `keys.encode_digits`; the target's last.
        capacity: number of entries; rounded up to whole buckets.
    """
    ways = min(WAYS, capacity)
    buckets = math.ceil(capacity / ways)

    def to_key(context: Context, target: Array) -> tuple[Array, Array]:
        key = encode_digits(context, target, radices)
        return key, _hash(key) % jnp.uint32(buckets)

    def init(key: Array) -> HashedState:
        del key  # an empty table is always the same
        value = jnp.zeros((buckets, ways, *spaces.value.shape), spaces.value.dtype)
        keys = jnp.full((buckets, ways, len(radices)), _EMPTY, jnp.int32)
        return HashedState(keys, value, jnp.full((buckets, ways), -jnp.inf))

    def insert(state: HashedState, row: tuple[Array, ...]) -> tuple[HashedState, Array]:
        key, bucket, value, score, is_used = row
        is_same_key = jnp.all(state.key[bucket] == key[None], axis=-1)
        # The entry of this key, or else the worst of the bucket: an empty one scores -inf.
        entry = jnp.where(jnp.any(is_same_key), jnp.argmax(is_same_key), jnp.argmin(state.score[bucket]))
        is_better = is_used & (score > state.score[bucket, entry])
        bucket = jnp.where(is_better, bucket, buckets)  # out of bounds: nothing is written
        return HashedState(
            state.key.at[bucket, entry].set(key, mode="drop"),
            state.value.at[bucket, entry].set(value, mode="drop"),
            state.score.at[bucket, entry].set(score, mode="drop"),
        ), is_better

    def fit(state: HashedState, batch: Transition) -> tuple[HashedState, Metrics]:
        key, bucket = to_key(batch.context, batch.target)
        rows = (key, bucket, batch.value, batch.score, batch.mask > 0)
        # Sequentially, as which entry is evicted depends on earlier rows.
        state, is_written = jax.lax.scan(insert, state, rows)
        return state, {"num_written": jnp.sum(is_written).astype(jnp.float32)}

    def infer(state: HashedState, context: Context, target: Array) -> Hypothesis:
        key, bucket = to_key(context, target)
        is_same_key = jnp.all(state.key[bucket] == key[:, None], axis=-1)
        entry = jnp.argmax(is_same_key, axis=-1)
        score = jnp.where(jnp.any(is_same_key, axis=-1), state.score[bucket, entry], -jnp.inf)
        return Hypothesis(state.value[bucket, entry], score)

    return checked_kernel("table", init, fit, infer, spaces, context_length)


def _hash(key: Array) -> Array:
    """[B, K] int32 to [B] uint32: mixes in each column (the finalizer of MurmurHash3)."""
    mixed = jnp.zeros(key.shape[0], jnp.uint32)
    for column in range(key.shape[1]):
        mixed = mixed * jnp.uint32(0x9E3779B1) + key[:, column].astype(jnp.uint32)
        mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
        mixed = mixed ^ (mixed >> 16)
    return mixed
