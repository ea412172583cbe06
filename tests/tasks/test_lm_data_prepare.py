"""The first task of the language guide: from goals to texts and vectors, whoever writes the texts."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.text.openai_server import embedding, serving

from tasks import lm_data_prepare
from thinking.experiment import main
from thinking.recipes.language_guide.text_sources import cache_answers
from thinking.text import prepared_data
from thinking.text.embedders import hashing_embedder
from thinking.text.records import iter_steps

ROOT = Path(lm_data_prepare.__file__).parents[1]
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """Run the task's command in this process; returns its exit code, output and complaint."""

    def run(*flags):
        flags = ("--preset", "smoke", "--artifacts", str(tmp_path), *map(str, flags))
        monkeypatch.setattr(sys, "argv", ["lm_data_prepare.py", *flags])
        capfd.readouterr()
        try:
            main("lm_data_prepare", lm_data_prepare.run, lm_data_prepare.PRESETS)
            code = 0
        except SystemExit as stop:
            code = stop.code
        captured = capfd.readouterr()
        assert KEY not in captured.out + captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def stub(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_key_anywhere(tmp_path, caplog):
    """Whatever a test does: the key is in no file, and in no log, not even at the lowest level."""
    caplog.set_level(logging.DEBUG)
    yield
    for text in (caplog.text.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())):
        assert KEY.encode() not in text


@pytest.fixture
def goals(tmp_path):
    """A file of five goals, written as a person might."""
    path = tmp_path / "goals.txt"
    path.write_text(
        "\ufeffbuilding a boat\r\n\n  building a shelf \nbuilding a boat\nbaking bread\n建船\nsinging", "utf-8"
    )
    return path


GOALS = ["building a boat", "building a shelf", "baking bread", "建船", "singing"]


def asked(stub):
    """What chat was asked for, by goal, and all sentences that were to be embedded."""
    chats = [body["messages"][-1]["content"] for path, body, _ in stub.requests if path.endswith("completions")]
    sentences = [text for path, body, _ in stub.requests if path.endswith("embeddings") for text in body["input"]]
    return [goal for chat in chats for goal in GOALS if goal in chat], sentences


def folder(tmp_path):
    return tmp_path / "lm_data_prepare"


def test_the_bundle_is_written_embedded_and_saved(call, tmp_path):
    code, out, err = call()
    assert (code, err) == (0, "")
    assert "lm_guide_train.py" in out
    found = prepared_data.load(folder(tmp_path))
    np.testing.assert_array_equal(found.step_vectors, hashing_embedder().embed(found.steps))
    assert found.manifest["text"] == "bundled"
    assert (found.embedder, found.manifest["model"]) == ("hashed-64", None)
    results = json.loads((folder(tmp_path) / "results.json").read_text("utf-8"))
    rows = {row["split"]: row for row in results["rows"]}
    assert {split: row["num_goals"] for split, row in rows.items()} == {"train": 188, "held_out": 47, "compound": 47}
    for split, row in rows.items():
        lengths = [len(list(iter_steps(text.steps))) for text in found.texts if text.split == split]
        assert (row["num_texts"], row["num_steps"], row["max_steps"]) == (len(lengths), sum(lengths), max(lengths))
    name = "in_training_any_wording_fraction"
    assert rows["compound"][name] == 1 > rows["held_out"][name] > 0.5
    assert not list(tmp_path.rglob("*.pkl"))


def test_the_seed_decides_all_but_the_date_and_other_settings_prepare_anew(call, tmp_path):
    def files():
        call_folder = folder(tmp_path)
        contents = {path.name: path.read_bytes() for path in call_folder.iterdir() if path.is_file()}
        contents["manifest.json"] = json.loads(contents["manifest.json"]) | {"date": None}
        return contents

    call()
    first = files()
    call("--seed", 1)
    other = files()
    call()
    assert files() == first
    assert all(other[name] != first[name] for name in first)
    assert call("--clear")[0] == 0
    assert not list(folder(tmp_path).iterdir())


def test_a_file_of_ones_own_keeps_its_splits_and_its_language(call, tmp_path):
    path = tmp_path / "own.jsonl"
    many = [f"Schritt {number}" for number in range(10_000)]
    entries = [
        {"goal": "vieles tun", "steps": many},
        {"goal": "建船", "steps": [{"heading": "船体", "steps": ["弯肋骨", "钉木板"]}]},
        {"goal": "построить дом", "steps": ["ждать"], "split": "held_out"},
    ]
    path.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries), "utf-8")
    code, _, err = call("--text.source", path)
    assert (code, err) == (0, "")
    found = prepared_data.load(folder(tmp_path))
    assert [(text.goal, text.split) for text in found.texts] == [
        ("vieles tun", "train"),
        ("建船", "train"),
        ("построить дом", "held_out"),
    ]
    assert found.steps == (*many, "弯肋骨", "钉木板", "ждать")
    np.testing.assert_array_equal(found.canonical_index, np.arange(10_003))


def test_of_a_file_without_splits_goals_are_held_out_with_all_their_texts(call, tmp_path):
    path = tmp_path / "own.jsonl"
    lines = [json.dumps({"goal": f"goal {number % 10}", "steps": [f"step {number}"]}) for number in range(30)]
    path.write_text("\n".join(lines))
    hidden = []
    for seed, share in ((0, 0.3), (1, 0.3), (0, 0.0)):
        assert call("--text.source", path, "--text.held-out-fraction", share, "--seed", seed)[0] == 0
        texts = prepared_data.load(folder(tmp_path)).texts
        hidden.append({text.goal for text in texts if text.split == "held_out"})
        assert sum(text.split == "held_out" for text in texts) == 3 * len(hidden[-1])
    assert list(map(len, hidden)) == [3, 3, 0]
    assert hidden[0] != hidden[1]


def test_one_goal_of_one_step_is_learned(call, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"goal": "sleeping", "steps": ["lie down"]}')
    assert call("--text.source", path, "--text.held-out-fraction", 0.9)[0] == 0
    [text] = prepared_data.load(folder(tmp_path)).texts
    assert text.split == "train"


def test_a_server_writes_texts_and_embeds_them(call, stub, tmp_path, goals):
    stub.says = lambda prompt: "1. begin\n2. end" if "boat" in prompt else f"- {prompt[-9:]}\n- end"
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals,
    )
    flags += ("--embedder.kind", "openai", "--embedder.model", "embedder")
    code, out, err = call(*flags)
    assert (code, err) == (0, "")
    found = prepared_data.load(folder(tmp_path))
    assert [text.goal for text in found.texts] == GOALS
    assert found.texts[0].steps == ("begin", "end")
    assert sum(text.split == "held_out" for text in found.texts) == 1
    assert (found.manifest["model"], found.manifest["server"], found.embedder) == ("small-model", stub.url, "embedder")
    for sentence, vector in zip((*found.steps, *found.goals), (*found.step_vectors, *found.goal_vectors), strict=True):
        expected = np.array(embedding(sentence))
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-5)
    sentences = asked(stub)[1]
    assert len(sentences) == len(set(sentences))
    assert f"{len(stub.requests)} requests were sent to {stub.url}" in out
    stub.requests.clear()
    assert call(*flags)[0] == 0
    assert stub.requests == []


def test_the_limit_ends_the_run_and_the_same_command_goes_on(call, stub, tmp_path, goals):
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals,
    )
    code, _, err = call(*flags, "--server.max-requests", 3)
    assert code == 2
    assert err.startswith("error: --server.max-requests 3: that many are sent; 3 answers are kept")
    assert err.count("\n") == 1
    assert not (folder(tmp_path) / "manifest.json").exists()
    assert call(*flags, "--server.max-requests", 3)[0] == 0
    assert sorted(asked(stub)[0]) == sorted(GOALS)


def test_a_run_that_is_interrupted_goes_on_where_it_was(call, stub, tmp_path, goals):
    before = stub.says
    stub.slow = 0.05

    def stop(prompt):
        if "baking" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
        return before(prompt)

    stub.says = stop
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals,
    )
    code, _, err = call(*flags)
    assert code == 130
    assert "the same command" in err
    assert err.count("\n") == 1
    stub.says = before
    assert call(*flags)[0] == 0
    assert [text.goal for text in prepared_data.load(folder(tmp_path)).texts] == GOALS
    # Those that were under way when the signal came may have been asked twice, none more often.
    assert len(asked(stub)[0]) < 2 * len(GOALS)


def test_a_server_that_sends_the_key_back_is_not_quoted(call, stub, tmp_path, goals):
    flags = (
        "--text.source",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--text.goals",
        goals,
    )
    stub.script.extend(["echo in an error"] * 8)
    code, _, err = call(*flags)
    assert code == 2
    assert "refuses the key in OPENAI_API_KEY (401)" in err
    stub.script.clear()
    stub.script.append("echo in an answer")
    assert call(*flags)[0] == 0
    assert "keep Bearer well" in prepared_data.load(folder(tmp_path)).steps  # what hides the key falls as Markdown does


def test_an_address_with_a_secret_is_not_taken_by_a_flag(call, stub, tmp_path, monkeypatch, goals):
    flags = ("--text.source", "openai", "--writer.model", "small-model", "--text.goals", goals)
    for secret in (f"http://me:{KEY}@127.0.0.1/v1", f"{stub.url}?key={KEY}"):
        code, _, err = call(*flags, "--server.base-url", secret)
        assert code == 2
        assert "OPENAI_BASE_URL" in err
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url.replace("//", f"//me:{KEY}@"))
    assert call(*flags)[0] == 0
    assert all(key.startswith("Basic ") for _, _, key in stub.requests)


def test_without_key_and_server_nothing_is_begun(call, monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = call("--embedder.kind", "openai")
    assert code == 2
    assert "OPENAI_API_KEY is not set" in err


def test_a_local_model_writes_texts(call, tmp_path, goals):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    words = {word: number for number, word in enumerate(("<end>", "<unk>", "dig", "pour"))}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(0)
    size = {"vocab_size": len(words), "n_positions": 1024, "n_embd": 8, "n_layer": 1, "n_head": 1}
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0)
    model = tmp_path / "causal"
    transformers.GPT2LMHeadModel(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    # A model of no knowledge writes no list; that it was asked and understood is what the complaint says.
    for _ in range(2):
        code, _, err = call("--text.source", "huggingface", "--writer.model", model, "--text.goals", goals)
        assert code == 2
        assert "5 of 5 goals gave fewer than 2 steps" in err
        assert len(list((folder(tmp_path) / "cache").glob("*.json"))) == 5


def test_what_a_local_model_wrote_is_not_asked_again(tmp_path):
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        return f"{prompt}!"

    for _ in range(2):
        remembered = cache_answers(ask, "a model", tmp_path)
        assert [remembered(prompt) for prompt in ("a", "b", "")] == ["a!", "b!", "!"]
    assert prompts == ["a", "b", ""]
    assert cache_answers(ask, "another", tmp_path)("a") == "a!"
    assert len(prompts) == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"goal": "a", "steps": ["x"]}\n{"goal": ', "line 2: not JSON"),
        ('{"goal": "a", "steps": ["x", " "]}', "line 1: steps[1] is"),
        ('{"goal": "a", "steps": []}', "line 1: steps is []"),
        ("", "line 1: no text in it"),
        ('{"goal": "a", "steps": ["x"], "split": "compound"}', "nothing to learn from"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(call, tmp_path, content, says):
    path = tmp_path / "own.jsonl"
    path.write_text(content)
    code, _, err = call("--text.source", path)
    assert code == 2
    assert str(path) in err
    assert says in err
    assert err.count("\n") == 1
    assert not (folder(tmp_path) / "manifest.json").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
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
def test_a_bad_value_is_refused_in_one_line_that_names_it(call, flags, says):
    code, _, err = call(*flags)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"), [(b" \n", "no goal in it"), (b"\xff\xfe", "not UTF-8"), (None, "No such")]
)
def test_goals_that_cannot_be_read_are_refused(call, stub, tmp_path, content, says):
    path = tmp_path / "goals.txt"
    if content is not None:
        path.write_bytes(content)
    code, _, err = call(
        "--text.source", "openai", "--writer.model", "small-model", "--server.base-url", stub.url, "--text.goals", path
    )
    assert code == 2
    assert f"--text.goals {path}: " in err
    assert says in err
    assert stub.requests == []


def test_help_is_answered_without_loading_jax():
    probe = """if True:
        import runpy, sys
        sys.argv = ["lm_data_prepare.py", "--help"]
        try:
            runpy.run_path("tasks/lm_data_prepare.py", run_name="__main__")
        except SystemExit:
            pass
        assert not {"jax", "openai", "safetensors"} & set(sys.modules)
    """
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--embedder.model" in done.stdout
