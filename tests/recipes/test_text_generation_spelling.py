"""Spelling a target: prompts, rewards and advantages, against loops in Python."""

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
PROMPTS = make_prompts(TARGET)
TEXTS = st.lists(st.sampled_from([PAD, END, *VOCABULARY.encode("abes ")]), min_size=0, max_size=len(TARGET))


def make_completions(rows):
    """Completions of these tokens, as they are generated."""
    tokens = np.zeros((len(rows), len(TARGET) + 1), np.int32)
    for row, text in zip(tokens, rows, strict=True):
        row[: len(text)] = text
    zeros = np.zeros(tokens.shape, np.float32)
    length = np.array([len(text) for text in rows], np.int32)
    return Completions(tokens, length, zeros, zeros, length > 0)


@jax.jit
def compute_rewards_and_advantages(prompts, completions, target, discount):
    rewards, outcomes = (
        letter_reward(prompts, completions, targets=target),
        outcome_reward(prompts, completions, targets=target),
    )
    by_text, by_letter = (
        text_advantages(completions, rewards, targets=target),
        letter_advantages(discount)(completions, rewards, targets=target),
    )
    return rewards, outcomes, by_text, by_letter


def test_each_level_adds_a_letter_and_forces_the_end():
    assert PROMPTS.tokens.tolist() == [[BEGIN]] * len(TARGET)
    for level, (target, forced) in enumerate(zip(PROMPTS.columns["targets"], PROMPTS.columns["forced"], strict=True)):
        assert VOCABULARY.decode(target[: level + 1].tolist()) == TARGET[: level + 1]
        assert not target[level + 1 :].any()
        assert forced.tolist() == [END if position == level + 1 else -1 for position in range(len(TARGET) + 1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TARGET) - 1), TEXTS), min_size=3, max_size=3), st.floats(0, 1))
def test_rewards_and_advantages_match_python_loops(rows, discount):
    levels = np.array([level for level, _ in rows])
    texts = [[*text[: level + 1], END] for level, text in rows]
    completions, targets = make_completions(texts), PROMPTS.columns["targets"][levels]
    rewards, outcomes, by_text, by_letter = jax.device_get(
        compute_rewards_and_advantages(PROMPTS.tokens[levels], completions, targets, discount)
    )
    target = VOCABULARY.encode(TARGET)
    for row, (level, text) in enumerate(zip(levels, texts, strict=True)):
        correct = [
            float(letter == target_letter) for letter, target_letter in zip(text, target[: level + 1], strict=False)
        ]
        assert rewards[row] == pytest.approx(sum(correct) / (level + 1))
        assert outcomes[row] == (text[: level + 1] == target[: level + 1])
        # The end is forced, so it has no weight.
        num_letters = min(len(text), level + 1)
        assert by_letter.mask[row].tolist() == [float(position < num_letters) for position in range(len(TARGET) + 1)]
        np.testing.assert_allclose(by_text.value_target[row], rewards[row] * by_text.mask[row], atol=1e-6)
        return_to_go = 0.0
        for position in range(num_letters - 1, -1, -1):
            return_to_go = correct[position] + discount * return_to_go
            assert by_letter.value_target[row, position] == pytest.approx(return_to_go, abs=1e-5)


def test_generated_padding_earns_no_reward():
    level = np.array([0])
    completions = make_completions([[VOCABULARY.encode("s")[0], *[PAD] * len(TARGET)]])
    target = PROMPTS.columns["targets"][level]
    _, outcomes, _, by_letter = jax.device_get(
        compute_rewards_and_advantages(PROMPTS.tokens[level], completions, target, 1.0)
    )
    assert outcomes.tolist() == [1]
    assert by_letter.value_target.sum() == 1


def test_rewards_can_be_jitted():
    level, completions = (
        np.array([2, 8]),
        make_completions([[*VOCABULARY.encode("sea"), END], VOCABULARY.encode("see")]),
    )
    rewards = jax.jit(lambda completions, target: letter_reward(None, completions, targets=target))(
        completions, PROMPTS.columns["targets"][level]
    )
    np.testing.assert_allclose(rewards, [2 / 3, 3 / 9])
