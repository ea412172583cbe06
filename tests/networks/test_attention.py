"""Attention against loops over pairs, and its memory use."""

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
from thinking.networks.attention.partials import BlockSizes
from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window
from thinking.networks.attention.reference import dense_mask, masked_attention
from thinking.networks.attention.sparse import attention, sparse_attention

B, T, H, G, E = 3, 37, 4, 2, 8
# Several steps of several chunks; no size divides T.
SMALL = BlockSizes(max_tokens_for_one_mask=0, chunk_size=4, max_pairs=1024)
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
for_each_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
for_each_direction = pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])


def draw_tensors(seed, *heads, tokens=T, rows=B):
    generator = np.random.default_rng(seed)
    return [np.float32(generator.normal(size=(rows, tokens, count, E))) for count in heads]


jit_attention = jit(attention, static_argnames="pattern")


def make_vjp_fn(attend):
    def output_and_gradients(q, k, v, cotangent, *others):
        output, vjp_fn = jax.vjp(lambda q, k, v: attend(q, k, v, *others), q, k, v)
        return output, *vjp_fn(cotangent)

    return jit(output_and_gradients)


masked_attention_vjp = make_vjp_fn(masked_attention)


@functools.cache
def make_sparse_vjp_fn(pattern, causal):
    return make_vjp_fn(lambda q, k, v, segments: sparse_attention(q, k, v, pattern, causal, segments, SMALL))


@for_each_pattern
@for_each_direction
def test_sparse_attention_matches_brute_force_and_its_gradients(pattern, causal):
    q, k, v, cotangent = draw_tensors(0, H, G, G, H)
    mask = brute.make_mask(pattern, q, k, causal, SEGMENTS)
    actual_tensors = make_sparse_vjp_fn(pattern, causal)(q, k, v, cotangent, SEGMENTS)
    np.testing.assert_allclose(actual_tensors[0], brute.compute_attention(q, k, v, mask), atol=1e-5)
    for actual, expected in zip(actual_tensors, masked_attention_vjp(q, k, v, cotangent, mask), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    padding = SEGMENTS == 0
    assert all(not np.any(np.asarray(actual)[padding]) for actual in actual_tensors)  # zeros, in the gradients too


@for_each_pattern
@for_each_direction
def test_dense_mask_matches_brute_force(pattern, causal):
    q, k = draw_tensors(1, H, G)
    output = jit(lambda q, k, segments: dense_mask(pattern, q, k, causal, segments))(q, k, SEGMENTS)
    assert np.array_equal(np.broadcast_to(output, (B, G, T, T)), brute.make_mask(pattern, q, k, causal, SEGMENTS))


@given(seed=st.integers(0, 1000), segments=st.lists(st.integers(0, 3), min_size=B * T, max_size=B * T))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_sparse_attention_matches_masked_attention_for_any_segments(seed, segments):
    pattern, segments = PATTERNS[-1], np.int32(segments).reshape(B, T)
    q, k, v, cotangent = draw_tensors(seed, H, G, G, H)
    mask = brute.make_mask(pattern, q, k, True, segments)
    for actual, expected in zip(
        make_sparse_vjp_fn(pattern, True)(q, k, v, cotangent, segments),
        masked_attention_vjp(q, k, v, cotangent, mask),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("pattern", [Dense(), Window(40), TopK(16, 4) | Window(8)], ids=str)
def test_attention_of_long_rows_matches_masked_attention(pattern):
    q, k, v = draw_tensors(2, H, G, G, tokens=150, rows=1)
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
def test_patterns_larger_than_the_row_equal_dense(pattern):
    q, k, v = draw_tensors(3, H, G, G)
    assert np.array_equal(jit_attention(q, k, v, pattern=pattern), jit_attention(q, k, v))


def test_stride_beyond_the_row_attends_to_the_own_position():
    q, k, v = draw_tensors(3, H, G, G)
    np.testing.assert_allclose(jit_attention(q, k, v, pattern=Strided(10**6)), np.repeat(v, H // G, axis=2), atol=1e-6)


def test_packed_segments_equal_separate_rows():
    q, k, v = draw_tensors(4, H, G, G, rows=2, tokens=16)
    packed_tensors = [x.reshape(1, 32, -1, E) for x in (q, k, v)]
    segments = np.repeat(np.int32([[5, 2]]), 16, axis=1)
    separate_output = np.asarray(jit_attention(q, k, v, pattern=Window(5)))
    packed_output = np.asarray(jit_attention(*packed_tensors, pattern=Window(5), segments=segments))
    np.testing.assert_allclose(packed_output.reshape(separate_output.shape), separate_output, atol=1e-6)


@pytest.mark.parametrize("tokens", [8, 130])
def test_padding_gives_zeros_and_no_gradients(tokens):
    q, k, v = draw_tensors(5, H, G, G, rows=2, tokens=tokens)
    segments = np.int32(np.arange(tokens) < np.array([[0], [2]]))
    gradients = jit(
        jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v, pattern=Window(3), segments=segments) ** 2), (0, 1, 2))
    )
    assert not np.any(np.asarray(jit_attention(q, k, v, pattern=Window(3), segments=segments))[0])
    for gradient in map(np.asarray, gradients(100 * q, k, v)):
        assert np.all(np.isfinite(gradient))
        assert not np.any(gradient[0])
        assert not np.any(gradient[1, 2:])


@pytest.mark.parametrize("tokens", [8, 130])
def test_softmax_of_bfloat16_inputs_is_computed_in_float32(tokens):
    q, k, v = draw_tensors(6, H, G, G, rows=1, tokens=tokens)
    # Logits of about 300 +- 1, where bfloat16 has a spacing of 2.
    k = k / 8 + 8
    bfloat16_tensors = [jnp.bfloat16(x) for x in (q + 13, k, v)]
    output = jit_attention(*bfloat16_tensors, pattern=Window(6))
    assert output.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.float32(output), jit_attention(*map(np.float32, bfloat16_tensors), pattern=Window(6)), atol=0.03
    )


def test_memory_is_linear_in_the_number_of_tokens():
    def measure_temp_bytes(tokens, pattern):
        shape = jax.ShapeDtypeStruct((1, tokens, 1, E), jnp.float32)
        loss = jit(jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v, pattern=pattern)), (0, 1, 2)))
        return loss.lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    for pattern in (Window(64), TopK(64, 4)):
        half_size, full_size = measure_temp_bytes(2**14, pattern), measure_temp_bytes(2**15, pattern)
        assert full_size < 2.2 * half_size
        assert full_size < 2**30 * 4 / 50  # the logits of all pairs are 4 GiB


@pytest.mark.parametrize(("pattern", "window"), [(Dense(), None), (Window(40), (39, 0))], ids=str)
def test_gpu_uses_cudnn_for_dense_and_window(pattern, window, monkeypatch):
    calls, library = [], jax.nn.dot_product_attention

    def record_call(*arrays, implementation, **options):
        calls.append((implementation, options["local_window_size"]))
        return library(*arrays, **options)

    q, k, v = (jnp.bfloat16(x) for x in draw_tensors(7, H, G, G, rows=1, tokens=150))
    expected = jit_attention(q, k, v, pattern=pattern)
    monkeypatch.setattr(module.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(module.jax.nn, "dot_product_attention", record_call)
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
def test_invalid_arguments_are_rejected_in_one_line(change, message):
    arguments = {"q": NARROW, "k": NARROW, "v": NARROW} | change
    options = {name: arguments.pop(name) for name in ("pattern", "segments") if name in arguments}
    for attend in (attention, jax.jit(attention, static_argnames="pattern")):
        with pytest.raises(ValueError, match=message) as error:
            attend(arguments["q"], arguments["k"], arguments["v"], **options)
        assert "\n" not in str(error.value)


def test_heads_of_a_group_share_keys():
    q, k, v = draw_tensors(8, H, G, G)
    output = np.asarray(jit_attention(q, k, v, pattern=Window(4)))
    for h, g in itertools.product(range(H), range(G)):
        single_head = np.asarray(jit_attention(q[:, :, [h]], k[:, :, [g]], v[:, :, [g]], pattern=Window(4)))
        assert np.allclose(single_head[:, :, 0], output[:, :, h], atol=1e-6) == (g == h // (H // G))
