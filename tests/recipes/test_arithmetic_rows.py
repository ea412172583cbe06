"""Encoding of problems as rows of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, problems

from thinking.environments.arithmetic.chains import (
    CHAIN_OF_THOUGHT,
    SELF_CORRECTION,
    STYLES,
    SUBTASKS,
    make_chain,
    verify_chain,
)
from thinking.environments.arithmetic.problems import (
    ADD,
    MULTIPLY,
    WORDINGS,
    Problem,
    format_answer,
    format_question,
    subtasks,
)
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_example, encode_examples, encode_prompts, pack_examples
from thinking.text.packing import PackedRows
from thinking.text.vocabulary import BEGIN, END


@given(problems, st.sampled_from(STYLES), st.booleans(), st.integers(0, 999))
@QUICK
def test_weights_exclude_prompts_errors_and_subtask_answers(problem, style, reverse_digits, seed):
    wording = seed % len(WORDINGS[problem.operation])
    example = encode_example(
        problem,
        style,
        wording=wording,
        reverse_digits=reverse_digits,
        error_fraction=0.5,
        rng=np.random.default_rng(seed),
    )
    assert (example.tokens[0], example.tokens[-1], len(example.tokens)) == (BEGIN, END, len(example.weights))
    assert VOCABULARY.decode(example.tokens[: example.prompt_length]) == "<begin>" + format_question(
        problem, wording, reverse_digits
    )
    text = VOCABULARY.decode(example.tokens)
    assert VOCABULARY.encode(text) == example.tokens
    assert text.endswith(f"<answer>{format_answer(problem, reverse_digits)}<end>")
    trained_tokens = [token for token, weight in zip(example.tokens, example.weights, strict=True) if weight]
    assert not any(example.weights[: example.prompt_length])
    if style == SELF_CORRECTION:
        retracted_steps = [
            step.text for step in verify_chain(problem, text, CHAIN_OF_THOUGHT, reverse_digits) if step.is_retracted
        ]
        assert sum(map(len, map(VOCABULARY.encode, retracted_steps))) == len(
            example.tokens
        ) - example.prompt_length - len(trained_tokens)
    else:
        subproblems = subtasks(problem) if style == SUBTASKS else []
        num_answer_tokens = sum(
            len(VOCABULARY.encode(format_answer(subproblem, reverse_digits))) for subproblem in subproblems
        )
        assert len(trained_tokens) == len(example.tokens) - example.prompt_length - num_answer_tokens


def test_subtask_answers_have_zero_weight():
    example = encode_example(Problem(MULTIPLY, (12, 34)), SUBTASKS)
    visible = [VOCABULARY.decode([token]) if weight else "_" for token, weight in zip(*example[::2], strict=True)]
    expected = "<think><ask>12*4=<answer>__<step><ask>12*30=<answer>___<step><ask>48+360=<answer>___</think>"
    assert "".join(visible) == f"_______{expected}<answer>408<end>"


def test_examples_depend_only_on_seed_and_step():
    problems = [Problem(ADD, (left, 7)) for left in range(40)]
    first, second, other = (pack_examples(encode_examples(problems, 1, step, styles=STYLES), 96) for step in (5, 5, 6))
    assert isinstance(first, PackedRows)
    assert all((one == two).all() for one, two in zip(first, second, strict=True))
    assert first.tokens.shape != other.tokens.shape or (first.tokens != other.tokens).any()


def test_prompts_hold_reference_answers_and_steps():
    problems = [Problem(ADD, (57, 8)), Problem(MULTIPLY, (12, 34))]
    prompts = encode_prompts(problems, wordings=[1, 0])
    for index, problem in enumerate(problems):
        text = VOCABULARY.decode(prompts.tokens[index, : prompts.lengths[index]])
        assert text == "<begin>" + format_question(problem, 1 - index)
        assert VOCABULARY.decode([token for token in prompts.answers[index] if token]) == format_answer(problem)
        steps = [VOCABULARY.decode([token for token in step if token]) for step in prompts.steps[index]]
        assert [step for step in steps if step] == make_chain(problem)
    assert {leaf.dtype for leaf in prompts} == {np.dtype("int32")}


def test_invalid_arguments_raise():
    problem = Problem(ADD, (1, 2))
    with pytest.raises(ValueError, match="style 'loud' is unknown"):
        make_chain(problem, "loud")
    with pytest.raises(ValueError, match="give an rng"):
        encode_example(problem, SELF_CORRECTION, error_fraction=0.5)
    with pytest.raises(ValueError, match="no problems"):
        encode_prompts([])
    with pytest.raises(ValueError, match="1 wordings for 2 problems"):
        encode_prompts([problem, problem], wordings=[0])
