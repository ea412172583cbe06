"""The hashed form of the table, for more possible questions than memory can hold.

A set-associative cache (as in processors): a key may stand in any of the `WAYS` places of one bucket, and every place
holds the whole key, so that a collision never answers with another key's value. A full bucket lets its lowest score go.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Context, Hypothesis, Kernel, Spaces, Transition, check_batch, check_query
from thinking.kernels.keys import encode_digits
from thinking.types import Array, Metrics

WAYS = 16
_EMPTY = -1


class HashedState(NamedTuple):
    """Buckets of full keys.

    Attributes:
        key: [buckets, WAYS, C + 1] int32, -1 where a place is empty.
        value: [buckets, WAYS] int32 or [buckets, WAYS, D] float32.
        score: [buckets, WAYS] float32, -inf where a place is empty.
    """

    key: Array
    value: Array
    score: Array


def hashed_table(spaces: Spaces, context_length: int, radices: tuple[int, ...], capacity: int) -> Kernel:
    """An exact kernel of bounded size; built by `table` when its keys are too many to index.

    What it still holds is exact. When a bucket is full, the lowest score of the bucket and the newcomer goes (of equal
    ones the newcomer). A capacity of at most `WAYS` is one bucket, so then the lowest score of all goes.

    Args:
        spaces: discrete input and target; any value.
        context_length: C.
        radices: how many digits each column of the key knows, the target's last.
        capacity: how many questions are held; rounded up to whole buckets.
    """
    ways = min(WAYS, capacity)
    buckets = math.ceil(capacity / ways)

    def question(context: Context, target: Array) -> tuple[Array, Array, Array]:
        check_query("table", spaces, context_length, context, target)
        key, legal = encode_digits(context, target, radices)
        return key, legal, _hash(key) % jnp.uint32(buckets)

    def init(key: Array) -> HashedState:
        del key  # an empty memory is always the same
        value = jnp.zeros((buckets, ways, *spaces.value.shape), spaces.value.dtype)
        keys = jnp.full((buckets, ways, len(radices)), _EMPTY, jnp.int32)
        return HashedState(keys, value, jnp.full((buckets, ways), -jnp.inf))

    def remember(state: HashedState, row: tuple[Array, ...]) -> tuple[HashedState, Array]:
        key, bucket, value, score, counts = row
        same = jnp.all(state.key[bucket] == key[None], axis=-1)
        # The place of this key, or else the worst place of the bucket: an empty one scores -inf.
        place = jnp.where(jnp.any(same), jnp.argmax(same), jnp.argmin(state.score[bucket]))
        better = counts & (score > state.score[bucket, place])
        bucket = jnp.where(better, bucket, buckets)  # out of bounds: nothing is written
        return HashedState(
            state.key.at[bucket, place].set(key, mode="drop"),
            state.value.at[bucket, place].set(value, mode="drop"),
            state.score.at[bucket, place].set(score, mode="drop"),
        ), better

    def fit(state: HashedState, batch: Transition) -> tuple[HashedState, Metrics]:
        check_batch("table", spaces, context_length, batch)
        key, legal, bucket = question(batch.context, batch.target)
        rows = (key, bucket, batch.value, batch.score, legal & (batch.mask > 0))
        # One by one, because which key is let go depends on the rows before.
        state, written = jax.lax.scan(remember, state, rows)
        return state, {"written": jnp.sum(written).astype(jnp.float32)}

    def infer(state: HashedState, context: Context, target: Array) -> Hypothesis:
        key, legal, bucket = question(context, target)
        same = jnp.all(state.key[bucket] == key[:, None], axis=-1) & legal[:, None]
        place = jnp.argmax(same, axis=-1)
        score = jnp.where(jnp.any(same, axis=-1), state.score[bucket, place], -jnp.inf)
        return Hypothesis(state.value[bucket, place], score)

    return Kernel(init, fit, infer, spaces, context_length)


def _hash(key: Array) -> Array:
    """[B, K] int32 to [B] uint32: multiply and mix each column in (the finalizer of MurmurHash3)."""
    mixed = jnp.zeros(key.shape[0], jnp.uint32)
    for column in range(key.shape[1]):
        mixed = mixed * jnp.uint32(0x9E3779B1) + key[:, column].astype(jnp.uint32)
        mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
        mixed = mixed ^ (mixed >> 16)
    return mixed
