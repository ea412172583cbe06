"""New sentences are embedded by the embedder of the prepared vectors, or it raises."""

import numpy as np
import pytest
from tests.text.openai_server import make_embedding, run_stub_server
from tests.text.test_minilm import small_bert_folder  # noqa: F401 (a fixture)

from thinking.errors import UserError
from thinking.text import prepared_data
from thinking.text.embedders import hashing_embedder, minilm_embedder, normalize
from thinking.text.matching_embedder import open_matching_embedder
from thinking.text.openai_protocol import openai_embedder
from thinking.text.openai_server import Server
from thinking.text.records import Text

TEXTS = [Text("a bad c", ("a b", "b c"))]


def prepare_texts(embedder, **manifest):
    return prepared_data.prepare_texts(TEXTS, {}, embedder, {"server": None, **manifest})


def assert_reproduces_vectors(data, folder, answers):
    with open_matching_embedder(data, folder, lambda: Server(None, answers)) as embedder:
        assert embedder.name == data.embedder
        np.testing.assert_allclose(embedder.embed(data.steps), data.step_vectors, atol=1e-6)


def test_hashing_embedder_needs_no_folder(tmp_path):
    assert_reproduces_vectors(prepare_texts(hashing_embedder(24)), None, tmp_path)


def test_bert_is_loaded_from_its_folder(small_bert_folder, tmp_path):  # noqa: F811
    assert_reproduces_vectors(prepare_texts(minilm_embedder(small_bert_folder)), small_bert_folder, tmp_path)


def test_openai_embedder_uses_the_server_that_the_user_names(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-0123456789")
    with run_stub_server() as stub:
        with Server(stub.url, tmp_path / "before") as server:
            data = prepare_texts(openai_embedder(server, "embedder"), server=stub.url)
        stub.requests.clear()
        with open_matching_embedder(data, None, lambda: Server(stub.url, tmp_path / "answers")) as embedder:
            actual = embedder.embed(["a sentence that comes later"])
        assert [body["model"] for path, body, _ in stub.requests if path.endswith("embeddings")][-1] == "embedder"
    np.testing.assert_allclose(actual, normalize(np.array([make_embedding("a sentence that comes later")])), atol=1e-6)
    assert list((tmp_path / "answers").iterdir())  # the answers are cached


def test_key_is_never_sent_to_the_address_in_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-0123456789")
    with run_stub_server() as stub, run_stub_server() as other:
        with Server(stub.url, tmp_path / "before") as server:
            data = prepare_texts(openai_embedder(server, "embedder"), server=other.url)
        stub.requests.clear()
        with (
            pytest.raises(UserError, match=r"embedded by the server .*, and yours is"),
            open_matching_embedder(data, None, lambda: Server(stub.url, tmp_path / "answers")),
        ):
            pass
        assert not stub.requests
        assert not other.requests


def test_mismatched_embedder_raises_in_one_line(small_bert_folder, tmp_path):  # noqa: F811
    data = prepare_texts(minilm_embedder(small_bert_folder))
    for other in (data._replace(embedder="all-other"), data._replace(step_vectors=data.step_vectors[:, 1:])):
        with pytest.raises(ValueError, match=r"^folder .*; give the folder of the former, or prepare") as error:
            assert_reproduces_vectors(other, small_bert_folder, tmp_path)
        assert f"embedded by {other.embedder} in {other.step_vectors.shape[1]} dimensions" in str(error.value)
        assert data.embedder in str(error.value)
        assert "\n" not in str(error.value)
