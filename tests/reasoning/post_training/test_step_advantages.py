"""Step-level advantages, against a plain Python reference over texts."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import make_chain
from thinking.environments.arithmetic.problems import ADD, DIVIDE, SUBTRACT, Problem, format_answer
from thinking.generation.completions import Completions
from thinking.reasoning.post_training.rewards import outcome_reward
from thinking.reasoning.post_training.step_advantages import (
    split_spans,
    step_gae_advantages,
    step_group_relative,
    step_returns,
)
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompts
from thinking.text.vocabulary import END_THINK, STEP

MAX_NEW_TOKENS, ADDITION, SUBTRACTION = 64, Problem(ADD, (57, 8)), Problem(SUBTRACT, (57, 80))
PROBLEMS = [ADDITION, ADDITION, SUBTRACTION, Problem(DIVIDE, (57, 8))]
COLUMNS = encode_prompts(PROBLEMS)._asdict()
MAX_STEPS = COLUMNS["steps"].shape[1]
GROUP_PROMPTS = encode_prompts([ADDITION] * 4)


@jit
def split_completions(completions, columns):
    reward_columns = make_reward_columns(completions, columns)
    return split_spans(completions, **reward_columns), reward_columns["outcome"]


def make_reward_columns(completions, columns):
    return {
        "outcome": outcome_reward(columns["tokens"], completions, answers=columns["answers"]),
        "steps": columns["steps"],
    }


@jit
def make_group_columns(completions):
    return make_reward_columns(completions, GROUP_PROMPTS._asdict())


def make_completions(texts, value=0.0):
    tokens, lengths = np.zeros((len(texts), MAX_NEW_TOKENS), np.int32), np.zeros(len(texts), np.int32)
    for index, text in enumerate(texts):
        text_tokens = VOCABULARY.encode(text)[:MAX_NEW_TOKENS]
        tokens[index, : len(text_tokens)] = text_tokens
        lengths[index] = len(text_tokens)
    is_valid = np.arange(MAX_NEW_TOKENS)[None] < lengths[:, None]
    zeros = np.zeros((len(texts), MAX_NEW_TOKENS), np.float32)
    return Completions(tokens, lengths, zeros, np.where(is_valid, np.float32(value), 0), np.ones(len(texts), bool))


def make_correct_completion(problem):
    return f"<think>{'<step>'.join(make_chain(problem))}</think><answer>{format_answer(problem)}<end>"


def split_reference(problem, text, outcome):
    """For each token: its span, whether it is unmasked, and whether its span is correct."""
    expected, tokens = make_chain(problem), VOCABULARY.encode(text)[:MAX_NEW_TOKENS]
    token_spans, span, span_tokens, prefix_correct = [], 0, [], True
    for position, token in enumerate(tokens):
        span_tokens.append(token)
        is_answer = span == MAX_STEPS
        if (not is_answer and token in (STEP, END_THINK)) or position + 1 == len(tokens):
            span_text, prefix = VOCABULARY.decode(span_tokens), "" if span else "<think>"
            if is_answer:
                is_correct = outcome
            else:
                suffix = "<step>" if span + 1 < len(expected) else "</think>"
                is_correct = span < len(expected) and span_text == f"{prefix}{expected[span]}{suffix}"
            token_spans += [
                (
                    min(span, MAX_STEPS - 1) if not is_answer else MAX_STEPS,
                    prefix_correct,
                    prefix_correct and is_correct,
                )
            ] * len(span_tokens)
            prefix_correct, span_tokens = prefix_correct and is_correct, []
            span = MAX_STEPS if token == END_THINK else span + 1
    return token_spans


def check_spans(texts):
    result, outcome = jax.tree.map(np.asarray, split_completions(make_completions(texts), COLUMNS))
    for row, (problem, text) in enumerate(zip(PROBLEMS, texts, strict=True)):
        for position, (span, is_unmasked, is_correct) in enumerate(split_reference(problem, text, bool(outcome[row]))):
            assert bool(result.mask[row, position]) == is_unmasked, (text, position)
            if is_unmasked:
                assert int(result.span[row, position]) == span, (text, position)
                assert bool(result.correct[row, span]) == is_correct, (text, position)
    return result


def test_all_spans_of_a_correct_completion_are_correct():
    result = check_spans([make_correct_completion(problem) for problem in PROBLEMS])
    assert np.all(result.correct == 1)
    np.testing.assert_array_equal(
        np.sum(result.is_last, axis=1), [len(make_chain(problem)) + 1 for problem in PROBLEMS]
    )


def test_spans_after_the_first_error_are_masked():
    wrong_step_text = make_correct_completion(ADDITION).replace("7+8+0=5,1", "7+8+0=6,1")
    result = check_spans(
        [
            wrong_step_text,
            make_correct_completion(ADDITION).replace("65", "66"),
            make_correct_completion(SUBTRACTION),
            make_correct_completion(PROBLEMS[3]),
        ]
    )
    np.testing.assert_array_equal(result.correct[0], [0] * (MAX_STEPS + 1))
    assert int(np.sum(result.mask[0])) == len(VOCABULARY.encode("<think>7+8+0=6,1<step>"))
    np.testing.assert_array_equal(result.correct[1], [1] * MAX_STEPS + [0])


FRAGMENTS = st.sampled_from(["<think>", "</think>", "<step>", "<answer>", "<end>", "5", "+", "="])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), FRAGMENTS), min_size=4, max_size=4))
def test_spans_of_edited_completions_equal_plain_python_reference(edits):
    texts = []
    for problem, (position, num_removed, fragment) in zip(PROBLEMS, edits, strict=True):
        tokens = VOCABULARY.encode(make_correct_completion(problem))
        position = min(position, len(tokens) - 1)
        texts.append(
            VOCABULARY.decode([*tokens[:position], *VOCABULARY.encode(fragment), *tokens[position + num_removed :]])
        )
    check_spans(texts)


def test_group_advantages_compare_equal_spans_and_cancel_on_shared_prefix():
    texts = [
        make_correct_completion(ADDITION),
        make_correct_completion(ADDITION).replace("5,1", "6,1"),
        make_correct_completion(ADDITION),
        make_correct_completion(ADDITION).replace("65", "66"),
    ]
    completions = make_completions(texts)
    result = jax.device_get(
        jit(step_group_relative(4))(completions, np.zeros(4, np.float32), **make_group_columns(completions))
    )
    first_length = len(VOCABULARY.encode("<think>7+8+0=5,1<step>"))
    shared_length = len(VOCABULARY.encode("<think>7+8+0="))
    np.testing.assert_allclose(result.advantage[:, 0], [1 / 3, -1, 1 / 3, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(np.sum(result.advantage[:, :shared_length], axis=0), 0, atol=1e-5)
    assert float(np.abs(result.advantage[1, first_length:]).max()) == 0  # masked
    assert float(np.abs(result.value_target[1]).max()) == 0  # but the value is trained to 0
    np.testing.assert_array_equal(np.sum(result.mask, axis=1), completions.length)
    second_length = len(VOCABULARY.encode("5+0+1=6,0</think>"))
    # All unmasked second spans are correct.
    assert float(np.abs(result.advantage[:, first_length : first_length + second_length]).max()) == 0
    last_position = int(completions.length[0]) - 1
    np.testing.assert_allclose(result.advantage[:, last_position], [0.5, 0, 0.5, -1], rtol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_gae_advantages_treat_each_span_as_an_episode(gae_lambda):
    completions = make_completions(
        [
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION).replace("6,0", "7,0"),
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION),
        ],
        value=0.25,
    )
    result = jax.device_get(
        jit(step_gae_advantages(4, gae_lambda))(completions, np.zeros(4, np.float32), **make_group_columns(completions))
    )
    first_length, second_length = (
        len(VOCABULARY.encode(text)) for text in ("<think>7+8+0=5,1<step>", "5+0+1=6,0</think>")
    )
    last_positions = [first_length - 1, first_length + second_length - 1]
    # The first span is correct in the whole group, the second in three quarters of it.
    np.testing.assert_allclose(result.advantage[:2, last_positions], [[0.75, 1], [0.75, -1 / 3]], rtol=1e-5)
    np.testing.assert_allclose(result.advantage[1, first_length : last_positions[1]], -gae_lambda / 3, atol=1e-6)
    np.testing.assert_allclose(result.value_target[:2, last_positions], [[1, 1], [1, 0]], atol=1e-6)
    assert float(np.abs(result.advantage[1, first_length + second_length :]).max()) == 0


def test_group_gradient_is_a_series_of_the_log_success_probability():
    texts = {True: make_correct_completion(ADDITION), False: make_correct_completion(ADDITION).replace("5,1", "6,1")}
    success_prob, num_generations, gradient = 0.2, 4, 0.0
    compute_advantages = jit(step_group_relative(num_generations))
    for num_correct in range(num_generations + 1):
        completions = make_completions([texts[index < num_correct] for index in range(num_generations)])
        advantage = np.asarray(
            compute_advantages(
                completions, np.zeros(num_generations, np.float32), **make_group_columns(completions)
            ).advantage
        )[:, 0]
        # The score is the gradient of the log probability.
        score = np.where(np.arange(num_generations) < num_correct, 1 / success_prob, -1 / (1 - success_prob))
        gradient += (
            math.comb(num_generations, num_correct)
            * success_prob**num_correct
            * (1 - success_prob) ** (num_generations - num_correct)
            * np.mean(advantage * score)
        )
    # log p = -sum of (1 - p) ** k / k. The gradient of a group of G is that of the first G - 1 terms.
    assert gradient == pytest.approx(sum((1 - success_prob) ** k for k in range(num_generations - 1)), rel=1e-4)


def test_step_returns_equal_group_advantages():
    completions = make_completions(
        [
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION).replace("6,0", "7,0"),
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION),
        ]
    )
    columns = make_group_columns(completions)
    result = jax.device_get(jit(step_returns(4))(completions, np.zeros(4, np.float32), **columns))
    np.testing.assert_array_equal(
        result.value_target, jit(step_group_relative(4))(completions, np.zeros(4, np.float32), **columns).advantage
    )
    assert float(result.value_target[1].min()) == -1


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_masked_values_do_not_change_gae_advantages(bad):
    completions = make_completions(
        [
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION).replace("6,0", "7,0"),
            make_correct_completion(ADDITION),
            make_correct_completion(ADDITION),
        ],
        value=0.25,
    )
    columns = make_group_columns(completions)
    compute_advantages = jit(step_gae_advantages(4, 0.5))
    expected = compute_advantages(completions, np.zeros(4, np.float32), **columns)
    corrupted_completions = completions._replace(
        value=np.where(np.asarray(expected.mask) > 0, completions.value, np.float32(bad))
    )
    actual = compute_advantages(corrupted_completions, np.zeros(4, np.float32), **columns)
    assert (np.asarray(expected.mask) == 0).any()
    jax.tree.map(np.testing.assert_array_equal, expected, actual)


def test_gae_advantages_are_reward_minus_value_by_default():
    completions = make_completions([make_correct_completion(ADDITION)] * 4, value=0.25)
    columns = make_group_columns(completions)
    rewards = np.zeros(4, np.float32)
    result, expected = (
        jit(advantage_fn)(completions, rewards, **columns)
        for advantage_fn in (step_gae_advantages(4), step_gae_advantages(4, 1.0))
    )
    np.testing.assert_array_equal(result.advantage, expected.advantage)
