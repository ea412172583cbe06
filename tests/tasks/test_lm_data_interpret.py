"""The task that writes plans out: from plans on disk to texts, a report, and a page."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.recipes.test_language_guide_plan_writing import causal  # noqa: F401 (a fixture)
from tests.text.openai_server import serving

from tasks import lm_data_interpret as task
from thinking.experiment import main
from thinking.text import plans, prepared_data
from thinking.text.embedders import hashing_embedder
from thinking.text.plans import Plan, PlanNode
from thinking.text.records import Section, Text

ROOT = Path(task.__file__).parents[1]
KEY = "sk-of-nobody-0123456789"
STEPS = ("Saw log.", "Cut log.", "Nail shelf.", "Paint shelf.")
EMBEDDER = hashing_embedder()
VECTORS = EMBEDDER.embed(STEPS)
SHELF = Plan(
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
    SHELF,
    SHELF._replace(goal="building a table", done=False, scores={"right": 0.25}),
    SHELF._replace(mode="react"),
    SHELF._replace(goal="<script>alert(1)</script>", split="custom", reference=(), scores={}),
    SHELF._replace(goal="known", split="train"),
)
NEAREST = "## the boards\n1. Saw log.\n\n## the end\n2. Nail shelf."


@pytest.fixture
def artifacts(tmp_path):
    """What the tasks before have left."""
    texts = [
        Text("building a bed", (Section("the boards", STEPS[:3]), Section("the end", STEPS[3:]))),
        Text("building a shelf", SHELF.reference, "held_out"),
    ]
    made = prepared_data.prepare_texts(texts, {"Cut log.": "Saw log."}, EMBEDDER, {"text": "a test"})
    prepared_data.save(tmp_path / "lm_data_prepare", made)
    plans.save(tmp_path / "lm_guide_inference", PLANS, VECTORS)
    return tmp_path


@pytest.fixture
def call(artifacts, monkeypatch, capsys):
    """Run the task's command in this process; gives its exit code, output and complaint."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["lm_data_interpret.py", "--artifacts", str(artifacts), *map(str, flags)])
        try:
            main("lm_data_interpret", task.run, task.PRESETS)
            code = 0
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        written = b"".join(path.read_bytes() for path in artifacts.rglob("*") if path.is_file())
        assert KEY not in f"{captured.out}{captured.err}{written.decode(errors='replace')}"
        return code, captured.out, captured.err

    return run


@pytest.fixture
def stub():
    with serving() as started:
        started.says = lambda prompt: f"First, **{prompt.partition('goal: ')[2].partition('.')[0]}**."
        yield started


def report(artifacts):
    return json.loads((artifacts / "lm_data_interpret" / "report.json").read_text())


def test_by_default_plans_become_the_nearest_sentences_offline(artifacts, call):
    code, out, err = call()
    assert (code, err) == (0, "")
    entries = report(artifacts)
    assert [(entry["goal"], entry["split"], entry["mode"]) for entry in entries] == [plan[:3] for plan in PLANS[:4]]
    assert {entry["text"] for entry in entries} == {NEAREST}
    assert {entry["writer"] for entry in entries} == {"nearest known sentences"}
    # One of the reference's steps words what the plan's first step says.
    assert entries[0]["reference"] == [
        {"step": "Cut log.", "in_plan": True},
        {"step": "Paint shelf.", "in_plan": False},
    ]
    assert [goal["inner"][0]["in_reference"] for goal in entries[0]["plan"]] == [True, False]
    assert "building a shelf  held_out, think" in out
    assert "── 1. Saw log." in out
    assert str(artifacts / "lm_data_interpret" / "report.html") in out
    page = (artifacts / "lm_data_interpret" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_results_hold_the_means_of_each_split_and_mode(artifacts, call):
    call()
    held, react, asked = json.loads((artifacts / "lm_data_interpret" / "results.json").read_text())["rows"]
    assert held == {
        "split": "held_out", "mode": "think", "num_plans": 2, "ended_fraction": 0.5, "right": 0.375, "order": 1.0
    }  # fmt: skip
    assert (react["mode"], react["num_plans"], react["right"]) == ("react", 1, 0.5)
    assert (asked["split"], asked["right"], asked["order"]) == ("custom", None, None)


def test_splits_and_modes_are_chosen(artifacts, call):
    assert call("--report.splits", "train", "held_out", "--report.modes", "react")[0] == 0
    assert [entry["goal"] for entry in report(artifacts)] == ["building a shelf"]
    code, _, err = call("--report.splits", "compound")
    assert code == 2
    assert "--report.splits compound" in err
    assert "custom by think, held_out by react, held_out by think, train by think" in err
    assert err.count("\n") == 1


def test_a_server_writes_the_first_plans_of_each_split_and_mode_once(artifacts, call, stub):
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
    code, _, err = call(*flags)
    assert (code, err) == (0, "")
    prompts = [body["messages"][-1]["content"] for _, body, _ in stub.requests]
    # The same goal was thought and reacted to with the same plan: it is asked about once, or twice at the same time.
    assert 2 <= len(prompts) <= 3
    assert all(NEAREST in prompt for prompt in prompts)
    assert {key for _, _, key in stub.requests} == {f"Bearer {KEY}"}
    texts = {(entry["goal"], entry["mode"]): (entry["text"], entry["writer"]) for entry in report(artifacts)}
    written = ("First, **building a shelf**.", "small-model, told the nearest sentences")
    assert texts["building a shelf", "think"] == texts["building a shelf", "react"] == written
    assert texts["building a table", "think"] == (NEAREST, "nearest known sentences")
    stub.requests.clear()
    assert call(*flags)[0] == 0
    assert stub.requests == []


def test_the_limit_ends_the_run_and_the_same_command_goes_on(artifacts, call, stub):
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
    code, _, err = call(*flags, "--server.max-requests", 2)
    assert code == 2
    assert "--server.max-requests 2: that many are sent; 2 answers are kept" in err
    assert err.count("\n") == 1
    assert call(*flags, "--server.max-requests", 1)[0] == 0
    assert len(stub.requests) == 3


def test_a_run_that_is_interrupted_goes_on_where_it_was(artifacts, call, stub):
    before = stub.says
    stub.slow = 0.05

    def stop(prompt):
        if "table" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
        return before(prompt)

    stub.says = stop
    flags = ("--writer.kind", "openai", "--writer.model", "small-model", "--server.base-url", stub.url)
    code, _, err = call(*flags)
    assert code == 130
    assert "the same command goes on from there" in err
    assert err.count("\n") == 1
    stub.says = before
    assert call(*flags)[0] == 0
    assert len(report(artifacts)) == 4


def test_a_server_that_sends_the_key_back_is_not_quoted(artifacts, call, stub):
    flags = ("--writer.kind", "openai", "--writer.model", "small-model", "--server.base-url", stub.url)
    stub.script.extend(["echo in an error"] * 4)
    code, _, err = call(*flags)
    assert code == 2
    assert "refuses the key in OPENAI_API_KEY (401)" in err
    stub.script.clear()
    stub.script.append("echo in an answer")
    assert call(*flags)[0] == 0
    assert any("keep Bearer *** well" in entry["text"] for entry in report(artifacts))


@pytest.mark.parametrize("by", ["huggingface", "steered"])
def test_a_model_that_runs_here_writes(artifacts, call, causal, by):  # noqa: F811
    folder = causal.tokenizer.name_or_path
    code, _, err = call(
        "--writer.kind",
        by,
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
    shelf, table, asked = report(artifacts)
    assert table["text"] == NEAREST
    assert shelf["text"] != NEAREST != asked["text"]
    if by == "steered":
        lines = shelf["text"].split("\n")
        near = EMBEDDER.embed([line.partition(" ")[2] for line in lines]) @ VECTORS[[0, 2]].T
        np.testing.assert_array_equal(near.argmax(axis=1), [0, 1])


@pytest.mark.parametrize("by", ["huggingface", "steered"])
def test_without_pytorch_one_line_says_what_to_install(call, monkeypatch, by):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = call("--writer.kind", by, "--writer.model", "any")
    assert code == 2
    assert "pip install torch transformers" in err
    assert err.count("\n") == 1


def test_steering_needs_an_embedder_that_runs_here(artifacts, call):
    made = prepared_data.load(artifacts / "lm_data_prepare")
    prepared_data.save(artifacts / "lm_data_prepare", made._replace(embedder="text-embedding-3-small"))
    code, _, err = call("--writer.kind", "steered", "--writer.model", "any")
    assert code == 2
    assert "embedded by text-embedding-3-small" in err
    assert "--embedder.kind minilm" in err
    assert err.count("\n") == 1


def test_plans_of_other_data_are_not_steered(artifacts, call):
    plans.save(artifacts / "lm_guide_inference", PLANS, VECTORS[:, :7])
    code, _, err = call("--writer.kind", "steered", "--writer.model", "any")
    assert code == 2
    assert "the plans have 7 dimensions, and the data 64: run tasks/lm_guide_inference.py again" in err


@pytest.mark.parametrize(
    ("folder", "file", "task_before"),
    [
        ("lm_data_prepare", "manifest.json", "run tasks/lm_data_prepare.py first"),
        ("lm_guide_inference", "plans.json", "run tasks/lm_guide_inference.py first"),
        ("lm_guide_inference", "plans.jsonl", "run tasks/lm_guide_inference.py first"),
    ],
)
def test_the_task_before_must_have_run(artifacts, call, folder, file, task_before):
    (artifacts / folder / file).unlink()
    code, _, err = call()
    assert code == 2
    assert str(artifacts / folder) in err
    assert task_before in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "names"),
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
def test_a_bad_value_is_refused_in_one_line_that_names_it(call, flags, names):
    code, _, err = call(*flags)
    assert code == 2
    assert all(name in err for name in names)
    assert err.count("\n") == 1


def test_another_way_of_writing_needs_no_clearing_and_clear_empties_the_folder(artifacts, call):
    assert call()[0] == 0
    assert call("--report.modes", "think", "--seed", 1)[0] == 0
    assert len(report(artifacts)) == 3
    code, out, _ = call("--clear")
    assert code == 0
    assert "cleared" in out
    assert list((artifacts / "lm_data_interpret").iterdir()) == []


def test_help_is_answered_without_loading_jax():
    probe = """if True:
        import runpy, sys
        sys.argv = ["lm_data_interpret.py", "--help"]
        try:
            runpy.run_path("tasks/lm_data_interpret.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--writer.strength" in done.stdout
