"""Arithmetic datasets: training and evaluation sets are disjoint, and injected errors are errors."""

import collections

import numpy as np
import pytest

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, DIRECT, SELF_CORRECTION, make_chain, verify_chain
from thinking.environments.arithmetic.problems import DIVIDE, MULTIPLY, format_answer, format_question
from thinking.environments.arithmetic.sources import NUM_REPEATS, sample_problems
from thinking.environments.arithmetic.split import SPLITS, is_held_out, small_number_problems
from thinking.recipes.arithmetic.datasets import inject_errors, make_evaluation_set, make_training_set
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_example

SOURCES = ("multiply:2", "add:3", "divide:1")


def iter_texts(packed):
    """Each text of packed rows, with the index of its row."""
    for row, (tokens, segments) in enumerate(zip(packed.tokens, packed.segments, strict=True)):
        for segment in range(1, segments.max() + 1):
            yield row, VOCABULARY.decode(tokens[segments == segment].tolist())


def test_small_number_problems_are_divided_among_the_splits():
    train, development, test = (sample_problems("words", 0, seed=0, split=split) for split in SPLITS)
    assert set(train) | set(development) | set(test) == set(small_number_problems())
    assert len(set(train)) + len(development) + len(test) == len(set(small_number_problems()))
    for problem, count in collections.Counter(train).items():
        assert count == (NUM_REPEATS if problem.operation in (MULTIPLY, DIVIDE) else 1)


def test_training_rows_match_their_source_and_are_not_held_out():
    training_set = make_training_set(SOURCES, num_problems=40, row_length=128, seed=1, verbal_fraction=0.0)
    assert training_set.starts[0] == 0
    assert training_set.starts[-1] == len(training_set.packed_rows.tokens)
    problems = {source: set(sample_problems(source, 40, seed=1)) for source in SOURCES}
    prompts = {source: {f"<begin>{format_question(problem)}" for problem in problems[source]} for source in SOURCES}
    row_sources = (
        np.searchsorted(training_set.starts, np.arange(len(training_set.packed_rows.tokens)), side="right") - 1
    )
    max_length = 0
    for row, text in iter_texts(training_set.packed_rows):
        assert text.partition("<think>")[0] in prompts[SOURCES[row_sources[row]]]
        max_length = max(max_length, len(VOCABULARY.encode(text)))
    assert max_length == training_set.max_length
    assert not any(is_held_out(problem) for source in SOURCES for problem in problems[source])


def test_direct_training_set_has_the_facts_that_chains_show():
    chain_set, direct_set = (
        make_training_set(("multiply:2",), style, num_problems=30, row_length=128, seed=1, verbal_fraction=0.0)
        for style in (CHAIN_OF_THOUGHT, DIRECT)
    )
    prompts = [
        {text.split("<think>")[0].split("<answer>")[0] for _, text in iter_texts(training_set.packed_rows)}
        for training_set in (chain_set, direct_set)
    ]
    product_prompts = set()
    for problem in sample_problems("multiply:2", 30, seed=1):
        left, right = problem.values
        if right % 10 and right > 10:
            products = left * (right % 10), left * (right - right % 10)
            product_prompts |= {f"<begin>{left}*{right % 10}=", f"<begin>{products[0]}+{products[1]}="}
    digit_prompts = {f"<begin>{a}{sign}{b}=" for a in range(10) for b in range(10) for sign in "+-*"}
    assert prompts[0] | product_prompts | digit_prompts <= prompts[1]


def test_datasets_depend_only_on_the_seed():
    first, second, other = (
        make_training_set(("add:2",), num_problems=20, row_length=64, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.packed_rows.tokens, second.packed_rows.tokens)
    assert not np.array_equal(first.packed_rows.tokens, other.packed_rows.tokens)
    assert (
        make_evaluation_set(("add:2",), num_problems=9, seed=3).problems
        == make_evaluation_set(("add:2",), num_problems=9, seed=3).problems
    )


def test_source_name_may_set_the_number_of_problems():
    assert len(sample_problems("add:2:7", 30, seed=0)) == 7
    assert len(sample_problems("add:2", 30, seed=0)) == 30


def test_source_name_may_set_the_digits_of_both_operands():
    for source, split in (("multiply:4x4", "test"), ("add:5x2", "train")):
        digits = {
            tuple(sorted(len(str(value)) for value in problem.values))
            for problem in sample_problems(source, 20, 0, split)
        }
        assert digits == {(4, 4) if split == "test" else (2, 5)}


def test_evaluation_set_is_held_out_and_grouped_by_subject():
    evaluation_set = make_evaluation_set(("words", "add:3"), num_problems=30, seed=0)
    assert all(is_held_out(problem) for problem in evaluation_set.problems)
    assert evaluation_set.starts == [0, len(evaluation_set.problems) - 30, len(evaluation_set.problems)]
    assert evaluation_set.subjects[-30:] == ["add:3"] * 30
    assert set(evaluation_set.subjects[:-30]) == {"words add", "words subtract", "words divide"}
    training_problems = make_evaluation_set(("add:3",), num_problems=30, seed=0, split="train")
    assert not any(is_held_out(problem) for problem in training_problems.problems)


@pytest.mark.parametrize("source", ["words", "multiply:2", "subtract:3", "two_steps:1"])
def test_max_completion_length_is_that_of_the_longest_reference(source):
    evaluation_set = make_evaluation_set((source,), num_problems=50, seed=0)
    completions = [
        VOCABULARY.encode(f"<think>{'<step>'.join(make_chain(problem))}</think><answer>{format_answer(problem)}<end>")
        for problem in evaluation_set.problems
    ]
    assert evaluation_set.max_completion_length == max(map(len, completions))


def test_max_completion_length_covers_self_correction():
    evaluation_set = make_evaluation_set(("words",), SELF_CORRECTION, num_problems=1, seed=0)
    rng = np.random.default_rng(1)
    examples = [
        encode_example(problem, SELF_CORRECTION, error_fraction=0.5, rng=rng)
        for problem in evaluation_set.problems[::20]
    ]
    assert evaluation_set.max_completion_length >= max(
        len(example.tokens) - example.prompt_length for example in examples
    )


def test_injected_error_is_one_wrong_digit_in_the_last_step():
    evaluation_set = make_evaluation_set(("add:3", "subtract:2"), num_problems=25, seed=0)
    chain_prompts, self_correction_prompts = (
        inject_errors(evaluation_set, style, seed=5).prompts for style in (CHAIN_OF_THOUGHT, SELF_CORRECTION)
    )
    for index, problem in enumerate(evaluation_set.problems):
        prompt_texts = [
            VOCABULARY.decode(prompts.tokens[index, : prompts.lengths[index]].tolist())
            for prompts in (chain_prompts, self_correction_prompts)
        ]
        steps = [verify_chain(problem, text) for text in prompt_texts]
        assert [step.text for step in steps[0]] == [step.text for step in steps[1]]
        for verified_steps in steps:
            assert [step.is_correct for step in verified_steps] == [True] * (len(verified_steps) - 1) + [False]
            correct_step = make_chain(problem)[len(verified_steps) - 1]
            assert sum(a != b for a, b in zip(verified_steps[-1].text, correct_step, strict=True)) == 1
        assert prompt_texts[1].count("<check>") == len(steps[1]) - 1


@pytest.mark.parametrize("source", ["add", "add:0", "add:x", "power:2", "words:2", "add:1:0", "add:1:2:3", "add:2x3"])
def test_unknown_source_raises(source):
    with pytest.raises(ValueError, match=f"^source {source}: not a problem source; give words, or OPERATION:DIGITS"):
        sample_problems(source, 1, seed=0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("add:1001", "add:1001: allowed are 1 to 1000 digits; give fewer"),
        ("two_steps:3x2", "two_steps:3x2: two_steps has a single operand; give two_steps:3"),
        ("modular:2x1", "modular:2x1: modular has a single operand; give modular:2"),
    ],
)
def test_invalid_source_digits_raise(source, message):
    with pytest.raises(ValueError, match=rf"^source {message}$"):
        sample_problems(source, 1, seed=0)


def test_text_longer_than_a_row_raises():
    with pytest.raises(ValueError, match=r"^row_length 64: an example of add:9 has \d+ tokens; give a longer row"):
        make_training_set(("add:9",), num_problems=2, row_length=64, seed=0)
