"""The vocabulary: encoding, decoding, and the kinds of tokens."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import (
    ANSWER_KIND,
    MARKS,
    NO_KIND,
    PROMPT_KIND,
    SPECIAL_KIND,
    THOUGHT_KIND,
    Vocabulary,
    token_kinds,
)

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
WIDTH = 24
find_kinds = jit(token_kinds)
tokens_of_any_kind = st.lists(st.integers(0, len(VOCABULARY) - 1), max_size=WIDTH)


@given(tokens_of_any_kind)
@QUICK
def test_tokens_round_trip_through_text(tokens):
    text = VOCABULARY.decode(tokens)
    assert VOCABULARY.encode(text) == tokens
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


def test_each_digit_is_one_token():
    tokens = VOCABULARY.encode("0123456789")
    assert len(set(tokens)) == 10
    assert min(tokens) >= len(MARKS)
    assert VOCABULARY.encode("100") == [tokens[1], tokens[0], tokens[0]]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("Calculate the root of 9", "' root'"), ("57 8", "' 8'"), ("5^8", "'^8'"), ("5<thin>", "<thin>")],
)
def test_unknown_text_raises_and_is_named(text, unknown):
    with pytest.raises(ValueError, match="not understood") as error:
        VOCABULARY.encode(text)
    assert unknown in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("token", [-1, len(VOCABULARY)])
def test_token_out_of_range_raises(token):
    with pytest.raises(ValueError, match=f"token {token} is out of range"):
        VOCABULARY.decode([token])


@pytest.mark.parametrize("words", [("one", "ones"), ("a", "a"), ("a", ""), ("<",), ("<think>s",)])
def test_ambiguous_words_raise(words):
    with pytest.raises(ValueError, match="Vocabulary: "):
        Vocabulary(words)


def describe_kinds(text, prompt):
    """The kinds of a row padded to WIDTH, one letter per token."""
    tokens = VOCABULARY.encode(text)
    row = np.zeros((1, WIDTH), np.int32)
    row[0, : len(tokens)] = tokens
    lengths = np.array([len(tokens)], np.int32)
    kinds = np.asarray(find_kinds(row, lengths, np.array([len(VOCABULARY.encode(prompt))], np.int32)))[0]
    assert (kinds[len(tokens) :] == NO_KIND).all()
    letters = {PROMPT_KIND: "p", THOUGHT_KIND: "t", ANSWER_KIND: "a", SPECIAL_KIND: "m"}
    return "".join(letters[int(kind)] for kind in kinds[: len(tokens)])


def test_each_token_has_one_kind():
    prompt = "<begin>7+8="
    text = prompt + "<think>7+8+0=5,1<check>5,1</think><answer>15<end>"
    assert describe_kinds(text, prompt) == "pppppmtttttttttmtttmmaam"


def test_row_without_thought_has_no_thought_kind():
    assert describe_kinds("<begin>7+8=<answer>15<end>", "<begin>7+8=") == "pppppmaam"


def test_unclosed_thought_extends_to_the_end():
    assert describe_kinds("<think>7+8<answer>15<end>", "") == "mtttmttm"


def test_mismatched_shapes_raise():
    with pytest.raises(ValueError, match="kinds: tokens"):
        token_kinds(jnp.zeros((2, 3), jnp.int32), jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32))
