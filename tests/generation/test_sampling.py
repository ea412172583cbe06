"""Sampling of tokens: each rule against a Python loop or known numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.generation.sampling import Sampling, process_logits, sample_tokens, split_by_row

VOCAB_SIZE = 6
LOGITS = np.float32([[2.0, 1.0, 0.0, -1.0, -2.0, -3.0], [0.5, 0.4, -0.3, 3.0, 0.1, 0.0]])
EMPTY_MASK = np.zeros((2, VOCAB_SIZE), bool)


def process(sampling, logits=LOGITS, token_mask=EMPTY_MASK):
    return np.asarray(jit(lambda logits, token_mask: process_logits(sampling, logits, token_mask))(logits, token_mask))


def find_allowed_tokens(sampling, logits=LOGITS):
    return [set(np.flatnonzero(np.isfinite(row))) for row in process(sampling, logits)]


def test_defaults_leave_the_logits_unchanged():
    assert np.array_equal(process(Sampling()), LOGITS)


def test_temperature_divides_the_logits():
    np.testing.assert_allclose(process(Sampling(temperature=0.5)), 2 * LOGITS)


def test_temperature_zero_samples_the_argmax():
    assert find_allowed_tokens(Sampling(temperature=0.0)) == [{0}, {3}]
    sample = jit(lambda key: sample_tokens(Sampling(temperature=0.0), split_by_row(key, 2), LOGITS, EMPTY_MASK))
    assert np.array_equal(sample(jax.random.key(0)), [0, 3])


@pytest.mark.parametrize("temperature", [1e-3, 1e-6])
def test_temperature_near_zero_samples_the_argmax(temperature):
    sample = jit(lambda key: sample_tokens(Sampling(temperature=temperature), split_by_row(key, 2), LOGITS, EMPTY_MASK))
    assert np.array_equal(sample(jax.random.key(0)), [0, 3])


def test_tokens_with_probability_zero_are_never_sampled():
    logits = np.where(np.arange(300) % 7 == 3, np.float32(0), -np.inf)[None]
    sample_batch = jit(jax.vmap(lambda key: sample_tokens(Sampling(), key[None], logits, np.zeros((1, 300), bool))))
    tokens = np.asarray(sample_batch(jax.random.split(jax.random.key(0), 20_000)))
    assert np.all(tokens % 7 == 3)
    assert len(np.unique(tokens)) == 43


def test_repetition_penalty_lowers_positive_and_negative_logits():
    token_mask = EMPTY_MASK.copy()
    token_mask[0, [0, 3]] = True
    expected = LOGITS.copy()
    expected[0, 0], expected[0, 3] = 2.0 / 1.5, -1.0 * 1.5
    np.testing.assert_allclose(process(Sampling(repetition_penalty=1.5), token_mask=token_mask), expected)


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, [{0}, {3}]), (3, [{0, 1, 2}, {3, 0, 1}]), (9, [set(range(6))] * 2)]
)
def test_top_k_keeps_the_most_likely_tokens(top_k, expected):
    assert find_allowed_tokens(Sampling(top_k=top_k)) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-64, 64).map(lambda n: n / 16), min_size=VOCAB_SIZE, max_size=VOCAB_SIZE, unique=True))
def test_top_p_keeps_the_smallest_nucleus(logits):
    actual = np.flatnonzero(np.isfinite(np.asarray(_process_top_p(np.float32([logits])))[0]))
    probabilities = np.exp(np.float64(logits)) / np.sum(np.exp(np.float64(logits)))
    order = np.argsort(-probabilities)
    expected, total = [], 0.0
    for token in order:
        expected.append(token)
        total += probabilities[token]
        if total >= 0.7:
            break
    if abs(total - 0.7) > 1e-5:  # otherwise rounding decides
        assert set(actual) == set(expected)


_process_top_p = jit(lambda logits: process_logits(Sampling(top_p=0.7), logits, jnp.zeros((1, VOCAB_SIZE), bool)))


def test_min_p_is_relative_to_the_highest_probability():
    threshold = math.exp(-2.0)
    assert find_allowed_tokens(Sampling(min_p=threshold * 0.999)) == [{0, 1, 2}, {3}]
    assert find_allowed_tokens(Sampling(min_p=threshold * 1.001))[0] == {0, 1}


def test_sample_frequencies_equal_probabilities():
    sampling = Sampling(temperature=2.0, top_k=3)
    sample_batch = jit(jax.vmap(lambda key: sample_tokens(sampling, split_by_row(key, 2), LOGITS, EMPTY_MASK)))
    tokens = np.asarray(sample_batch(jax.random.split(jax.random.key(0), 4000)))
    for row in range(2):
        weights = np.exp(LOGITS[row] / 2) * (LOGITS[row] >= np.sort(LOGITS[row])[-3])
        frequencies = np.bincount(tokens[:, row], minlength=VOCAB_SIZE) / 4000
        np.testing.assert_allclose(frequencies, weights / weights.sum(), atol=0.03)


def test_split_by_row_gives_one_key_per_row():
    key = jax.random.key(0)
    two_keys, three_keys = (np.asarray(jax.random.key_data(split_by_row(key, num_rows))) for num_rows in (2, 3))
    np.testing.assert_array_equal(two_keys, three_keys[:2])
    assert len(np.unique(three_keys, axis=0)) == 3
    assert split_by_row(jax.random.split(key, 3), 3).shape == (3,)
    with pytest.raises(ValueError, match=r"keys of shape \(3,\) for 2 rows; give one key, or one a row"):
        split_by_row(jax.random.split(key, 3), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature -1.0: allowed is 0, or .*from 1e-6"),
        ({"temperature": 1e-9}, "temperature 1e-09: allowed is 0, or .*from 1e-6"),
        ({"temperature": math.inf}, "temperature inf: allowed is 0, or a finite number"),
        ({"top_k": -1}, "top_k -1: allowed is .*from 0"),
        ({"top_p": 0.0}, "top_p 0.0: allowed is above 0 to 1"),
        ({"min_p": 1.5}, "min_p 1.5: allowed is 0 to 1"),
        ({"repetition_penalty": 0.5}, "repetition_penalty 0.5: allowed is .*from 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_invalid_options_raise_a_one_line_error(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Sampling(**options)
    assert "\n" not in str(error.value)
