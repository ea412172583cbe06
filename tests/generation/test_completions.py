"""Generation: cached decoding agrees with passes over whole rows, and every option of generation holds."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.generation import completions
from thinking.generation import prompts as parts
from thinking.generation.completions import generate, make_generator, make_streamer
from thinking.generation.sampling import Sampling
from thinking.networks import positions
from thinking.networks.attention.patterns import Dense, Global, TopK, Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder

WORDS, NEW = 11, 8
PROMPTS = np.asarray(jax.random.randint(jax.random.key(1), (3, 9), 0, WORDS), np.int32)
LENGTHS = np.asarray([1, 9, 4], np.int32)


@functools.cache
def build(pattern=Dense(), context_length=24, **block):
    shape = BlockConfig(16, 4, **{"num_kv_heads": 2, **block})
    model = decoder(
        vocab_size=WORDS, context_length=context_length, block=shape, num_layers=1, pattern=pattern, value_head=True
    )
    return model, jit(model.init)(jax.random.key(0))


MODEL, PARAMS = build()


def compile_generate(model, new, sizes, **options):
    return jit(functools.partial(generate, model, max_new_tokens=new, **options))


cached_generate = functools.cache(compile_generate)
"""Compiled once for all tests, unless one of them changes the sizes by which it is traced."""


def complete(model=MODEL, params=PARAMS, key=2, prompts=PROMPTS, lengths=LENGTHS, new=NEW, **options):
    make = compile_generate if "forced_tokens" in options else cached_generate  # an array is no key of a cache
    generated = make(model, new, (completions.MIN_STAGE_TOKENS, parts.PREFILL_CHUNK), **options)
    return jax.device_get(generated(params, jax.random.key(key) if isinstance(key, int) else key, prompts, lengths))


@functools.cache
def make_reader(model):
    """Logits, log-probabilities and values of a row of 24 tokens, as NumPy arrays."""
    apply = jit(model.apply)

    def read(params, tokens, **where):
        output = jax.device_get(apply(params, np.pad(tokens, (0, 24 - len(tokens)))[None], **where))
        return output.logits[0], log_softmax(output.logits[0]), output.value[0]

    return read


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@functools.cache
def plain():
    return complete()


def rows_of(generated, prompts=PROMPTS, lengths=LENGTHS):
    """Each prompt with its completion, and where that starts."""
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        yield row, np.concatenate([prompt[:length], generated.tokens[row, : generated.length[row]]]), length


# Completions


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_log_probabilities_and_values_are_those_of_a_teacher_forced_pass(pattern):
    model, params = build(pattern)
    generated = complete(model, params, sampling=Sampling(temperature=1.3, top_p=0.9))
    for row, tokens, start in rows_of(generated):
        _, logs, value = make_reader(model)(params, tokens)
        expected = [logs[at - 1, tokens[at]] for at in range(start, len(tokens))]
        np.testing.assert_allclose(generated.log_prob[row], expected, atol=1e-4)
        np.testing.assert_allclose(generated.value[row], value[start - 1 : len(tokens) - 1], atol=1e-4)


def test_temperature_zero_generates_the_likeliest_token_each_time():
    generated = complete(sampling=Sampling(temperature=0.0))
    for _, tokens, start in rows_of(generated):
        logits, _, _ = make_reader(MODEL)(PARAMS, tokens)
        assert np.array_equal(tokens[start:], logits.argmax(axis=1)[start - 1 : len(tokens) - 1])


def test_what_follows_a_prompt_in_its_row_is_never_read():
    noisy = np.where(np.arange(9)[None] < LENGTHS[:, None], PROMPTS, 7)
    assert jax.tree.all(jax.tree.map(np.array_equal, complete(prompts=noisy), plain()))


def test_a_row_does_not_depend_on_the_other_rows():
    greedy = Sampling(temperature=0.0)
    together = complete(sampling=greedy)
    for row in range(3):
        alone = complete(prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1], sampling=greedy)
        assert np.array_equal(alone.tokens[0], together.tokens[row])


def test_a_row_samples_the_same_tokens_with_its_key_whatever_the_other_rows_are():
    keys = jax.random.split(jax.random.key(5), 3)
    together = complete(key=keys)
    for row in range(3):
        alone = complete(key=keys[row : row + 1], prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1])
        assert np.array_equal(alone.tokens[0], together.tokens[row])
    order = np.array([2, 0])
    assert np.array_equal(complete(key=keys[order], prompts=PROMPTS[order], lengths=LENGTHS[order]).tokens,
                          together.tokens[order])  # fmt: skip
    # With one key for all, a row has that of its index.
    assert np.array_equal(complete(prompts=PROMPTS[:2], lengths=LENGTHS[:2]).tokens, plain().tokens[:2])
    repeated = complete(prompts=PROMPTS[[1, 1, 1]], lengths=LENGTHS[[1, 1, 1]]).tokens
    assert len(np.unique(repeated, axis=0)) == 3


def test_a_prompt_with_the_first_tokens_of_its_completion_continues_with_the_others():
    half = NEW // 2
    longer = np.concatenate([PROMPTS[1], plain().tokens[1, :half]])[None]
    keys = completions.split_by_row(jax.random.key(2), 3)
    continued = complete(key=keys[1:2], prompts=longer, lengths=np.int32([9 + half]), new=NEW - half)
    assert np.array_equal(continued.tokens[0], plain().tokens[1, half:])


def test_equal_keys_generate_equally_and_others_do_not():
    assert np.array_equal(complete().tokens, plain().tokens)
    assert not np.array_equal(complete(key=3).tokens, plain().tokens)


def test_first_tokens_are_sampled_from_the_model():
    many = np.repeat(PROMPTS[1:2], 4000, axis=0)
    sampled = complete(prompts=many, lengths=np.full(4000, 9, np.int32), new=1).tokens[:, 0]
    _, logs, _ = make_reader(MODEL)(PARAMS, PROMPTS[1])
    np.testing.assert_allclose(np.bincount(sampled, minlength=WORDS) / 4000, np.exp(logs[8]), atol=0.03)


def test_long_prompts_are_read_in_parts(monkeypatch):
    monkeypatch.setattr(parts, "PREFILL_CHUNK", 4)
    in_parts = complete()
    assert np.array_equal(in_parts.tokens, plain().tokens)
    np.testing.assert_allclose(in_parts.log_prob, plain().log_prob, atol=1e-5)


@pytest.mark.parametrize("pattern", [Dense(), Window(4), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_a_cache_that_grows_in_stages_generates_as_one_of_full_size(pattern, monkeypatch):
    model, params = build(pattern)
    at_once = complete(model, params)
    monkeypatch.setattr(completions, "MIN_STAGE_TOKENS", 3)
    staged = complete(model, params)
    assert np.array_equal(staged.tokens, at_once.tokens)
    np.testing.assert_allclose(staged.log_prob, at_once.log_prob, atol=1e-5)


# Rules


def test_a_stop_token_ends_its_row_and_no_other():
    stop = int(plain().tokens[1, 2])
    generated = complete(stop_tokens=(stop,))
    for row in range(3):
        where = np.flatnonzero(plain().tokens[row] == stop)
        length = where[0] + 1 if len(where) else NEW
        assert generated.length[row] == length
        assert generated.stopped[row] == bool(len(where))
        assert np.array_equal(generated.tokens[row, :length], plain().tokens[row, :length])
        for rest in (generated.tokens, generated.log_prob, generated.value):
            assert np.all(rest[row, length:] == 0)


def test_forced_tokens_are_generated_and_read_like_any_other():
    forced = np.full((3, NEW), -1, np.int32)
    forced[:, 0], forced[1, 3] = 5, 6
    generated = complete(forced_tokens=jnp.asarray(forced))
    assert np.all(generated.tokens[:, 0] == 5)
    assert generated.tokens[1, 3] == 6
    for row, tokens, start in rows_of(generated):
        _, logs, _ = make_reader(MODEL)(PARAMS, tokens)
        expected = [logs[at - 1, tokens[at]] for at in range(start, len(tokens))]
        np.testing.assert_allclose(generated.log_prob[row], expected, atol=1e-4)
    assert np.array_equal(complete(forced_tokens=jnp.asarray(forced[1])).tokens[1], generated.tokens[1])


def test_forced_tokens_may_be_traced():
    forced = np.where(np.arange(NEW)[None] == 1, np.int32(4), -1).repeat(3, axis=0)

    @jit
    def generated(forced):
        options = {"max_new_tokens": NEW, "forced_tokens": forced}
        return generate(MODEL, PARAMS, jax.random.key(2), PROMPTS, jnp.asarray(LENGTHS), **options)

    assert np.array_equal(generated(forced).tokens, complete(forced_tokens=forced).tokens)


def test_a_huge_repetition_penalty_repeats_no_token_of_prompt_or_completion():
    generated = complete(new=6, sampling=Sampling(repetition_penalty=1e9, top_k=3, temperature=1e-3))
    tokens_of_row = np.concatenate([PROMPTS[2, :4], generated.tokens[2]])
    new = tokens_of_row[4:]
    positive = len(set(new)) == len(new) and not set(new) & set(PROMPTS[2, :4])
    assert positive, tokens_of_row


def test_coordinates_follow_the_tokens_as_they_are_generated():
    model, params = build(position=positions.location())

    def locate(where, token):  # how long the run of even tokens is
        return jnp.where((token % 2 == 0)[:, None], where + 1, 0)

    generated = complete(model, params, locate=locate)
    for row, tokens, start in rows_of(generated):
        where, run = [], 0
        for token in np.pad(tokens, (0, 24 - len(tokens))):
            run = run + 1 if token % 2 == 0 else 0
            where.append(run)
        _, logs, _ = make_reader(model)(params, tokens, coordinates=np.int32(where)[None, :, None])
        expected = [logs[at - 1, tokens[at]] for at in range(start, len(tokens))]
        np.testing.assert_allclose(generated.log_prob[row], expected, atol=1e-4)


# Streaming


STOP = 6
"""What streams take for the end; two of the three texts come to it."""

traces = []
"""One for each time that the model is traced."""


@functools.cache
def streaming():
    def extend(*args, **options):
        traces.append(args)
        return MODEL.extend(*args, **options)

    model = MODEL._replace(extend=extend)
    return make_streamer(model, max_prompt_tokens=9, max_new_tokens=NEW, chunk_size=3, stop_tokens=(STOP,))


@pytest.mark.parametrize("row", range(3))
def test_a_stream_yields_what_generate_generates_in_chunks(row):
    whole = complete(prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1], stop_tokens=(STOP,))
    chunks = list(streaming()(PARAMS, jax.random.key(2), PROMPTS[row, : LENGTHS[row]]))
    assert list(itertools.chain(*chunks)) == whole.tokens[0, : whole.length[0]].tolist()
    assert all(len(chunk) == 3 for chunk in chunks[:-1])
    assert 1 <= len(chunks[-1]) <= 3


def test_prompts_of_any_length_are_streamed_without_compiling_again():
    list(streaming()(PARAMS, jax.random.key(0), [1, 2]))
    before = len(traces)
    list(streaming()(PARAMS, jax.random.key(1), [3, 4, 5]))
    assert len(traces) == before > 0


# Refusals


def generate_outside_jit(prompts=PROMPTS, lengths=LENGTHS):
    """Outside of `jit`, where numbers can be looked at."""
    return generate(MODEL, PARAMS, jax.random.key(0), prompts, np.asarray(lengths, np.int32), max_new_tokens=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: complete(new=0), "max_new_tokens 0: allowed is 1 to 23"),
        (lambda: complete(new=24), "max_new_tokens 24: allowed is 1 to 23"),
        (lambda: complete(new=16), "9 tokens and 16 new ones.*context of 24; give at most 8"),
        (lambda: complete(prompts=PROMPTS[:0], lengths=LENGTHS[:0]), r"shape \(0, 9\).*at least one row"),
        (lambda: complete(prompts=PROMPTS[:, :0]), r"shape \(3, 0\).*at least one row of one token"),
        (lambda: complete(lengths=LENGTHS[:2]), r"shape \(2,\).*each of 3 prompts"),
        (lambda: generate_outside_jit(lengths=[0, 1, 1]), "length 0; allowed is 1 to 9"),
        (lambda: generate_outside_jit(lengths=[1, 10, 1]), "length 10; allowed is 1 to 9"),
        (lambda: generate_outside_jit(prompts=PROMPTS + 9), "prompts holds 1.: allowed is 0 to 10"),
        (lambda: complete(stop_tokens=(11,)), "stop_tokens holds 11: allowed is 0 to 10"),
        (lambda: complete(forced_tokens=np.full(NEW, 12)), "forced_tokens holds 12: allowed is -1 to 10"),
        (lambda: complete(forced_tokens=np.full(3, 1)), r"forced_tokens has shape \(3,\); give \(8,\) or \(3, 8\)"),
        (lambda: streaming()(PARAMS, jax.random.key(0), []), "prompt has length 0; allowed is 1 to 9"),
        (lambda: streaming()(PARAMS, jax.random.key(0), [1] * 10), "prompt has length 10; allowed is 1 to 9"),
        (lambda: streaming()(PARAMS, jax.random.key(0), [11]), "prompt holds 11: allowed is 0 to 10"),
        (
            lambda: make_streamer(MODEL, max_prompt_tokens=9, max_new_tokens=2, chunk_size=0),
            "chunk_size 0 .*at least 1",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused_with_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_prefill_and_any_number_of_calls_of_generate_until_give_what_generate_gives():
    generator = make_generator(MODEL, max_new_tokens=NEW)
    state = jit(generator.prefill, static_argnums=4)(PARAMS, jax.random.key(2), PROMPTS, LENGTHS, NEW)
    generate_until = jit(generator.generate_until)
    for until in (1, 3, 100):
        state = generate_until(PARAMS, state, until)
    assert np.array_equal(state.completions.tokens, plain().tokens)
