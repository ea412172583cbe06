"""Attention and the blocks around it, against NumPy."""

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


WHEN = jnp.arange(TOKENS)[None]


def config(**options):
    return blocks.BlockConfig(**{"width": WIDTH, "num_heads": HEADS, **options})


def causally(query, key, value):
    return attention(query, key, value), None


def attend(query, key, value, mask):
    """Scaled dot-product attention, a query and a head at a time."""
    mixed = np.zeros(query.shape)
    for row, head, asks in itertools.product(range(ROWS), range(query.shape[2]), range(TOKENS)):
        seen = np.flatnonzero(mask[row, asks])
        logits = [query[row, asks, head] @ key[row, other, head] / np.sqrt(query.shape[-1]) for other in seen]
        weights = np.exp(logits) / np.sum(np.exp(logits))
        for weight, other in zip(weights, seen, strict=True):
            mixed[row, asks, head] += weight * value[row, other, head]
    return mixed


# Attention


@pytest.mark.parametrize("name", ["none", "rotary"])
def test_each_head_attends_with_its_own_share_of_the_width(name):
    position = getattr(positions, name)()
    module = nnx.jit(lambda: blocks.Attention(config(position=position), nnx.Rngs(0)))()
    tokens, mask = draw(0, ROWS, TOKENS, WIDTH), np.tril(np.ones((ROWS, TOKENS, TOKENS), bool))
    projected = np.asarray(tokens) @ np.asarray(module.qkv_proj.kernel[...])
    query, key, value = (part.reshape(ROWS, TOKENS, HEADS, 2) for part in np.split(projected, 3, axis=2))
    query, key = (np.asarray(position.rotate(jnp.asarray(part), WHEN)) for part in (query, key))
    mixed = attend(query, key, value, mask).reshape(ROWS, TOKENS, WIDTH)
    expected = mixed @ np.asarray(module.out_proj.kernel[...])
    output, _ = nnx.jit(lambda module, tokens: module(tokens, WHEN, causally))(module, tokens)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_heads_that_share_keys_ask_them_in_turn_and_hand_on_what_attention_hands_on():
    queries = []

    def attend(q, k, v):
        queries.append((q.shape, k.shape, v.shape))
        return jnp.repeat(v, 2, axis=2), "kept"

    module = nnx.jit(lambda: blocks.Attention(blocks.BlockConfig(8, 4, num_kv_heads=2), nnx.Rngs(0)))()
    handed_on = []

    @nnx.jit
    def read(module, tokens):
        output, aux = module(tokens, WHEN, attend)
        handed_on.append(aux)
        return output

    output = read(module, draw(0, ROWS, TOKENS, 8))
    assert queries == [((ROWS, TOKENS, 4, 2), (ROWS, TOKENS, 2, 2), (ROWS, TOKENS, 2, 2))]
    assert (output.shape, handed_on) == ((ROWS, TOKENS, 8), ["kept"])
    assert module.qkv_proj.kernel.shape == (8, (4 + 2 + 2) * 2)


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
def test_a_shape_that_no_block_can_have_is_refused_with_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        config(**options)
    assert "\n" not in str(refusal.value)


# Blocks


@pytest.fixture(scope="module")
def config_module():
    return nnx.jit(lambda: blocks.Block(config(dropout=0.5), nnx.Rngs(0)))()


@pytest.fixture
def block(config_module):
    return nnx.clone(config_module)


@nnx.jit
def read(block, tokens):
    return block(tokens, WHEN, causally)[0]


@nnx.jit
def read_with_dropout(block, tokens, key):
    return block(tokens, WHEN, causally, nnx.Rngs(dropout=key))[0]


def silence(linear):
    linear.kernel[...] = jnp.zeros_like(linear.kernel[...])


def test_the_feed_forward_part_is_a_rectified_layer_four_times_as_wide_between_two_linear_maps(block):
    module, tokens = block.feed_forward, draw(0, ROWS, TOKENS, WIDTH)
    module.up_proj.bias[...], module.down_proj.bias[...] = draw(1, 4 * WIDTH), draw(2, WIDTH)
    inside = np.asarray(tokens) @ np.asarray(module.up_proj.kernel[...]) + np.asarray(module.up_proj.bias[...])
    expected = np.maximum(inside, 0) @ np.asarray(module.down_proj.kernel[...]) + np.asarray(module.down_proj.bias[...])
    assert inside.shape[-1] == 4 * WIDTH
    np.testing.assert_allclose(nnx.jit(lambda module, x: module(x))(module, tokens), expected, atol=1e-5)


def test_a_gated_feed_forward_part_multiplies_its_inner_layer_by_a_gate():
    module = nnx.jit(lambda: blocks.FeedForward(config(gated=True, feed_forward=5), nnx.Rngs(0)))()
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    gate, up, down = (np.asarray(part.kernel[...]) for part in (module.gate_proj, module.up_proj, module.down_proj))
    opened = tokens @ gate / (1 + np.exp(-(tokens @ gate)))  # Shazeer 2020, equation 6
    output = nnx.jit(lambda module, tokens: module(tokens))(module, tokens)
    np.testing.assert_allclose(output, (opened * (tokens @ up)) @ down, atol=1e-5)
    assert config(width=96, gated=True).feed_forward_width == 256


def test_a_product_over_flat_rows_is_the_product_and_so_are_its_slopes():
    x, kernel = draw(0, ROWS, TOKENS, WIDTH), draw(1, WIDTH, 5)
    flat = jit(jax.value_and_grad(lambda x, kernel: jnp.sum(blocks.flat_dot(x, kernel, None) ** 2), (0, 1)))
    plain = jit(jax.value_and_grad(lambda x, kernel: jnp.sum(jnp.einsum("bcd,df->bcf", x, kernel) ** 2), (0, 1)))
    for one, other in zip(jax.tree.leaves(flat(x, kernel)), jax.tree.leaves(plain(x, kernel)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_block_adds_to_what_it_reads_so_that_without_its_last_maps_it_changes_nothing(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    assert not np.allclose(read(block, tokens), tokens, atol=1e-2)
    silence(block.attention.out_proj)
    silence(block.feed_forward.down_proj)
    assert np.array_equal(read(block, tokens), tokens)


@pytest.mark.parametrize("part", ["attention", "feed forward"])
def test_a_block_normalises_what_its_parts_read_but_not_what_it_passes_on(block, part):
    silence(block.feed_forward.down_proj if part == "attention" else block.attention.out_proj)
    tokens = 9 * draw(0, ROWS, TOKENS, WIDTH)
    output, output_of_larger = (np.asarray(read(block, x)) - x for x in (tokens, 5 * tokens))
    assert np.max(np.abs(output)) > 0.1
    np.testing.assert_allclose(output_of_larger, output, atol=1e-3)


def test_a_block_drops_only_where_it_is_given_randomness(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    plain = read(block, tokens)
    assert np.array_equal(read(block, tokens), plain)
    one, same, other = (read_with_dropout(block, tokens, jax.random.key(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(one, plain)
