"""What is taught, practised and examined: the sides of the split stay apart, and slips are slips."""

import collections

import numpy as np
import pytest

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, DIRECT, SELF_CORRECTION, chain, verify_chain
from thinking.environments.arithmetic.problems import DIVIDE, MULTIPLY, format_answer, format_question
from thinking.environments.arithmetic.sources import NUM_REPEATS, sample_problems
from thinking.environments.arithmetic.split import SPLITS, is_held_out, word_problems
from thinking.recipes.arithmetic.datasets import inject_errors, make_evaluation_set, make_training_set
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_example

SOURCES = ("multiply:2", "add:3", "divide:1")


def texts(packed):
    """Each text of packed rows, and the number of its row."""
    for place, (tokens, segments) in enumerate(zip(packed.tokens, packed.segments, strict=True)):
        for number in range(1, segments.max() + 1):
            yield place, VOCABULARY.decode(tokens[segments == number].tolist())


def test_all_word_problems_are_taught_or_examined():
    taught, developed, examined = (sample_problems("words", 0, seed=0, split=split) for split in SPLITS)
    assert set(taught) | set(developed) | set(examined) == set(word_problems())
    assert len(set(taught)) + len(developed) + len(examined) == len(set(word_problems()))
    for problem, count in collections.Counter(taught).items():
        assert count == (NUM_REPEATS if problem.operation in (MULTIPLY, DIVIDE) else 1)


def test_lessons_are_rows_of_their_own_source_and_hold_nothing_that_is_examined():
    made = make_training_set(SOURCES, num_problems=40, row_length=128, seed=1, verbal_fraction=0.0)
    assert made.starts[0] == 0
    assert made.starts[-1] == len(made.packed_rows.tokens)
    drawn = {source: set(sample_problems(source, 40, seed=1)) for source in SOURCES}
    asked = {source: {f"<begin>{format_question(each)}" for each in drawn[source]} for source in SOURCES}
    source_of = np.searchsorted(made.starts, np.arange(len(made.packed_rows.tokens)), side="right") - 1
    longest = 0
    for place, text in texts(made.packed_rows):
        assert text.partition("<think>")[0] in asked[SOURCES[source_of[place]]]
        longest = max(longest, len(VOCABULARY.encode(text)))
    assert longest == made.max_length
    assert not any(is_held_out(each) for source in SOURCES for each in drawn[source])


def test_direct_training_set_has_the_facts_that_chains_show():
    chains, direct = (
        make_training_set(("multiply:2",), style, num_problems=30, row_length=128, seed=1, verbal_fraction=0.0)
        for style in (CHAIN_OF_THOUGHT, DIRECT)
    )
    prompts = [
        {text.split("<think>")[0].split("<answer>")[0] for _, text in texts(made.packed_rows)}
        for made in (chains, direct)
    ]
    written_out = set()
    for problem in sample_problems("multiply:2", 30, seed=1):
        left, right = problem.values
        if right % 10 and right > 10:
            products = left * (right % 10), left * (right - right % 10)
            written_out |= {f"<begin>{left}*{right % 10}=", f"<begin>{products[0]}+{products[1]}="}
    digits = {f"<begin>{a}{sign}{b}=" for a in range(10) for b in range(10) for sign in "+-*"}
    assert prompts[0] | written_out | digits <= prompts[1]


def test_lessons_and_exams_are_functions_of_their_seed():
    one, two, other = (make_training_set(("add:2",), num_problems=20, row_length=64, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.packed_rows.tokens, two.packed_rows.tokens)
    assert not np.array_equal(one.packed_rows.tokens, other.packed_rows.tokens)
    assert (
        make_evaluation_set(("add:2",), num_problems=9, seed=3).problems
        == make_evaluation_set(("add:2",), num_problems=9, seed=3).problems
    )


def test_a_name_may_tell_how_many_problems_there_are():
    assert len(sample_problems("add:2:7", 30, seed=0)) == 7
    assert len(sample_problems("add:2", 30, seed=0)) == 30


def test_a_name_may_tell_the_digits_of_both_operands():
    for source, split in (("multiply:4x4", "test"), ("add:5x2", "train")):
        digits = {
            tuple(sorted(len(str(each)) for each in found.values)) for found in sample_problems(source, 20, 0, split)
        }
        assert digits == {(4, 4) if split == "test" else (2, 5)}


def test_an_exam_is_held_out_and_counted_by_subject():
    asked = make_evaluation_set(("words", "add:3"), num_problems=30, seed=0)
    assert all(is_held_out(each) for each in asked.problems)
    assert asked.starts == [0, len(asked.problems) - 30, len(asked.problems)]
    assert asked.subjects[-30:] == ["add:3"] * 30
    assert set(asked.subjects[:-30]) == {"words add", "words subtract", "words divide"}
    practised = make_evaluation_set(("add:3",), num_problems=30, seed=0, split="train")
    assert not any(is_held_out(each) for each in practised.problems)


@pytest.mark.parametrize("source", ["words", "multiply:2", "subtract:3", "two_steps:1"])
def test_the_longest_text_of_an_exam_is_that_of_its_rows(source):
    asked = make_evaluation_set((source,), num_problems=50, seed=0)
    written = [
        VOCABULARY.encode(f"<think>{'<step>'.join(chain(each))}</think><answer>{format_answer(each)}<end>")
        for each in asked.problems
    ]
    assert asked.max_completion_length == max(map(len, written))


def test_an_exam_has_room_for_checks_and_for_steps_that_are_taken_back():
    asked = make_evaluation_set(("words",), SELF_CORRECTION, num_problems=1, seed=0)
    rng = np.random.default_rng(1)
    written = [encode_example(each, SELF_CORRECTION, error_fraction=0.5, rng=rng) for each in asked.problems[::20]]
    assert asked.max_completion_length >= max(len(each.tokens) - each.prompt_length for each in written)


def test_a_slip_is_one_wrong_digit_in_the_last_step_and_alike_in_both_styles():
    asked = make_evaluation_set(("add:3", "subtract:2"), num_problems=25, seed=0)
    worked, checked = (inject_errors(asked, style, seed=5).prompts for style in (CHAIN_OF_THOUGHT, SELF_CORRECTION))
    for index, problem in enumerate(asked.problems):
        said = [VOCABULARY.decode(each.tokens[index, : each.lengths[index]].tolist()) for each in (worked, checked)]
        steps = [verify_chain(problem, text) for text in said]
        assert [each.text for each in steps[0]] == [each.text for each in steps[1]]
        for judged in steps:
            assert [each.is_correct for each in judged] == [True] * (len(judged) - 1) + [False]
            right = chain(problem)[len(judged) - 1]
            assert sum(a != b for a, b in zip(judged[-1].text, right, strict=True)) == 1
        assert said[1].count("<check>") == len(steps[1]) - 1


@pytest.mark.parametrize("source", ["add", "add:0", "add:x", "power:2", "words:2", "add:1:0", "add:1:2:3", "add:2x3"])
def test_an_unknown_source_is_named(source):
    with pytest.raises(ValueError, match=f"^source {source}: no source of problems; give words, or OPERATION:DIGITS"):
        sample_problems(source, 1, seed=0)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("add:1001", "add:1001: allowed are 1 to 1000 digits; give fewer"),
        ("two_steps:3x2", "two_steps:3x2: two_steps has a single operand; give two_steps:3"),
        ("modular:2x1", "modular:2x1: modular has a single operand; give modular:2"),
    ],
)
def test_a_source_whose_digits_cannot_be_heeded_is_refused_in_one_line(source, said):
    with pytest.raises(ValueError, match=rf"^source {said}$"):
        sample_problems(source, 1, seed=0)


def test_a_text_that_is_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"^row_length 64: a text of add:9 has \d+ tokens; give a longer row"):
        make_training_set(("add:9",), num_problems=2, row_length=64, seed=0)
