"""The data preparation task of the language guide: texts of all sources, and their embeddings."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.text.openai_server import make_embedding, run_stub_server

from tasks import lm_data_prepare
from thinking.experiment import main
from thinking.recipes.language_guide.text_sources import cache_answers
from thinking.text import prepared_data
from thinking.text.embedders import hashing_embedder
from thinking.text.records import iter_steps

ROOT = Path(lm_data_prepare.__file__).parents[1]
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def run_task(monkeypatch, capfd, tmp_path):
    """A function that runs the task in this process and returns exit code, stdout and stderr."""

    def run(*flags):
        flags = ("--preset", "smoke", "--artifacts", str(tmp_path), *map(str, flags))
        monkeypatch.setattr(sys, "argv", ["lm_data_prepare.py", *flags])
        capfd.readouterr()
        try:
            main("lm_data_prepare", lm_data_prepare.run, lm_data_prepare.PRESETS)
            code = 0
        except SystemExit as stop:
            code = stop.code
        output = capfd.readouterr()
        assert KEY not in output.out + output.err
        return code, output.out, output.err

    return run


@pytest.fixture
def stub(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with run_stub_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _assert_key_never_leaks(tmp_path, caplog):
    """No test leaks the key to a file or a log of any level."""
    caplog.set_level(logging.DEBUG)
    yield
    for text in (caplog.text.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())):
        assert KEY.encode() not in text


@pytest.fixture
def goals_file(tmp_path):
    """A hand-written file of five goals."""
    path = tmp_path / "goals.txt"
    path.write_text(
        "\ufeffbuilding a boat\r\n\n  building a shelf \nbuilding a boat\nbaking bread\n建船\nsinging", "utf-8"
    )
    return path


GOALS = ["building a boat", "building a shelf", "baking bread", "建船", "singing"]


def collect_requests(stub):
    """The goals of all chat requests, and the sentences of all embedding requests."""
    chats = [body["messages"][-1]["content"] for path, body, _ in stub.requests if path.endswith("completions")]
    sentences = [text for path, body, _ in stub.requests if path.endswith("embeddings") for text in body["input"]]
    return [goal for chat in chats for goal in GOALS if goal in chat], sentences


def get_task_folder(tmp_path):
    return tmp_path / "lm_data_prepare" / "latest"


def test_bundled_texts_are_embedded_and_saved(run_task, tmp_path):
    code, out, err = run_task()
    assert (code, err) == (0, "")
    assert "run lm_guide_train --artifacts" in out
    prepared = prepared_data.load(get_task_folder(tmp_path))
    np.testing.assert_array_equal(prepared.step_vectors, hashing_embedder().embed(prepared.steps))
    assert prepared.manifest["text"] == "bundled"
    assert (prepared.embedder, prepared.manifest["model"]) == ("hashed-64", None)
    results = json.loads((get_task_folder(tmp_path) / "results.json").read_text("utf-8"))
    rows = {row["split"]: row for row in results["rows"]}
    assert {split: row["num_goals"] for split, row in rows.items()} == {"train": 188, "held_out": 47, "compound": 47}
    for split, row in rows.items():
        lengths = [len(list(iter_steps(text.steps))) for text in prepared.texts if text.split == split]
        assert (row["num_texts"], row["num_steps"], row["max_steps"]) == (len(lengths), sum(lengths), max(lengths))
    column = "in_training_any_wording_fraction"
    assert rows["compound"][column] == 1 > rows["held_out"][column] > 0.5
    assert not list(tmp_path.rglob("*.pkl"))


def test_data_depend_only_on_the_settings_except_for_the_date(run_task, tmp_path):
    def read_files():
        task_folder = get_task_folder(tmp_path)
        files = [path for path in task_folder.iterdir() if path.is_file() and path.name != "report.html"]  # has times
        contents = {path.name: path.read_bytes() for path in files}
        contents["manifest.json"] = json.loads(contents["manifest.json"]) | {"date": None, "manifest_sha256": None}
        contents["config.json"] = json.loads(contents["config.json"]) | {"date": None, "seconds": None}
        return contents

    run_task()
    first = read_files()
    run_task("--seed", 1)
    other = read_files()
    run_task()
    assert read_files() == first
    assert all(other[name] != first[name] for name in first)
    assert run_task("--clear")[0] == 0
    assert not get_task_folder(tmp_path).exists()


def test_custom_file_keeps_its_splits_and_language(run_task, tmp_path):
    path = tmp_path / "own.jsonl"
    steps = [f"Schritt {number}" for number in range(10_000)]
    entries = [
        {"goal": "vieles tun", "steps": steps},
        {"goal": "建船", "steps": [{"heading": "船体", "steps": ["弯肋骨", "钉木板"]}]},
        {"goal": "построить дом", "steps": ["ждать"], "split": "held_out"},
    ]
    path.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries), "utf-8")
    code, _, err = run_task("--text.source", path)
    assert (code, err) == (0, "")
    prepared = prepared_data.load(get_task_folder(tmp_path))
    assert [(text.goal, text.split) for text in prepared.texts] == [
        ("vieles tun", "train"),
        ("建船", "train"),
        ("построить дом", "held_out"),
    ]
    assert prepared.steps == (*steps, "弯肋骨", "钉木板", "ждать")
    np.testing.assert_array_equal(prepared.canonical_index, np.arange(10_003))


def test_goals_of_a_file_without_splits_are_held_out_with_all_texts(run_task, tmp_path):
    path = tmp_path / "own.jsonl"
    lines = [json.dumps({"goal": f"goal {number % 10}", "steps": [f"step {number}"]}) for number in range(30)]
    path.write_text("\n".join(lines))
    held_out_goals = []
    for seed, fraction in ((0, 0.3), (1, 0.3), (0, 0.0)):
        assert run_task("--text.source", path, "--text.held-out-fraction", fraction, "--seed", seed)[0] == 0
        texts = prepared_data.load(get_task_folder(tmp_path)).texts
        held_out_goals.append({text.goal for text in texts if text.split == "held_out"})
        assert sum(text.split == "held_out" for text in texts) == 3 * len(held_out_goals[-1])
    assert list(map(len, held_out_goals)) == [3, 3, 0]
    assert held_out_goals[0] != held_out_goals[1]


def test_single_goal_is_used_for_training(run_task, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"goal": "sleeping", "steps": ["lie down"]}')
    assert run_task("--text.source", path, "--text.held-out-fraction", 0.9)[0] == 0
    [text] = prepared_data.load(get_task_folder(tmp_path)).texts
    assert text.split == "train"


def test_server_generates_and_embeds_texts(run_task, stub, tmp_path, goals_file):
    stub.answer_fn = lambda prompt: "1. begin\n2. end" if "boat" in prompt else f"- {prompt[-9:]}\n- end"
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals_file,
    )
    flags += ("--embedder.kind", "openai", "--embedder.model", "embedder")
    code, out, err = run_task(*flags)
    assert (code, err) == (0, "")
    prepared = prepared_data.load(get_task_folder(tmp_path))
    assert [text.goal for text in prepared.texts] == GOALS
    assert prepared.texts[0].steps == ("begin", "end")
    assert sum(text.split == "held_out" for text in prepared.texts) == 1
    assert (prepared.manifest["model"], prepared.manifest["server"], prepared.embedder) == (
        "small-model",
        stub.url,
        "embedder",
    )
    for sentence, vector in zip(
        (*prepared.steps, *prepared.goals), (*prepared.step_vectors, *prepared.goal_vectors), strict=True
    ):
        expected = np.array(make_embedding(sentence))
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-5)
    sentences = collect_requests(stub)[1]
    assert len(sentences) == len(set(sentences))
    assert f"{len(stub.requests)} requests were sent to {stub.url}" in out
    stub.requests.clear()
    assert run_task(*flags)[0] == 0
    assert stub.requests == []


def test_run_resumes_after_the_request_limit(run_task, stub, tmp_path, goals_file):
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals_file,
    )
    code, _, err = run_task(*flags, "--server.max-requests", 3)
    assert code == 2
    assert err.startswith("error: --server.max-requests 3: that many are sent; 3 answers are kept")
    assert err.count("\n") == 1
    assert not (get_task_folder(tmp_path) / "manifest.json").exists()
    assert run_task(*flags, "--server.max-requests", 3)[0] == 0
    assert sorted(collect_requests(stub)[0]) == sorted(GOALS)


def test_interrupted_run_resumes(run_task, stub, tmp_path, goals_file):
    original_answer_fn = stub.answer_fn
    stub.delay = 0.05

    def interrupt(prompt):
        if "baking" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
        return original_answer_fn(prompt)

    stub.answer_fn = interrupt
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals_file,
    )
    code, _, err = run_task(*flags)
    assert code == 130
    assert "the same command" in err
    assert err.count("\n") == 1
    stub.answer_fn = original_answer_fn
    assert run_task(*flags)[0] == 0
    assert [text.goal for text in prepared_data.load(get_task_folder(tmp_path)).texts] == GOALS
    # Requests that ran when the signal came may be repeated once.
    assert len(collect_requests(stub)[0]) < 2 * len(GOALS)


def test_key_in_a_server_response_is_masked(run_task, stub, tmp_path, goals_file):
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals_file,
    )
    stub.script.extend(["echo in an error"] * 8)
    code, _, err = run_task(*flags)
    assert code == 2
    assert "refuses the key in OPENAI_API_KEY (401)" in err
    stub.script.clear()
    stub.script.append("echo in an answer")
    assert run_task(*flags)[0] == 0
    assert "keep Bearer well" in prepared_data.load(get_task_folder(tmp_path)).steps  # *** is Markdown


def test_url_with_a_secret_is_rejected_as_a_flag(run_task, stub, tmp_path, monkeypatch, goals_file):
    flags = ("--text.source", "openai", "--writer.model", "small-model", "--text.goals", goals_file)
    for url in (f"http://me:{KEY}@127.0.0.1/v1", f"{stub.url}?key={KEY}"):
        code, _, err = run_task(*flags, "--server.base-url", url)
        assert code == 2
        assert "OPENAI_BASE_URL" in err
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url.replace("//", f"//me:{KEY}@"))
    assert run_task(*flags)[0] == 0
    assert all(key.startswith("Basic ") for _, _, key in stub.requests)


def test_temperature_can_be_left_to_the_model(run_task, stub, goals_file):
    flags = ("--text.source", "openai", "--writer.model", "small-model", "--server.base-url", stub.url)
    for temperature, expected in ((0.5, {0.5}), (None, {None})):
        stub.requests.clear()
        assert run_task(*flags, "--text.goals", goals_file, "--writer.temperature", temperature)[0] == 0
        assert {body.get("temperature") for _, body, _ in stub.requests} == expected


def test_missing_key_without_server_exits(run_task, monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = run_task("--embedder.kind", "openai")
    assert code == 2
    assert "OPENAI_API_KEY is not set" in err


def test_local_model_generates_texts(run_task, tmp_path, goals_file):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    vocabulary = {word: token for token, word in enumerate(("<end>", "<unk>", "dig", "pour"))}
    word_tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    word_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer, eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    sizes = {"vocab_size": len(vocabulary), "n_positions": 1024, "n_embd": 8, "n_layer": 1, "n_head": 1}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    model_folder = tmp_path / "causal"
    transformers.GPT2LMHeadModel(config).save_pretrained(model_folder)
    tokenizer.save_pretrained(model_folder)
    # A random model writes no list. The error shows that it was asked for every goal.
    for _ in range(2):
        code, _, err = run_task(
            "--text.source", "huggingface", "--writer.model", model_folder, "--text.goals", goals_file
        )
        assert code == 2
        assert "5 of 5 goals gave fewer than 2 steps" in err
        assert len(list((get_task_folder(tmp_path) / "cache").glob("*.json"))) == 5


def test_answers_of_a_local_model_are_cached(tmp_path):
    prompts = []

    def answer_fn(prompt):
        prompts.append(prompt)
        return f"{prompt}!"

    for _ in range(2):
        cached_answer_fn = cache_answers(answer_fn, "a model", tmp_path)
        assert [cached_answer_fn(prompt) for prompt in ("a", "b", "")] == ["a!", "b!", "!"]
    assert prompts == ["a", "b", ""]
    assert cache_answers(answer_fn, "another", tmp_path)("a") == "a!"
    assert len(prompts) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"goal": "a", "steps": ["x"]}\n{"goal": ', "line 2: not JSON"),
        ('{"goal": "a", "steps": ["x", " "]}', "line 1: steps[1] is"),
        ('{"goal": "a", "steps": []}', "line 1: steps is []"),
        ("", "line 1: no text in it"),
        ('{"goal": "a", "steps": ["x"], "split": "compound"}', "nothing to learn from"),
    ],
)
def test_invalid_file_exits_with_one_line(run_task, tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    code, _, err = run_task("--text.source", path)
    assert code == 2
    assert str(path) in err
    assert message in err
    assert err.count("\n") == 1
    assert not (get_task_folder(tmp_path) / "manifest.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--text.source", "bundeld"), "--text.source bundeld: no such file; allowed are bundled, openai, huggingface"),
        (
            ("--text.source", "openai"),
            "--text.source openai: a model is needed to write texts; name it with --writer.model",
        ),
        (
            ("--text.goals", "goals.txt"),
            "--text.goals goals.txt: goals are for models that write texts; add --text.source openai",
        ),
        (("--text.num-texts", "0"), "--text.num-texts 0: allowed is a whole number from 1"),
        (("--text.num-wordings", "0"), "--text.num-wordings 0: allowed"),
        (("--server.max-requests", "0"), "--server.max-requests 0: allowed"),
        (("--text.held-out-fraction", "1"), "--text.held-out-fraction 1.0: allowed is a number from 0, below 1"),
        (("--text.held-out-fraction", "0"), "--text.held-out-fraction 0.0: allowed is above 0"),
        (("--embedder.kind", "word2vec"), "--embedder.kind word2vec: allowed is one of minilm, openai, hashed"),
        (("--embedder.kind", "minilm", "--embedder.folder", "/nowhere"), "/nowhere: config.json"),
    ],
)
def test_invalid_value_exits_with_one_line(run_task, flags, message):
    code, _, err = run_task(*flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n", "no goal in it"), (b"\xff\xfe", "not UTF-8"), (None, "No such")]
)
def test_unreadable_goals_file_exits(run_task, stub, tmp_path, content, message):
    path = tmp_path / "goals.txt"
    if content is not None:
        path.write_bytes(content)
    code, _, err = run_task(
        "--text.source", "openai", "--writer.model", "small-model", "--server.base-url", stub.url, "--text.goals", path
    )
    assert code == 2
    assert f"--text.goals {path}: " in err
    assert message in err
    assert stub.requests == []


def test_help_does_not_import_jax():
    program = """if True:
        import runpy, sys
        sys.argv = ["lm_data_prepare.py", "--help"]
        try:
            runpy.run_path("tasks/lm_data_prepare.py", run_name="__main__")
        except SystemExit:
            pass
        assert not {"jax", "openai", "safetensors"} & set(sys.modules)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--embedder.model" in process.stdout
