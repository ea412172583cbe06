"""The decoder: `extend` with a cache equals `apply` on whole rows, for every attention pattern."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.quick import jit

from thinking.networks import positions
from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder, positions_within

ROWS, TOKENS, VOCAB_SIZE, WIDTH = 3, 24, 11, 16
INPUTS = np.random.default_rng(1).integers(0, VOCAB_SIZE, (ROWS, TOKENS), np.int32)

PATTERNS = {
    "dense": Dense(),
    "window": Window(5),
    "strided": Strided(2, 3),
    "all strides": Strided(3),
    "window and global": Window(5) | Global(2),
    "top k": TopK(4, 2),
    "all three": Window(3) | Global(2) | TopK(4, 2),
    "strided and top k": Strided(2, 2) | TopK(4, 2),
}


def build(pattern=Dense(), num_layers=2, tie_embeddings=True, value_head=True, remat=False, **block):
    return decoder(
        vocab_size=VOCAB_SIZE,
        context_length=40,
        block=BlockConfig(WIDTH, 4, **{"num_kv_heads": 2, "gated": True, **block}),
        num_layers=num_layers,
        pattern=pattern,
        tie_embeddings=tie_embeddings,
        value_head=value_head,
        remat=remat,
    )


@functools.cache
def init_params(num_layers=1, **options):
    """Initial parameters, which are the same for all patterns and most position encodings."""
    return jit(build(num_layers=num_layers, **options).init)(jax.random.key(0))


@functools.cache
def cached_decoder(name):
    """The decoder of a pattern with jitted functions, its parameters, and its output for whole rows."""
    num_layers = 2 if name in ("dense", "window and global", "all three") else 1
    model, params = build(PATTERNS[name], num_layers), init_params(num_layers)
    model = model._replace(apply=jit(model.apply), extend=jit(model.extend))
    return model, params, model.apply(params, INPUTS)


def assert_outputs_equal(actual, expected, token_slice=slice(None)):
    for actual_leaf, expected_leaf in zip(actual, jax.device_get(expected), strict=True):
        np.testing.assert_allclose(actual_leaf, expected_leaf[:, token_slice], atol=2e-5)


def concat_outputs(outputs):
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *outputs)


# Extending a cache


@pytest.mark.parametrize("name", PATTERNS)
def test_extend_by_chunks_or_single_tokens_equals_apply(name):
    model, params, expected = cached_decoder(name)
    cache, outputs, start = model.init_cache(ROWS), [], 0
    for size in [8, *[1] * 8, 8]:
        output, cache = model.extend(params, cache, INPUTS[:, start : start + size])
        outputs.append(output)
        start += size
    assert_outputs_equal(concat_outputs(outputs), expected)
    assert np.array_equal(cache.length, [TOKENS] * ROWS)


@pytest.mark.parametrize("name", ["dense", "window and global", "all three"])
def test_extend_continues_rows_of_unequal_length(name):
    model, params, expected = cached_decoder(name)
    expected = jax.device_get(expected)
    num_valid = np.asarray([3, 8, 5], np.int32)
    prefix = INPUTS[:, :8].copy()
    prefix[np.arange(8)[None] >= num_valid[:, None]] = 7  # never read
    _, cache = model.extend(params, model.init_cache(ROWS), prefix, num_valid=num_valid)
    next_tokens = np.take_along_axis(INPUTS, num_valid[:, None], axis=1)
    output, cache = jax.device_get(model.extend(params, cache, next_tokens, num_valid=np.ones(ROWS, np.int32)))
    for row in range(ROWS):
        np.testing.assert_allclose(output.logits[row, 0], expected.logits[row, num_valid[row]], atol=2e-5)
    assert np.array_equal(cache.length, num_valid + 1)
    unchanged_cache = model.extend(params, cache, next_tokens, num_valid=np.zeros(ROWS, np.int32))[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, unchanged_cache, cache))


@pytest.mark.parametrize("name", ["dense", "window and global"])
def test_extend_with_a_prefix_cache_equals_apply(name):
    model, params, expected = cached_decoder(name)
    _, prefix_cache = model.extend(params, model.init_cache(ROWS), INPUTS[:, :8])
    cache, outputs = model.init_cache(ROWS, 16), []
    for start, size in ((8, 8), *((start, 1) for start in range(16, 24))):
        output, cache = model.extend(params, cache, INPUTS[:, start : start + size], prefix_cache=prefix_cache)
        outputs.append(output)
    assert_outputs_equal(concat_outputs(outputs), expected, slice(8, None))


@pytest.mark.parametrize("name", ["dense", "window and global"])
def test_consecutive_rows_share_one_row_of_the_prefix_cache(name):
    model, params, _ = cached_decoder(name)
    _, prefix_cache = model.extend(params, model.init_cache(ROWS), INPUTS[:, :8])
    branches = np.stack([INPUTS[:, 8:16], INPUTS[:, 16:24]], axis=1).reshape(2 * ROWS, 8)
    output, cache = model.extend(params, model.init_cache(2 * ROWS, 16), branches[:, :7], prefix_cache=prefix_cache)
    output, _ = model.extend(params, cache, branches[:, 7:], prefix_cache=prefix_cache)
    expected = model.apply(params, np.concatenate([np.repeat(INPUTS[:, :8], 2, axis=0), branches], axis=1))
    assert_outputs_equal(output, expected, slice(15, None))


def test_mismatched_caches_are_rejected():
    model, params, _ = cached_decoder("dense")
    with pytest.raises(ValueError, match=r"holds 2 rows.*inputs of 3"):
        model.extend(params, model.init_cache(2), INPUTS[:, :1])
    with pytest.raises(ValueError, match="3 rows are no multiple of the 2 rows"):
        model.extend(params, model.init_cache(3), INPUTS[:, :1], prefix_cache=model.init_cache(2))


def test_top_k_rejects_a_prefix_cache():
    model, params, _ = cached_decoder("top k")
    with pytest.raises(ValueError, match=r"TopK.*no prefix cache"):
        model.extend(params, model.init_cache(ROWS), INPUTS[:, :1], prefix_cache=model.init_cache(ROWS))


@pytest.mark.parametrize(
    ("name", "slots"), [("dense", 40), ("window", 5), ("strided", 5), ("window and global", 7), ("top k", 40)]
)
def test_cache_size_is_the_memory_bound_of_the_pattern(name, slots):
    model, _, _ = cached_decoder(name)
    assert model.init_cache(ROWS).positions.shape == (ROWS, slots)
    assert model.init_cache(ROWS, 3).positions.shape == (ROWS, 3)


def test_top_k_decoding_attends_to_the_selected_blocks_only():
    model = build(TopK(4, 2), num_layers=1)
    params = jax.eval_shape(model.init, jax.random.key(0))

    jaxpr = jax.make_jaxpr(lambda params, cache: model.extend(params, cache, INPUTS[:, :1]))(
        params, model.init_cache(ROWS)
    )
    softmax_sizes = [eqn.outvars[0].aval.shape[-1] for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "exp"]
    assert softmax_sizes == [4 * 2]


# Positions, segments and vectors


@pytest.mark.parametrize(
    "position",
    [positions.none(), positions.sinusoidal(), positions.learned(40), positions.location(), positions.rotary()],
    ids=["none", "sinusoidal", "learned", "location", "rotary"],
)
def test_extend_equals_apply_with_every_position_encoding(position):
    model = build(num_layers=1, position=position, num_kv_heads=None)
    own_position = {"position": position} if position.num_learned else {}
    params = init_params(num_kv_heads=None, **own_position)
    expected = jit(model.apply)(params, INPUTS[:, :6])
    extend = jit(model.extend)
    cache, outputs = model.init_cache(ROWS), []
    for index in range(6):
        output, cache = extend(params, cache, INPUTS[:, index : index + 1])
        outputs.append(output)
    assert_outputs_equal(concat_outputs(outputs), expected)


def test_packed_texts_equal_separate_texts():
    model, params, _ = cached_decoder("dense")
    segments = np.asarray([[1] * 5 + [2] * 7 + [3] * 9 + [0] * 3] * ROWS, np.int32)
    packed_output = jax.device_get(model.apply(params, INPUTS, segments=segments))
    separate_output = jax.device_get(model.apply(params, np.roll(INPUTS, -5, axis=1)))
    for packed_leaf, separate_leaf in zip(packed_output, separate_output, strict=True):
        np.testing.assert_allclose(packed_leaf[:, 5:12], separate_leaf[:, :7], atol=2e-5)
    assert np.all(np.isfinite(packed_output.logits))


def test_positions_within_count_from_each_segment_start():
    segments = np.int32([[0, 0, 1, 1, 1, 2, 3, 3]])
    assert np.array_equal(jit(positions_within)(segments), [[0, 1, 0, 1, 2, 0, 0, 1]])


def test_embeddings_may_replace_tokens():
    model, params, expected = cached_decoder("dense")
    assert_outputs_equal(model.apply(params, model.embed(params, INPUTS)), expected)


def test_location_encoding_uses_coordinates():
    model, params = build(num_layers=1, position=positions.location()), init_params()
    apply = jit(model.apply)
    coordinates = np.broadcast_to(np.arange(6, dtype=np.int32)[None, :, None], (ROWS, 6, 1))
    output = apply(params, INPUTS[:, :6])
    assert_outputs_equal(apply(params, INPUTS[:, :6], coordinates=coordinates), output)
    shifted_output = apply(params, INPUTS[:, :6], coordinates=coordinates + 5)
    assert not np.allclose(shifted_output.logits, output.logits, atol=1e-3)


# Parameters and arithmetic


def test_tied_embedding_gives_the_logits_and_untied_adds_a_layer():
    tied, untied = (build(num_layers=1, tie_embeddings=tied, value_head=False) for tied in (True, False))
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in (tied, untied)]
    num_params = [sum(leaf.size for leaf in jax.tree.leaves(shape)) for shape in shapes]
    assert num_params[1] - num_params[0] == VOCAB_SIZE * WIDTH
    params = jit(tied.init)(jax.random.key(0))
    output = jit(tied.apply)(params, INPUTS[:, :4])
    embedding = np.asarray(params["token_embedding"]["embedding"])
    np.testing.assert_allclose(output.logits, np.asarray(output.hidden) @ embedding.T, atol=1e-5)
    assert np.all(np.asarray(output.value) == 0)


def test_remat_gives_the_same_gradients():
    def compute_gradients(remat):
        model = build(PATTERNS["window"], remat=remat)

        def loss(params):
            logits = model.apply(params, INPUTS[:, :6]).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, INPUTS[:, 1:7]).mean()

        return jit(jax.grad(loss))(init_params(2))

    for expected_leaf, remat_leaf in zip(
        jax.tree.leaves(compute_gradients(False)), jax.tree.leaves(compute_gradients(True)), strict=True
    ):
        np.testing.assert_allclose(expected_leaf, remat_leaf, atol=1e-6)


def test_bfloat16_computation_keeps_params_and_logits_in_float32():
    model, params = build(num_layers=1, dtype=jnp.bfloat16), init_params()
    param_shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(param_shapes)} == {jnp.dtype("float32")}
    output = jit(model.apply)(params, INPUTS[:, :6])
    assert (output.logits.dtype, output.value.dtype, output.hidden.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    assert model.init_cache(1).layers[0].keys.dtype == jnp.bfloat16
    gradients = jit(jax.grad(lambda params: jnp.sum(model.apply(params, INPUTS[:, :6]).logits ** 2)))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    float32_output = jit(build(num_layers=1).apply)(params, INPUTS[:, :6])
    np.testing.assert_allclose(output.logits, float32_output.logits, atol=0.1)
    assert not np.array_equal(output.logits, float32_output.logits)


def test_dropout_needs_a_key():
    model, params = build(num_layers=1, dropout=0.5), init_params()
    apply = jit(model.apply)
    deterministic = apply(params, INPUTS[:, :6]).logits
    samples = [apply(params, INPUTS[:, :6], key=jax.random.key(seed)).logits for seed in (0, 0, 1)]
    assert np.array_equal(samples[0], samples[1])
    assert not np.allclose(samples[0], samples[2])
    assert not np.allclose(samples[0], deterministic)


def test_initial_loss_is_close_to_uniform():
    _, _, expected = cached_decoder("dense")
    logits = np.asarray(expected.logits)[:, :-1]
    log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    loss = -np.take_along_axis(log_probs, INPUTS[:, 1:, None], axis=2).mean()
    assert 0.5 * np.log(VOCAB_SIZE) < loss < 2 * np.log(VOCAB_SIZE)


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, params: model.apply(params, INPUTS[:, :0]), "hold nothing"),
        (lambda model, params: model.apply(params, INPUTS[:0]), "hold nothing"),
        (lambda model, params: model.apply(params, np.zeros((1, 41), np.int32)), "41 tokens.*context of 40"),
        (lambda model, params: model.apply(params, np.zeros((1, 4, 5), np.float32)), r"\[B, T, 16\]"),
        (lambda model, params: model.apply(params, np.zeros((1, 4), np.float32)), "give tokens int32"),
        (lambda model, params: model.init_cache(0), "rows 0.*at least 1"),
        (lambda model, params: model.init_cache(1, 41), "capacity 41.*context length of 40"),
    ],
)
def test_invalid_inputs_are_rejected_in_one_line(call, message):
    model, params, _ = cached_decoder("dense")
    with pytest.raises(ValueError, match=message) as error:
        call(model, params)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["vocab_size", "context_length", "num_layers"])
def test_sizes_below_1_are_rejected(option):
    sizes = {"vocab_size": 3, "context_length": 4, "num_layers": 1, option: 0}
    with pytest.raises(ValueError, match=f"{option} 0 .*at least 1"):
        decoder(**sizes, block=BlockConfig(8, 2))


def test_too_few_learned_positions_are_rejected():
    with pytest.raises(ValueError, match="3 learned positions are too few for 4 tokens"):
        decoder(vocab_size=3, context_length=4, block=BlockConfig(8, 2, position=positions.learned(3)))
