"""Credit step by step, against the same told in plain Python over texts."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import chain
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

N, ADDED, TAKEN = 64, Problem(ADD, (57, 8)), Problem(SUBTRACT, (57, 80))
ASKED = [ADDED, ADDED, TAKEN, Problem(DIVIDE, (57, 8))]
COLUMNS = encode_prompts(ASKED)._asdict()
MOST = COLUMNS["steps"].shape[1]
GROUPED = encode_prompts([ADDED] * 4)


@jit
def split(completions, columns):
    reward_columns = told(completions, columns)
    return split_spans(completions, **reward_columns), reward_columns["outcome"]


def told(completions, columns):
    return {
        "outcome": outcome_reward(columns["tokens"], completions, answers=columns["answers"]),
        "steps": columns["steps"],
    }


@jit
def make_group_columns(completions):
    return told(completions, GROUPED._asdict())


def make_completions(texts, value=0.0):
    tokens, lengths = np.zeros((len(texts), N), np.int32), np.zeros(len(texts), np.int32)
    for index, text in enumerate(texts):
        completions = VOCABULARY.encode(text)[:N]
        tokens[index, : len(completions)] = completions
        lengths[index] = len(completions)
    real = np.arange(N)[None] < lengths[:, None]
    blank = np.zeros((len(texts), N), np.float32)
    return Completions(tokens, lengths, blank, np.where(real, np.float32(value), 0), np.ones(len(texts), bool))


def good(problem):
    return f"<think>{'<step>'.join(chain(problem))}</think><answer>{format_answer(problem)}<end>"


def in_plain_python(problem, text, solved):
    """Of each token the piece it belongs to, whether that is judged, and whether it is right."""
    expected, tokens = chain(problem), VOCABULARY.encode(text)[:N]
    told, number, output, fine = [], 0, [], True
    for place, token in enumerate(tokens):
        output.append(token)
        answering = number == MOST
        if (not answering and token in (STEP, END_THINK)) or place + 1 == len(tokens):
            piece, before = VOCABULARY.decode(output), "" if number else "<think>"
            if answering:
                right = solved
            else:
                after = "<step>" if number + 1 < len(expected) else "</think>"
                right = number < len(expected) and piece == f"{before}{expected[number]}{after}"
            told += [(min(number, MOST - 1) if not answering else MOST, fine, fine and right)] * len(output)
            fine, output = fine and right, []
            number = MOST if token == END_THINK else number + 1
    return told


def agree(texts):
    result, solved = jax.tree.map(np.asarray, split(make_completions(texts), COLUMNS))
    for row, (problem, text) in enumerate(zip(ASKED, texts, strict=True)):
        for place, (piece, is_unmasked, right) in enumerate(in_plain_python(problem, text, bool(solved[row]))):
            assert bool(result.mask[row, place]) == is_unmasked, (text, place)
            if is_unmasked:
                assert int(result.span[row, place]) == piece, (text, place)
                assert bool(result.correct[row, piece]) == right, (text, place)
    return result


def test_every_piece_of_a_good_text_is_right():
    result = agree([good(problem) for problem in ASKED])
    assert np.all(result.correct == 1)
    np.testing.assert_array_equal(np.sum(result.is_last, axis=1), [len(chain(problem)) + 1 for problem in ASKED])


def test_behind_the_first_mistake_nothing_is_judged():
    wrong = good(ADDED).replace("7+8+0=5,1", "7+8+0=6,1")
    result = agree([wrong, good(ADDED).replace("65", "66"), good(TAKEN), good(ASKED[3])])
    np.testing.assert_array_equal(result.correct[0], [0] * (MOST + 1))
    assert int(np.sum(result.mask[0])) == len(VOCABULARY.encode("<think>7+8+0=6,1<step>"))
    np.testing.assert_array_equal(result.correct[1], [1] * MOST + [0])


SIGNS = st.sampled_from(["<think>", "</think>", "<step>", "<answer>", "<end>", "5", "+", "="])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), SIGNS), min_size=4, max_size=4))
def test_any_text_is_judged_as_its_pieces_are(edits):
    texts = []
    for problem, (place, cut, put) in zip(ASKED, edits, strict=True):
        tokens = VOCABULARY.encode(good(problem))
        place = min(place, len(tokens) - 1)
        texts.append(VOCABULARY.decode([*tokens[:place], *VOCABULARY.encode(put), *tokens[place + cut :]]))
    agree(texts)


def test_a_group_compares_the_same_piece_and_what_is_shared_is_credited_with_nothing():
    texts = [good(ADDED), good(ADDED).replace("5,1", "6,1"), good(ADDED), good(ADDED).replace("65", "66")]
    completions = make_completions(texts)
    result = jax.device_get(
        jit(step_group_relative(4))(completions, np.zeros(4, np.float32), **make_group_columns(completions))
    )
    first = len(VOCABULARY.encode("<think>7+8+0=5,1<step>"))
    shared = len(VOCABULARY.encode("<think>7+8+0="))
    np.testing.assert_allclose(result.advantage[:, 0], [1 / 3, -1, 1 / 3, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(np.sum(result.advantage[:, :shared], axis=0), 0, atol=1e-5)
    assert float(np.abs(result.advantage[1, first:]).max()) == 0  # not judged
    assert float(np.abs(result.value_target[1]).max()) == 0  # but the value learns that nothing comes of it
    np.testing.assert_array_equal(np.sum(result.mask, axis=1), completions.length)
    second = len(VOCABULARY.encode("5+0+1=6,0</think>"))
    assert float(np.abs(result.advantage[:, first : first + second]).max()) == 0  # all that were judged are right
    last = int(completions.length[0]) - 1
    np.testing.assert_allclose(result.advantage[:, last], [0.5, 0, 0.5, -1], rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_over_values_each_piece_is_an_episode_in_shares_of_the_group(decay):
    completions = make_completions(
        [good(ADDED), good(ADDED).replace("6,0", "7,0"), good(ADDED), good(ADDED)], value=0.25
    )
    result = jax.device_get(
        jit(step_gae_advantages(4, decay))(completions, np.zeros(4, np.float32), **make_group_columns(completions))
    )
    first, second = (len(VOCABULARY.encode(text)) for text in ("<think>7+8+0=5,1<step>", "5+0+1=6,0</think>"))
    ends = [first - 1, first + second - 1]
    # The first piece is right in all of the group, the second in three quarters of it.
    np.testing.assert_allclose(result.advantage[:2, ends], [[0.75, 1], [0.75, -1 / 3]], rtol=1e-5)
    np.testing.assert_allclose(result.advantage[1, first : ends[1]], -decay / 3, atol=1e-6)
    np.testing.assert_allclose(result.value_target[:2, ends], [[1, 1], [1, 0]], atol=1e-6)
    assert float(np.abs(result.advantage[1, first + second :]).max()) == 0


def test_a_group_follows_the_log_of_the_probability_to_be_right():
    texts = {True: good(ADDED), False: good(ADDED).replace("5,1", "6,1")}
    chance, group, slope = 0.2, 4, 0.0
    credit = jit(step_group_relative(group))
    for rights in range(group + 1):
        completions = make_completions([texts[index < rights] for index in range(group)])
        result = np.asarray(
            credit(completions, np.zeros(group, np.float32), **make_group_columns(completions)).advantage
        )[:, 0]
        score = np.where(np.arange(group) < rights, 1 / chance, -1 / (1 - chance))  # of the log probability
        slope += math.comb(group, rights) * chance**rights * (1 - chance) ** (group - rights) * np.mean(result * score)
    # log p = -sum of (1 - p) ** k / k; a group of G follows the first G - 1 terms.
    assert slope == pytest.approx(sum((1 - chance) ** k for k in range(group - 1)), rel=1e-4)


def test_the_return_of_a_token_is_its_worth_in_the_group():
    completions = make_completions([good(ADDED), good(ADDED).replace("6,0", "7,0"), good(ADDED), good(ADDED)])
    columns = make_group_columns(completions)
    result = jax.device_get(jit(step_returns(4))(completions, np.zeros(4, np.float32), **columns))
    np.testing.assert_array_equal(
        result.value_target, jit(step_group_relative(4))(completions, np.zeros(4, np.float32), **columns).advantage
    )
    assert float(result.value_target[1].min()) == -1


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_values_of_what_is_not_judged_change_nothing(bad):
    generated = make_completions([good(ADDED), good(ADDED).replace("6,0", "7,0"), good(ADDED), good(ADDED)], value=0.25)
    columns = make_group_columns(generated)
    credit = jit(step_gae_advantages(4, 0.5))
    clean = credit(generated, np.zeros(4, np.float32), **columns)
    corrupted = generated._replace(value=np.where(np.asarray(clean.mask) > 0, generated.value, np.float32(bad)))
    other = credit(corrupted, np.zeros(4, np.float32), **columns)
    assert (np.asarray(clean.mask) == 0).any()
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_by_default_the_advantage_of_a_piece_is_its_reward_minus_the_value():
    completions = make_completions([good(ADDED)] * 4, value=0.25)
    columns = make_group_columns(completions)
    blank = np.zeros(4, np.float32)
    result, explicit = (
        jit(credit)(completions, blank, **columns) for credit in (step_gae_advantages(4), step_gae_advantages(4, 1.0))
    )
    np.testing.assert_array_equal(result.advantage, explicit.advantage)
