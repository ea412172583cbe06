"""Generation: what is written over a cache is what reading whole rows says, and every rule of writing holds."""

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


def new_writer(model, new, sizes, **options):
    return jit(functools.partial(generate, model, max_new_tokens=new, **options))


writer = functools.cache(new_writer)
"""Compiled once for all tests, unless one of them changes the sizes by which it is traced."""


def write(model=MODEL, params=PARAMS, key=2, prompts=PROMPTS, lengths=LENGTHS, new=NEW, **options):
    make = new_writer if "forced_tokens" in options else writer  # an array is no key of a cache
    written = make(model, new, (completions.MIN_STAGE_TOKENS, parts.PREFILL_CHUNK), **options)
    return jax.device_get(written(params, jax.random.key(key), prompts, lengths))


@functools.cache
def reader(model):
    """What a model reads of a row of 24 tokens, as NumPy arrays."""
    apply = jit(model.apply)

    def read(params, tokens, **where):
        reading = jax.device_get(apply(params, np.pad(tokens, (0, 24 - len(tokens)))[None], **where))
        return reading.logits[0], log_softmax(reading.logits[0]), reading.value[0]

    return read


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@functools.cache
def plain():
    return write()


def rows_of(written, prompts=PROMPTS, lengths=LENGTHS):
    """Each prompt with what was written behind it, and where that begins."""
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        yield row, np.concatenate([prompt[:length], written.tokens[row, : written.length[row]]]), length


# What is written


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_log_probabilities_and_values_are_those_of_a_teacher_forced_pass(pattern):
    model, params = build(pattern)
    written = write(model, params, sampling=Sampling(temperature=1.3, top_p=0.9))
    for row, tokens, begin in rows_of(written):
        _, logs, value = reader(model)(params, tokens)
        wanted = [logs[at - 1, tokens[at]] for at in range(begin, len(tokens))]
        np.testing.assert_allclose(written.log_prob[row], wanted, atol=1e-4)
        np.testing.assert_allclose(written.value[row], value[begin - 1 : len(tokens) - 1], atol=1e-4)


def test_temperature_zero_writes_the_likeliest_token_each_time():
    written = write(sampling=Sampling(temperature=0.0))
    for _, tokens, begin in rows_of(written):
        said, _, _ = reader(MODEL)(PARAMS, tokens)
        assert np.array_equal(tokens[begin:], said.argmax(axis=1)[begin - 1 : len(tokens) - 1])


def test_what_follows_a_prompt_in_its_row_is_never_read():
    noisy = np.where(np.arange(9)[None] < LENGTHS[:, None], PROMPTS, 7)
    assert jax.tree.all(jax.tree.map(np.array_equal, write(prompts=noisy), plain()))


def test_a_row_is_written_alike_whatever_stands_beside_it():
    greedy = Sampling(temperature=0.0)
    together = write(sampling=greedy)
    for row in range(3):
        alone = write(prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1], sampling=greedy)
        assert np.array_equal(alone.tokens[0], together.tokens[row])


def test_equal_keys_write_equally_and_others_do_not():
    assert np.array_equal(write().tokens, plain().tokens)
    assert not np.array_equal(write(key=3).tokens, plain().tokens)


def test_first_tokens_are_drawn_as_the_model_says():
    many = np.repeat(PROMPTS[1:2], 4000, axis=0)
    drawn = write(prompts=many, lengths=np.full(4000, 9, np.int32), new=1).tokens[:, 0]
    _, logs, _ = reader(MODEL)(PARAMS, PROMPTS[1])
    np.testing.assert_allclose(np.bincount(drawn, minlength=WORDS) / 4000, np.exp(logs[8]), atol=0.03)


def test_long_prompts_are_read_in_parts(monkeypatch):
    monkeypatch.setattr(parts, "PREFILL_CHUNK", 4)
    in_parts = write()
    assert np.array_equal(in_parts.tokens, plain().tokens)
    np.testing.assert_allclose(in_parts.log_prob, plain().log_prob, atol=1e-5)


@pytest.mark.parametrize("pattern", [Dense(), Window(4), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_a_cache_that_grows_in_stages_writes_as_one_of_full_size(pattern, monkeypatch):
    model, params = build(pattern)
    at_once = write(model, params)
    monkeypatch.setattr(completions, "MIN_STAGE_TOKENS", 3)
    staged = write(model, params)
    assert np.array_equal(staged.tokens, at_once.tokens)
    np.testing.assert_allclose(staged.log_prob, at_once.log_prob, atol=1e-5)


# Rules


def test_a_stop_token_ends_its_row_and_no_other():
    stop = int(plain().tokens[1, 2])
    written = write(stop_tokens=(stop,))
    for row in range(3):
        where = np.flatnonzero(plain().tokens[row] == stop)
        length = where[0] + 1 if len(where) else NEW
        assert written.length[row] == length
        assert written.stopped[row] == bool(len(where))
        assert np.array_equal(written.tokens[row, :length], plain().tokens[row, :length])
        for rest in (written.tokens, written.log_prob, written.value):
            assert np.all(rest[row, length:] == 0)


def test_forced_tokens_are_written_and_read_like_any_other():
    forced = np.full((3, NEW), -1, np.int32)
    forced[:, 0], forced[1, 3] = 5, 6
    written = write(forced_tokens=jnp.asarray(forced))
    assert np.all(written.tokens[:, 0] == 5)
    assert written.tokens[1, 3] == 6
    for row, tokens, begin in rows_of(written):
        _, logs, _ = reader(MODEL)(PARAMS, tokens)
        wanted = [logs[at - 1, tokens[at]] for at in range(begin, len(tokens))]
        np.testing.assert_allclose(written.log_prob[row], wanted, atol=1e-4)
    assert np.array_equal(write(forced_tokens=jnp.asarray(forced[1])).tokens[1], written.tokens[1])


def test_what_is_forced_may_be_traced():
    forced = np.where(np.arange(NEW)[None] == 1, np.int32(4), -1).repeat(3, axis=0)

    @jit
    def written(forced):
        options = {"max_new_tokens": NEW, "forced_tokens": forced}
        return generate(MODEL, PARAMS, jax.random.key(2), PROMPTS, jnp.asarray(LENGTHS), **options)

    assert np.array_equal(written(forced).tokens, write(forced_tokens=forced).tokens)


def test_a_huge_repetition_penalty_repeats_no_word_of_prompt_or_text():
    written = write(new=6, sampling=Sampling(repetition_penalty=1e9, top_k=3, temperature=1e-3))
    words = np.concatenate([PROMPTS[2, :4], written.tokens[2]])
    new = words[4:]
    positive = len(set(new)) == len(new) and not set(new) & set(PROMPTS[2, :4])
    assert positive, words


def test_tokens_tell_where_they_are_as_the_text_grows():
    model, params = build(position=positions.location())

    def locate(where, token):  # how long the run of even tokens is
        return jnp.where((token % 2 == 0)[:, None], where + 1, 0)

    written = write(model, params, locate=locate)
    for row, tokens, begin in rows_of(written):
        where, run = [], 0
        for token in np.pad(tokens, (0, 24 - len(tokens))):
            run = run + 1 if token % 2 == 0 else 0
            where.append(run)
        _, logs, _ = reader(model)(params, tokens, coordinates=np.int32(where)[None, :, None])
        wanted = [logs[at - 1, tokens[at]] for at in range(begin, len(tokens))]
        np.testing.assert_allclose(written.log_prob[row], wanted, atol=1e-4)


# Streaming


STOP = 6
"""What streams take for the end; two of the three texts come to it."""

readings = []
"""One for each time that the model is traced."""


@functools.cache
def streaming():
    def extend(*args, **options):
        readings.append(args)
        return MODEL.extend(*args, **options)

    model = MODEL._replace(extend=extend)
    return make_streamer(model, max_prompt_tokens=9, max_new_tokens=NEW, chunk_size=3, stop_tokens=(STOP,))


@pytest.mark.parametrize("row", range(3))
def test_a_stream_hands_on_what_generate_writes_piece_by_piece(row):
    whole = write(prompts=PROMPTS[row : row + 1], lengths=LENGTHS[row : row + 1], stop_tokens=(STOP,))
    pieces = list(streaming()(PARAMS, jax.random.key(2), PROMPTS[row, : LENGTHS[row]]))
    assert list(itertools.chain(*pieces)) == whole.tokens[0, : whole.length[0]].tolist()
    assert all(len(piece) == 3 for piece in pieces[:-1])
    assert 1 <= len(pieces[-1]) <= 3


def test_prompts_of_any_length_are_streamed_without_compiling_again():
    list(streaming()(PARAMS, jax.random.key(0), [1, 2]))
    before = len(readings)
    list(streaming()(PARAMS, jax.random.key(1), [3, 4, 5]))
    assert len(readings) == before > 0


# Refusals


def known(prompts=PROMPTS, lengths=LENGTHS):
    """Outside of `jit`, where numbers can be looked at."""
    return generate(MODEL, PARAMS, jax.random.key(0), prompts, np.asarray(lengths, np.int32), max_new_tokens=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: write(new=0), "max_new_tokens 0: allowed is 1 to 23"),
        (lambda: write(new=24), "max_new_tokens 24: allowed is 1 to 23"),
        (lambda: write(new=16), "9 tokens and 16 new ones.*context of 24; give at most 8"),
        (lambda: write(prompts=PROMPTS[:0], lengths=LENGTHS[:0]), r"shape \(0, 9\).*at least one row"),
        (lambda: write(prompts=PROMPTS[:, :0]), r"shape \(3, 0\).*at least one row of one token"),
        (lambda: write(lengths=LENGTHS[:2]), r"shape \(2,\).*each of 3 prompts"),
        (lambda: known(lengths=[0, 1, 1]), "length 0; allowed is 1 to 9"),
        (lambda: known(lengths=[1, 10, 1]), "length 10; allowed is 1 to 9"),
        (lambda: known(prompts=PROMPTS + 9), "prompts holds 1.: allowed is 0 to 10"),
        (lambda: write(stop_tokens=(11,)), "stop_tokens holds 11: allowed is 0 to 10"),
        (lambda: write(forced_tokens=np.full(NEW, 12)), "forced_tokens holds 12: allowed is -1 to 10"),
        (lambda: write(forced_tokens=np.full(3, 1)), r"forced_tokens has shape \(3,\); give \(8,\) or \(3, 8\)"),
        (lambda: streaming()(PARAMS, jax.random.key(0), []), "prompt has length 0; allowed is 1 to 9"),
        (lambda: streaming()(PARAMS, jax.random.key(0), [1] * 10), "prompt has length 10; allowed is 1 to 9"),
        (lambda: streaming()(PARAMS, jax.random.key(0), [11]), "prompt holds 11: allowed is 0 to 10"),
        (
            lambda: make_streamer(MODEL, max_prompt_tokens=9, max_new_tokens=2, chunk_size=0),
            "chunk_size 0 .*at least 1",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_with_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_begin_and_write_may_be_called_one_after_the_other_for_as_long_as_one_likes():
    made = make_generator(MODEL, max_new_tokens=NEW)
    writing = jit(made.prefill, static_argnums=4)(PARAMS, jax.random.key(2), PROMPTS, LENGTHS, NEW)
    go_on = jit(made.generate_until)
    for until in (1, 3, 100):
        writing = go_on(PARAMS, writing, until)
    assert np.array_equal(writing.completions.tokens, plain().tokens)
