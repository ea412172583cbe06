"""Supervised fine-tuning: exact match, levels of the curriculum, segments and coordinates."""

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

VOCAB_SIZE = 6
MODEL = decoder(vocab_size=VOCAB_SIZE, context_length=16, block=BlockConfig(8, 2), num_layers=1)
OPTIMIZER = optax.adam(0.03)
# In the first level, 3 follows 1 and 4 follows 2. In the second, the weighted tokens are random.
EASY_ROWS = pack([[1, 3, 3], [2, 4, 4]] * 4, 8, [[0, 1, 1]] * 8)
HARD_ROWS = pack([[5, 1, first, second] for first in (3, 4) for second in (3, 4)], 8, [[0, 0, 1, 1]] * 4)
DATA = PackedRows(*(np.concatenate(leaves) for leaves in zip(EASY_ROWS, HARD_ROWS, strict=True)))
LEVEL_STARTS = [0, len(EASY_ROWS.tokens), len(DATA.tokens)]


def run_training(sampler, num_steps):
    step = make_fine_tuning_step(MODEL, OPTIMIZER, DATA, sampler, batch_size=4, num_levels=2)
    initial_state = jit(functools.partial(init_fine_tuning, MODEL, OPTIMIZER, sampler))(jax.random.key(0))
    return jit(functools.partial(jax.lax.scan, step))(initial_state, jnp.arange(num_steps))


def test_exact_match_counts_texts_that_greedy_decoding_generates():
    params = jit(MODEL.init)(jax.random.key(3))
    prompts = np.random.default_rng(0).integers(1, VOCAB_SIZE, (40, 2))
    generate_fn = jit(functools.partial(generate, MODEL, max_new_tokens=2, sampling=Sampling(temperature=0.0)))
    completions = np.asarray(generate_fn(params, jax.random.key(0), prompts).tokens)
    sequences = [
        [*prompt, *(text if index % 2 else text[::-1])]
        for index, (prompt, text) in enumerate(zip(prompts, completions, strict=True))
    ]
    packed = pack(sequences, 16, [[0, 0, 1, 1]] * len(sequences))
    logits = jit(MODEL.apply)(params, packed.tokens, segments=packed.segments).logits
    num_texts, num_exact = jax.device_get(jit(count_exact_match)(logits, packed))
    is_correct = [np.array_equal(text[2:], expected) for text, expected in zip(sequences, completions, strict=True)]
    assert 0 < sum(is_correct) < len(is_correct) == num_texts.sum()
    assert num_exact.sum() == sum(is_correct)


def test_exact_match_ignores_unweighted_texts_and_padding():
    packed = pack([[1, 2], [3, 4]], 8, [[0, 0], [0, 1]])
    num_texts, num_exact = jit(count_exact_match)(
        np.eye(VOCAB_SIZE, dtype=np.float32)[np.roll(packed.tokens, -1, axis=1)], packed
    )
    assert num_texts.tolist() == num_exact.tolist() == [1.0]


def test_levels_unlock_at_the_success_threshold():
    sampler = level_sampler(curriculum(2, threshold=0.95, decay_attempts=32.0, min_attempts=16), LEVEL_STARTS)
    state, metrics = run_training(sampler, 60)
    num_unlocked = np.asarray(metrics["curriculum/num_unlocked"])
    assert num_unlocked[0] == 1
    assert num_unlocked[-1] == 2
    unlock_step = int(np.argmax(num_unlocked == 2))
    assert np.asarray(metrics["exact_match"])[: unlock_step + 1].max() > 0.9  # the second unlocks as the first succeeds
    assert float(estimate_success(state.sampler)[0]) > 0.9
    # Random tokens cannot be predicted.
    assert float(estimate_success(state.sampler)[1]) < 0.6


def test_texts_of_a_row_are_separate_unless_attend_across_texts():
    sampler = uniform_sampler(len(DATA.tokens))
    initial_state = jit(functools.partial(init_fine_tuning, MODEL, OPTIMIZER, sampler))(jax.random.key(0))
    for attend_across_texts in (False, True):
        step = make_fine_tuning_step(
            MODEL, OPTIMIZER, DATA, sampler, batch_size=len(DATA.tokens), attend_across_texts=attend_across_texts
        )
        segments = (DATA.segments > 0).astype(np.int32) if attend_across_texts else DATA.segments
        logits = jit(MODEL.apply)(initial_state.train_state.params, DATA.tokens, segments=segments).logits
        expected = mean_metrics(jit(next_token_sums)(logits, DATA.tokens, DATA.weights, DATA.segments))["loss"]
        assert float(jit(step)(initial_state, 0)[1]["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_coordinate_fn_gets_the_sampled_rows_and_a_key_of_the_step():
    model = decoder(
        vocab_size=VOCAB_SIZE, context_length=16, block=BlockConfig(8, 2, position=orthogonal()), num_layers=1
    )
    sampler = uniform_sampler(len(DATA.tokens))
    initial_state = jit(functools.partial(init_fine_tuning, model, OPTIMIZER, sampler))(jax.random.key(0))

    def coordinate_fn(key, tokens, segments):
        return (tokens * segments + jax.random.randint(key, (), 0, 16))[:, :, None]

    step = jit(
        make_fine_tuning_step(model, OPTIMIZER, DATA, sampler, batch_size=len(DATA.tokens), coordinate_fn=coordinate_fn)
    )
    first_loss, second_loss, other_loss = (float(step(initial_state, index)[1]["loss"]) for index in (0, 0, 1))
    assert first_loss == second_loss != other_loss
    # Every row is sampled once, so the loss equals that of one of the shifts.
    coordinates = (DATA.tokens * DATA.segments)[:, :, None]

    def loss(shift):
        logits = model.apply(
            initial_state.train_state.params, DATA.tokens, segments=DATA.segments, coordinates=coordinates + shift
        )
        return mean_metrics(next_token_sums(logits.logits, DATA.tokens, DATA.weights, DATA.segments))["loss"]

    losses = np.asarray(jit(lambda: jax.lax.map(loss, jnp.arange(16)))())
    assert np.abs(losses - first_loss).min() < 1e-5


def test_uniform_sampler_trains_on_every_row():
    state, metrics = run_training(uniform_sampler(len(DATA.tokens)), 60)
    assert state.sampler == ()
    assert 0.5 < float(metrics["exact_match"][-10:].mean()) < float(metrics["exact_match"].max()) <= 1
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])


def test_default_arguments_are_one_level_and_separate_texts():
    parameters = inspect.signature(make_fine_tuning_step).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert (defaults["num_levels"], defaults["coordinate_fn"], defaults["attend_across_texts"]) == (1, None, False)
