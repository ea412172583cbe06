"""Attention and the blocks around it, against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.kernels.quick import jit

from thinking.networks import blocks, positions

ROWS, TOKENS, WIDTH, HEADS = 2, 4, 6, 3


def draw(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


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

attends = jit(blocks.attend)


def test_attention_mixes_the_values_of_the_keys_that_the_mask_allows():
    query, key, value = (np.float64(draw(seed, ROWS, TOKENS, HEADS, 2)) for seed in range(3))
    mask = np.random.default_rng(3).random((ROWS, TOKENS, TOKENS)) < 0.5
    mask[0, 1] = False  # nothing is allowed here, so nothing is mixed
    mask[1] = True
    mixed = attends(*map(np.float32, (query, key, value)), mask)
    np.testing.assert_allclose(mixed, attend(query, key, value, mask), atol=1e-5)
    assert np.all(np.asarray(mixed)[0, 1] == 0)


def test_attention_of_queries_that_may_see_nothing_has_finite_slopes():
    def total(query):
        return jnp.sum(blocks.attend(query, query, query, jnp.zeros((ROWS, TOKENS, TOKENS), bool)))

    assert np.all(np.asarray(jit(jax.grad(total))(draw(0, ROWS, TOKENS, HEADS, 2))) == 0)


def test_attention_holds_logits_beyond_what_exp_can_take():
    query = 1e3 * draw(0, ROWS, TOKENS, HEADS, 2)
    mixed = attends(query, query, draw(1, ROWS, TOKENS, HEADS, 2), np.ones((ROWS, TOKENS, TOKENS), bool))
    assert np.all(np.isfinite(mixed))


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_a_token_sees_itself_and_the_valid_ones_before_it_within_the_window(window):
    valid = np.asarray([[False, False, True, True, True], [True] * 5])
    mask = blocks.causal_window(jnp.asarray(valid), window)
    for row, token, other in itertools.product(range(2), range(5), range(5)):
        assert mask[row, token, other] == (valid[row, other] and token - window < other <= token)


@pytest.mark.parametrize("name", ["none", "rotary"])
def test_each_head_attends_with_its_own_share_of_the_width(name):
    position = getattr(positions, name)()
    module = nnx.jit(lambda: blocks.Attention(WIDTH, HEADS, position, nnx.Rngs(0)))()
    tokens, mask = draw(0, ROWS, TOKENS, WIDTH), np.tril(np.ones((ROWS, TOKENS, TOKENS), bool))
    projected = np.asarray(tokens) @ np.asarray(module.project_in.kernel[...])
    query, key, value = (part.reshape(ROWS, TOKENS, HEADS, 2) for part in np.split(projected, 3, axis=2))
    query, key = (np.asarray(position.rotate(jnp.asarray(part))) for part in (query, key))
    mixed = attend(query, key, value, mask).reshape(ROWS, TOKENS, WIDTH)
    expected = mixed @ np.asarray(module.project_out.kernel[...])
    np.testing.assert_allclose(nnx.jit(lambda module, *x: module(*x))(module, tokens, mask), expected, atol=1e-5)


@pytest.mark.parametrize("heads", [0, 4])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(ValueError, match=f"heads {heads} .*width 6.*divisor of 6") as refusal:
        blocks.Attention(WIDTH, heads, positions.none(), nnx.Rngs(0))
    assert "\n" not in str(refusal.value)


# Blocks

TO_ALL = jnp.ones((ROWS, TOKENS, TOKENS), bool)


@pytest.fixture(scope="module")
def made():
    return nnx.jit(lambda: blocks.Block(WIDTH, HEADS, positions.rotary(), 0.5, nnx.Rngs(0)))()


@pytest.fixture
def block(made):
    return nnx.clone(made)


@nnx.jit
def read(block, tokens):
    return block(tokens, TO_ALL, None)


@nnx.jit
def read_with_dropout(block, tokens, key):
    return block(tokens, TO_ALL, nnx.Rngs(dropout=key))


def silence(linear):
    linear.kernel[...] = jnp.zeros_like(linear.kernel[...])


def test_the_feed_forward_part_is_a_rectified_layer_four_times_as_wide_between_two_linear_maps(block):
    module, tokens = block.feed_forward, draw(0, ROWS, TOKENS, WIDTH)
    module.widen.bias[...], module.narrow.bias[...] = draw(1, 4 * WIDTH), draw(2, WIDTH)
    inside = np.asarray(tokens) @ np.asarray(module.widen.kernel[...]) + np.asarray(module.widen.bias[...])
    expected = np.maximum(inside, 0) @ np.asarray(module.narrow.kernel[...]) + np.asarray(module.narrow.bias[...])
    assert inside.shape[-1] == 4 * WIDTH
    np.testing.assert_allclose(nnx.jit(lambda module, x: module(x))(module, tokens), expected, atol=1e-5)


def test_a_block_adds_to_what_it_reads_so_that_without_its_last_maps_it_changes_nothing(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    assert not np.allclose(read(block, tokens), tokens, atol=1e-2)
    silence(block.attention.project_out)
    silence(block.feed_forward.narrow)
    assert np.array_equal(read(block, tokens), tokens)


@pytest.mark.parametrize("part", ["attention", "feed forward"])
def test_a_block_normalises_what_its_parts_read_but_not_what_it_passes_on(block, part):
    silence(block.feed_forward.narrow if part == "attention" else block.attention.project_out)
    tokens = 9 * draw(0, ROWS, TOKENS, WIDTH)
    said, said_of_larger = read(block, tokens) - tokens, read(block, 5 * tokens) - 5 * tokens
    assert np.max(np.abs(np.asarray(said))) > 0.1
    np.testing.assert_allclose(said_of_larger, said, atol=1e-3)


def test_a_block_drops_only_where_it_is_given_randomness(block):
    tokens = draw(0, ROWS, TOKENS, WIDTH)
    plain = read(block, tokens)
    assert np.array_equal(read(block, tokens), plain)
    one, same, other = (read_with_dropout(block, tokens, jax.random.key(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
    assert not np.allclose(one, plain)
