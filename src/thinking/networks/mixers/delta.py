"""The gated delta rule with several steps a token (DeltaProduct, Siems et al. 2025; Gated DeltaNet, Yang et al. 2025).

The state is a matrix S of each head. A token first shrinks it by a gate g in (0, 1), then for each of R keys k (of
length 1) moves what S stores under k towards a value v: S <- S + beta k (v - S^T k)^T. With beta in (0, 2) the factor I
- beta k k^T has an eigenvalue in (-1, 1), so at 2 it is a reflection; two reflections make a rotation, which a state
needs to follow groups such as A5 (Grazzi et al. 2025).

A row is computed in chunks: within a chunk all tokens at once by the WY form (Yang et al. 2024), the state from chunk
to chunk.

Axes: B rows, C tokens, H heads, R steps a token, E dimensions of a head, N chunks, L tokens of a chunk, M = L R.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.networks.triangular import solve_unit_lower
from thinking.types import Array

CHUNK_SIZE = 32
"""M, rows of a chunk's triangular system."""


def delta(num_steps: int = 2) -> Mixer:
    """A gated delta rule; its state is [B, H, E, E] float32.

    Args:
        num_steps: R, reflections of a token.

    Raises:
        ValueError: if it is not 1 to `CHUNK_SIZE`.
    """
    if not 1 <= num_steps <= CHUNK_SIZE:
        raise ValueError(f"delta: num_steps {num_steps} is out of range; give 1 to {CHUNK_SIZE}")

    def init_state(config: BlockConfig, rows: int) -> Array:
        size = config.width // config.num_heads
        return jnp.zeros((rows, config.num_heads, size, size), jnp.float32)

    return Mixer("delta", lambda config, rngs: _Delta(num_steps, config, rngs), init_state)


class DeltaInputs(NamedTuple):
    """What a token does to the state, and asks of it.

    Attributes:
        query: [B, C, H, E], of length 1.
        key: [B, C, H, R, E], of length 1.
        value: [B, C, H, R, E].
        beta: [B, C, H, R] in [0, 2]; 0 changes nothing.
        log_gate: [B, C, H] <= 0; 0 forgets nothing.
        is_start: [B, C] bool, tokens before which the state becomes 0.
    """

    query: Array
    key: Array
    value: Array
    beta: Array
    log_gate: Array
    is_start: Array


class _Delta(nnx.Module):
    def __init__(self, num_steps: int, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width, self.num_heads, self.num_steps = config.width, config.num_heads, num_steps
        self.head_dim = width // config.num_heads
        self.query_proj = linear_layer(width, width, config, rngs)
        self.key_proj = linear_layer(width, num_steps * width, config, rngs)
        self.value_proj = linear_layer(width, num_steps * width, config, rngs)
        self.gate_proj = linear_layer(width, (1 + num_steps) * config.num_heads, config, rngs, bias=True)
        self.norm = nnx.RMSNorm(self.head_dim, dtype=config.dtype, rngs=rngs)
        self.out_proj = linear_layer(width, width, config, rngs)

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions
        state, output = scan_chunks(self._read(x_BxCxD, inputs), inputs.state)
        output = self.norm(output.astype(x_BxCxD.dtype))
        return self.out_proj(output.reshape(x_BxCxD.shape)), RecurrentOutput(state)

    def _read(self, x: Array, inputs: RecurrentInputs) -> DeltaInputs:
        rows, tokens = x.shape[:2]
        query = self.query_proj(x).astype(jnp.float32).reshape(rows, tokens, self.num_heads, self.head_dim)
        steps = rows, tokens, self.num_heads, self.num_steps, self.head_dim
        key, value = (proj(x).astype(jnp.float32).reshape(steps) for proj in (self.key_proj, self.value_proj))
        gates = self.gate_proj(x).astype(jnp.float32).reshape(rows, tokens, self.num_heads, -1)
        is_valid = inputs.is_valid[:, :, None]
        beta = jnp.where(is_valid[..., None], 2 * jax.nn.sigmoid(gates[..., 1:]), 0.0)
        # Gates near 1 at first: 0.98 a token.
        log_gate = jnp.where(is_valid, jax.nn.log_sigmoid(gates[..., 0] + 4.0), 0.0)
        return DeltaInputs(_normalize(query), _normalize(key), value, beta, log_gate, inputs.is_start & inputs.is_valid)


def scan_tokens(inputs: DeltaInputs, state: Array) -> tuple[Array, Array]:
    """The rule, token by token: the last state [B, H, E, E], and what the queries read [B, C, H, E]."""

    def advance(state: Array, token: DeltaInputs) -> tuple[Array, Array]:
        state = jnp.where(token.is_start[:, None, None, None], 0.0, state) * jnp.exp(token.log_gate)[..., None, None]
        for step in range(token.key.shape[2]):
            key, value = token.key[:, :, step], token.value[:, :, step]
            error = value - jnp.einsum("bhkv,bhk->bhv", state, key)
            state = state + token.beta[:, :, step, None, None] * key[..., :, None] * error[..., None, :]
        return state, jnp.einsum("bhkv,bhk->bhv", state, token.query)

    state, output = jax.lax.scan(advance, state, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), inputs))
    return state, output.swapaxes(0, 1)


def scan_chunks(inputs: DeltaInputs, state: Array) -> tuple[Array, Array]:
    """The same as `scan_tokens`, in chunks.

    Within a chunk, u = beta (v - what the state holds under k) of all M steps solves a unit lower triangular system,
    whose matrix does not depend on the state. So the systems of all chunks are solved at once.
    """
    num_steps = inputs.key.shape[3]
    num_tokens = inputs.query.shape[1]
    size = min(num_tokens, CHUNK_SIZE // num_steps)
    query, key, value, beta, log_gate, is_start = _split_chunks(inputs, size)

    # [N, B, H, L] and [N, B, 1, L], and with M for L at the steps of a token, which share its gate.
    log_decay = jnp.cumsum(log_gate, axis=-1)
    segment = jnp.cumsum(is_start, axis=-1)  # texts within a chunk; the state belongs to segment 0
    step_decay, step_segment = (jnp.repeat(x, num_steps, axis=-1) for x in (log_decay, segment))

    def decay_between(later: Array, earlier: Array, later_segment: Array, earlier_segment: Array) -> Array:
        same = later_segment[..., :, None] == earlier_segment[..., None, :]
        return jnp.where(same, jnp.exp(jnp.minimum(later[..., :, None] - earlier[..., None, :], 0.0)), 0.0)

    # The system is [N, B, H, M, M]. Its solution is update - state_coefficients @ state, both [N, B, H, M, E].
    products = jnp.einsum("nbhik,nbhjk->nbhij", key, key)
    system = products * decay_between(step_decay, step_decay, step_segment, step_segment) * beta[..., None]
    system = jnp.tril(system, -1)
    from_state = jnp.where(step_segment == 0, jnp.exp(step_decay), 0.0)
    rhs = jnp.concatenate([beta[..., None] * value, (beta * from_state)[..., None] * key], axis=-1)
    solved = solve_unit_lower(system, rhs)
    update, state_coefficients = jnp.split(solved, 2, axis=-1)

    # [N, B, H, L, M], what each token reads of each step; then [N, B, H, L, E], [N, B, H, M, E] and [N, B, H, 1, 1].
    index = jnp.arange(size)
    is_before = jnp.repeat(index, num_steps)[None] <= index[:, None]
    weights = jnp.einsum("nbhik,nbhjk->nbhij", query, key) * decay_between(log_decay, step_decay, segment, step_segment)
    weights = jnp.where(is_before, weights, 0.0)
    decayed_query = jnp.where(segment == 0, jnp.exp(log_decay), 0.0)[..., None] * query
    last_decay, last_segment = step_decay[..., -1:], step_segment[..., -1:]
    key_decay = jnp.where(step_segment == last_segment, jnp.exp(last_decay - step_decay), 0.0)
    key_decayed_to_chunk_end = key_decay[..., None] * key
    state_decay_to_chunk_end = jnp.where(last_segment == 0, jnp.exp(last_decay), 0.0)[..., None]

    def advance(state: Array, chunk: tuple[Array, ...]) -> tuple[Array, Array]:
        update, state_coefficients, weights, decayed_query, key_decayed_to_chunk_end, state_decay_to_chunk_end = chunk
        change = update - state_coefficients @ state  # [B, H, M, E]
        output = weights @ change + decayed_query @ state
        return state_decay_to_chunk_end * state + key_decayed_to_chunk_end.swapaxes(-1, -2) @ change, output

    chunks = update, state_coefficients, weights, decayed_query, key_decayed_to_chunk_end, state_decay_to_chunk_end
    state, output = jax.lax.scan(advance, state, chunks)
    # [N, B, H, L, E] as [B, N L, H, E]
    output = output.transpose(1, 0, 3, 2, 4).reshape(output.shape[1], -1, *output.shape[2:3], output.shape[4])
    return state, output[:, :num_tokens]


def _split_chunks(inputs: DeltaInputs, size: int) -> tuple[Array, ...]:
    """Query [N, B, H, L, E], key and value [N, B, H, M, E], beta [N, B, H, M], gates [N, B, H, L], starts [N, B, 1, L].

    Padding changes nothing.
    """
    rows, num_tokens = inputs.query.shape[:2]

    def split(leaf: Array) -> Array:
        padded = jnp.pad(leaf, ((0, 0), (0, -num_tokens % size)) + ((0, 0),) * (leaf.ndim - 2))
        return padded.reshape(rows, -1, size, *leaf.shape[2:]).swapaxes(0, 1)

    query, key, value, beta, log_gate, is_start = (split(leaf) for leaf in inputs)
    key, value = (x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], x.shape[3], -1, x.shape[5]) for x in (key, value))
    beta = beta.transpose(0, 1, 3, 2, 4).reshape(*beta.shape[:2], beta.shape[3], -1)
    return query.swapaxes(2, 3), key, value, beta, log_gate.swapaxes(2, 3), is_start[:, :, None]


def _normalize(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
