"""The task that writes plans as texts: its report and its page."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.recipes.test_language_guide_plan_writing import causal_model  # noqa: F401 (a fixture)
from tests.text.openai_server import run_stub_server

from tasks import lm_data_interpret as task
from thinking.experiment import main
from thinking.experiment.run_folders import find_latest
from thinking.text import plans, prepared_data
from thinking.text.embedders import hashing_embedder
from thinking.text.plans import Plan, PlanNode
from thinking.text.records import Section, Text

ROOT = Path(task.__file__).parents[1]
KEY = "sk-of-nobody-0123456789"
STEPS = ("Saw log.", "Cut log.", "Nail shelf.", "Paint shelf.")
EMBEDDER = hashing_embedder()
VECTORS = EMBEDDER.embed(STEPS)
SHELF_PLAN = Plan(
    "building a shelf",
    "held_out",
    "think",
    (
        PlanNode(1, "the boards", 0.9, 0),
        PlanNode(0, "Saw log.", 0.95, 0),
        PlanNode(1, "the end", 0.5, 2),
        PlanNode(0, "Nail shelf.", 0.9, 2),
    ),
    done=True,
    num_given=0,
    reference=("Cut log.", "Paint shelf."),
    scores={"right": 0.5, "order": 1.0},
)
PLANS = (
    SHELF_PLAN,
    SHELF_PLAN._replace(goal="building a table", done=False, scores={"right": 0.25}),
    SHELF_PLAN._replace(mode="react"),
    SHELF_PLAN._replace(goal="<script>alert(1)</script>", split="custom", reference=(), scores={}),
    SHELF_PLAN._replace(goal="known", split="train"),
)
NEAREST_TEXT = "## the boards\n1. Saw log.\n\n## the end\n2. Nail shelf."


@pytest.fixture
def artifacts(tmp_path):
    """The artifacts of the previous tasks."""
    texts = [
        Text("building a bed", (Section("the boards", STEPS[:3]), Section("the end", STEPS[3:]))),
        Text("building a shelf", SHELF_PLAN.reference, "held_out"),
    ]
    prepared = prepared_data.prepare_texts(texts, {"Cut log.": "Saw log."}, EMBEDDER, {"text": "a test"})
    prepared_data.save(tmp_path / "lm_data_prepare" / "run", prepared)
    plans.save(tmp_path / "lm_guide_inference" / "run", PLANS, VECTORS)
    for task_folder in tmp_path.iterdir():
        (task_folder / "run" / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def run_task(artifacts, monkeypatch, capsys):
    """A function that runs the task in this process and returns exit code, stdout and stderr."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["lm_data_interpret.py", "--artifacts", str(artifacts), *map(str, flags)])
        try:
            main("lm_data_interpret", task.run, task.PRESETS)
            code = 0
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        contents = b"".join(path.read_bytes() for path in artifacts.rglob("*") if path.is_file())
        assert KEY not in f"{output.out}{output.err}{contents.decode(errors='replace')}"
        return code, output.out, output.err

    return run


@pytest.fixture
def stub():
    with run_stub_server() as server:
        server.answer_fn = lambda prompt: f"First, **{prompt.partition('goal: ')[2].partition('.')[0]}**."
        yield server


def read_report(artifacts):
    return json.loads((artifacts / "lm_data_interpret" / "latest" / "plans.json").read_text())


def test_default_writer_uses_nearest_sentences_offline(artifacts, run_task):
    code, out, err = run_task()
    assert (code, err) == (0, "")
    entries = read_report(artifacts)
    assert [(entry["goal"], entry["split"], entry["mode"]) for entry in entries] == [plan[:3] for plan in PLANS[:4]]
    assert {entry["text"] for entry in entries} == {NEAREST_TEXT}
    assert {entry["writer"] for entry in entries} == {"nearest known sentences"}
    # One reference step is a wording of the plan's first step.
    assert entries[0]["reference"] == [
        {"step": "Cut log.", "in_plan": True},
        {"step": "Paint shelf.", "in_plan": False},
    ]
    assert [goal["inner"][0]["in_reference"] for goal in entries[0]["plan"]] == [True, False]
    assert "building a shelf  held_out, think" in out
    assert "── 1. Saw log." in out
    assert str(find_latest(artifacts / "lm_data_interpret") / "plans.html") in out
    html = (artifacts / "lm_data_interpret" / "latest" / "plans.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_results_have_means_by_split_and_mode(artifacts, run_task):
    run_task()
    think, react, custom = json.loads((artifacts / "lm_data_interpret" / "latest" / "results.json").read_text())["rows"]
    assert think == {
        "split": "held_out", "mode": "think", "num_plans": 2, "ended_fraction": 0.5, "right": 0.375, "order": 1.0
    }  # fmt: skip
    assert (react["mode"], react["num_plans"], react["right"]) == ("react", 1, 0.5)
    assert (custom["split"], custom["right"], custom["order"]) == ("custom", None, None)


def test_splits_and_modes_are_selected(artifacts, run_task):
    assert run_task("--report.splits", "train", "held_out", "--report.modes", "react")[0] == 0
    assert [entry["goal"] for entry in read_report(artifacts)] == ["building a shelf"]
    code, _, err = run_task("--report.splits", "compound")
    assert code == 2
    assert "--report.splits compound" in err
    assert "custom by think, held_out by react, held_out by think, train by think" in err
    assert err.count("\n") == 1


def test_server_writes_the_first_plans_of_each_split_and_mode(artifacts, run_task, stub):
    flags = (
        "--writer.kind",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--writer.num-plans",
        1,
    )
    code, _, err = run_task(*flags)
    assert (code, err) == (0, "")
    prompts = [body["messages"][-1]["content"] for _, body, _ in stub.requests]
    # Both modes have the same plan of one goal, which is requested once, or twice concurrently.
    assert 2 <= len(prompts) <= 3
    assert all(NEAREST_TEXT in prompt for prompt in prompts)
    assert {key for _, _, key in stub.requests} == {f"Bearer {KEY}"}
    texts = {(entry["goal"], entry["mode"]): (entry["text"], entry["writer"]) for entry in read_report(artifacts)}
    expected = ("First, **building a shelf**.", "small-model, rewritten from the nearest sentences")
    assert texts["building a shelf", "think"] == texts["building a shelf", "react"] == expected
    assert texts["building a table", "think"] == (NEAREST_TEXT, "nearest known sentences")
    stub.requests.clear()
    assert run_task(*flags)[0] == 0
    assert stub.requests == []


def test_run_resumes_after_the_request_limit(artifacts, run_task, stub):
    flags = (
        "--writer.kind",
        "openai",
        "--writer.model",
        "small-model",
        "--server.base-url",
        stub.url,
        "--report.modes",
        "think",
    )
    code, _, err = run_task(*flags, "--server.max-requests", 2)
    assert code == 2
    assert "--server.max-requests 2: that many are sent; 2 answers are kept" in err
    assert err.count("\n") == 1
    assert run_task(*flags, "--server.max-requests", 1)[0] == 0
    assert len(stub.requests) == 3


def test_interrupted_run_resumes(artifacts, run_task, stub):
    original_answer_fn = stub.answer_fn
    stub.delay = 0.05

    def interrupt(prompt):
        if "table" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
        return original_answer_fn(prompt)

    stub.answer_fn = interrupt
    flags = ("--writer.kind", "openai", "--writer.model", "small-model", "--server.base-url", stub.url)
    code, _, err = run_task(*flags)
    assert code == 130
    assert "the same command goes on from there" in err
    assert err.count("\n") == 1
    stub.answer_fn = original_answer_fn
    assert run_task(*flags)[0] == 0
    assert len(read_report(artifacts)) == 4


def test_key_in_a_server_response_is_masked(artifacts, run_task, stub):
    flags = ("--writer.kind", "openai", "--writer.model", "small-model", "--server.base-url", stub.url)
    stub.script.extend(["echo in an error"] * 4)
    code, _, err = run_task(*flags)
    assert code == 2
    assert "refuses the key in OPENAI_API_KEY (401)" in err
    stub.script.clear()
    stub.script.append("echo in an answer")
    assert run_task(*flags)[0] == 0
    assert any("keep Bearer *** well" in entry["text"] for entry in read_report(artifacts))


@pytest.mark.parametrize("kind", ["huggingface", "steered"])
def test_local_model_writes_plans(artifacts, run_task, causal_model, kind):  # noqa: F811
    folder = causal_model.tokenizer.name_or_path
    code, _, err = run_task(
        "--writer.kind",
        kind,
        "--writer.model",
        folder,
        "--report.modes",
        "think",
        "--writer.num-plans",
        1,
        "--writer.strength",
        1000,
    )
    assert code == 0, err
    shelf, table, custom = read_report(artifacts)
    assert table["text"] == NEAREST_TEXT
    assert shelf["text"] != NEAREST_TEXT != custom["text"]
    if kind == "steered":
        lines = shelf["text"].split("\n")
        similarities = EMBEDDER.embed([line.partition(" ")[2] for line in lines]) @ VECTORS[[0, 2]].T
        np.testing.assert_array_equal(similarities.argmax(axis=1), [0, 1])


@pytest.mark.parametrize("kind", ["huggingface", "steered"])
def test_missing_pytorch_exits_with_advice(run_task, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = run_task("--writer.kind", kind, "--writer.model", "any")
    assert code == 2
    assert "pip install torch transformers" in err
    assert err.count("\n") == 1


def test_steering_requires_a_local_embedder(artifacts, run_task):
    prepared = prepared_data.load(artifacts / "lm_data_prepare" / "run")
    prepared_data.save(artifacts / "lm_data_prepare" / "run", prepared._replace(embedder="text-embedding-3-small"))
    code, _, err = run_task("--writer.kind", "steered", "--writer.model", "any")
    assert code == 2
    assert "embedded by text-embedding-3-small" in err
    assert "--embedder.kind minilm" in err
    assert err.count("\n") == 1


def test_steering_rejects_plans_of_other_data(artifacts, run_task):
    plans.save(artifacts / "lm_guide_inference" / "run", PLANS, VECTORS[:, :7])
    code, _, err = run_task("--writer.kind", "steered", "--writer.model", "any")
    assert code == 2
    assert "the plans have 7 dimensions, and the data 64: run tasks/lm_guide_inference.py again" in err


@pytest.mark.parametrize(
    ("folder", "file", "advice"),
    [
        ("lm_data_prepare", "manifest.json", "run tasks/lm_data_prepare.py first"),
        ("lm_guide_inference", "plans.json", "run tasks/lm_guide_inference.py first"),
        ("lm_guide_inference", "plans.jsonl", "run tasks/lm_guide_inference.py first"),
    ],
)
def test_missing_input_names_the_previous_task(artifacts, run_task, folder, file, advice):
    (artifacts / folder / "run" / file).unlink()
    code, _, err = run_task()
    assert code == 2
    assert str(artifacts / folder) in err
    assert advice in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("--writer.kind", "openai"), ("--writer.kind openai", "--writer.model")),
        (("--writer.kind", "steered"), ("--writer.kind steered", "--writer.model")),
        (("--writer.kind", "magic"), ("magic", "steered")),
        (("--writer.num-plans", "0"), ("--writer.num-plans 0", "from 1")),
        (("--server.max-requests", "0"), ("--server.max-requests 0", "from 1")),
        (("--writer.strength", "-1"), ("--writer.strength -1", "from 0")),
        (("--server.base-url", f"http://me:{KEY}@127.0.0.1/v1"), ("--server.base-url", "OPENAI_BASE_URL")),
        (("--report.splits", "held-out"), ("held-out", "held_out")),
        (("--report.modes",), ("--report.modes", "name at least one of think, react")),
        (("--report.splits", "train", "train"), ("--report.splits train train", "each once")),
    ],
)
def test_invalid_value_exits_with_one_line(run_task, flags, fragments):
    code, _, err = run_task(*flags)
    assert code == 2
    assert all(fragment in err for fragment in fragments)
    assert err.count("\n") == 1


def test_other_settings_need_no_clear_and_clear_empties_the_folder(artifacts, run_task):
    assert run_task()[0] == 0
    assert run_task("--report.modes", "think", "--seed", 1)[0] == 0
    assert len(read_report(artifacts)) == 3
    code, out, _ = run_task("--clear")
    assert code == 0
    assert "cleared" in out
    assert find_latest(artifacts / "lm_data_interpret") is None


def test_help_does_not_import_jax():
    program = """if True:
        import runpy, sys
        sys.argv = ["lm_data_interpret.py", "--help"]
        try:
            runpy.run_path("tasks/lm_data_interpret.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--writer.strength" in process.stdout
