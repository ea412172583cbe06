"""The vocabulary: encoding, decoding, and where thoughts are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import SPECIAL_TOKENS, Vocabulary, is_in_thought

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
WIDTH = 24
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
    assert min(tokens) >= len(SPECIAL_TOKENS)
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7+8=<think>7+8<check>5</think><answer>15<end>", "...." + "t" * 6 + "....."),
        ("7+8=<answer>15<end>", "........"),
        ("<think>7+8<answer>15<end>", "tttttttt"),
    ],
)
def test_thoughts_end_at_their_mark_or_at_the_end(text, expected):
    is_thought = np.asarray(is_in_thought(np.int32([VOCABULARY.encode(text)])))[0]
    assert "".join("t" if each else "." for each in is_thought) == expected
