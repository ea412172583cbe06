"""Rewards over token arrays, against a plain Python reference over texts."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import add_self_corrections, inject_error, make_chain, verify_chain
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
from thinking.text.vocabulary import SPECIAL_TOKENS

QUICK = settings(max_examples=100, deadline=None, derandomize=True)
MAX_NEW_TOKENS = 160
PROBLEMS = [
    Problem(ADD, (57, 8)),
    Problem(SUBTRACT, (57, 80)),
    Problem(DIVIDE, (577, 8)),
    Problem(MULTIPLY, (Problem(ADD, (3, 4)), 5)),
]
PROMPTS = encode_prompts(PROBLEMS)
COLUMNS = {"answers": PROMPTS.answers, "steps": PROMPTS.steps}
REWARDS = {"outcome": outcome_reward, "format": format_reward, "length": length_reward, "process": process_reward}
compute_rewards = jit(
    lambda *args, **columns: {name: reward_fn(*args, **columns) for name, reward_fn in REWARDS.items()}
)


def make_completions(texts):
    tokens = np.zeros((len(texts), MAX_NEW_TOKENS), np.int32)
    lengths = np.zeros(len(texts), np.int32)
    for index, text in enumerate(texts):
        text_tokens = VOCABULARY.encode(text)[:MAX_NEW_TOKENS]
        tokens[index, : len(text_tokens)] = text_tokens
        lengths[index] = len(text_tokens)
    zeros = np.zeros((len(texts), MAX_NEW_TOKENS), np.float32)
    return Completions(tokens, lengths, zeros, zeros, np.ones(len(texts), bool))


def compute_reference_rewards(problem, text):
    tokens = VOCABULARY.encode(text)[:MAX_NEW_TOKENS]
    text = VOCABULARY.decode(tokens)
    text_outside_thoughts, rest = "", text
    while rest:
        prefix, think_mark, rest = rest.partition("<think>")
        text_outside_thoughts += prefix.replace("</think>", "#")
        # A thought is replaced by one character, so that the texts around it are not joined.
        _, end_think_mark, rest = rest.partition("</think>") if think_mark else ("", "", "")
        text_outside_thoughts += "#" * bool(think_mark)
    _, answer_mark, output = text_outside_thoughts.rpartition("<answer>")
    output, end_mark, _ = output.partition("<end>")
    thought, end_think_mark, rest_of_text = text.partition("</think>")
    body = rest_of_text.removeprefix("<answer>").removesuffix("<end>")
    conditions = [
        end_think_mark,
        thought.startswith("<think>"),
        thought.count("<think>") == 1,
        "<end>" not in thought,
        rest_of_text.startswith("<answer>"),
        rest_of_text.endswith("<end>"),
        body,
        not any(token in body for token in SPECIAL_TOKENS),
    ]
    verified_steps = verify_chain(problem, text)
    kept_steps = [step for step in verified_steps if not step.is_retracted]
    return {
        "outcome": float(bool(answer_mark and end_mark) and output == format_answer(problem)),
        "format": float(all(conditions)),
        "length": 1 - len(tokens) / MAX_NEW_TOKENS,
        "process": sum(step.is_correct for step in kept_steps) / max(len(kept_steps), len(make_chain(problem))),
    }


def check_rewards(texts):
    result = compute_rewards(PROMPTS.tokens, make_completions(texts), **COLUMNS)
    for index, (problem, text) in enumerate(zip(PROBLEMS, texts, strict=True)):
        for name, expected in compute_reference_rewards(problem, text).items():
            assert float(result[name][index]) == pytest.approx(expected, abs=1e-6), (name, text)
    return result


def make_correct_completion(problem):
    return f"<think>{'<step>'.join(make_chain(problem))}</think><answer>{format_answer(problem)}<end>"


def test_correct_completions_have_full_reward():
    result = check_rewards([make_correct_completion(problem) for problem in PROBLEMS])
    for name in ("outcome", "format", "process"):
        np.testing.assert_array_equal(result[name], 1)


@given(st.lists(st.integers(0, 999), min_size=4, max_size=4), st.booleans())
@QUICK
def test_rewards_of_chains_with_errors_equal_plain_python_reference(seeds, with_corrections):
    texts = []
    for problem, seed in zip(PROBLEMS, seeds, strict=True):
        rng = np.random.default_rng(seed)
        if with_corrections:
            thought = "".join(text for text, _ in add_self_corrections(make_chain(problem), 0.3, rng))
        else:
            thought = "<step>".join(
                inject_error(step, rng) if rng.random() < 0.3 else step for step in make_chain(problem)
            )
        output = format_answer(problem) if seed % 3 else "7" + format_answer(problem)
        texts.append(f"<think>{thought}</think><answer>{output}<end>")
    result = check_rewards(texts)
    if with_corrections and max(map(len, map(VOCABULARY.encode, texts))) <= MAX_NEW_TOKENS:
        np.testing.assert_array_equal(result["process"], 1)


FRAGMENTS = [*SPECIAL_TOKENS, "7+8+0=5,1", "5+0+1=6,0", "7-0-0=7,0", "5/8=0,5", "65", "-23", "35", "6", "5", "72r1"]


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join), min_size=4, max_size=4))
@QUICK
def test_rewards_of_random_texts_equal_plain_python_reference(texts):
    check_rewards(texts)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.sampled_from(FRAGMENTS)), min_size=4, max_size=4))
@QUICK
def test_rewards_of_edited_completions_equal_plain_python_reference(changes):
    texts = []
    for problem, (position, edit, fragment) in zip(PROBLEMS, changes, strict=True):
        tokens = VOCABULARY.encode(make_correct_completion(problem))
        position %= len(tokens)
        tokens[position : position + (edit > 0)] = VOCABULARY.encode(fragment) if edit < 2 else []
        texts.append(VOCABULARY.decode(tokens))
    check_rewards(texts)


@pytest.mark.parametrize(
    ("text", "is_correct"),
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
def test_outcome_reward_uses_the_answer_after_the_thoughts(text, is_correct):
    result = check_rewards([text, "", "", ""])
    assert bool(result["outcome"][0]) == is_correct
    assert not float(result["format"][0]) or "</think>" in text


def test_combine_rewards_returns_the_weighted_sum_and_each_term():
    reward_fn = jit(combine_rewards(outcome=(2.0, outcome_reward), process=(0.5, process_reward)))
    total, terms = reward_fn(
        PROMPTS.tokens, make_completions([make_correct_completion(PROBLEMS[0]), "<answer>-23<end>", "", ""]), **COLUMNS
    )
    np.testing.assert_allclose(total, [2.5, 2, 0, 0])
    np.testing.assert_allclose(terms["outcome"], [1, 1, 0, 0])
    np.testing.assert_allclose(terms["process"], [1, 0, 0, 0])


def test_invalid_arguments_raise_errors():
    with pytest.raises(ValueError, match="no rewards"):
        combine_rewards()
    completions = make_completions([""] * 3)
    with pytest.raises(ValueError, match="4 prompts for 3 completions"):
        format_reward(PROMPTS.tokens, completions)
    with pytest.raises(ValueError, match="answers has 4 rows for 3 completions"):
        outcome_reward(jnp.asarray(PROMPTS.tokens[:3]), completions, answers=PROMPTS.answers)
