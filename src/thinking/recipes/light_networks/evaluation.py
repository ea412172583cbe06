"""Accuracy by size, and what a network costs.

Axes: B rows, T tokens.
"""

import functools
import time

import jax
import jax.numpy as jnp

from thinking.environments.sequences import Sequence
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

_NUM_GENERATED = 32


def compute_accuracy(network: Decoder, params: Params, rows: Sequence) -> float:
    """The share of right labels: of those asked for, or of the last ones where each token has one."""
    weights = rows.weights
    if bool(jnp.all(weights == 1)):
        weights = weights.at[:, :-1].set(0.0)
    return float(_compute_weighted_accuracy(network, params, rows._replace(weights=weights)))


@functools.partial(jax.jit, static_argnums=0)
def _compute_weighted_accuracy(network: Decoder, params: Params, rows: Sequence) -> Array:
    def check_row(row: Sequence) -> Array:
        logits = network.apply(params, row.tokens[None], segments=row.segments[None]).logits[0]
        return jnp.sum(row.weights * (jnp.argmax(logits, axis=-1) == row.targets))

    # A few rows at a time, as long rows need much memory.
    return jnp.sum(jax.lax.map(check_row, rows, batch_size=32)) / jnp.sum(rows.weights)


def count_state_bytes(network: Decoder, num_tokens: int) -> int:
    """Bytes that a row of so many tokens leaves in memory for the next one."""
    cache = jax.eval_shape(lambda: network.init_cache(1, num_tokens))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache.layers))


def measure_generation(network: Decoder, params: Params, num_tokens: int, rows: int = 8) -> float:
    """Tokens a second when rows of `num_tokens` tokens go on token by token, after a first, unmeasured time."""
    capacity = min(num_tokens + _NUM_GENERATED, network.context_length)
    prompt = jnp.zeros((rows, max(1, capacity - _NUM_GENERATED)), jnp.int32)

    def generate(params: Params) -> Array:
        _, cache = network.extend(params, network.init_cache(rows, capacity), prompt)

        def advance(carry: tuple, _: None) -> tuple[tuple, None]:
            cache, token = carry
            output, cache = network.extend(params, cache, token)
            return (cache, jnp.argmax(output.logits, axis=-1).astype(jnp.int32)), None

        return jax.lax.scan(advance, (cache, prompt[:, :1]), length=_NUM_GENERATED)[0][1]

    run = jax.jit(generate)
    jax.block_until_ready(run(params))
    start = time.perf_counter()
    jax.block_until_ready(run(params))
    return rows * _NUM_GENERATED / (time.perf_counter() - start)
