"""Problems as rows of tokens."""

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
    chain,
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
def test_rows_read_as_texts_and_weigh_all_but_prompts_slips_and_what_others_answer(asked, style, least_first, seed):
    wording = seed % len(WORDINGS[asked.operation])
    made = encode_example(
        asked, style, wording=wording, reverse_digits=least_first, error_fraction=0.5, rng=np.random.default_rng(seed)
    )
    assert (made.tokens[0], made.tokens[-1], len(made.tokens)) == (BEGIN, END, len(made.weights))
    assert VOCABULARY.decode(made.tokens[: made.prompt_length]) == "<begin>" + format_question(
        asked, wording, least_first
    )
    text = VOCABULARY.decode(made.tokens)
    assert VOCABULARY.encode(text) == made.tokens
    assert text.endswith(f"<answer>{format_answer(asked, least_first)}<end>")
    learned = [token for token, weight in zip(made.tokens, made.weights, strict=True) if weight]
    assert not any(made.weights[: made.prompt_length])
    if style == SELF_CORRECTION:
        slips = [each.text for each in verify_chain(asked, text, CHAIN_OF_THOUGHT, least_first) if each.is_withdrawn]
        assert sum(map(len, map(VOCABULARY.encode, slips))) == len(made.tokens) - made.prompt_length - len(learned)
    else:
        given = subtasks(asked) if style == SUBTASKS else []
        answered = sum(len(VOCABULARY.encode(format_answer(each, least_first))) for each in given)
        assert len(learned) == len(made.tokens) - made.prompt_length - answered


def test_a_row_asks_its_subtasks_and_learns_nothing_of_their_answers():
    made = encode_example(Problem(MULTIPLY, (12, 34)), SUBTASKS)
    weighed = [VOCABULARY.decode([token]) if weight else "_" for token, weight in zip(*made[::2], strict=True)]
    asked = "<think><ask>12*4=<answer>__<step><ask>12*30=<answer>___<step><ask>48+360=<answer>___</think>"
    assert "".join(weighed) == f"_______{asked}<answer>408<end>"


def test_a_data_set_is_a_function_of_seed_and_step():
    asked = [Problem(ADD, (left, 7)) for left in range(40)]
    first, again, other = (pack_examples(encode_examples(asked, 1, step, styles=STYLES), 96) for step in (5, 5, 6))
    assert isinstance(first, PackedRows)
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert first.tokens.shape != other.tokens.shape or (first.tokens != other.tokens).any()


def test_prompts_hold_what_rewards_ask_for():
    asked = [Problem(ADD, (57, 8)), Problem(MULTIPLY, (12, 34))]
    made = encode_prompts(asked, wordings=[1, 0])
    for index, each in enumerate(asked):
        text = VOCABULARY.decode(made.tokens[index, : made.lengths[index]])
        assert text == "<begin>" + format_question(each, 1 - index)
        assert VOCABULARY.decode([token for token in made.answers[index] if token]) == format_answer(each)
        steps = [VOCABULARY.decode([token for token in step if token]) for step in made.steps[index]]
        assert [step for step in steps if step] == chain(each)
    assert {leaf.dtype for leaf in made} == {np.dtype("int32")}


def test_bad_arguments_are_named():
    asked = Problem(ADD, (1, 2))
    with pytest.raises(ValueError, match="style 'loud' is unknown"):
        chain(asked, "loud")
    with pytest.raises(ValueError, match="give an rng"):
        encode_example(asked, SELF_CORRECTION, error_fraction=0.5)
    with pytest.raises(ValueError, match="no problems"):
        encode_prompts([])
    with pytest.raises(ValueError, match="1 wordings for 2 problems"):
        encode_prompts([asked, asked], wordings=[0])
