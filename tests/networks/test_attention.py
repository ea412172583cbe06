"""Attention against loops over pairs, and in time and memory against what its patterns promise."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit
from tests.networks import brute

from thinking.networks.attention import sparse as module
from thinking.networks.attention.partials import Sizes
from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window
from thinking.networks.attention.reference import dense_mask, masked_attention
from thinking.networks.attention.sparse import attention, sparse_attention

B, T, H, G, E = 3, 37, 4, 2, 8
SMALL = Sizes(short=0, chunk=4, pairs=1024)  # several steps of several chunks, and none divides T
SEGMENTS = np.int32([[1] * T, [0] * 5 + [1] * 12 + [2] * 20, [1] * 9 + [3] * 9 + [0] * 3 + [7] * 10 + [0] * 6])
PATTERNS = [
    Dense(),
    Window(1),
    Window(6),
    Strided(3),
    Strided(5, 3),
    Global(3),
    TopK(4, 3),
    Window(3) | Strided(4, 3),
    TopK(4, 3) | Global(2) | Window(5),
]
each_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
each_direction = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both ways"])


def draw(seed, *heads, tokens=T, rows=B):
    generator = np.random.default_rng(seed)
    return [np.float32(generator.normal(size=(rows, tokens, count, E))) for count in heads]


attend = jit(attention, static_argnames="pattern")


def with_gradients(attend):
    def both(q, k, v, pull, *others):
        mixed, back = jax.vjp(lambda q, k, v: attend(q, k, v, *others), q, k, v)
        return mixed, *back(pull)

    return jit(both)


masked = with_gradients(masked_attention)


@functools.cache
def sparse(pattern, causal):
    return with_gradients(lambda q, k, v, segments: sparse_attention(q, k, v, pattern, causal, segments, SMALL))


@each_pattern
@each_direction
def test_values_and_gradients_are_those_of_all_pairs_that_the_pattern_keeps(pattern, causal):
    q, k, v, pull = draw(0, H, G, G, H)
    mask = brute.mask(pattern, q, k, causal, SEGMENTS)
    output = sparse(pattern, causal)(q, k, v, pull, SEGMENTS)
    np.testing.assert_allclose(output[0], brute.attention(q, k, v, mask), atol=1e-5)
    for one, other in zip(output, masked(q, k, v, pull, mask), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    padding = SEGMENTS == 0
    assert all(not np.any(np.asarray(one)[padding]) for one in output)  # zeros, in the gradients too


@each_pattern
@each_direction
def test_the_mask_of_short_rows_is_that_of_the_pattern(pattern, causal):
    q, k = draw(1, H, G)
    output = jit(lambda q, k, segments: dense_mask(pattern, q, k, causal, segments))(q, k, SEGMENTS)
    assert np.array_equal(np.broadcast_to(output, (B, G, T, T)), brute.mask(pattern, q, k, causal, SEGMENTS))


@given(seed=st.integers(0, 1000), segments=st.lists(st.integers(0, 3), min_size=B * T, max_size=B * T))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_any_mixture_of_segments(seed, segments):
    pattern, segments = PATTERNS[-1], np.int32(segments).reshape(B, T)
    q, k, v, pull = draw(seed, H, G, G, H)
    mask = brute.mask(pattern, q, k, True, segments)
    for one, other in zip(sparse(pattern, True)(q, k, v, pull, segments), masked(q, k, v, pull, mask), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("pattern", [Dense(), Window(40), TopK(16, 4) | Window(8)], ids=str)
def test_long_rows_are_not_computed_as_short_ones_are_but_agree(pattern):
    q, k, v = draw(2, H, G, G, tokens=150, rows=1)
    mask = jit(lambda q, k: dense_mask(pattern, q, k, True, None))(q, k)
    output = jit(functools.partial(attention, pattern=pattern))(q, k, v)
    np.testing.assert_allclose(output, jit(masked_attention)(q, k, v, mask), atol=1e-5)
    if not isinstance(pattern, Dense | Window):
        return
    window = (pattern.size - 1, 0) if isinstance(pattern, Window) else None
    library = functools.partial(jax.nn.dot_product_attention, is_causal=True, local_window_size=window)
    np.testing.assert_allclose(output, jit(library)(q, k, v), atol=1e-5)


@pytest.mark.parametrize(
    "pattern", [Window(99), Strided(1), Strided(2, 99) | Window(99), Global(99), TopK(99, 1)], ids=str
)
def test_a_pattern_larger_than_the_row_sees_all_of_it(pattern):
    q, k, v = draw(3, H, G, G)
    assert np.array_equal(attend(q, k, v, pattern=pattern), attend(q, k, v))


def test_a_stride_beyond_the_row_leaves_the_own_place():
    q, k, v = draw(3, H, G, G)
    np.testing.assert_allclose(attend(q, k, v, pattern=Strided(10**6)), np.repeat(v, H // G, axis=2), atol=1e-6)


def test_segments_packed_in_one_row_are_as_if_each_had_its_own():
    q, k, v = draw(4, H, G, G, rows=2, tokens=16)
    packed = [x.reshape(1, 32, -1, E) for x in (q, k, v)]
    segments = np.repeat(np.int32([[5, 2]]), 16, axis=1)
    alone = np.asarray(attend(q, k, v, pattern=Window(5)))
    together = np.asarray(attend(*packed, pattern=Window(5), segments=segments))
    np.testing.assert_allclose(together.reshape(alone.shape), alone, atol=1e-6)


@pytest.mark.parametrize("tokens", [8, 130])
def test_a_row_of_padding_gives_zeros_and_no_gradient(tokens):
    q, k, v = draw(5, H, G, G, rows=2, tokens=tokens)
    segments = np.int32(np.arange(tokens) < np.array([[0], [2]]))
    gradients = jit(
        jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v, pattern=Window(3), segments=segments) ** 2), (0, 1, 2))
    )
    assert not np.any(np.asarray(attend(q, k, v, pattern=Window(3), segments=segments))[0])
    for gradient in map(np.asarray, gradients(100 * q, k, v)):
        assert np.all(np.isfinite(gradient))
        assert not np.any(gradient[0])
        assert not np.any(gradient[1, 2:])


@pytest.mark.parametrize("tokens", [8, 130])
def test_half_precision_is_kept_outside_and_not_used_for_the_softmax(tokens):
    q, k, v = draw(6, H, G, G, rows=1, tokens=tokens)
    # Logits of about 300 +- 1: in bfloat16 they would be apart by multiples of 2.
    k = k / 8 + 8
    half = [jnp.bfloat16(x) for x in (q + 13, k, v)]
    output = attend(*half, pattern=Window(6))
    assert output.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(output), attend(*map(np.float32, half), pattern=Window(6)), atol=0.03)


def test_memory_grows_with_the_pairs_kept():
    def held(tokens, pattern):
        shape = jax.ShapeDtypeStruct((1, tokens, 1, E), jnp.float32)
        loss = jit(jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v, pattern=pattern)), (0, 1, 2)))
        return loss.lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    for pattern in (Window(64), TopK(64, 4)):
        half, whole = held(2**14, pattern), held(2**15, pattern)
        assert whole < 2.2 * half
        assert whole < 2**30 * 4 / 50  # the logits of all pairs are 4 GiB


@pytest.mark.parametrize(("pattern", "window"), [(Dense(), None), (Window(40), (39, 0))], ids=str)
def test_a_gpu_gets_cudnn_where_that_computes_the_same(pattern, window, monkeypatch):
    calls, library = [], jax.nn.dot_product_attention

    def recorded(*arrays, implementation, **options):
        calls.append((implementation, options["local_window_size"]))
        return library(*arrays, **options)

    q, k, v = (jnp.bfloat16(x) for x in draw(7, H, G, G, rows=1, tokens=150))
    expected = attend(q, k, v, pattern=pattern)
    monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(module.jax.nn, "dot_product_attention", recorded)
    output = jit(lambda q, k, v: attention(q, k, v, pattern=pattern))(q, k, v)
    assert calls == [("cudnn", window)]
    np.testing.assert_allclose(np.float32(output), np.float32(expected), atol=0.03)


NARROW = np.zeros((2, 3, 4, 8), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": NARROW[0]}, r"q has shape \(3, 4, 8\); give \[rows, tokens, heads, size\]"),
        ({"k": NARROW[:, :2]}, r"shapes .*; only the heads of q may differ"),
        ({"v": NARROW[:, :, :2]}, r"shapes .*; only the heads of q may differ"),
        ({"k": NARROW[:, :, :3], "v": NARROW[:, :, :3]}, r"3 heads of keys do not divide 4 heads; take a divisor of 4"),
        ({"k": NARROW[:, :, :0], "v": NARROW[:, :, :0]}, r"0 heads of keys do not divide 4"),
        (dict.fromkeys("qkv", NARROW[:0]), r"shape \(0, 3, 4, 8\); give at least 1 row"),
        (dict.fromkeys("qkv", NARROW[:, :0]), r"shape \(2, 0, 4, 8\); give at least 1 row, token"),
        ({"q": NARROW.astype(np.int32)}, r"q is int32.*; give all in one float dtype"),
        ({"k": NARROW.astype(np.float16)}, r"k is float16 and q is float32; give all in one float dtype"),
        (
            {"segments": np.zeros((2, 4), np.int32)},
            r"segments are int32 \(2, 4\); give whole numbers of shape \(2, 3\)",
        ),
        ({"segments": np.zeros((2, 3), np.float32)}, r"segments are float32 .*; give whole numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change, message):
    given_ = {"q": NARROW, "k": NARROW, "v": NARROW} | change
    options = {name: given_.pop(name) for name in ("pattern", "segments") if name in given_}
    for attend in (attention, jax.jit(attention, static_argnames="pattern")):
        with pytest.raises(ValueError, match=message) as refusal:
            attend(given_["q"], given_["k"], given_["v"], **options)
        assert "\n" not in str(refusal.value)


def test_heads_of_a_group_read_the_same_keys():
    q, k, v = draw(8, H, G, G)
    output = np.asarray(attend(q, k, v, pattern=Window(4)))
    for h, other in itertools.product(range(H), range(G)):
        alone = np.asarray(attend(q[:, :, [h]], k[:, :, [other]], v[:, :, [other]], pattern=Window(4)))
        assert np.allclose(alone[:, :, 0], output[:, :, h], atol=1e-6) == (other == h // (H // G))
