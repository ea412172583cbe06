"""Scores of plans, against hand-computed values and plain counts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinking.recipes.language_guide import scores
from thinking.recipes.language_guide.scores import END

STEPS = st.lists(st.integers(0, 4), max_size=8)
TEXTS = st.lists(st.integers(0, 4), min_size=1, max_size=8)
DISTINCT_STEPS = st.permutations(range(6))


@pytest.mark.parametrize(
    ("plan", "reference", "f1"),
    [
        ([1, 2, 3], [3, 1, 2], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([1, 2, 3, 4], [1, 2], 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ([1, 1, 1], [1, 2, 3], 1 / 3),  # planned three times, in the reference once
        ([], [1], 0.0),
        ([], [], 1.0),
    ],
)
def test_step_f1_is_the_harmonic_mean_of_precision_and_recall(plan, reference, f1):
    assert scores.step_f1(plan, reference) == pytest.approx(f1)


@given(STEPS, STEPS)
def test_step_f1_is_symmetric_and_ignores_order(one, other):
    f1 = scores.step_f1(one, other)
    assert f1 == scores.step_f1(other, one) == scores.step_f1(sorted(one), other)
    assert 0 <= f1 <= 1
    assert (f1 == 1) == (Counter(one) == Counter(other))


@pytest.mark.parametrize(
    ("plan", "recall"), [([2, 4], 1.0), ([4, 1, 3], 0.5), ([1, 3], 0.0), ([], 0.0), ([2, 2, 2], 0.5)]
)
def test_sub_goal_is_reached_by_its_last_step(plan, recall):
    assert scores.compute_sub_goal_recall(plan, [[1, 2], [3, 4]]) == recall


def test_recall_at_1_is_the_fraction_of_correct_predictions():
    assert scores.recall_at_1([1, 2, 3, END], [1, 3, 3, 4]) == 0.5
    with pytest.raises(ValueError, match="zip"):
        scores.recall_at_1([1], [1, 2])


def test_predictions_see_previous_steps_and_plans_end_at_none():
    def count_down(steps):
        return (steps[-1] - 1 if steps else 3) if steps[-1:] != [0] else None

    assert scores.predict_next_steps(count_down, [3, 1, 0, 5]) == [3, 2, 0, END]
    assert scores.predict_plan(count_down, 10) == [3, 2, 1, 0]
    assert scores.predict_plan(count_down, 2) == [3, 2]


@given(st.lists(TEXTS, min_size=1, max_size=4), STEPS)
def test_bigram_predicts_the_most_frequent_successor(texts, steps):
    successors = [
        successor for text in texts for step, successor in zip([END, *text], [*text, END], strict=True)
        if step == (steps[-1] if steps else END)
    ]  # fmt: skip
    prediction = scores.make_bigram(texts)(steps)
    if not successors:
        assert prediction is None
        return
    max_count = max(successors.count(successor) for successor in successors)
    first = next(successor for successor in successors if successors.count(successor) == max_count)
    assert prediction == (None if first == END else first)


@given(DISTINCT_STEPS)
def test_copier_reproduces_its_text(text):
    copier = scores.make_copier(text)
    assert scores.predict_plan(copier, 20) == list(text)
    assert scores.predict_next_steps(copier, text) == list(text)


@given(DISTINCT_STEPS, st.integers(0, 5), STEPS)
def test_copier_continues_after_the_last_step(text, index, prefix):
    copier = scores.make_copier(text)
    assert copier([*prefix, text[index]]) == ([*text, None][index + 1])


def test_copier_continues_by_index_after_an_unknown_step():
    copier = scores.make_copier([5, 6, 7])
    assert copier([1]) == 6
    assert copier([5, 1]) == 7
    assert copier([5, 6, 1]) is None
    # Of a step that occurs twice, the nearest position counts.
    repeating_copier = scores.make_copier([1, 2, 1, 3])
    assert repeating_copier([1]) == 2
    assert repeating_copier([9, 2, 1]) == 3
    assert repeating_copier([9, 9, 9, 1]) == 3


def test_find_nearest_maximizes_the_dot_product():
    goal_vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]])
    assert scores.find_nearest(np.array([0.8, 0.6]), goal_vectors) == 1


def test_average_scores_weighs_recall_by_steps_and_leaves_out_missing_scores():
    plans = [{"next_step_recall": 1.0, "step_f1": 0.5}, {"next_step_recall": 0.0, "step_f1": 1.0}, {"step_f1": 0.0}]
    assert scores.average_scores(plans, [1, 3, 5]) == {"next_step_recall": 0.25, "step_f1": 0.5}
    assert scores.average_scores([], []) == {}
