"""Embedders: their contract, and the hashing embedder."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.embedders import hashing_embedder, make_embedder

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=4), dims=st.integers(1, 8))
def test_embeddings_have_unit_length(texts, dims):
    vectors = hashing_embedder(dims).embed(texts)
    assert vectors.shape == (len(texts), dims)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_empty_input_gives_no_vectors():
    assert hashing_embedder(5).embed([]).shape == (0, 5)


def test_hashed_features_equal_crc32_reference():
    # Features of "Ox ox": the text, twice the word, and twice its two trigrams.
    expected = np.zeros(1000)
    for feature, weight in (("ox ox", 0.5), ("ox", 2), (" ox", 2), ("ox ", 2)):
        code = zlib.crc32(feature.encode())
        expected[(code >> 1) % 1000] += weight * (1 if code % 2 else -1)
    np.testing.assert_allclose(
        hashing_embedder(1000).embed(["Ox ox"])[0], expected / np.linalg.norm(expected), atol=1e-7
    )


def test_texts_with_common_words_are_similar():
    query, near, inflected, far = hashing_embedder(256).embed(
        ["the cat sat on the mat", "a cat sat on a mat", "cats sitting on mats", "prices fell sharply last week"]
    )
    assert query @ near > query @ inflected > abs(query @ far)


@pytest.mark.parametrize(("texts", "message"), [(["fine", ""], "text 1 is empty"), ([" \n"], "text 0 is blank")])
def test_blank_text_raises(texts, message):
    with pytest.raises(ValueError, match=message):
        hashing_embedder().embed(texts)


def test_single_string_raises():
    with pytest.raises(ValueError, match="put it into a list"):
        hashing_embedder().embed("one text")


def test_vectors_are_normalized_or_raise():
    np.testing.assert_allclose(make_embedder("made", 2, lambda _: np.array([[3, 4]])).embed(["text"]), [[0.6, 0.8]])
    with pytest.raises(ValueError, match=r"vector 0 has length 0\.0"):
        make_embedder("made", 2, lambda _: np.zeros((1, 2))).embed(["text"])
    with pytest.raises(ValueError, match="vector 0 has length nan"):
        make_embedder("made", 2, lambda _: np.full((1, 2), np.nan)).embed(["text"])
    with pytest.raises(ValueError, match=r"shape \(1, 3\) came out, but \(1, 2\)"):
        make_embedder("made", 2, lambda _: np.ones((1, 3))).embed(["text"])
    with pytest.raises(ValueError, match="at least 1 dimension"):
        hashing_embedder(0)
