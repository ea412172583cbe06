"""Supervised training: what counts as mastered is what the model would write, and a syllabus is told of it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.quick import jit

from thinking.generation.completions import generate
from thinking.generation.sampling import Sampling
from thinking.learning.curriculum import curriculum, estimate_success, level_sampler, uniform_sampler
from thinking.learning.supervised import mean_metrics, next_token_sums
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.networks.positions import orthogonal
from thinking.reasoning.post_training.fine_tuning import count_exact_match, init_fine_tuning, make_fine_tuning_step
from thinking.text.packing import PackedRows, pack

WORDS = 6
MODEL = decoder(vocab_size=WORDS, context_length=16, block=BlockConfig(8, 2), num_layers=1)
OPTIMIZER = optax.adam(0.03)
# The first level says 3 after 1 and 4 after 2; the second says them backwards, at random.
EASY = pack([[1, 3, 3], [2, 4, 4]] * 4, 8, [[0, 1, 1]] * 8)
HARD = pack([[5, 1, first, second] for first in (3, 4) for second in (3, 4)], 8, [[0, 0, 1, 1]] * 4)
DATA = PackedRows(*(np.concatenate(leaves) for leaves in zip(EASY, HARD, strict=True)))
STARTS = [0, len(EASY.tokens), len(DATA.tokens)]


def run_training(sampler, steps):
    step = make_fine_tuning_step(MODEL, OPTIMIZER, DATA, sampler, batch_size=4, num_levels=2)
    initial_state = jit(functools.partial(init_fine_tuning, MODEL, OPTIMIZER, sampler))(jax.random.key(0))
    return jit(functools.partial(jax.lax.scan, step))(initial_state, jnp.arange(steps))


def test_what_is_mastered_is_what_would_be_written():
    params = jit(MODEL.init)(jax.random.key(3))
    drawn = np.random.default_rng(0).integers(1, WORDS, (40, 2))
    write = jit(functools.partial(generate, MODEL, max_new_tokens=2, sampling=Sampling(temperature=0.0)))
    generated = np.asarray(write(params, jax.random.key(0), drawn).tokens)
    sequences = [
        [*prompt, *(text if index % 2 else text[::-1])]
        for index, (prompt, text) in enumerate(zip(drawn, generated, strict=True))
    ]
    packed = pack(sequences, 16, [[0, 0, 1, 1]] * len(sequences))
    logits = jit(MODEL.apply)(params, packed.tokens, segments=packed.segments).logits
    texts, exact = jax.device_get(jit(count_exact_match)(logits, packed))
    right = [np.array_equal(text[2:], expected) for text, expected in zip(sequences, generated, strict=True)]
    assert 0 < sum(right) < len(right) == texts.sum()
    assert exact.sum() == sum(right)


def test_texts_without_weight_and_padding_are_not_counted():
    packed = pack([[1, 2], [3, 4]], 8, [[0, 0], [0, 1]])
    texts, exact = jit(count_exact_match)(np.eye(WORDS, dtype=np.float32)[np.roll(packed.tokens, -1, axis=1)], packed)
    assert texts.tolist() == exact.tolist() == [1.0]


def test_levels_open_as_they_are_mastered_and_all_that_was_measured_is_kept():
    sampler = level_sampler(curriculum(2, threshold=0.95, decay_attempts=32.0, min_attempts=16), STARTS)
    state, metrics = run_training(sampler, 60)
    opened = np.asarray(metrics["levels_open"])
    assert opened[0] == 1
    assert opened[-1] == 2
    first = int(np.argmax(opened == 2))
    assert np.asarray(metrics["exact"])[: first + 1].max() > 0.9  # the second opens because the first went well
    assert float(estimate_success(state.sampler)[0]) > 0.9
    # What cannot be foretold is not mastered.
    assert float(estimate_success(state.sampler)[1]) < 0.6


def test_texts_of_a_row_see_each_other_only_where_they_are_mixed():
    sampler = uniform_sampler(len(DATA.tokens))
    initial_state = jit(functools.partial(init_fine_tuning, MODEL, OPTIMIZER, sampler))(jax.random.key(0))
    for mixed in (False, True):
        step = make_fine_tuning_step(
            MODEL, OPTIMIZER, DATA, sampler, batch_size=len(DATA.tokens), attend_across_texts=mixed
        )
        segments = (DATA.segments > 0).astype(np.int32) if mixed else DATA.segments
        logits = jit(MODEL.apply)(initial_state.train_state.params, DATA.tokens, segments=segments).logits
        expected = mean_metrics(jit(next_token_sums)(logits, DATA.tokens, DATA.weights, DATA.segments))["loss"]
        assert float(jit(step)(initial_state, 0)[1]["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_places_are_told_of_the_rows_that_are_drawn_by_a_key_of_the_step():
    model = decoder(vocab_size=WORDS, context_length=16, block=BlockConfig(8, 2, position=orthogonal()), num_layers=1)
    sampler = uniform_sampler(len(DATA.tokens))
    initial_state = jit(functools.partial(init_fine_tuning, model, OPTIMIZER, sampler))(jax.random.key(0))

    def coordinate_fn(key, tokens, segments):
        return (tokens * segments + jax.random.randint(key, (), 0, 16))[:, :, None]

    step = jit(
        make_fine_tuning_step(model, OPTIMIZER, DATA, sampler, batch_size=len(DATA.tokens), coordinate_fn=coordinate_fn)
    )
    once, again, other = (float(step(initial_state, index)[1]["loss"]) for index in (0, 0, 1))
    assert once == again != other
    # Every row was drawn once, so one of the shifts explains what was seen.
    coordinates = (DATA.tokens * DATA.segments)[:, :, None]

    def loss(shift):
        logits = model.apply(
            initial_state.train_state.params, DATA.tokens, segments=DATA.segments, coordinates=coordinates + shift
        )
        return mean_metrics(next_token_sums(logits.logits, DATA.tokens, DATA.weights, DATA.segments))["loss"]

    losses = np.asarray(jit(lambda: jax.lax.map(loss, jnp.arange(16)))())
    assert np.abs(losses - once).min() < 1e-5


def test_without_levels_every_row_is_learned():
    state, metrics = run_training(uniform_sampler(len(DATA.tokens)), 60)
    assert state.sampler == ()
    assert 0.5 < float(metrics["exact"][-10:].mean()) < float(metrics["exact"].max()) <= 1
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])


def test_defaults_are_one_level_and_texts_apart():
    defaults = {name: each.default for name, each in inspect.signature(make_fine_tuning_step).parameters.items()}
    assert (defaults["num_levels"], defaults["coordinate_fn"], defaults["attend_across_texts"]) == (1, None, False)
