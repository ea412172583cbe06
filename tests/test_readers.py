"""Readers of files and servers refuse what they cannot read in one line, whatever it is.

`FUZZ_EXAMPLES=10000 pytest tests/test_readers.py` tries more than the suite does.
"""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.text.openai_server import run_stub_server

from thinking.environments.arithmetic import parsing
from thinking.errors import RunError, UserError, to_line
from thinking.experiment import RunConfig, folder, metrics, option
from thinking.recipes.language_guide.text_sources import read_goals
from thinking.text import corpus, minilm, plans, prepared_data, records, response_cache
from thinking.text.embedders import hashing_embedder
from thinking.text.openai_protocol import make_openai_answer_fn, openai_embedder
from thinking.text.openai_server import Server
from thinking.text.records import Section, Text

NUM_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
FUZZ = settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    derandomize=NUM_EXAMPLES < 1000,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**4000), 2**63, 0, -1])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["\ud800", "\x1b[2J", "a\nb"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
EXTREMES = st.sampled_from(
    [b"7" * 5000, b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b""]
)


def dump(value) -> bytes:
    """JSON, also of numbers of more digits than Python reads."""
    return json.dumps(value).encode()


def make_contents(*valid: bytes):
    """Bytes, JSON, and valid contents of which a part or a value is replaced."""
    document = st.sampled_from(valid)
    cut = st.tuples(document, st.integers(0, 4000), st.integers(0, 30), st.binary(max_size=8) | EXTREMES)
    mutated = cut.map(lambda drawn: drawn[0][: drawn[1]] + drawn[3] + drawn[0][drawn[1] + drawn[2] :])
    return (
        st.binary(max_size=60) | EXTREMES | VALUES.map(dump) | mutated | st.builds(replace_value, document, st.data())
    )


def replace_value(content: bytes, data) -> bytes:
    """The first JSON line of a content with another value at some place of it."""
    root = json.loads(content.split(b"\n")[0])
    node, steps = root, data.draw(st.integers(0, 3))
    for _ in range(steps):
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
        inner = [node[key] for key in keys if isinstance(node[key], dict | list) and node[key]]
        if not inner:
            break
        node = data.draw(st.sampled_from(inner))
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    node[data.draw(st.sampled_from(keys))] = data.draw(VALUES)
    return dump(root) + b"\n"


@contextlib.contextmanager
def refuses_in_one_line(*errors):
    """Whatever is raised is one of these errors, which a user sees as one line of moderate length."""
    message = ""
    try:
        yield
    except errors as error:
        message = to_line(error)
    assert len(message) < 2000


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


TEXTS = (Text("a boat", ("saw", "glue")), Text("a hut", (Section("walls", ("dig", "build")),), "held_out"))
RECORDS = b"".join(
    dump({"goal": text.goal, "steps": records._to_plain(text.steps), "split": text.split}) + b"\n" for text in TEXTS
)


@FUZZ
@given(content=make_contents(RECORDS))
def test_records(tmp, content):
    with refuses_in_one_line(UserError):
        for text in records.read(write(tmp / "texts.jsonl", content)):
            assert text.goal.strip()
            assert list(records.iter_steps(text.steps))


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """A config."""

    data: Path | None = option(None, "a file")
    width: int = option(4, "a width")


@pytest.fixture(scope="module")
def config_run(tmp):
    config = Config(artifacts=tmp / "artifacts")
    with folder.open_run(config.artifacts / "toy" / "seed0", config) as run:
        folder.write_config(run, {"default": config}, "python toy.py", {"platform": "cpu"})
    (run.folder / "checkpoints" / "fit" / "10").mkdir(parents=True)
    return run


CONFIG = {"format": folder.FORMAT_VERSION, "config": {"width": 4}, "inputs": {}, "versions": {"jax": "0.1"}}


@FUZZ
@given(content=make_contents(dump(CONFIG)))
def test_config_of_a_run(config_run, content):
    write(config_run.folder / "config.json", content)
    with refuses_in_one_line(RunError), folder.open_run(config_run.folder, config_run.config):
        pass


LINES = b'{"stage": "a", "step": 1, "loss": 0.5}\n{"stage": "b", "step": 2, "loss": 1e-05}\n'


@FUZZ
@given(content=make_contents(LINES), name=st.sampled_from([metrics.METRICS_FILE, metrics.SAMPLES_FILE]))
def test_metrics(tmp, content, name):
    write(tmp / name, content)
    with refuses_in_one_line(RunError):
        metrics.rewind(tmp, "a", 1, name)
        for line in metrics.read(tmp, name):
            assert line["stage"] != "a" or line["step"] <= 1


@pytest.fixture(scope="module")
def data_folder(tmp):
    data = prepared_data.prepare_texts(TEXTS, {}, hashing_embedder(8), {"source": "a test"})
    prepared_data.save(tmp / "data", data)
    return tmp / "data"


@FUZZ
@given(data=st.data())
def test_manifest_of_prepared_data(data_folder, data):
    path = data_folder / prepared_data.MANIFEST
    valid = path.read_bytes()
    try:
        one_line = dump(json.loads(valid))
        path.write_bytes(data.draw(make_contents(one_line)))
        with refuses_in_one_line(UserError):
            assert prepared_data.load(data_folder).manifest == {
                name: value for name, value in json.loads(valid).items() if name != "manifest_sha256"
            }
    finally:
        path.write_bytes(valid)


@pytest.fixture(scope="module")
def plans_folder(tmp):
    plans.save(tmp / "plans", [plans.Plan("a boat", "train", "think", (), True, 0, (), {})], np.zeros((0, 2)))
    return tmp / "plans"


@FUZZ
@given(data=st.data())
def test_manifest_of_plans(plans_folder, data):
    path = plans_folder / plans.MANIFEST
    valid = path.read_bytes()
    try:
        path.write_bytes(data.draw(make_contents(dump(json.loads(valid)))))
        with refuses_in_one_line(UserError):
            assert plans.load(plans_folder)[0][0].goal == "a boat"
    finally:
        path.write_bytes(valid)


@FUZZ
@given(content=make_contents(b'{"request": {}, "answer": "1. a"}'))
def test_cached_answers(tmp, content):
    write(response_cache.answer_path(tmp, {}), content)
    answer = response_cache.get(tmp, {}, lambda value: isinstance(value, str))
    assert answer is None or isinstance(answer, str)


BERT = {"model_type": "bert", "hidden_act": "gelu", "hidden_size": 4, "num_hidden_layers": 1} | {
    "num_attention_heads": 2,
    "max_position_embeddings": 8,
    "layer_norm_eps": 1e-12,
}


@FUZZ
@given(content=make_contents(dump(BERT)))
def test_config_of_a_bert(tmp, content):
    write(tmp / "config.json", content)
    with refuses_in_one_line(UserError):
        assert minilm._read_config(tmp)["hidden_size"] > 0


@FUZZ
@given(content=st.binary(max_size=80) | EXTREMES | st.text(max_size=40).map(lambda text: text.encode("utf-16")))
def test_goals_and_texts(tmp, content):
    path = write(tmp / "some.txt", content)
    with refuses_in_one_line(UserError):
        assert all(goal.strip() for goal in read_goals(path))
    with refuses_in_one_line(ValueError):
        assert isinstance(corpus.read_text(str(path), 10), str)


WORDS = st.sampled_from(["add ", "what is ", "12", "+", "-", "*", "/", "%", "(", ")", " plus ", " by ", "?", "٣", "²"])


@FUZZ
@given(text=st.text(max_size=30) | st.lists(WORDS, max_size=9).map("".join) | st.just("7" * 5000) | st.just("(" * 5000))
def test_problems(text):
    with refuses_in_one_line(ValueError):
        assert parsing.parse_problem(text) is not None


@pytest.fixture(scope="module")
def stub_and_server(tmp):
    with pytest.MonkeyPatch.context() as patch, run_stub_server() as stub:
        for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        patch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
        with Server(stub.url, tmp / "answers", max_retries=0) as server:
            yield stub, server


COMPLETION = b'{"choices": [{"index": 0, "message": {"content": "1. a"}, "finish_reason": "stop"}]}'
EMBEDDING = b'{"data": [{"index": 0, "embedding": [0.5, 1, 2]}]}'
STATUSES = st.sampled_from([200, 200, 200, 400, 404, 422, 429, 500])


@FUZZ
@given(content=make_contents(COMPLETION, EMBEDDING), status=STATUSES, data=st.data())
def test_answers_of_a_server(stub_and_server, content, status, data):
    stub, server = stub_and_server
    header = data.draw(st.sampled_from([{}, {"Retry-After": "-1"}, {"Content-Type": "text/plain; charset=\x7f"}]))
    stub.script.append((status, content, header))
    with refuses_in_one_line(UserError):
        assert isinstance(make_openai_answer_fn(server, "small-model")(str(len(stub.requests))), str)
    stub.script.append((status, content, header))
    with refuses_in_one_line(UserError):
        assert openai_embedder(server, "embedder", dims=3).embed([str(len(stub.requests))]).shape == (1, 3)
    assert not stub.script
