"""Texts and tokens are two faces of one thing, and each token plays one part."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import (
    ANSWER_KIND,
    MARK_KIND,
    MARKS,
    NO_KIND,
    PROMPT_KIND,
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
def test_every_row_of_tokens_survives_as_text(tokens):
    text = VOCABULARY.decode(tokens)
    assert VOCABULARY.encode(text) == tokens
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


def test_each_digit_is_a_token_and_none_is_padding():
    tokens = VOCABULARY.encode("0123456789")
    assert len(set(tokens)) == 10
    assert min(tokens) >= len(MARKS)
    assert VOCABULARY.encode("100") == [tokens[1], tokens[0], tokens[0]]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("Calculate the root of 9", "' root'"), ("57 8", "' 8'"), ("5^8", "'^8'"), ("5<thin>", "<thin>")],
)
def test_what_is_not_understood_is_named(text, unknown):
    with pytest.raises(ValueError, match="not understood") as caught:
        VOCABULARY.encode(text)
    assert unknown in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", [-1, len(VOCABULARY)])
def test_a_token_beyond_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=f"token {token} is out of range"):
        VOCABULARY.decode([token])


@pytest.mark.parametrize("words", [("one", "ones"), ("a", "a"), ("a", ""), ("<",), ("<think>s",)])
def test_words_that_could_be_mistaken_for_one_another_are_refused(words):
    with pytest.raises(ValueError, match="Vocabulary: "):
        Vocabulary(words)


def described(text, prompt):
    """The kinds, one letter a token, of a row padded to WIDTH."""
    tokens = VOCABULARY.encode(text)
    row = np.zeros((1, WIDTH), np.int32)
    row[0, : len(tokens)] = tokens
    lengths = np.array([len(tokens)], np.int32)
    found = np.asarray(find_kinds(row, lengths, np.array([len(VOCABULARY.encode(prompt))], np.int32)))[0]
    assert (found[len(tokens) :] == NO_KIND).all()
    letters = {PROMPT_KIND: "p", THOUGHT_KIND: "t", ANSWER_KIND: "a", MARK_KIND: "m"}
    return "".join(letters[int(kind)] for kind in found[: len(tokens)])


def test_each_token_plays_one_part():
    prompt = "<begin>7+8="
    text = prompt + "<think>7+8+0=5,1<check>5,1</think><answer>15<end>"
    assert described(text, prompt) == "pppppmtttttttttmtttmmaam"


def test_a_row_without_a_thought_has_none():
    assert described("<begin>7+8=<answer>15<end>", "<begin>7+8=") == "pppppmaam"


def test_a_thought_that_never_closes_goes_on_to_the_end():
    assert described("<think>7+8<answer>15<end>", "") == "mtttmttm"


def test_rows_and_lengths_must_fit():
    with pytest.raises(ValueError, match="kinds: tokens"):
        token_kinds(jnp.zeros((2, 3), jnp.int32), jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32))
