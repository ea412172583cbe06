"""Sentences that come later are embedded by what made the prepared vectors, or by nothing."""

import numpy as np
import pytest
from tests.text.openai_server import embedding, serving
from tests.text.test_minilm import small  # noqa: F401 (a fixture)

from thinking.text import prepared_data
from thinking.text.embedders import hashing_embedder, minilm_embedder, normalize
from thinking.text.matching_embedder import open_matching_embedder
from thinking.text.openai_protocol import openai_embedder
from thinking.text.records import Text
from thinking.text.server import Server

TEXTS = [Text("a bad c", ("a b", "b c"))]


def made_by(embedder, **manifest):
    return prepared_data.prepare_texts(TEXTS, {}, embedder, {"server": None, **manifest})


def assert_same(data, folder, answers):
    with open_matching_embedder(data, folder, answers) as embedder:
        assert embedder.name == data.embedder
        np.testing.assert_allclose(embedder.embed(data.steps), data.step_vectors, atol=1e-6)


def test_hashed_letters_need_nothing(tmp_path):
    assert_same(made_by(hashing_embedder(24)), None, tmp_path)


def test_a_small_bert_is_found_in_its_folder(small, tmp_path):  # noqa: F811
    assert_same(made_by(minilm_embedder(small)), small, tmp_path)


def test_a_server_is_asked_at_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-0123456789")
    with serving() as stub:
        with Server(stub.url, tmp_path / "before") as server:
            data = made_by(openai_embedder(server, "embedder"), server=stub.url)
        stub.requests.clear()
        with open_matching_embedder(data, None, tmp_path / "answers") as embedder:
            found = embedder.embed(["a sentence that comes later"])
        assert [body["model"] for path, body, _ in stub.requests if path.endswith("embeddings")][-1] == "embedder"
    np.testing.assert_allclose(found, normalize(np.array([embedding("a sentence that comes later")])), atol=1e-6)
    assert list((tmp_path / "answers").iterdir())  # it is not paid for twice


def test_another_embedder_is_refused_in_one_line_that_names_both(small, tmp_path):  # noqa: F811
    data = made_by(minilm_embedder(small))
    for other in (data._replace(embedder="all-other"), data._replace(step_vectors=data.step_vectors[:, 1:])):
        with pytest.raises(ValueError, match=r"^folder .*; give the folder of the former, or prepare") as caught:
            assert_same(other, small, tmp_path)
        assert f"embedded by {other.embedder} in {other.step_vectors.shape[1]} dimensions" in str(caught.value)
        assert data.embedder in str(caught.value)
        assert "\n" not in str(caught.value)
