"""Rewards over token arrays, against the same told in plain Python over texts."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import add_self_corrections, chain, inject_error, verify_chain
from thinking.environments.arithmetic.problems import ADD, DIVIDE, MULTIPLY, SUBTRACT, Problem, format_answer
from thinking.generation.completions import Completions
from thinking.reasoning.post_training.rewards import (
    combine_rewards,
    format_reward,
    length_reward,
    outcome_reward,
    process_reward,
)
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompts
from thinking.text.vocabulary import MARKS

QUICK = settings(max_examples=100, deadline=None, derandomize=True)
N = 160
ASKED = [
    Problem(ADD, (57, 8)),
    Problem(SUBTRACT, (57, 80)),
    Problem(DIVIDE, (577, 8)),
    Problem(MULTIPLY, (Problem(ADD, (3, 4)), 5)),
]
QUESTIONS = encode_prompts(ASKED)
COLUMNS = {"answers": QUESTIONS.answers, "steps": QUESTIONS.steps}
REWARDS = {"outcome": outcome_reward, "format": format_reward, "length": length_reward, "process": process_reward}
compute_rewards = jit(lambda *given, **columns: {name: each(*given, **columns) for name, each in REWARDS.items()})


def make_completions(texts):
    tokens = np.zeros((len(texts), N), np.int32)
    lengths = np.zeros(len(texts), np.int32)
    for index, text in enumerate(texts):
        generated = VOCABULARY.encode(text)[:N]
        tokens[index, : len(generated)] = generated
        lengths[index] = len(generated)
    blank = np.zeros((len(texts), N), np.float32)
    return Completions(tokens, lengths, blank, blank, np.ones(len(texts), bool))


def in_plain_python(problem, text):
    tokens = VOCABULARY.encode(text)[:N]
    text = VOCABULARY.decode(tokens)
    outside, rest = "", text
    while rest:
        before, opened, rest = rest.partition("<think>")
        outside += before.replace("</think>", "#")
        # What a thought hides counts as one sign, so that what is on either side of it does not join.
        _, closed, rest = rest.partition("</think>") if opened else ("", "", "")
        outside += "#" * bool(opened)
    _, marked, output = outside.rpartition("<answer>")
    output, ended, _ = output.partition("<end>")
    head, closed, tail = text.partition("</think>")
    body = tail.removeprefix("<answer>").removesuffix("<end>")
    shape = [
        closed,
        head.startswith("<think>"),
        head.count("<think>") == 1,
        "<end>" not in head,
        tail.startswith("<answer>"),
        tail.endswith("<end>"),
        body,
        not any(mark in body for mark in MARKS),
    ]
    judged = verify_chain(problem, text)
    kept = [each for each in judged if not each.is_withdrawn]
    return {
        "outcome": float(bool(marked and ended) and output == format_answer(problem)),
        "format": float(all(shape)),
        "length": 1 - len(tokens) / N,
        "process": sum(each.is_correct for each in kept) / max(len(kept), len(chain(problem))),
    }


def agree(texts):
    result = compute_rewards(QUESTIONS.tokens, make_completions(texts), **COLUMNS)
    for index, (problem, text) in enumerate(zip(ASKED, texts, strict=True)):
        for name, expected in in_plain_python(problem, text).items():
            assert float(result[name][index]) == pytest.approx(expected, abs=1e-6), (name, text)
    return result


def good(problem):
    return f"<think>{'<step>'.join(chain(problem))}</think><answer>{format_answer(problem)}<end>"


def test_what_is_all_right_earns_all():
    result = agree([good(problem) for problem in ASKED])
    for name in ("outcome", "format", "process"):
        np.testing.assert_array_equal(result[name], 1)


@given(st.lists(st.integers(0, 999), min_size=4, max_size=4), st.booleans())
@QUICK
def test_rewards_of_chains_with_slips(seeds, back):
    texts = []
    for problem, seed in zip(ASKED, seeds, strict=True):
        rng = np.random.default_rng(seed)
        if back:
            thought = "".join(text for text, _ in add_self_corrections(chain(problem), 0.3, rng))
        else:
            thought = "<step>".join(inject_error(step, rng) if rng.random() < 0.3 else step for step in chain(problem))
        output = format_answer(problem) if seed % 3 else "7" + format_answer(problem)
        texts.append(f"<think>{thought}</think><answer>{output}<end>")
    result = agree(texts)
    if back and max(map(len, map(VOCABULARY.encode, texts))) <= N:
        np.testing.assert_array_equal(result["process"], 1)


PIECES = [*MARKS, "7+8+0=5,1", "5+0+1=6,0", "7-0-0=7,0", "5/8=0,5", "65", "-23", "35", "6", "5", "72r1"]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), min_size=4, max_size=4))
@QUICK
def test_rewards_of_whatever_a_model_may_write(texts):
    agree(texts)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.sampled_from(PIECES)), min_size=4, max_size=4))
@QUICK
def test_rewards_of_good_completions_with_one_change(changes):
    texts = []
    for problem, (place, kind, piece) in zip(ASKED, changes, strict=True):
        tokens = VOCABULARY.encode(good(problem))
        place %= len(tokens)
        tokens[place : place + (kind > 0)] = VOCABULARY.encode(piece) if kind < 2 else []
        texts.append(VOCABULARY.decode(tokens))
    agree(texts)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<answer>65<end>", True),
        ("<think><answer>65<end></think><answer>66<end>", False),
        ("<think><answer>66<end></think><answer>65<end>", True),
        ("<think><answer>65<end>", False),
        ("<answer>65", False),
        ("<answer>66<answer>65<end>", True),
        ("<answer>065<end>", False),
        ("<answer><end>", False),
        ("65<end>", False),
    ],
)
def test_the_answer_after_the_thoughts_is_what_counts(text, right):
    result = agree([text, "", "", ""])
    assert bool(result["outcome"][0]) == right
    assert not float(result["format"][0]) or "</think>" in text


def test_rewards_add_up_by_weight_and_are_told_by_name():
    reward = jit(combine_rewards(outcome=(2.0, outcome_reward), process=(0.5, process_reward)))
    total, each = reward(QUESTIONS.tokens, make_completions([good(ASKED[0]), "<answer>-23<end>", "", ""]), **COLUMNS)
    np.testing.assert_allclose(total, [2.5, 2, 0, 0])
    np.testing.assert_allclose(each["outcome"], [1, 1, 0, 0])
    np.testing.assert_allclose(each["process"], [1, 0, 0, 0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no rewards"):
        combine_rewards()
    three = make_completions([""] * 3)
    with pytest.raises(ValueError, match="4 prompts for 3 completions"):
        format_reward(QUESTIONS.tokens, three)
    with pytest.raises(ValueError, match="answers has 4 rows for 3 completions"):
        outcome_reward(jnp.asarray(QUESTIONS.tokens[:3]), three, answers=QUESTIONS.answers)
