"""Levels open one after another, and never close."""

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

LADDER = curriculum(3, threshold=0.8, decay_attempts=8.0, min_attempts=8, review_weight=0.1)
begin = jit(LADDER.init)
update = jit(LADDER.update)
estimated = jit(estimate_success)
sample = jit(LADDER.sample, static_argnums=2)
N = 4


def seen(progress, level, success, mask=(1, 1, 1, 1)):
    return update(progress, np.full(N, level, np.int32), np.full(N, success, np.float32), np.array(mask, np.float32))


def test_the_first_level_is_open_and_nothing_is_known():
    progress = begin()
    assert progress.unlocked.tolist() == [True, False, False]
    assert estimated(progress).tolist() == [0, 0, 0]
    assert set(np.asarray(sample(progress, jax.random.key(0), 64)).tolist()) == {0}


def test_a_level_opens_the_next_after_enough_success_alone():
    progress = seen(begin(), 0, 1.0)
    assert not progress.unlocked.tolist()[1]  # too few attempts
    progress = seen(progress, 0, 1.0)
    assert progress.unlocked.tolist() == [True, True, False]
    failing = begin()
    for _ in range(20):
        failing = seen(failing, 0, 0.7)
    assert not failing.unlocked.tolist()[1]


def test_success_on_a_closed_level_opens_nothing_and_failure_closes_nothing():
    progress = begin()
    for _ in range(4):
        progress = seen(progress, 1, 1.0)
    assert progress.unlocked.tolist() == [True, False, False]
    for success in (1.0, 1.0, 0.0, 0.0, 0.0):
        progress = seen(progress, 0, success)
    assert progress.unlocked.tolist()[:2] == [True, True]
    assert estimated(progress).tolist()[0] < 0.8


def test_estimates_are_fading_means():
    progress, total, weight = begin(), 0.0, 0.0
    for success in (0.25, 1.0, 0.5):
        progress = seen(progress, 0, success)
        kept = np.exp(-N / 8)
        total, weight = kept * total + (1 - kept) * success, kept * weight + 1 - kept
        assert estimated(progress).tolist()[0] == pytest.approx(total / weight, rel=1e-5)


def test_masked_attempts_change_nothing():
    before = seen(begin(), 0, 0.5)
    after = seen(before, 0, np.nan, mask=(0, 0, 0, 0))
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_masked_attempt_spoils_no_other_of_its_level():
    level, mask = np.zeros(N, np.int32), np.array([1, 0, 0, 0], np.float32)
    success = np.array([0.5, np.nan, np.inf, 1], np.float32)
    assert estimated(update(begin(), level, success, mask)).tolist()[0] == pytest.approx(0.5)
    assert measured(untried(), level, success, mask).tolist()[0] == pytest.approx(0.25)


def test_levels_are_drawn_by_what_is_still_to_be_learned():
    progress = seen(seen(begin(), 0, 1.0), 0, 1.0)
    drawn = np.asarray(sample(progress, jax.random.key(0), 4096))
    assert set(drawn.tolist()) == {0, 1}
    assert np.mean(drawn == 0) == pytest.approx(0.1 / 1.2, abs=0.02)


def test_rows_belong_to_their_levels_and_all_of_them_are_met():
    starts = np.array([0, 2, 5, 6], np.int32)
    level = np.tile(np.arange(3, dtype=np.int32), 64)
    rows = np.asarray(jit(sample_rows)(jax.random.key(1), level, starts))
    assert (np.searchsorted(starts, rows, side="right") - 1 == level).all()
    assert set(rows.tolist()) == set(range(6))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_levels": 0}, "num_levels 0 is out of range"),
        ({"num_levels": 1, "threshold": 0.0}, "threshold 0.0 is out of range"),
        ({"num_levels": 1, "decay_attempts": 0.0}, "decay_attempts 0.0 is out of range"),
        ({"num_levels": 1, "review_weight": 0.0}, "review_weight 0.0 is out of range"),
    ],
)
def test_bad_settings_are_named(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        curriculum(**options)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="give all"):
        LADDER.update(begin(), np.zeros(2, np.int32), np.zeros(3), np.zeros(3))


def test_a_mean_counts_as_many_attempts_as_it_stands_for():
    once = update(begin(), np.zeros(N, np.int32), np.array([1, 0, 1, 1], np.float32), np.ones(N, np.float32))
    told = update(begin(), np.arange(N) % 3, np.full(N, 0.75, np.float32), np.array([4, 0, 0, 0], np.float32))
    for one, two in zip(once, told, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("weight", [1e-3, 0.25, 0.5, 1.0, 7.0])
def test_success_is_a_mean_whatever_the_mask_adds_up_to(weight):
    mask = np.array([weight, 0, 0, 0], np.float32)
    for success in (1.0, 0.75):
        progress = begin()
        for _ in range(3):
            progress = seen(progress, 0, success, mask)
        assert estimated(progress).tolist()[0] == pytest.approx(success, rel=1e-6)
        assert progress.num_attempts.tolist()[0] == pytest.approx(3 * weight)
    measured_success = measured(untried(), np.arange(N), np.ones(N, np.float32), mask)
    np.testing.assert_allclose(measured_success, [0.5] + [0] * 15)


def test_a_syllabus_without_levels_gives_every_row_once_in_an_epoch():
    syllabus = uniform_sampler(12)
    sample = jit(lambda key, step: syllabus.sample(syllabus.init(), key, step, 4)[0])
    rows = [sample(jax.random.key(0), step) for step in range(3)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(12))
    assert float(syllabus.num_unlocked(())) == 1


def test_a_syllabus_of_levels_draws_rows_of_open_ones_alone():
    syllabus = level_sampler(LADDER, [0, 2, 7, 9])
    progress, sample = jit(syllabus.init)(), jit(syllabus.sample, static_argnums=3)
    rows, level = sample(progress, jax.random.key(0), 0, 64)
    assert set(rows.tolist()) == {0, 1}
    assert set(level.tolist()) == {0}
    for _ in range(3):
        progress = seen(progress, 0, 1.0)
    assert float(syllabus.num_unlocked(progress)) == 2
    rows, level = map(np.asarray, sample(progress, jax.random.key(0), 1, 64))
    assert set(rows.tolist()) == set(range(7))
    np.testing.assert_array_equal(level, (rows >= 2).astype(int))
    with pytest.raises(ValueError, match="level 1 has no rows"):
        level_sampler(LADDER, [0, 2, 2, 9])


REPLAY = prioritized_sampler(16, ema_decay=0.5, review_weight=0.1)
replayed = jit(REPLAY.sample, static_argnums=3)
measured = jit(REPLAY.update)
untried = jit(REPLAY.init)


def test_replay_draws_no_row_twice_and_begins_with_all_alike():
    drawn = [replayed(untried(), jax.random.key(0), step, 16)[0] for step in range(2)]
    for rows in drawn:
        assert sorted(rows.tolist()) == list(range(16))
    assert drawn[0].tolist() != drawn[1].tolist()
    first = [int(np.asarray(replayed(untried(), jax.random.key(1), step, 1)[0])[0]) for step in range(200)]
    assert set(first) == set(range(16))
    assert float(REPLAY.num_unlocked(untried())) == 1


def test_replay_prefers_rows_by_what_is_left_to_be_learned_of_each():
    success = np.array([1.0, 0.0, 0.5] + [1.0] * 13, np.float32)
    sample = jit(jax.vmap(lambda step: REPLAY.sample(success, jax.random.key(0), step, 1)))
    drawn, level = sample(np.arange(4000))
    np.testing.assert_array_equal(drawn, level)
    shares = np.bincount(np.asarray(drawn)[:, 0], minlength=16) / 4000
    np.testing.assert_allclose(shares, (1.1 - success) / np.sum(1.1 - success), atol=0.03)


def test_replay_remembers_the_mean_of_each_row_and_nothing_of_what_is_masked():
    level, success = np.array([3, 3, 5, 7], np.int32), np.array([1.0, 0.0, 1.0, np.nan], np.float32)
    progress = measured(untried(), level, success, np.array([1, 1, 1, 0], np.float32))
    expected = np.zeros(16)
    expected[[3, 5]] = 0.25, 0.5
    np.testing.assert_allclose(progress, expected)
    again = measured(progress, level, success, np.array([0, 0, 1, 0], np.float32))
    assert again.tolist()[5] == 0.75


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: prioritized_sampler(0), "0 rows"),
        (lambda: prioritized_sampler(4, ema_decay=1.0), "ema_decay 1.0"),
        (lambda: prioritized_sampler(4, review_weight=0.0), "review_weight 0.0"),
        (lambda: REPLAY.sample(untried(), jax.random.key(0), 0, 17), "17 of 16 rows"),
    ],
)
def test_bad_replays_are_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (curriculum, {"threshold": 0.9, "decay_attempts": 256, "min_attempts": 256, "review_weight": 0.1}),
        (prioritized_sampler, {"ema_decay": 0.5, "review_weight": 0.1}),
    ],
)
def test_defaults_are_as_documented(function, expected):
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    assert {name: defaults[name] for name in expected} == expected


def test_one_level_and_one_row_are_enough():
    assert jit(curriculum(1, threshold=1.0).init)().unlocked.tolist() == [True]
    rows, level = prioritized_sampler(1, ema_decay=0.0).sample(np.zeros(1, np.float32), jax.random.key(0), 0, 1)
    assert rows.tolist() == level.tolist() == [0]
    assert level_sampler(LADDER, [0, 1, 2, 3]).sample(begin(), jax.random.key(0), 0, 2)[0].tolist() == [0, 0]
