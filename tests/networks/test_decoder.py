"""The decoder: what it reads from a cache is what it reads from whole rows, whatever it attends to."""

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

ROWS, TOKENS, WORDS, WIDTH = 3, 24, 11, 16
INPUTS = np.random.default_rng(1).integers(0, WORDS, (ROWS, TOKENS), np.int32)

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
        vocab_size=WORDS,
        context_length=40,
        block=BlockConfig(WIDTH, 4, **{"num_kv_heads": 2, "gated": True, **block}),
        num_layers=num_layers,
        pattern=pattern,
        tie_embeddings=tie_embeddings,
        value_head=value_head,
        remat=remat,
    )


@functools.cache
def cached_decoder(name):
    """A decoder of a pattern, its functions compiled, its parameters, and its output of whole rows."""
    model = build(PATTERNS[name])
    params = jit(model.init)(jax.random.key(0))
    model = model._replace(apply=jit(model.apply), extend=jit(model.extend))
    return model, params, model.apply(params, INPUTS)


def assert_read(output, whole, places=slice(None)):
    for one, other in zip(output, jax.device_get(whole), strict=True):
        np.testing.assert_allclose(one, other[:, places], atol=2e-5)


def together(outputs):
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *outputs)


# Going on from a cache


@pytest.mark.parametrize("name", PATTERNS)
def test_extending_a_cache_by_many_tokens_or_one_at_a_time_equals_a_pass_over_the_whole_row(name):
    model, params, whole = cached_decoder(name)
    cache, outputs, at = model.init_cache(ROWS), [], 0
    for size in [8, *[1] * 8, 8]:
        output, cache = model.extend(params, cache, INPUTS[:, at : at + size])
        outputs.append(output)
        at += size
    assert_read(together(outputs), whole)
    assert np.array_equal(cache.length, [TOKENS] * ROWS)


@pytest.mark.parametrize("name", ["dense", "window and global", "all three"])
def test_rows_of_unequal_length_go_on_each_from_its_own_end(name):
    model, params, whole = cached_decoder(name)
    whole = jax.device_get(whole)
    num_valid = np.asarray([3, 8, 5], np.int32)
    first = INPUTS[:, :8].copy()
    first[np.arange(8)[None] >= num_valid[:, None]] = 7  # never read
    _, cache = model.extend(params, model.init_cache(ROWS), first, num_valid=num_valid)
    one = np.take_along_axis(INPUTS, num_valid[:, None], axis=1)
    output, cache = jax.device_get(model.extend(params, cache, one, num_valid=np.ones(ROWS, np.int32)))
    for row in range(ROWS):
        np.testing.assert_allclose(output.logits[row, 0], whole.logits[row, num_valid[row]], atol=2e-5)
    assert np.array_equal(cache.length, num_valid + 1)
    rested = model.extend(params, cache, one, num_valid=np.zeros(ROWS, np.int32))[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, rested, cache))


@pytest.mark.parametrize("name", ["dense", "window and global"])
def test_rows_share_a_prefix_cache_that_they_only_read(name):
    model, params, whole = cached_decoder(name)
    _, prefix_cache = model.extend(params, model.init_cache(ROWS), INPUTS[:, :8])
    cache, outputs = model.init_cache(ROWS, 16), []
    for at, size in ((8, 8), *((at, 1) for at in range(16, 24))):
        output, cache = model.extend(params, cache, INPUTS[:, at : at + size], prefix_cache=prefix_cache)
        outputs.append(output)
    assert_read(together(outputs), whole, slice(8, None))


@pytest.mark.parametrize("name", ["dense", "window and global"])
def test_consecutive_rows_share_one_row_of_the_prefix_cache(name):
    model, params, _ = cached_decoder(name)
    _, prefix_cache = model.extend(params, model.init_cache(ROWS), INPUTS[:, :8])
    branches = np.stack([INPUTS[:, 8:16], INPUTS[:, 16:24]], axis=1).reshape(2 * ROWS, 8)
    output, cache = model.extend(params, model.init_cache(2 * ROWS, 16), branches[:, :7], prefix_cache=prefix_cache)
    output, _ = model.extend(params, cache, branches[:, 7:], prefix_cache=prefix_cache)
    whole = model.apply(params, np.concatenate([np.repeat(INPUTS[:, :8], 2, axis=0), branches], axis=1))
    assert_read(output, whole, slice(15, None))


def test_rows_that_do_not_fit_their_cache_or_prefix_cache_are_refused():
    model, params, _ = cached_decoder("dense")
    with pytest.raises(ValueError, match=r"holds 2 rows.*inputs of 3"):
        model.extend(params, model.init_cache(2), INPUTS[:, :1])
    with pytest.raises(ValueError, match="3 rows are no multiple of the 2 rows"):
        model.extend(params, model.init_cache(3), INPUTS[:, :1], prefix_cache=model.init_cache(2))


def test_a_content_pattern_takes_no_prefix_cache():
    model, params, _ = cached_decoder("top k")
    with pytest.raises(ValueError, match=r"TopK.*no prefix cache"):
        model.extend(params, model.init_cache(ROWS), INPUTS[:, :1], prefix_cache=model.init_cache(ROWS))


@pytest.mark.parametrize(
    ("name", "slots"), [("dense", 40), ("window", 5), ("strided", 5), ("window and global", 7), ("top k", 40)]
)
def test_a_cache_has_no_more_slots_than_the_pattern_looks_back(name, slots):
    model, _, _ = cached_decoder(name)
    assert model.init_cache(ROWS).positions.shape == (ROWS, slots)
    assert model.init_cache(ROWS, 3).positions.shape == (ROWS, 3)


def test_one_token_of_a_long_row_looks_at_the_blocks_it_picks_and_at_no_others():
    model = build(TopK(4, 2), num_layers=1)
    params = jax.eval_shape(model.init, jax.random.key(0))

    traced = jax.make_jaxpr(lambda params, cache: model.extend(params, cache, INPUTS[:, :1]))(
        params, model.init_cache(ROWS)
    )
    weighed = [eqn.outvars[0].aval.shape[-1] for eqn in traced.jaxpr.eqns if eqn.primitive.name == "exp"]
    assert weighed == [4 * 2]


# Positions, segments and vectors


@pytest.mark.parametrize(
    "position",
    [positions.none(), positions.sinusoidal(), positions.learned(40), positions.location(), positions.rotary()],
    ids=["none", "sinusoidal", "learned", "location", "rotary"],
)
def test_every_position_encoding_reads_from_a_cache_as_from_whole_rows(position):
    model = build(num_layers=1, position=position, num_kv_heads=None)
    params = jit(model.init)(jax.random.key(0))
    whole = jit(model.apply)(params, INPUTS[:, :6])
    extend = jit(model.extend)
    cache, outputs = model.init_cache(ROWS), []
    for at in range(6):
        output, cache = extend(params, cache, INPUTS[:, at : at + 1])
        outputs.append(output)
    assert_read(together(outputs), whole)


def test_packed_texts_are_read_as_if_each_stood_alone():
    model, params, _ = cached_decoder("dense")
    segments = np.asarray([[1] * 5 + [2] * 7 + [3] * 9 + [0] * 3] * ROWS, np.int32)
    packed = jax.device_get(model.apply(params, INPUTS, segments=segments))
    alone = jax.device_get(model.apply(params, np.roll(INPUTS, -5, axis=1)))
    for one, other in zip(packed, alone, strict=True):
        np.testing.assert_allclose(one[:, 5:12], other[:, :7], atol=2e-5)
    assert np.all(np.isfinite(packed.logits))


def test_tokens_are_numbered_within_their_segments():
    segments = np.int32([[0, 0, 1, 1, 1, 2, 3, 3]])
    assert np.array_equal(jit(positions_within)(segments), [[0, 1, 0, 1, 2, 0, 0, 1]])


def test_vectors_may_stand_in_place_of_tokens():
    model, params, whole = cached_decoder("dense")
    assert_read(model.apply(params, model.embed(params, INPUTS)), whole)


def test_location_positions_read_where_tokens_are():
    model = build(num_layers=1, position=positions.location())
    params = jit(model.init)(jax.random.key(0))
    apply = jit(model.apply)
    numbers = np.broadcast_to(np.arange(6, dtype=np.int32)[None, :, None], (ROWS, 6, 1))
    assert_read(apply(params, INPUTS[:, :6], coordinates=numbers), apply(params, INPUTS[:, :6]))
    elsewhere = apply(params, INPUTS[:, :6], coordinates=numbers + 5)
    assert not np.allclose(elsewhere.logits, apply(params, INPUTS[:, :6]).logits, atol=1e-3)


# Parameters and arithmetic


def test_a_tied_embedding_gives_the_logits_and_an_untied_decoder_has_an_output_layer():
    tied, untied = (build(num_layers=1, tie_embeddings=tied, value_head=False) for tied in (True, False))
    shapes = [jax.eval_shape(model.init, jax.random.key(0)) for model in (tied, untied)]
    count = [sum(leaf.size for leaf in jax.tree.leaves(shape)) for shape in shapes]
    assert count[1] - count[0] == WORDS * WIDTH
    params = jit(tied.init)(jax.random.key(0))
    output = jit(tied.apply)(params, INPUTS[:, :4])
    embedding = np.asarray(params["token_embedding"]["embedding"])
    np.testing.assert_allclose(output.logits, np.asarray(output.hidden) @ embedding.T, atol=1e-5)
    assert np.all(np.asarray(output.value) == 0)


def test_rematerialisation_gives_the_same_gradients():
    def gradients(remat):
        model = build(PATTERNS["window"], remat=remat)
        params = jit(model.init)(jax.random.key(0))

        def loss(params):
            logits = model.apply(params, INPUTS[:, :6]).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, INPUTS[:, 1:7]).mean()

        return jit(jax.grad(loss))(params)

    for one, other in zip(jax.tree.leaves(gradients(False)), jax.tree.leaves(gradients(True)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_bfloat16_is_the_arithmetic_alone_parameters_and_logits_stay_float32():
    model = build(num_layers=1, dtype=jnp.bfloat16)
    params = jit(model.init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    output = jit(model.apply)(params, INPUTS[:, :6])
    assert (output.logits.dtype, output.value.dtype, output.hidden.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    assert model.init_cache(1).layers[0].keys.dtype == jnp.bfloat16
    gradients = jit(jax.grad(lambda params: jnp.sum(model.apply(params, INPUTS[:, :6]).logits ** 2)))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    exact = jit(build(num_layers=1).apply)(params, INPUTS[:, :6])
    np.testing.assert_allclose(output.logits, exact.logits, atol=0.1)
    assert not np.array_equal(output.logits, exact.logits)


def test_dropout_needs_a_key():
    model = build(num_layers=1, dropout=0.5)
    params = jit(model.init)(jax.random.key(0))
    apply = jit(model.apply)
    plain = apply(params, INPUTS[:, :6]).logits
    dropped = [apply(params, INPUTS[:, :6], key=jax.random.key(seed)).logits for seed in (0, 0, 1)]
    assert np.array_equal(dropped[0], dropped[1])
    assert not np.allclose(dropped[0], dropped[2])
    assert not np.allclose(dropped[0], plain)


def test_an_untrained_decoder_is_nearly_indifferent():
    _, _, whole = cached_decoder("dense")
    logits = np.asarray(whole.logits)[:, :-1]
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    surprise = -np.take_along_axis(logs, INPUTS[:, 1:, None], axis=2).mean()
    assert 0.5 * np.log(WORDS) < surprise < 2 * np.log(WORDS)


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
def test_inputs_that_do_not_fit_are_refused_with_one_line(call, message):
    model, params, _ = cached_decoder("dense")
    with pytest.raises(ValueError, match=message) as refusal:
        call(model, params)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("option", ["vocab_size", "context_length", "num_layers"])
def test_sizes_below_1_are_refused(option):
    sizes = {"vocab_size": 3, "context_length": 4, "num_layers": 1, option: 0}
    with pytest.raises(ValueError, match=f"{option} 0 .*at least 1"):
        decoder(**sizes, block=BlockConfig(8, 2))


def test_too_few_learned_positions_are_refused_when_the_decoder_is_built():
    with pytest.raises(ValueError, match="3 learned positions are too few for 4 tokens"):
        decoder(vocab_size=3, context_length=4, block=BlockConfig(8, 2, position=positions.learned(3)))
