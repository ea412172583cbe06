"""Position encodings against their published formulas."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.networks import positions

ROWS, TOKENS, DIMS, HEADS = 2, 6, 8, 3
POSITIONS = np.arange(TOKENS, dtype=np.int32)[None]


def draw(*shape):
    return np.float32(np.random.default_rng(0).normal(size=shape))


def expected_sinusoids(position, dims):
    """Vaswani et al. 2017, section 3.5, with all sines before all cosines instead of alternating."""
    angles = [position / 10_000 ** (2 * i / dims) for i in range(dims // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def test_none_returns_its_inputs():
    position = positions.none()
    tokens, heads = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, HEADS, DIMS)
    assert position.add(tokens, POSITIONS, draw(ROWS, TOKENS, 2)) is tokens
    assert position.rotate(heads, POSITIONS) is heads


def test_sinusoidal_adds_sinusoids_of_positions_alone():
    position = positions.sinusoidal()
    tokens, heads = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, HEADS, DIMS)
    add = jit(position.add)
    encoded = add(tokens, POSITIONS, draw(ROWS, TOKENS, 2))
    expected = np.asarray([expected_sinusoids(position_index, DIMS) for position_index in range(TOKENS)])
    np.testing.assert_allclose(encoded, tokens + np.stack([expected] * ROWS), atol=1e-6)
    assert np.array_equal(add(tokens, POSITIONS, np.full((ROWS, TOKENS, 2), 7.0)), encoded)
    assert position.rotate(heads, POSITIONS) is heads


def test_rotary_rotates_pairs_of_dimensions_by_position():
    position, heads = positions.rotary(), draw(ROWS, TOKENS, HEADS, DIMS)
    rotated = np.asarray(jit(position.rotate)(heads, POSITIONS))
    # Su et al. 2021, section 3.2.2: each pair is a complex number, multiplied by exp(i m theta).
    for position_index, pair in itertools.product(range(TOKENS), range(DIMS // 2)):
        as_complex = heads[:, position_index, :, pair] + 1j * heads[:, position_index, :, pair + DIMS // 2]
        expected = as_complex * np.exp(1j * position_index * 10_000 ** (-2 * pair / DIMS))
        np.testing.assert_allclose(rotated[:, position_index, :, pair], expected.real, atol=1e-5)
        np.testing.assert_allclose(rotated[:, position_index, :, pair + DIMS // 2], expected.imag, atol=1e-5)
    tokens = draw(ROWS, TOKENS, DIMS)
    assert position.add(tokens, POSITIONS, draw(ROWS, TOKENS, 2)) is tokens


@pytest.mark.parametrize("name", ["sinusoidal", "rotary"])
def test_positions_may_differ_between_rows(name):
    position = getattr(positions, name)()
    encode = (
        (lambda x, token_positions: position.add(x, token_positions, x[..., :1]))
        if name == "sinusoidal"
        else position.rotate
    )
    inputs = draw(1, TOKENS, DIMS) if name == "sinusoidal" else draw(1, TOKENS, HEADS, DIMS)
    expected = jit(encode)(inputs, POSITIONS)
    split_positions = np.stack([POSITIONS[0, :3], POSITIONS[0, 3:]])
    actual = jit(encode)(np.concatenate([inputs[:, :3], inputs[:, 3:]]), split_positions)
    np.testing.assert_allclose(np.concatenate(list(actual)), expected[0], atol=1e-6)


def test_learned_leaves_tokens_unchanged():
    position, tokens, heads = positions.learned(5), draw(1, 3, DIMS), draw(1, 3, HEADS, DIMS)
    assert position.num_learned == 5
    assert position.add(tokens, POSITIONS[:, :3], tokens) is tokens
    assert position.rotate(heads, POSITIONS[:, :3]) is heads
    with pytest.raises(ValueError, match=r"num_positions 0 .*at least 1"):
        positions.learned(0)


def test_rotary_inner_products_depend_on_distance_alone():
    query, key = draw(2, DIMS)
    repeated = np.broadcast_to(np.stack([query, key]), (1, TOKENS, 2, DIMS))
    rotated = np.asarray(jit(positions.rotary().rotate)(repeated, POSITIONS))[0]
    products = rotated[:, 0] @ rotated[:, 1].T
    by_distance = {}
    for query_index, key_index in itertools.product(range(TOKENS), repeat=2):
        by_distance.setdefault(query_index - key_index, []).append(products[query_index, key_index])
    assert max(np.ptp(products_of_distance) for products_of_distance in by_distance.values()) < 1e-4
    distinct_products = sorted(products_of_distance[0] for products_of_distance in by_distance.values())
    assert min(np.diff(distinct_products)) > 1e-3  # every signed distance gives another product


def test_rotary_in_bfloat16_depends_on_distance_alone_at_any_position():
    """What remains is the rounding of the rotated vectors, 2^-9 of each element."""
    size, starts = 32, np.arange(0, 40_000, 1000, dtype=np.int32)
    query, key = np.random.default_rng(1).normal(size=(2, size))
    query, key = query / np.linalg.norm(query), key / np.linalg.norm(key)
    heads = np.broadcast_to(np.stack([query, key]), (len(starts), 2, size))[:, :, None].astype(jnp.bfloat16)
    token_positions = np.stack([starts + 5, starts], axis=1)
    rotated = np.asarray(jit(positions.rotary().rotate)(heads, token_positions).astype(np.float32))
    assert jit(positions.rotary().rotate)(heads, token_positions).dtype == jnp.bfloat16
    norms = np.linalg.norm(rotated[:, :, 0], axis=2)
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), atol=2e-3)
    products = np.sum(rotated[:, 0, 0] * rotated[:, 1, 0], axis=1)
    assert np.ptp(products) < 4e-3


@pytest.mark.parametrize("name", ["sinusoidal", "location", "orthogonal"])
def test_added_encodings_round_only_the_sum(name):
    tokens, coordinates = draw(1, TOKENS, DIMS).astype(jnp.bfloat16), POSITIONS[..., None]
    add = jit(getattr(positions, name)().add)
    exact = np.asarray(add(np.float32(tokens), POSITIONS, coordinates))
    rounded = add(tokens, POSITIONS, coordinates)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(rounded), np.float32(exact.astype(jnp.bfloat16)))


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_location_adds_sinusoids_of_every_coordinate(scale):
    tokens, coordinates = draw(ROWS, TOKENS, DIMS), 3 * draw(ROWS, TOKENS, 2)
    encoded = np.asarray(jit(positions.location(scale).add)(tokens, POSITIONS, coordinates))
    for row, token in itertools.product(range(ROWS), range(TOKENS)):
        # Each coordinate's sinusoids are rolled by another offset.
        sinusoids_and_offsets = [
            (expected_sinusoids(scale * float(x), DIMS), k * DIMS // 2) for k, x in enumerate(coordinates[row, token])
        ]
        sinusoids = [np.roll(sinusoid, offset) for sinusoid, offset in sinusoids_and_offsets]
        np.testing.assert_allclose(encoded[row, token] - tokens[row, token], np.sum(sinusoids, axis=0), atol=1e-5)


def test_location_depends_on_coordinates_alone():
    position, permutation = positions.location(), np.asarray([3, 0, 5, 1, 4, 2])
    add = jit(position.add)
    tokens, coordinates = draw(ROWS, TOKENS, DIMS), draw(ROWS, TOKENS, 2)
    encoded = np.asarray(add(tokens, POSITIONS, coordinates))
    np.testing.assert_allclose(
        add(tokens[:, permutation], POSITIONS, coordinates[:, permutation]), encoded[:, permutation], rtol=1e-6
    )
    shifted = np.asarray(add(tokens, POSITIONS, coordinates + 1))
    assert np.all(np.any(np.abs(shifted - encoded) > 1e-3, axis=2))
    heads = draw(ROWS, TOKENS, HEADS, DIMS)
    assert position.rotate(heads, POSITIONS) is heads


def test_location_accepts_integer_coordinates():
    tokens, coordinates = np.zeros((1, 3, DIMS), np.float32), np.asarray([[[7], [0], [7]]], np.int32)
    encoded = jit(positions.location().add)(tokens, POSITIONS[:, :3], coordinates)
    np.testing.assert_allclose(
        encoded[0], [expected_sinusoids(7, DIMS), expected_sinusoids(0, DIMS), expected_sinusoids(7, DIMS)], atol=1e-6
    )


def test_orthogonal_maps_integers_to_orthonormal_vectors():
    coordinates = np.arange(DIMS, dtype=np.int32).reshape(1, DIMS, 1)
    tokens, token_positions = np.zeros((1, DIMS, DIMS), np.float32), np.arange(DIMS)[None]
    position = positions.orthogonal()
    add = jit(position.add)
    vectors = np.asarray(add(tokens, token_positions, coordinates))[0]
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(DIMS), atol=1e-5)
    shifted_vectors = np.asarray(add(tokens, token_positions, coordinates + 100))[0]  # for large coordinates too
    np.testing.assert_allclose(shifted_vectors @ shifted_vectors.T, np.eye(DIMS), atol=1e-4)
    heads = draw(1, DIMS, HEADS, DIMS)
    assert position.rotate(heads, token_positions) is heads


def test_orthogonal_distinguishes_coordinates_and_ignores_positions():
    add = jit(positions.orthogonal().add)
    tokens, coordinates = draw(1, 2, DIMS), np.asarray([[[1, 2], [2, 1]]], np.int32)
    encoded = np.asarray(add(tokens, POSITIONS[:, :2], coordinates)) - tokens
    assert np.abs(encoded[0, 0] - encoded[0, 1]).max() > 0.1
    np.testing.assert_array_equal(np.asarray(add(tokens, POSITIONS[:, 2:4], coordinates)) - tokens, encoded)


@pytest.mark.parametrize(
    "encode",
    [
        lambda: positions.sinusoidal().add(draw(1, 2, 7), POSITIONS[:, :2], draw(1, 2, 1)),
        lambda: positions.location().add(draw(1, 2, 7), POSITIONS[:, :2], draw(1, 2, 1)),
        lambda: positions.orthogonal().add(draw(1, 2, 7), POSITIONS[:, :2], draw(1, 2, 1)),
        lambda: positions.rotary().rotate(draw(1, 2, 1, 7), POSITIONS[:, :2]),
    ],
    ids=["sinusoidal", "location", "orthogonal", "rotary"],
)
def test_odd_dimensions_are_rejected(encode):
    with pytest.raises(ValueError, match=r"7 dimensions.*even") as error:
        encode()
    assert "\n" not in str(error.value)
