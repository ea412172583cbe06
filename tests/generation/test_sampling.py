"""Drawing tokens: each rule against a plain loop, or numbers by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.generation.sampling import Sampling, process_logits, sample_tokens, split_by_row

WORDS = 6
LOGITS = np.float32([[2.0, 1.0, 0.0, -1.0, -2.0, -3.0], [0.5, 0.4, -0.3, 3.0, 0.1, 0.0]])
NOTHING = np.zeros((2, WORDS), bool)


def left(sampling, logits=LOGITS, token_mask=NOTHING):
    return np.asarray(jit(lambda logits, token_mask: process_logits(sampling, logits, token_mask))(logits, token_mask))


def kept(sampling, logits=LOGITS):
    return [set(np.flatnonzero(np.isfinite(row))) for row in left(sampling, logits)]


def test_the_defaults_leave_logits_as_they_are():
    assert np.array_equal(left(Sampling()), LOGITS)


def test_temperature_divides():
    np.testing.assert_allclose(left(Sampling(temperature=0.5)), 2 * LOGITS)


def test_temperature_zero_takes_the_likeliest():
    assert kept(Sampling(temperature=0.0)) == [{0}, {3}]
    sampled = jit(lambda key: sample_tokens(Sampling(temperature=0.0), split_by_row(key, 2), LOGITS, NOTHING))
    assert np.array_equal(sampled(jax.random.key(0)), [0, 3])


@pytest.mark.parametrize("temperature", [1e-3, 1e-6])
def test_a_temperature_near_zero_takes_the_likeliest_too(temperature):
    sampled = jit(lambda key: sample_tokens(Sampling(temperature=temperature), split_by_row(key, 2), LOGITS, NOTHING))
    assert np.array_equal(sampled(jax.random.key(0)), [0, 3])


def test_no_excluded_token_is_ever_sampled():
    logits = np.where(np.arange(300) % 7 == 3, np.float32(0), -np.inf)[None]
    many = jit(jax.vmap(lambda key: sample_tokens(Sampling(), key[None], logits, np.zeros((1, 300), bool))))
    sampled = np.asarray(many(jax.random.split(jax.random.key(0), 20_000)))
    assert np.all(sampled % 7 == 3)
    assert len(np.unique(sampled)) == 43


def test_a_repetition_penalty_makes_repeated_tokens_less_likely_whatever_their_sign():
    token_mask = NOTHING.copy()
    token_mask[0, [0, 3]] = True
    expected = LOGITS.copy()
    expected[0, 0], expected[0, 3] = 2.0 / 1.5, -1.0 * 1.5
    np.testing.assert_allclose(left(Sampling(repetition_penalty=1.5), token_mask=token_mask), expected)


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, [{0}, {3}]), (3, [{0, 1, 2}, {3, 0, 1}]), (9, [set(range(6))] * 2)]
)
def test_top_k_keeps_the_likeliest_tokens(top_k, expected):
    assert kept(Sampling(top_k=top_k)) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-64, 64).map(lambda n: n / 16), min_size=WORDS, max_size=WORDS, unique=True))
def test_top_p_keeps_the_smallest_set_of_likeliest_tokens_that_reaches_it(logits):
    found = np.flatnonzero(np.isfinite(np.asarray(_nucleus(np.float32([logits])))[0]))
    share = np.exp(np.float64(logits)) / np.sum(np.exp(np.float64(logits)))
    order = np.argsort(-share)
    expected, total = [], 0.0
    for token in order:
        expected.append(token)
        total += share[token]
        if total >= 0.7:
            break
    if abs(total - 0.7) > 1e-5:  # else rounding decides
        assert set(found) == set(expected)


_nucleus = jit(lambda logits: process_logits(Sampling(top_p=0.7), logits, jnp.zeros((1, WORDS), bool)))


def test_min_p_keeps_tokens_by_their_probability_relative_to_the_likeliest():
    edge = math.exp(-2.0)
    assert kept(Sampling(min_p=edge * 0.999)) == [{0, 1, 2}, {3}]
    assert kept(Sampling(min_p=edge * 1.001))[0] == {0, 1}


def test_tokens_are_sampled_as_often_as_their_probability():
    many = jit(
        jax.vmap(lambda key: sample_tokens(Sampling(temperature=2.0, top_k=3), split_by_row(key, 2), LOGITS, NOTHING))
    )
    sampled = np.asarray(many(jax.random.split(jax.random.key(0), 4000)))
    for row in range(2):
        weights = np.exp(LOGITS[row] / 2) * (LOGITS[row] >= np.sort(LOGITS[row])[-3])
        counts = np.bincount(sampled[:, row], minlength=WORDS) / 4000
        np.testing.assert_allclose(counts, weights / weights.sum(), atol=0.03)


def test_rows_have_keys_of_their_own_or_the_number_is_refused():
    key = jax.random.key(0)
    two, three = (np.asarray(jax.random.key_data(split_by_row(key, rows))) for rows in (2, 3))
    np.testing.assert_array_equal(two, three[:2])
    assert len(np.unique(three, axis=0)) == 3
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
def test_what_cannot_be_is_refused_with_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        Sampling(**options)
    assert "\n" not in str(refusal.value)
