"""Mixers: each recurrence against itself token by token, and within a decoder against whole rows."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.networks.mixers import MIXERS, continue_rows, delta, gru, make_mixer, memory
from thinking.networks.mixers.delta import DeltaInputs, scan_chunks, scan_tokens

memory_mixer = sys.modules["thinking.networks.mixers.memory"]  # its name in the package is that of the function
BLOCK = BlockConfig(16, 2)
RECURRENT = [name for name in MIXERS if name != "attention"]
LAYERS = [("gru", "linear_recurrence"), ("delta",), ("memory", "attention")]
IDS = ["+".join(layers) for layers in LAYERS]
TOKENS = jax.random.randint(jax.random.key(1), (3, 13), 0, 11)


@functools.cache
def build(mixers):
    model = decoder(vocab_size=11, context_length=64, block=BLOCK, num_layers=len(mixers), mixers=mixers)
    return model, jax.jit(model.init)(jax.random.key(0)), jax.jit(model.apply), jax.jit(model.extend)


def assert_close(a, b):
    np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("mixers", LAYERS, ids=IDS)
def test_extending_by_ragged_parts_equals_whole_rows(mixers):
    model, params, apply, extend = build(mixers)
    whole = apply(params, TOKENS).logits
    cache, first = model.init_cache(3), jnp.int32([1, 5, 3])
    output, cache = extend(params, cache, TOKENS[:, :5], num_valid=first)
    assert_close(output.logits[1], whole[1, :5])
    rest = jnp.stack([TOKENS[row, start : start + 8] for row, start in enumerate([1, 5, 3])])
    output, _ = extend(params, cache, rest)
    for row, start in enumerate([1, 5, 3]):
        assert_close(output.logits[row], whole[row, start : start + 8])


@pytest.mark.parametrize("mixers", LAYERS, ids=IDS)
def test_packed_texts_do_not_see_each_other(mixers):
    _, params, apply, _ = build(mixers)
    segments = jnp.int32([[1] * 6 + [2] * 5 + [0] * 2])
    packed = apply(params, TOKENS[:1], segments=segments).logits[0]
    assert_close(packed[:6], apply(params, TOKENS[:1, :6]).logits[0])
    assert_close(packed[6:11], apply(params, TOKENS[:1, 6:11]).logits[0])


@pytest.mark.parametrize("mixers", LAYERS, ids=IDS)
def test_rows_continue_from_a_shared_prefix(mixers):
    model, params, apply, extend = build(mixers)
    _, prefix_cache = extend(params, model.init_cache(1), TOKENS[:1, :6])
    branches = TOKENS[:, 6:]
    _, cache = extend(params, model.init_cache(3, 16), branches[:, :3], prefix_cache=prefix_cache)
    output, _ = extend(params, cache, branches[:, 3:], prefix_cache=prefix_cache)
    rows = jnp.concatenate([jnp.repeat(TOKENS[:1, :6], 3, axis=0), branches], axis=1)
    assert_close(output.logits, apply(params, rows).logits[:, 9:])


@pytest.mark.parametrize("name", RECURRENT)
def test_memory_does_not_grow_with_the_text(name):
    model = build((name,))[0]
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(model.init_cache(2, capacity))) for capacity in (8, 64)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("mixers", LAYERS, ids=IDS)
def test_gradients_are_finite_and_reach_all_parameters(mixers):
    model, params, _, _ = build(mixers)
    gradients = jax.jit(jax.grad(lambda params: jnp.sum(model.apply(params, TOKENS).logits ** 2)))(params)
    for path, leaf in jax.tree.flatten_with_path(jax.device_get(gradients))[0]:
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("num_tokens", [1, 31, 70])
def test_chunks_of_the_delta_rule_equal_the_rule_token_by_token(num_steps, num_tokens):
    rng, shape, heads, size = np.random.default_rng(num_tokens), (2, num_tokens), 2, 4

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def unit(*axes):
        x = normal(*shape, heads, *axes, size)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    inputs = DeltaInputs(
        unit(),
        unit(num_steps),
        normal(*shape, heads, num_steps, size),
        2 * rng.random((*shape, heads, num_steps), np.float32),
        -rng.standard_exponential((*shape, heads), np.float32) * np.float32(0.2),
        rng.random(shape) < 0.1,
    )
    state = normal(2, heads, size, size)

    def loss(scan, inputs, state):
        last, output = scan(inputs, state)
        return jnp.sum(jnp.sin(last)) + jnp.sum(jnp.sin(output)), (last, output)

    def run(scan):
        arrays = inputs._asdict()
        starts = arrays.pop("is_start")
        differentiate = jax.jit(
            jax.value_and_grad(
                lambda arrays, state: loss(scan, DeltaInputs(**arrays, is_start=starts), state), (0, 1), has_aux=True
            )
        )
        return differentiate(arrays, state)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=2e-4), run(scan_chunks), run(scan_tokens)
    )


def test_the_delta_rule_calls_no_batched_lapack():
    """Several such calls may wait for ever for threads of XLA's CPU backend, on two cores."""
    model, params, _, _ = build(("delta",))
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(model.apply(params, TOKENS).logits)))
    assert "lapack" not in gradient.lower(params).as_text()


def test_repeated_reflections_stay_exact_in_chunks():
    """Equal keys with beta 2 reflect again and again: powers of the system would grow, its solution does not."""
    tokens = 128
    key = np.broadcast_to(np.eye(4, dtype=np.float32)[0], (1, tokens, 1, 1, 4))
    inputs = DeltaInputs(
        key[:, :, :, 0],
        key,
        np.zeros_like(key),
        np.full((1, tokens, 1, 1), 2.0, np.float32),
        np.zeros((1, tokens, 1), np.float32),
        np.zeros((1, tokens), bool),
    )
    _, output = jax.device_get(jax.jit(scan_chunks)(inputs, np.eye(4, dtype=np.float32)[None, None]))
    np.testing.assert_allclose(output[0, :, 0, 0], [-1.0 if token % 2 == 0 else 1.0 for token in range(tokens)])


def test_memory_equals_slots_that_are_written_and_then_read_one_token_after_another():
    tokens, num_slots, size = 7, 3, 4
    random = np.random.default_rng(0)
    write_keys, read_keys, values = random.normal(size=(3, tokens, size)).astype(np.float32)
    gates, least_used_gates = random.uniform(size=(2, tokens)).astype(np.float32)
    is_start, is_valid = np.arange(tokens) == 4, np.arange(tokens) != 2
    values[2] = np.nan  # does not count
    write_keys, read_keys = (keys / np.linalg.norm(keys, axis=1, keepdims=True) for keys in (write_keys, read_keys))

    def softmax_of_cosines(slots, key):
        cosines = slots @ key / np.sqrt(np.sum(slots**2, axis=1) + 1e-6)
        return np.exp(5 * cosines) / np.sum(np.exp(5 * cosines))

    first_usage = np.asarray([0, -0.001, -0.002])
    state = memory(num_slots).init_state(BlockConfig(size, 1), 1)
    access = jax.jit(memory_mixer._access)
    for t in range(tokens):
        if t in (0, 4):
            slots, contents, usage = np.zeros((num_slots, size)), np.zeros((num_slots, size)), first_usage
        token = memory_mixer._Token(
            *(array[None, None, t] for array in (write_keys, read_keys, values, gates, least_used_gates)),
            is_start[None, t],
            is_valid[None, t],
        )
        state, (output, reads, writes) = access(
            state, token, np.float32([[[5.0]]]), np.float32(first_usage)[None, None]
        )
        if not is_valid[t]:
            continue
        is_least_used = np.arange(num_slots) == np.argmin(usage)
        alike = softmax_of_cosines(slots, write_keys[t])
        weights = gates[t] * (least_used_gates[t] * is_least_used + (1 - least_used_gates[t]) * alike)
        slots = slots + weights[:, None] * (write_keys[t] - slots)
        contents = contents + weights[:, None] * (values[t] - contents)
        found = softmax_of_cosines(slots, read_keys[t])
        usage = 0.95 * usage + found + weights
        assert_close(writes[0, 0], weights)
        assert_close(reads[0, 0], found)
        assert_close(output[0, 0], found @ contents)
        assert_close(state.keys[0, 0].T, slots)


def test_a_written_memory_is_read_back_and_its_trace_shows_where():
    mixer = memory(num_slots=4)
    model = decoder(vocab_size=5, context_length=8, block=BLOCK, num_layers=1, mixers=(mixer,))
    (trace,) = jax.device_get(
        jax.jit(lambda tokens: model.trace(model.init(jax.random.key(0)), tokens))(np.int32([[1, 2, 3, 4]]))
    )
    np.testing.assert_allclose(np.sum(trace.reads, axis=-1), 1, rtol=1e-5)
    assert np.max(np.sum(trace.writes, axis=-1)) <= 1 + 1e-5
    assert trace.reads.shape == (1, 4, 2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_mixer("lstm"), "take one of attention, gru"),
        (lambda: delta(0), "give 1 to 32"),
        (lambda: memory(0), "give at least 1"),
        (lambda: decoder(vocab_size=2, context_length=4, block=BLOCK, num_layers=1, mixers=()), "at least 1"),
    ],
)
def test_bad_mixers_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_noise_on_the_state_has_its_deviation_and_is_there_in_training_alone():
    module = gru(0.25).build(BLOCK, nnx.Rngs(0))
    inputs = continue_rows(jnp.zeros((4000, 16)), (4000, 1))

    def run(key, noise_scale=1.0):
        return module(jnp.ones((4000, 1, 16)), None, inputs._replace(key=key, noise_scale=noise_scale))[1].state

    for scale in (1.0, 0.4):
        noise = run(jax.random.key(0), scale) - run(None)
        assert float(jnp.mean(noise)) == pytest.approx(0, abs=0.01)
        assert float(jnp.std(noise)) == pytest.approx(0.25 * scale, rel=0.02)

    noisy, quiet = (
        decoder(vocab_size=11, context_length=64, block=BLOCK, num_layers=1, mixers=[gru(std)]) for std in (1, 0)
    )
    params = noisy.init(jax.random.key(0))
    logits = noisy.apply(params, TOKENS).logits
    np.testing.assert_array_equal(logits, quiet.apply(params, TOKENS, key=jax.random.key(1)).logits)
    assert not np.allclose(logits, noisy.apply(params, TOKENS, key=jax.random.key(1)).logits, atol=0.1)
    np.testing.assert_array_equal(logits, noisy.apply(params, TOKENS, key=jax.random.key(1), noise_scale=0).logits)


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match=r"state_noise -0.1 is out of range; give 0 or more"):
        gru(-0.1)
