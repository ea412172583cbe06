"""Real text as tokens: told again from them, parted without a leak, and refused in one line where there is none."""

import sys
import types

import numpy as np
import pytest

from thinking.errors import UserError
from thinking.text import corpus as corpora
from thinking.text.corpus import drop_repeated_paragraphs, load_corpus, python_documentation

TEXT = "\n\n".join(f"Paragraph {number} says: café, naïve, ß and {number * number} more." for number in range(60))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("bpe", [None, 300])
def test_tokens_tell_their_text_and_their_bytes(file, bpe):
    read = load_corpus(file, 10**6, bpe)
    train, held_out = read.decode(read.train.tolist()), read.decode(read.held_out.tolist())
    assert train + held_out == TEXT
    assert len(held_out) == pytest.approx(len(TEXT) / 10, abs=1)
    assert read.token_bytes[read.train].sum() == len(train.encode())
    assert read.token_bytes[read.held_out].sum() == len(held_out.encode())
    assert len(read.token_bytes) == (bpe or 256)
    assert read.train.max() < len(read.token_bytes)


def test_pairs_are_learned_from_the_training_part_alone(tmp_path):
    tokens = []
    for end in ("zebra zebra zebra", "quite another"):
        path = tmp_path / "text.txt"
        path.write_text("the cat and the dog. " * 8 + end.ljust(18), encoding="utf-8")
        corpora.load_corpus.cache_clear()
        tokens.append(load_corpus(str(path), 10**6, 270))
    np.testing.assert_array_equal(tokens[0].train, tokens[1].train)
    np.testing.assert_array_equal(tokens[0].token_bytes, tokens[1].token_bytes)
    assert len(tokens[0].train) < 0.5 * tokens[0].token_bytes[tokens[0].train].sum()


def test_no_held_out_paragraph_is_trained_on(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n\n" + TEXT, encoding="utf-8")
    read = load_corpus(str(path), 10**6, None)
    assert read.decode(np.concatenate([read.train, read.held_out]).tolist()) == TEXT
    assert drop_repeated_paragraphs("a\n\nb\n\na") == "a\n\nb"


def test_the_default_text_is_english():
    text = "\n\n".join(python_documentation())
    assert len(text) > 500_000
    assert text.count(" the ") > 5000


def test_a_text_is_cut(file):
    read = load_corpus(file, 100, None)
    assert read.decode(np.concatenate([read.train, read.held_out]).tolist()) == TEXT[:100]


def hub(monkeypatch, rows):
    def load_dataset(name, split, streaming):
        assert (name, split, streaming) == ("some/stories", "train", True)
        return rows

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))


def test_a_data_set_is_read_no_further_than_asked(monkeypatch):
    taken = []

    def rows():
        for number in range(100):
            taken.append(number)
            yield {"text": f"Story {number}.", "title": 7}

    hub(monkeypatch, rows())
    read = load_corpus("hf:some/stories", 30, None)
    assert (
        read.decode(np.concatenate([read.train, read.held_out]).tolist())
        == "Story 0.\n\nStory 1.\n\nStory 2.\n\nS"[:30]
    )
    assert len(taken) < 10


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "short").write_text("x")
    hub(monkeypatch, [{"text": "a", "title": 7}])
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
