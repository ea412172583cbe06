"""Writing toward a target: what is asked, what is right, and what each letter is worth, against loops in Python."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.generation.completions import Completions
from thinking.recipes.text_generation.spelling import (
    VOCABULARY,
    letter_advantages,
    letter_reward,
    make_prompts,
    outcome_reward,
    text_advantages,
)
from thinking.text.vocabulary import BEGIN, END, PAD

TARGET = "see a bee"
ASKED = make_prompts(TARGET)
TEXTS = st.lists(st.sampled_from([PAD, END, *VOCABULARY.encode("abes ")]), min_size=0, max_size=len(TARGET))


def completions(rows):
    """Texts, each ended where its level ends: as they are generated."""
    tokens = np.zeros((len(rows), len(TARGET) + 1), np.int32)
    for row, text in zip(tokens, rows, strict=True):
        row[: len(text)] = text
    blank = np.zeros(tokens.shape, np.float32)
    length = np.array([len(text) for text in rows], np.int32)
    return Completions(tokens, length, blank, blank, length > 0)


@jax.jit
def all_that_is_paid(asked, written, wanted, discount):
    rewards, exact = letter_reward(asked, written, wanted=wanted), outcome_reward(asked, written, wanted=wanted)
    whole, by_each = (
        text_advantages(written, rewards, wanted=wanted),
        letter_advantages(discount)(written, rewards, wanted=wanted),
    )
    return rewards, exact, whole, by_each


def test_each_level_asks_for_one_letter_more_and_ends_behind_it():
    assert ASKED.tokens.tolist() == [[BEGIN]] * len(TARGET)
    for level, (wanted, forced) in enumerate(zip(ASKED.columns["wanted"], ASKED.columns["forced"], strict=True)):
        assert VOCABULARY.decode(wanted[: level + 1].tolist()) == TARGET[: level + 1]
        assert not wanted[level + 1 :].any()
        assert forced.tolist() == [END if place == level + 1 else -1 for place in range(len(TARGET) + 1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TARGET) - 1), TEXTS), min_size=3, max_size=3), st.floats(0, 1))
def test_what_is_right_pays_at_its_place_alone(rows, discount):
    levels = np.array([level for level, _ in rows])
    texts = [[*text[: level + 1], END] for level, text in rows]
    written, wanted = completions(texts), ASKED.columns["wanted"][levels]
    rewards, exact, whole, by_each = jax.device_get(all_that_is_paid(ASKED.tokens[levels], written, wanted, discount))
    target = VOCABULARY.encode(TARGET)
    for row, (level, text) in enumerate(zip(levels, texts, strict=True)):
        hits = [float(said == meant) for said, meant in zip(text, target[: level + 1], strict=False)]
        assert rewards[row] == pytest.approx(sum(hits) / (level + 1))
        assert exact[row] == (text[: level + 1] == target[: level + 1])
        # The end that is forced is no choice: it has no weight.
        chosen = min(len(text), level + 1)
        assert by_each.mask[row].tolist() == [float(place < chosen) for place in range(len(TARGET) + 1)]
        np.testing.assert_allclose(whole.value_target[row], rewards[row] * whole.mask[row], atol=1e-6)
        worth = 0.0
        for place in range(chosen - 1, -1, -1):
            worth = hits[place] + discount * worth
            assert by_each.value_target[row, place] == pytest.approx(worth, abs=1e-5)


def test_padding_that_is_written_earns_nothing():
    level = np.array([0])
    written = completions([[VOCABULARY.encode("s")[0], *[PAD] * len(TARGET)]])
    wanted = ASKED.columns["wanted"][level]
    _, exact, _, by_each = jax.device_get(all_that_is_paid(ASKED.tokens[level], written, wanted, 1.0))
    assert exact.tolist() == [1]
    assert by_each.value_target.sum() == 1


def test_rewards_jit():
    level, written = np.array([2, 8]), completions([[*VOCABULARY.encode("sea"), END], VOCABULARY.encode("see")])
    paid = jax.jit(lambda written, wanted: letter_reward(None, written, wanted=wanted))(
        written, ASKED.columns["wanted"][level]
    )
    np.testing.assert_allclose(paid, [2 / 3, 3 / 9])
