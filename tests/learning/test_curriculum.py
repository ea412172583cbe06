"""Curricula, whose levels unlock one after another and stay unlocked, and index samplers."""

import inspect

import jax
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.learning.curriculum import (
    curriculum,
    estimate_success,
    level_sampler,
    prioritized_sampler,
    sample_rows,
    uniform_sampler,
)

CURRICULUM = curriculum(3, threshold=0.8, decay_attempts=8.0, min_attempts=8, review_weight=0.1)
init_state = jit(CURRICULUM.init)
update = jit(CURRICULUM.update)
success_estimates = jit(estimate_success)
sample = jit(CURRICULUM.sample, static_argnums=2)
BATCH_SIZE = 4


def update_level(state, level, success, mask=(1, 1, 1, 1)):
    return update(
        state,
        np.full(BATCH_SIZE, level, np.int32),
        np.full(BATCH_SIZE, success, np.float32),
        np.array(mask, np.float32),
    )


def test_initial_state_unlocks_the_first_level_alone():
    state = init_state()
    assert state.unlocked.tolist() == [True, False, False]
    assert success_estimates(state).tolist() == [0, 0, 0]
    assert set(np.asarray(sample(state, jax.random.key(0), 64)).tolist()) == {0}


def test_next_level_unlocks_after_enough_successful_attempts():
    state = update_level(init_state(), 0, 1.0)
    assert not state.unlocked.tolist()[1]  # too few attempts
    state = update_level(state, 0, 1.0)
    assert state.unlocked.tolist() == [True, True, False]
    failing_state = init_state()
    for _ in range(20):
        failing_state = update_level(failing_state, 0, 0.7)
    assert not failing_state.unlocked.tolist()[1]


def test_locked_levels_unlock_nothing_and_failure_locks_nothing():
    state = init_state()
    for _ in range(4):
        state = update_level(state, 1, 1.0)
    assert state.unlocked.tolist() == [True, False, False]
    for success in (1.0, 1.0, 0.0, 0.0, 0.0):
        state = update_level(state, 0, success)
    assert state.unlocked.tolist()[:2] == [True, True]
    assert success_estimates(state).tolist()[0] < 0.8


def test_success_estimates_are_exponential_moving_averages():
    state, total, weight = init_state(), 0.0, 0.0
    for success in (0.25, 1.0, 0.5):
        state = update_level(state, 0, success)
        decay = np.exp(-BATCH_SIZE / 8)
        total, weight = decay * total + (1 - decay) * success, decay * weight + 1 - decay
        assert success_estimates(state).tolist()[0] == pytest.approx(total / weight, rel=1e-5)


def test_masked_attempts_leave_the_state_unchanged():
    before = update_level(init_state(), 0, 0.5)
    after = update_level(before, 0, np.nan, mask=(0, 0, 0, 0))
    for expected, actual in zip(before, after, strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_masked_attempts_leave_other_attempts_of_their_level_unchanged():
    level, mask = np.zeros(BATCH_SIZE, np.int32), np.array([1, 0, 0, 0], np.float32)
    success = np.array([0.5, np.nan, np.inf, 1], np.float32)
    assert success_estimates(update(init_state(), level, success, mask)).tolist()[0] == pytest.approx(0.5)
    assert update_prioritized(init_prioritized(), level, success, mask).tolist()[0] == pytest.approx(0.25)


def test_levels_are_sampled_by_failure_rate_and_review_weight():
    state = update_level(update_level(init_state(), 0, 1.0), 0, 1.0)
    levels = np.asarray(sample(state, jax.random.key(0), 4096))
    assert set(levels.tolist()) == {0, 1}
    assert np.mean(levels == 0) == pytest.approx(0.1 / 1.2, abs=0.02)


def test_sample_rows_samples_all_rows_of_each_level():
    starts = np.array([0, 2, 5, 6], np.int32)
    level = np.tile(np.arange(3, dtype=np.int32), 64)
    rows = np.asarray(jit(sample_rows)(jax.random.key(1), level, starts))
    assert (np.searchsorted(starts, rows, side="right") - 1 == level).all()
    assert set(rows.tolist()) == set(range(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels 0 is out of range"),
        ({"num_levels": 1, "threshold": 0.0}, "threshold 0.0 is out of range"),
        ({"num_levels": 1, "decay_attempts": 0.0}, "decay_attempts 0.0 is out of range"),
        ({"num_levels": 1, "review_weight": 0.0}, "review_weight 0.0 is out of range"),
    ],
)
def test_settings_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        curriculum(**options)


def test_mismatched_shapes_are_rejected():
    with pytest.raises(ValueError, match="give all"):
        CURRICULUM.update(init_state(), np.zeros(2, np.int32), np.zeros(3), np.zeros(3))


def test_mask_counts_the_attempts_behind_a_mean():
    separate_state = update(
        init_state(),
        np.zeros(BATCH_SIZE, np.int32),
        np.array([1, 0, 1, 1], np.float32),
        np.ones(BATCH_SIZE, np.float32),
    )
    mean_state = update(
        init_state(),
        np.arange(BATCH_SIZE) % 3,
        np.full(BATCH_SIZE, 0.75, np.float32),
        np.array([4, 0, 0, 0], np.float32),
    )
    for expected, actual in zip(separate_state, mean_state, strict=True):
        np.testing.assert_allclose(expected, actual, rtol=1e-6)


@pytest.mark.parametrize("weight", [1e-3, 0.25, 0.5, 1.0, 7.0])
def test_success_is_a_mean_for_any_total_weight(weight):
    mask = np.array([weight, 0, 0, 0], np.float32)
    for success in (1.0, 0.75):
        state = init_state()
        for _ in range(3):
            state = update_level(state, 0, success, mask)
        assert success_estimates(state).tolist()[0] == pytest.approx(success, rel=1e-6)
        assert state.num_attempts.tolist()[0] == pytest.approx(3 * weight)
    prioritized_state = update_prioritized(
        init_prioritized(), np.arange(BATCH_SIZE), np.ones(BATCH_SIZE, np.float32), mask
    )
    np.testing.assert_allclose(prioritized_state, [0.5] + [0] * 15)


def test_uniform_sampler_samples_each_row_once_per_epoch():
    sampler = uniform_sampler(12)
    sample = jit(lambda key, step: sampler.sample(sampler.init(), key, step, 4)[0])
    rows = [sample(jax.random.key(0), step) for step in range(3)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(12))
    assert float(sampler.num_unlocked(())) == 1


def test_level_sampler_samples_rows_of_unlocked_levels():
    sampler = level_sampler(CURRICULUM, [0, 2, 7, 9])
    state, sample = jit(sampler.init)(), jit(sampler.sample, static_argnums=3)
    rows, level = sample(state, jax.random.key(0), 0, 64)
    assert set(rows.tolist()) == {0, 1}
    assert set(level.tolist()) == {0}
    for _ in range(3):
        state = update_level(state, 0, 1.0)
    assert float(sampler.num_unlocked(state)) == 2
    rows, level = map(np.asarray, sample(state, jax.random.key(0), 1, 64))
    assert set(rows.tolist()) == set(range(7))
    np.testing.assert_array_equal(level, (rows >= 2).astype(int))
    with pytest.raises(ValueError, match="level 1 has no rows"):
        level_sampler(CURRICULUM, [0, 2, 2, 9])


PRIORITIZED = prioritized_sampler(16, ema_decay=0.5, review_weight=0.1)
sample_prioritized = jit(PRIORITIZED.sample, static_argnums=3)
update_prioritized = jit(PRIORITIZED.update)
init_prioritized = jit(PRIORITIZED.init)


def test_prioritized_sampler_samples_without_replacement():
    batches = [sample_prioritized(init_prioritized(), jax.random.key(0), step, 16)[0] for step in range(2)]
    for rows in batches:
        assert sorted(rows.tolist()) == list(range(16))
    assert batches[0].tolist() != batches[1].tolist()
    first_rows = [
        int(np.asarray(sample_prioritized(init_prioritized(), jax.random.key(1), step, 1)[0])[0]) for step in range(200)
    ]
    assert set(first_rows) == set(range(16))
    assert float(PRIORITIZED.num_unlocked(init_prioritized())) == 1


def test_prioritized_sampler_weighs_rows_by_failure_rate():
    success = np.array([1.0, 0.0, 0.5] + [1.0] * 13, np.float32)
    sample = jit(jax.vmap(lambda step: PRIORITIZED.sample(success, jax.random.key(0), step, 1)))
    rows, level = sample(np.arange(4000))
    np.testing.assert_array_equal(rows, level)
    frequencies = np.bincount(np.asarray(rows)[:, 0], minlength=16) / 4000
    np.testing.assert_allclose(frequencies, (1.1 - success) / np.sum(1.1 - success), atol=0.03)


def test_prioritized_sampler_averages_unmasked_success_per_row():
    level, success = np.array([3, 3, 5, 7], np.int32), np.array([1.0, 0.0, 1.0, np.nan], np.float32)
    state = update_prioritized(init_prioritized(), level, success, np.array([1, 1, 1, 0], np.float32))
    expected = np.zeros(16)
    expected[[3, 5]] = 0.25, 0.5
    np.testing.assert_allclose(state, expected)
    next_state = update_prioritized(state, level, success, np.array([0, 0, 1, 0], np.float32))
    assert next_state.tolist()[5] == 0.75


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prioritized_sampler(0), "0 rows"),
        (lambda: prioritized_sampler(4, ema_decay=1.0), "ema_decay 1.0"),
        (lambda: prioritized_sampler(4, review_weight=0.0), "review_weight 0.0"),
        (lambda: PRIORITIZED.sample(init_prioritized(), jax.random.key(0), 0, 17), "17 of 16 rows"),
    ],
)
def test_invalid_prioritized_samplers_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unlocked_curriculum_samples_every_level_from_the_start():
    levels = curriculum(5, threshold=0.9, locked=False)
    state = levels.init()
    assert set(np.asarray(levels.sample(state, jax.random.key(0), 200)).tolist()) == set(range(5))
    assert np.asarray(levels.update(state, np.int32([4]), np.ones(1), np.ones(1)).unlocked).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (curriculum, {"threshold": 0.9, "decay_attempts": 256, "min_attempts": 256, "review_weight": 0.1}),
        (prioritized_sampler, {"ema_decay": 0.5, "review_weight": 0.1}),
    ],
)
def test_default_arguments_match_the_docs(function, expected):
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    assert {name: defaults[name] for name in expected} == expected


def test_one_level_and_one_row_are_allowed():
    assert jit(curriculum(1, threshold=1.0).init)().unlocked.tolist() == [True]
    rows, level = prioritized_sampler(1, ema_decay=0.0).sample(np.zeros(1, np.float32), jax.random.key(0), 0, 1)
    assert rows.tolist() == level.tolist() == [0]
    assert level_sampler(CURRICULUM, [0, 1, 2, 3]).sample(init_state(), jax.random.key(0), 0, 2)[0].tolist() == [0, 0]
