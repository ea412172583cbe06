"""Attention and blocks against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.kernels.quick import jit

from thinking.networks import blocks, positions
from thinking.networks.attention.sparse import attention

ROWS, TOKENS, WIDTH, HEADS = 2, 4, 6, 3


def draw(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


POSITIONS = jnp.arange(TOKENS)[None]


def config(**options):
    return blocks.BlockConfig(**{"width": WIDTH, "num_heads": HEADS, **options})


def causal_attention(query, key, value):
    return attention(query, key, value), None


def attend_in_python(query, key, value, mask):
    """Scaled dot-product attention, one query and one head at a time."""
    output = np.zeros(query.shape)
    for row, head, query_index in itertools.product(range(ROWS), range(query.shape[2]), range(TOKENS)):
        visible = np.flatnonzero(mask[row, query_index])
        logits = [
            query[row, query_index, head] @ key[row, key_index, head] / np.sqrt(query.shape[-1])
            for key_index in visible
        ]
        weights = np.exp(logits) / np.sum(np.exp(logits))
        for weight, key_index in zip(weights, visible, strict=True):
            output[row, query_index, head] += weight * value[row, key_index, head]
    return output


# Attention


@pytest.mark.parametrize("name", ["none", "rotary"])
def test_attention_matches_numpy_reference(name):
    position = getattr(positions, name)()
    module = nnx.jit(lambda: blocks.Attention(config(position=position), nnx.Rngs(0)))()
    tokens, mask = draw(0, ROWS, TOKENS, WIDTH), np.tril(np.ones((ROWS, TOKENS, TOKENS), bool))
    projected = np.asarray(tokens) @ np.asarray(module.qkv_proj.kernel[...])
    query, key, value = (part.reshape(ROWS, TOKENS, HEADS, 2) for part in np.split(projected, 3, axis=2))
    query, key = (np.asarray(position.rotate(jnp.asarray(part), POSITIONS)) for part in (query, key))
    attention_output = attend_in_python(query, key, value, mask).reshape(ROWS, TOKENS, WIDTH)
    expected = attention_output @ np.asarray(module.out_proj.kernel[...])
    output, _ = nnx.jit(lambda module, tokens: module(tokens, POSITIONS, causal_attention))(module, tokens)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_grouped_attention_splits_heads_and_returns_aux():
    shapes = []

    def attend(q, k, v):
        shapes.append((q.shape, k.shape, v.shape))
        return jnp.repeat(v, 2, axis=2), "kept"

    module = nnx.jit(lambda: blocks.Attention(blocks.BlockConfig(8, 4, num_kv_heads=2), nnx.Rngs(0)))()
    aux_outputs = []

    @nnx.jit
    def apply_attention(module, tokens):
        output, aux = module(tokens, POSITIONS, attend)
        aux_outputs.append(aux)
        return output

    output = apply_attention(module, draw(0, ROWS, TOKENS, 8))
    assert shapes == [((ROWS, TOKENS, 4, 2), (ROWS, TOKENS, 2, 2), (ROWS, TOKENS, 2, 2))]
    assert (output.shape, aux_outputs) == ((ROWS, TOKENS, 8), ["kept"])
    assert module.qkv_proj.kernel.shape == (8, (4 + 2 + 2) * 2)


def test_all_heads_may_share_one_key():
    assert config(num_kv_heads=1).num_kv_heads == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads 0 .*width 6.*divisor of 6"),
        ({"num_heads": 4}, "num_heads 4 .*width 6.*divisor of 6"),
        ({"num_kv_heads": 2}, "num_kv_heads 2 .*num_heads 3.*divisor of 3"),
        ({"feed_forward": 0}, "feed_forward 0 .*at least 1"),
        ({"dropout": 1.0}, "dropout 1.0.*0 to below 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_invalid_block_configs_are_rejected_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        config(**options)
    assert "\n" not in str(error.value)


# Blocks


@pytest.fixture(scope="module")
def shared_block():
    return nnx.jit(lambda: blocks.Block(config(dropout=0.5), nnx.Rngs(0)))()


@pytest.fixture
def block(shared_block):
    return nnx.clone(shared_block)


@nnx.jit
def apply_block(block, tokens):
    return block(tokens, POSITIONS, causal_attention)[0]


@nnx.jit
def apply_block_with_dropout(block, tokens, key):
    return block(tokens, POSITIONS, causal_attention, nnx.Rngs(dropout=key))[0]


def zero_kernel(linear):
    linear.kernel[...] = jnp.zeros_like(linear.kernel[...])


def test_feed_forward_matches_numpy_reference(block):
    module, tokens = block.feed_forward, draw(0, ROWS, TOKENS, WIDTH)
    module.up_proj.bias[...], module.down_proj.bias[...] = draw(1, 4 * WIDTH), draw(2, WIDTH)
    hidden = np.asarray(tokens) @ np.asarray(module.up_proj.kernel[...]) + np.asarray(module.up_proj.bias[...])
    expected = np.maximum(hidden, 0) @ np.asarray(module.down_proj.kernel[...]) + np.asarray(module.down_proj.bias[...])
    assert hidden.shape[-1] == 4 * WIDTH
    np.testing.assert_allclose(nnx.jit(lambda module, x: module(x))(module, tokens), expected, atol=1e-5)


def test_gated_feed_forward_matches_numpy_reference():
    module = nnx.jit(lambda: blocks.FeedForward(config(gated=True, feed_forward=5), nnx.Rngs(0)))()
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    gate, up, down = (np.asarray(part.kernel[...]) for part in (module.gate_proj, module.up_proj, module.down_proj))
    gate_activations = tokens @ gate / (1 + np.exp(-(tokens @ gate)))  # Shazeer 2020, equation 6
    output = nnx.jit(lambda module, tokens: module(tokens))(module, tokens)
    np.testing.assert_allclose(output, (gate_activations * (tokens @ up)) @ down, atol=1e-5)
    assert config(width=96, gated=True).feed_forward_width == 256


def test_flat_dot_and_its_gradients_match_einsum():
    x, kernel = draw(0, ROWS, TOKENS, WIDTH), draw(1, WIDTH, 5)
    flat_dot_grad = jit(jax.value_and_grad(lambda x, kernel: jnp.sum(blocks.flat_dot(x, kernel, None) ** 2), (0, 1)))
    einsum_grad = jit(jax.value_and_grad(lambda x, kernel: jnp.sum(jnp.einsum("bcd,df->bcf", x, kernel) ** 2), (0, 1)))
    for actual, expected in zip(
        jax.tree.leaves(flat_dot_grad(x, kernel)), jax.tree.leaves(einsum_grad(x, kernel)), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_block_is_the_identity_with_zero_output_projections(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    assert not np.allclose(apply_block(block, tokens), tokens, atol=1e-2)
    zero_kernel(block.mixer.out_proj)
    zero_kernel(block.feed_forward.down_proj)
    assert np.array_equal(apply_block(block, tokens), tokens)


@pytest.mark.parametrize("part", ["attention", "feed forward"])
def test_block_normalises_the_inputs_of_its_parts_alone(block, part):
    zero_kernel(block.feed_forward.down_proj if part == "attention" else block.mixer.out_proj)
    tokens = 9 * draw(0, ROWS, TOKENS, WIDTH)
    residual, residual_of_scaled = (np.asarray(apply_block(block, x)) - x for x in (tokens, 5 * tokens))
    assert np.max(np.abs(residual)) > 0.1
    np.testing.assert_allclose(residual_of_scaled, residual, atol=1e-3)


def test_block_adds_to_its_inputs_what_its_parts_make_of_them(block):
    @nnx.jit
    def compose(block, tokens):
        mixed, _ = block.mixer(block.mixer_norm(tokens), POSITIONS, causal_attention)
        return mixed, block.feed_forward(block.feed_forward_norm(tokens + mixed))

    tokens = draw(0, ROWS, TOKENS, WIDTH)
    mixed, transformed = compose(block, tokens)
    np.testing.assert_allclose(apply_block(block, tokens), tokens + mixed + transformed, atol=1e-5)


def test_dropout_needs_rngs(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    deterministic = apply_block(block, tokens)
    assert np.array_equal(apply_block(block, tokens), deterministic)
    sample, same_key_sample, other_key_sample = (
        apply_block_with_dropout(block, tokens, jax.random.key(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(sample, same_key_sample)
    assert not np.allclose(sample, other_key_sample)
    assert not np.allclose(sample, deterministic)
