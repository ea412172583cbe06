"""Position encodings against their published formulae."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.networks import positions

ROWS, TOKENS, DIMS, HEADS = 2, 6, 8, 3
WHEN = np.arange(TOKENS, dtype=np.int32)[None]


def draw(*shape):
    return np.float32(np.random.default_rng(0).normal(size=shape))


def vaswani(position, dims):
    """Attention Is All You Need, section 3.5; here the sines stand before the cosines instead of between them."""
    angles = [position / 10_000 ** (2 * i / dims) for i in range(dims // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def test_none_changes_nothing():
    position = positions.none()
    tokens, heads = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, HEADS, DIMS)
    assert position.add(tokens, WHEN, draw(ROWS, TOKENS, 2)) is tokens
    assert position.rotate(heads, WHEN) is heads


def test_sinusoidal_adds_the_waves_of_when_to_every_row_and_looks_not_where():
    position = positions.sinusoidal()
    tokens, heads = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, HEADS, DIMS)
    add = jit(position.add)
    encoded = add(tokens, WHEN, draw(ROWS, TOKENS, 2))
    expected = np.asarray([vaswani(when, DIMS) for when in range(TOKENS)])
    np.testing.assert_allclose(encoded, tokens + np.stack([expected] * ROWS), atol=1e-6)
    assert np.array_equal(add(tokens, WHEN, np.full((ROWS, TOKENS, 2), 7.0)), encoded)
    assert position.rotate(heads, WHEN) is heads


def test_rotary_turns_pairs_of_dimensions_by_angles_that_grow_with_when():
    position, heads = positions.rotary(), draw(ROWS, TOKENS, HEADS, DIMS)
    turned = np.asarray(jit(position.rotate)(heads, WHEN))
    # Su et al. 2021, section 3.2.2: each pair is a complex number, multiplied by exp(i m theta).
    for when, pair in itertools.product(range(TOKENS), range(DIMS // 2)):
        number = heads[:, when, :, pair] + 1j * heads[:, when, :, pair + DIMS // 2]
        expected = number * np.exp(1j * when * 10_000 ** (-2 * pair / DIMS))
        np.testing.assert_allclose(turned[:, when, :, pair], expected.real, atol=1e-5)
        np.testing.assert_allclose(turned[:, when, :, pair + DIMS // 2], expected.imag, atol=1e-5)
    tokens = draw(ROWS, TOKENS, DIMS)
    assert position.add(tokens, WHEN, draw(ROWS, TOKENS, 2)) is tokens


@pytest.mark.parametrize("name", ["sinusoidal", "rotary"])
def test_each_row_may_count_for_itself(name):
    position = getattr(positions, name)()
    encode = (lambda x, when: position.add(x, when, x[..., :1])) if name == "sinusoidal" else position.rotate
    given = draw(1, TOKENS, DIMS) if name == "sinusoidal" else draw(1, TOKENS, HEADS, DIMS)
    whole = jit(encode)(given, WHEN)
    later = np.stack([WHEN[0, :3], WHEN[0, 3:]])
    parts = jit(encode)(np.concatenate([given[:, :3], given[:, 3:]]), later)
    np.testing.assert_allclose(np.concatenate(list(parts)), whole[0], atol=1e-6)


def test_learned_positions_leave_tokens_to_whoever_holds_the_vectors():
    position, tokens, heads = positions.learned(5), draw(1, 3, DIMS), draw(1, 3, HEADS, DIMS)
    assert position.num_learned == 5
    assert position.add(tokens, WHEN[:, :3], tokens) is tokens
    assert position.rotate(heads, WHEN[:, :3]) is heads
    with pytest.raises(ValueError, match=r"num_positions 0 .*at least 1"):
        positions.learned(0)


def test_inner_products_after_rotary_depend_on_the_distance_and_on_nothing_else():
    query, key = draw(2, DIMS)
    repeated = np.broadcast_to(np.stack([query, key]), (1, TOKENS, 2, DIMS))
    turned = np.asarray(jit(positions.rotary().rotate)(repeated, WHEN))[0]
    product = turned[:, 0] @ turned[:, 1].T
    by_distance = {}
    for one, other in itertools.product(range(TOKENS), repeat=2):
        by_distance.setdefault(one - other, []).append(product[one, other])
    assert max(np.ptp(same) for same in by_distance.values()) < 1e-4
    levels = sorted(same[0] for same in by_distance.values())
    assert min(np.diff(levels)) > 1e-3  # and every distance, forward or back, gives another product


def test_in_bfloat16_a_distance_counts_alike_at_any_position():
    """What remains is the rounding of the rotated vectors, 2^-9 of each element."""
    size, starts = 32, np.arange(0, 40_000, 1000, dtype=np.int32)
    query, key = np.random.default_rng(1).normal(size=(2, size))
    query, key = query / np.linalg.norm(query), key / np.linalg.norm(key)
    heads = np.broadcast_to(np.stack([query, key]), (len(starts), 2, size))[:, :, None].astype(jnp.bfloat16)
    where = np.stack([starts + 5, starts], axis=1)
    turned = np.asarray(jit(positions.rotary().rotate)(heads, where).astype(np.float32))
    assert jit(positions.rotary().rotate)(heads, where).dtype == jnp.bfloat16
    norms = np.linalg.norm(turned[:, :, 0], axis=2)
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), atol=2e-3)
    products = np.sum(turned[:, 0, 0] * turned[:, 1, 0], axis=1)
    assert np.ptp(products) < 4e-3


@pytest.mark.parametrize("add", ["sinusoidal", "location", "orthogonal"])
def test_encodings_that_add_round_the_sum_alone(add):
    tokens, where = draw(1, TOKENS, DIMS).astype(jnp.bfloat16), np.arange(TOKENS, dtype=np.int32)[None, :, None]
    encode = jit(getattr(positions, add)().add)
    exact = np.asarray(encode(np.float32(tokens), WHEN, where))
    rounded = encode(tokens, WHEN, where)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(rounded), np.float32(exact.astype(jnp.bfloat16)))


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_location_adds_the_waves_of_every_coordinate_of_where(scale):
    tokens, where = draw(ROWS, TOKENS, DIMS), 3 * draw(ROWS, TOKENS, 2)
    encoded = np.asarray(jit(positions.location(scale).add)(tokens, WHEN, where))
    for row, token in itertools.product(range(ROWS), range(TOKENS)):
        # Each coordinate's begin at another place of the width.
        starts = [(vaswani(scale * float(x), DIMS), k * DIMS // 2) for k, x in enumerate(where[row, token])]
        waves = [np.roll(wave, start) for wave, start in starts]
        np.testing.assert_allclose(encoded[row, token] - tokens[row, token], np.sum(waves, axis=0), atol=1e-5)


def test_location_depends_on_coordinates_and_not_on_positions():
    position, order = positions.location(), np.asarray([3, 0, 5, 1, 4, 2])
    add = jit(position.add)
    tokens, where = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, 2)
    encoded = np.asarray(add(tokens, WHEN, where))
    np.testing.assert_allclose(add(tokens[:, order], WHEN, where[:, order]), encoded[:, order], rtol=1e-6)
    elsewhere = np.asarray(add(tokens, WHEN, where + 1))
    assert np.all(np.any(np.abs(elsewhere - encoded) > 1e-3, axis=2))
    heads = draw(ROWS, TOKENS, HEADS, DIMS)
    assert position.rotate(heads, WHEN) is heads


def test_location_reads_whole_numbers_as_places_on_a_line():
    tokens, where = np.zeros((1, 3, DIMS), np.float32), np.asarray([[[7], [0], [7]]], np.int32)
    encoded = jit(positions.location().add)(tokens, WHEN[:, :3], where)
    np.testing.assert_allclose(encoded[0], [vaswani(7, DIMS), vaswani(0, DIMS), vaswani(7, DIMS)], atol=1e-6)


def test_orthogonal_gives_whole_numbers_vectors_of_length_one_at_right_angles():
    where = np.arange(DIMS, dtype=np.int32).reshape(1, DIMS, 1)
    tokens, when = np.zeros((1, DIMS, DIMS), np.float32), np.arange(DIMS)[None]
    position = positions.orthogonal()
    add = jit(position.add)
    vectors = np.asarray(add(tokens, when, where))[0]
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(DIMS), atol=1e-5)
    later = np.asarray(add(tokens, when, where + 100))[0]  # at any places, however high
    np.testing.assert_allclose(later @ later.T, np.eye(DIMS), atol=1e-4)
    heads = draw(1, DIMS, HEADS, DIMS)
    assert position.rotate(heads, when) is heads


def test_orthogonal_tells_coordinates_apart_and_not_positions():
    add = jit(positions.orthogonal().add)
    tokens, where = draw(1, 2, DIMS), np.asarray([[[1, 2], [2, 1]]], np.int32)
    encoded = np.asarray(add(tokens, WHEN[:, :2], where)) - tokens
    assert np.abs(encoded[0, 0] - encoded[0, 1]).max() > 0.1
    np.testing.assert_array_equal(np.asarray(add(tokens, WHEN[:, 2:4], where)) - tokens, encoded)


@pytest.mark.parametrize(
    "encode",
    [
        lambda: positions.sinusoidal().add(draw(1, 2, 7), WHEN[:, :2], draw(1, 2, 1)),
        lambda: positions.location().add(draw(1, 2, 7), WHEN[:, :2], draw(1, 2, 1)),
        lambda: positions.orthogonal().add(draw(1, 2, 7), WHEN[:, :2], draw(1, 2, 1)),
        lambda: positions.rotary().rotate(draw(1, 2, 1, 7), WHEN[:, :2]),
    ],
    ids=["sinusoidal", "location", "orthogonal", "rotary"],
)
def test_sinusoids_need_an_even_number_of_dimensions(encode):
    with pytest.raises(ValueError, match=r"7 dimensions.*even") as refusal:
        encode()
    assert "\n" not in str(refusal.value)
