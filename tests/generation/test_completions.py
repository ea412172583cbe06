"""Generation: cached decoding equals full forward passes, and every option works."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.generation import completions
from thinking.generation import prompts as prompts_module
from thinking.generation.completions import generate, make_generator, make_streamer
from thinking.generation.sampling import Sampling
from thinking.networks import positions
from thinking.networks.attention.patterns import Dense, Global, TopK, Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder

VOCAB_SIZE, MAX_NEW_TOKENS = 11, 8
PROMPTS = np.asarray(jax.random.randint(jax.random.key(1), (3, 9), 0, VOCAB_SIZE), np.int32)
LENGTHS = np.asarray([1, 9, 4], np.int32)
STOP_TOKEN = 3
"""A stop token that two of the three completions reach."""


@functools.cache
def make_model(pattern=Dense(), context_length=24, **block):
    block_config = BlockConfig(16, 4, **{"num_kv_heads": 2, **block})
    model = decoder(
        vocab_size=VOCAB_SIZE,
        context_length=context_length,
        block=block_config,
        num_layers=1,
        pattern=pattern,
        value_head=True,
    )
    return model


MODEL = make_model()
PARAMS = jit(MODEL.init)(jax.random.key(0))
"""Parameters of all models."""
NUCLEUS = Sampling(temperature=1.3, top_p=0.9)


def compile_generate(model, max_new_tokens, chunk_sizes, **options):
    return jit(functools.partial(generate, model, max_new_tokens=max_new_tokens, **options))


compile_generate_once = functools.cache(compile_generate)
"""Compiled once for all tests with equal chunk sizes."""


def generate_completions(
    model=MODEL, key=2, prompts=PROMPTS, lengths=LENGTHS, max_new_tokens=MAX_NEW_TOKENS, **options
):
    compile_fn = compile_generate if "forced_tokens" in options else compile_generate_once  # arrays are not hashable
    generate_fn = compile_fn(
        model, max_new_tokens, (completions.MIN_STAGE_TOKENS, prompts_module.PREFILL_CHUNK), **options
    )
    return jax.device_get(generate_fn(PARAMS, jax.random.key(key) if isinstance(key, int) else key, prompts, lengths))


@functools.cache
def make_apply(model):
    """A function that gives logits, log-probabilities and values of one row padded to 24 tokens."""
    apply = jit(model.apply)

    def apply_to_row(params, tokens, **inputs):
        output = jax.device_get(apply(params, np.pad(tokens, (0, 24 - len(tokens)))[None], **inputs))
        return output.logits[0], log_softmax(output.logits[0]), output.value[0]

    return apply_to_row


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@functools.cache
def default_completions():
    return generate_completions()


def iterate_rows(result, prompts=PROMPTS, lengths=LENGTHS):
    """For each row: its index, prompt and completion in one array, and the length of the prompt."""
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        yield row, np.concatenate([prompt[:length], result.tokens[row, : result.length[row]]]), length


# Completions


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_log_probs_and_values_equal_a_teacher_forced_pass(pattern):
    model = make_model(pattern)
    result = generate_completions(model, sampling=NUCLEUS)
    for row, tokens, start in iterate_rows(result):
        _, log_probs, value = make_apply(model)(PARAMS, tokens)
        expected = [log_probs[position - 1, tokens[position]] for position in range(start, len(tokens))]
        np.testing.assert_allclose(result.log_prob[row], expected, atol=1e-4)
        np.testing.assert_allclose(result.value[row], value[start - 1 : len(tokens) - 1], atol=1e-4)


def test_temperature_zero_generates_the_argmax():
    result = generate_completions(sampling=Sampling(temperature=0.0))
    for _, tokens, start in iterate_rows(result):
        logits, _, _ = make_apply(MODEL)(PARAMS, tokens)
        assert np.array_equal(tokens[start:], logits.argmax(axis=1)[start - 1 : len(tokens) - 1])


def test_prompt_padding_is_ignored():
    noisy_prompts = np.where(np.arange(9)[None] < LENGTHS[:, None], PROMPTS, 7)
    assert jax.tree.all(
        jax.tree.map(np.array_equal, generate_completions(prompts=noisy_prompts), default_completions())
    )


def test_rows_are_independent():
    greedy = Sampling(temperature=0.0)
    batch_result = generate_completions(sampling=greedy)
    for row in range(3):
        row_result = generate_completions(prompts=PROMPTS[[row] * 3], lengths=LENGTHS[[row] * 3], sampling=greedy)
        assert np.array_equal(row_result.tokens, batch_result.tokens[[row] * 3])


def test_row_keys_give_equal_tokens_whatever_the_other_rows_are():
    keys = jax.random.split(jax.random.key(5), 3)
    batch_result = generate_completions(key=keys)
    for row in range(3):
        row_result = generate_completions(
            key=keys[row : row + 1], prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1]
        )
        assert np.array_equal(row_result.tokens[0], batch_result.tokens[row])
    order = np.array([2, 0, 1])
    permuted_result = generate_completions(key=keys[order], prompts=PROMPTS[order], lengths=LENGTHS[order])
    assert np.array_equal(permuted_result.tokens, batch_result.tokens[order])
    # One key for all rows is split by the index of the row.
    first_rows = generate_completions(prompts=PROMPTS[[0, 1, 0]], lengths=LENGTHS[[0, 1, 0]])
    assert np.array_equal(first_rows.tokens[:2], default_completions().tokens[:2])
    repeated_tokens = generate_completions(prompts=PROMPTS[[1, 1, 1]], lengths=LENGTHS[[1, 1, 1]]).tokens
    assert len(np.unique(repeated_tokens, axis=0)) == 3


def test_prompt_extended_by_its_first_tokens_gives_the_other_tokens():
    half = MAX_NEW_TOKENS // 2
    extended_prompt = np.concatenate([PROMPTS[1], default_completions().tokens[1, :half]])[None]
    keys = completions.split_by_row(jax.random.key(2), 3)
    result = generate_completions(
        key=keys[1:2], prompts=extended_prompt, lengths=np.int32([9 + half]), max_new_tokens=MAX_NEW_TOKENS - half
    )
    assert np.array_equal(result.tokens[0], default_completions().tokens[1, half:])


def test_equal_keys_give_equal_tokens_and_others_do_not():
    assert np.array_equal(generate_completions().tokens, default_completions().tokens)
    assert not np.array_equal(generate_completions(key=3).tokens, default_completions().tokens)


def test_first_token_frequencies_equal_model_probabilities():
    prompts = np.repeat(PROMPTS[1:2], 4000, axis=0)
    tokens = generate_completions(prompts=prompts, lengths=np.full(4000, 9, np.int32), max_new_tokens=1).tokens[:, 0]
    _, log_probs, _ = make_apply(MODEL)(PARAMS, PROMPTS[1])
    np.testing.assert_allclose(np.bincount(tokens, minlength=VOCAB_SIZE) / 4000, np.exp(log_probs[8]), atol=0.03)


def test_chunked_prefill_gives_equal_completions(monkeypatch):
    monkeypatch.setattr(prompts_module, "PREFILL_CHUNK", 4)
    chunked_result = generate_completions()
    assert np.array_equal(chunked_result.tokens, default_completions().tokens)
    np.testing.assert_allclose(chunked_result.log_prob, default_completions().log_prob, atol=1e-5)


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_cache_grown_in_stages_gives_equal_completions(pattern, monkeypatch):
    expected = generate_completions(make_model(pattern), sampling=NUCLEUS)
    monkeypatch.setattr(completions, "MIN_STAGE_TOKENS", 3)
    result = generate_completions(make_model(pattern), sampling=NUCLEUS)
    assert np.array_equal(result.tokens, expected.tokens)
    np.testing.assert_allclose(result.log_prob, expected.log_prob, atol=1e-5)


# Options


def test_stop_token_ends_only_its_row():
    result = generate_completions(stop_tokens=(STOP_TOKEN,))
    assert set(result.stopped.tolist()) == {False, True}
    for row in range(3):
        stop_positions = np.flatnonzero(default_completions().tokens[row] == STOP_TOKEN)
        length = stop_positions[0] + 1 if len(stop_positions) else MAX_NEW_TOKENS
        assert result.length[row] == length
        assert result.stopped[row] == bool(len(stop_positions))
        assert np.array_equal(result.tokens[row, :length], default_completions().tokens[row, :length])
        for array in (result.tokens, result.log_prob, result.value):
            assert np.all(array[row, length:] == 0)


@functools.cache
def force_tokens():
    """Forced tokens of each row, and the completions with them."""
    forced_tokens = np.full((3, MAX_NEW_TOKENS), -1, np.int32)
    forced_tokens[:, 0], forced_tokens[1, 3] = 5, 6
    return forced_tokens, generate_completions(forced_tokens=jnp.asarray(forced_tokens))


def test_forced_tokens_are_generated_and_scored():
    _, result = force_tokens()
    assert np.all(result.tokens[:, 0] == 5)
    assert result.tokens[1, 3] == 6
    for row, tokens, start in iterate_rows(result):
        _, log_probs, _ = make_apply(MODEL)(PARAMS, tokens)
        expected = [log_probs[position - 1, tokens[position]] for position in range(start, len(tokens))]
        np.testing.assert_allclose(result.log_prob[row], expected, atol=1e-4)


def test_forced_tokens_may_be_traced_arrays_and_the_same_in_all_rows():
    @jit
    def generate_tokens(forced_tokens):
        options = {"max_new_tokens": MAX_NEW_TOKENS, "forced_tokens": forced_tokens}
        return generate(MODEL, PARAMS, jax.random.key(2), PROMPTS, jnp.asarray(LENGTHS), **options).tokens

    forced_tokens, result = force_tokens()
    tokens = np.asarray(generate_tokens(forced_tokens[1]))
    assert np.array_equal(tokens[1], result.tokens[1])
    assert (tokens[:, [0, 3]] == [5, 6]).all()


def test_large_repetition_penalty_prevents_repeated_tokens():
    result = generate_completions(
        max_new_tokens=6, sampling=Sampling(repetition_penalty=1e9, top_k=3, temperature=1e-3)
    )
    row_tokens = np.concatenate([PROMPTS[2, :4], result.tokens[2]])
    completion = row_tokens[4:]
    has_no_repeats = len(set(completion)) == len(completion) and not set(completion) & set(PROMPTS[2, :4])
    assert has_no_repeats, row_tokens


def test_coordinates_are_computed_from_generated_tokens():
    model = make_model(position=positions.location())

    def locate(coordinates, token):  # length of the current run of even tokens
        return jnp.where((token % 2 == 0)[:, None], coordinates + 1, 0)

    result = generate_completions(model, locate=locate)
    for row, tokens, start in iterate_rows(result):
        coordinates, run_length = [], 0
        for token in np.pad(tokens, (0, 24 - len(tokens))):
            run_length = run_length + 1 if token % 2 == 0 else 0
            coordinates.append(run_length)
        _, log_probs, _ = make_apply(model)(PARAMS, tokens, coordinates=np.int32(coordinates)[None, :, None])
        expected = [log_probs[position - 1, tokens[position]] for position in range(start, len(tokens))]
        np.testing.assert_allclose(result.log_prob[row], expected, atol=1e-4)


# Streaming


extend_calls = []
"""Arguments of each call of `extend`, which happens only in tracing."""


@functools.cache
def get_streamer():
    def extend(*args, **options):
        extend_calls.append(args)
        return MODEL.extend(*args, **options)

    model = MODEL._replace(extend=extend)
    return make_streamer(
        model, max_prompt_tokens=9, max_new_tokens=MAX_NEW_TOKENS, chunk_size=3, stop_tokens=(STOP_TOKEN,)
    )


@pytest.mark.parametrize("row", range(3))
def test_streamer_yields_the_tokens_of_generate_in_chunks(row):
    rows = [row] * 3  # the first has the key of a stream
    expected = generate_completions(prompts=PROMPTS[rows], lengths=LENGTHS[rows], stop_tokens=(STOP_TOKEN,))
    chunks = list(get_streamer()(PARAMS, jax.random.key(2), PROMPTS[row, : LENGTHS[row]]))
    assert list(itertools.chain(*chunks)) == expected.tokens[0, : expected.length[0]].tolist()
    assert all(len(chunk) == 3 for chunk in chunks[:-1])
    assert 1 <= len(chunks[-1]) <= 3


def test_streamer_does_not_recompile_for_other_prompt_lengths():
    list(get_streamer()(PARAMS, jax.random.key(0), [1, 2]))
    num_calls = len(extend_calls)
    list(get_streamer()(PARAMS, jax.random.key(1), [3, 4, 5]))
    assert len(extend_calls) == num_calls > 0


# Errors


def generate_outside_jit(prompts=PROMPTS, lengths=LENGTHS):
    """Outside of `jit`, where lengths and tokens can be checked."""
    return generate(MODEL, PARAMS, jax.random.key(0), prompts, np.asarray(lengths, np.int32), max_new_tokens=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generate_completions(max_new_tokens=0), "max_new_tokens 0: allowed is 1 to 23"),
        (lambda: generate_completions(max_new_tokens=24), "max_new_tokens 24: allowed is 1 to 23"),
        (lambda: generate_completions(max_new_tokens=16), "9 tokens and 16 new ones.*context of 24; give at most 8"),
        (lambda: generate_completions(prompts=PROMPTS[:0], lengths=LENGTHS[:0]), r"shape \(0, 9\).*at least one row"),
        (lambda: generate_completions(prompts=PROMPTS[:, :0]), r"shape \(3, 0\).*at least one row of one token"),
        (lambda: generate_completions(lengths=LENGTHS[:2]), r"shape \(2,\).*each of 3 prompts"),
        (lambda: generate_outside_jit(lengths=[0, 1, 1]), "length 0; allowed is 1 to 9"),
        (lambda: generate_outside_jit(lengths=[1, 10, 1]), "length 10; allowed is 1 to 9"),
        (lambda: generate_outside_jit(prompts=PROMPTS + 9), "prompts holds 1.: allowed is 0 to 10"),
        (lambda: generate_completions(stop_tokens=(11,)), "stop_tokens holds 11: allowed is 0 to 10"),
        (
            lambda: generate_completions(forced_tokens=np.full(MAX_NEW_TOKENS, 12)),
            "forced_tokens holds 12: allowed is -1 to 10",
        ),
        (
            lambda: generate_completions(forced_tokens=np.full(3, 1)),
            r"forced_tokens has shape \(3,\); give \(8,\) or \(3, 8\)",
        ),
        (lambda: get_streamer()(PARAMS, jax.random.key(0), []), "prompt has length 0; allowed is 1 to 9"),
        (lambda: get_streamer()(PARAMS, jax.random.key(0), [1] * 10), "prompt has length 10; allowed is 1 to 9"),
        (lambda: get_streamer()(PARAMS, jax.random.key(0), [11]), "prompt holds 11: allowed is 0 to 10"),
        (
            lambda: make_streamer(MODEL, max_prompt_tokens=9, max_new_tokens=2, chunk_size=0),
            "chunk_size 0 .*at least 1",
        ),
    ],
)
def test_invalid_arguments_raise_a_one_line_error(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_prefill_and_generate_until_equal_generate():
    generator = make_generator(MODEL, max_new_tokens=MAX_NEW_TOKENS)
    state = jit(generator.prefill, static_argnums=4)(PARAMS, jax.random.key(2), PROMPTS, LENGTHS, MAX_NEW_TOKENS)
    generate_until = jit(generator.generate_until)
    for step in (1, 3, 100):
        state = generate_until(PARAMS, state, step)
    assert np.array_equal(state.completions.tokens, default_completions().tokens)
