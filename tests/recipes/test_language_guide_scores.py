"""How plans are judged, against values worked out by hand and counts taken one by one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinking.recipes.language_guide import scores
from thinking.recipes.language_guide.scores import END

STEPS = st.lists(st.integers(0, 4), max_size=8)
TEXT = st.lists(st.integers(0, 4), min_size=1, max_size=8)
DISTINCT = st.permutations(range(6))


@pytest.mark.parametrize(
    ("plan", "reference", "f1"),
    [
        ([1, 2, 3], [3, 1, 2], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([1, 2, 3, 4], [1, 2], 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ([1, 1, 1], [1, 2, 3], 1 / 3),  # said three times, wanted once
        ([], [1], 0.0),
        ([], [], 1.0),
    ],
)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(plan, reference, f1):
    assert scores.step_f1(plan, reference) == pytest.approx(f1)


@given(STEPS, STEPS)
def test_f1_asks_neither_for_an_order_nor_who_is_right_and_is_1_for_the_same_steps_alone(one, other):
    f1 = scores.step_f1(one, other)
    assert f1 == scores.step_f1(other, one) == scores.step_f1(sorted(one), other)
    assert 0 <= f1 <= 1
    assert (f1 == 1) == (Counter(one) == Counter(other))


@pytest.mark.parametrize(
    ("plan", "share"), [([2, 4], 1.0), ([4, 1, 3], 0.5), ([1, 3], 0.0), ([], 0.0), ([2, 2, 2], 0.5)]
)
def test_a_sub_goal_is_reached_by_its_last_step(plan, share):
    assert scores.compute_sub_goal_recall(plan, [[1, 2], [3, 4]]) == share


def test_recall_is_the_share_of_steps_that_were_told_in_time():
    assert scores.recall_at_1([1, 2, 3, END], [1, 3, 3, 4]) == 0.5
    with pytest.raises(ValueError, match="zip"):
        scores.recall_at_1([1], [1, 2])


def test_what_is_told_sees_all_steps_before_and_a_plan_ends_where_nothing_follows():
    def count_down(steps):
        return (steps[-1] - 1 if steps else 3) if steps[-1:] != [0] else None

    assert scores.predict_next_steps(count_down, [3, 1, 0, 5]) == [3, 2, 0, END]
    assert scores.predict_plan(count_down, 10) == [3, 2, 1, 0]
    assert scores.predict_plan(count_down, 2) == [3, 2]


@given(st.lists(TEXT, min_size=1, max_size=4), STEPS)
def test_the_bigram_tells_what_followed_most_often(texts, steps):
    followers = [
        then for text in texts for step, then in zip([END, *text], [*text, END], strict=True)
        if step == (steps[-1] if steps else END)
    ]  # fmt: skip
    predicted = scores.make_bigram(texts)(steps)
    if not followers:
        assert predicted is None
        return
    most = max(followers.count(then) for then in followers)
    first = next(then for then in followers if followers.count(then) == most)
    assert predicted == (None if first == END else first)


@given(DISTINCT)
def test_a_copied_text_is_planned_word_for_word_and_told_right_throughout(text):
    following = scores.make_copier(text)
    assert scores.predict_plan(following, 20) == list(text)
    assert scores.predict_next_steps(following, text) == list(text)


@given(DISTINCT, st.integers(0, 5), STEPS)
def test_a_copied_text_goes_on_behind_the_last_step_wherever_that_stands(text, at, before):
    following = scores.make_copier(text)
    assert following([*before, text[at]]) == ([*text, None][at + 1])


def test_a_copied_text_goes_on_by_number_behind_a_step_that_is_not_in_it():
    following = scores.make_copier([5, 6, 7])
    assert following([1]) == 6
    assert following([5, 1]) == 7
    assert following([5, 6, 1]) is None
    # Of a step that stands in it twice the nearer place counts.
    twice = scores.make_copier([1, 2, 1, 3])
    assert twice([1]) == 2
    assert twice([9, 2, 1]) == 3
    assert twice([9, 9, 9, 1]) == 3


def test_the_nearest_goal_is_that_of_the_largest_product():
    taught = np.array([[1, 0], [0.6, 0.8], [0, 1]])
    assert scores.find_nearest(np.array([0.8, 0.6]), taught) == 1


def test_recall_is_averaged_over_steps_and_all_else_over_the_plans_that_have_it():
    plans = [{"next_step_recall": 1.0, "step_f1": 0.5}, {"next_step_recall": 0.0, "step_f1": 1.0}, {"step_f1": 0.0}]
    assert scores.average_scores(plans, [1, 3, 5]) == {"next_step_recall": 0.25, "step_f1": 0.5}
    assert scores.average_scores([], []) == {}
