"""Corpora: tokens decode to the text, splits do not leak, and invalid sources raise."""

import sys
import types

import numpy as np
import pytest

from thinking.errors import UserError
from thinking.text import corpus as corpora
from thinking.text.corpus import drop_repeated_paragraphs, load_corpus, python_documentation

TEXT = "\n\n".join(f"Paragraph {number} says: café, naïve, ß and {number * number} more." for number in range(60))


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("bpe_vocab_size", [None, 300])
def test_tokens_decode_to_the_text_and_count_its_bytes(text_file, bpe_vocab_size):
    corpus = load_corpus(text_file, 10**6, bpe_vocab_size)
    train, held_out = corpus.decode(corpus.train.tolist()), corpus.decode(corpus.held_out.tolist())
    assert train + held_out == TEXT
    assert len(held_out) == pytest.approx(len(TEXT) / 10, abs=1)
    assert corpus.token_bytes[corpus.train].sum() == len(train.encode())
    assert corpus.token_bytes[corpus.held_out].sum() == len(held_out.encode())
    assert len(corpus.token_bytes) == (bpe_vocab_size or 256)
    assert corpus.train.max() < len(corpus.token_bytes)


def test_bpe_merges_are_learned_from_the_training_split_only(tmp_path):
    corpora_list = []
    for last_words in ("zebra zebra zebra", "quite another"):
        path = tmp_path / "text.txt"
        path.write_text("the cat and the dog. " * 8 + last_words.ljust(18), encoding="utf-8")
        corpora.load_corpus.cache_clear()
        corpora_list.append(load_corpus(str(path), 10**6, 270))
    np.testing.assert_array_equal(corpora_list[0].train, corpora_list[1].train)
    np.testing.assert_array_equal(corpora_list[0].token_bytes, corpora_list[1].token_bytes)
    assert len(corpora_list[0].train) < 0.5 * corpora_list[0].token_bytes[corpora_list[0].train].sum()


def test_repeated_paragraphs_are_dropped(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n\n" + TEXT, encoding="utf-8")
    corpus = load_corpus(str(path), 10**6, None)
    assert corpus.decode(np.concatenate([corpus.train, corpus.held_out]).tolist()) == TEXT
    assert drop_repeated_paragraphs("a\n\nb\n\na") == "a\n\nb"


def test_default_text_is_english():
    text = "\n\n".join(python_documentation())
    assert len(text) > 500_000
    assert text.count(" the ") > 5000


def test_text_is_cut_to_max_characters(text_file):
    corpus = load_corpus(text_file, 100, None)
    assert corpus.decode(np.concatenate([corpus.train, corpus.held_out]).tolist()) == TEXT[:100]


def stub_datasets(monkeypatch, rows):
    def load_dataset(name, split, streaming):
        assert (name, split, streaming) == ("some/stories", "train", True)
        return rows

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))


def test_dataset_is_read_only_up_to_max_characters(monkeypatch):
    read_rows = []

    def rows():
        for number in range(100):
            read_rows.append(number)
            yield {"text": f"Story {number}.", "title": 7}

    stub_datasets(monkeypatch, rows())
    corpus = load_corpus("hf:some/stories", 30, None)
    assert (
        corpus.decode(np.concatenate([corpus.train, corpus.held_out]).tolist())
        == "Story 0.\n\nStory 1.\n\nStory 2.\n\nS"[:30]
    )
    assert len(read_rows) < 10


def test_unreadable_source_raises_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "short").write_text("x")
    stub_datasets(monkeypatch, [{"text": "a", "title": 7}])
    for source, message in {
        str(tmp_path / "none"): "No such file",
        str(tmp_path / "latin"): "it is not UTF-8",
        str(tmp_path / "short"): "too few",
        "hf:some/stories:title": "no texts 'title'",
        "hf:other": "give a data set with texts",
    }.items():
        with pytest.raises(ValueError, match=r"^source ") as error:
            load_corpus(source, 100, None)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="needs datasets, which is not installed: pip install datasets"):
        load_corpus("hf:some/stories", 101, None)
