"""The robustness task: it detects whether a killed run ends bit-identical, and covers every training task."""

import importlib
import json
import sys
from pathlib import Path
from typing import get_args

import pytest

from tasks import robustness
from thinking.benchmarks.kills import TASK_FLAGS, TaskName, make_command, split_kills
from thinking.experiment import Run, flags
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors

# A task that takes a while. Its digest is always the same, or always different.
PROGRAM = """
import json, pathlib, sys, time, uuid
folder = pathlib.Path(sys.argv[sys.argv.index("--artifacts") + 1], pathlib.Path(__file__).stem, "run")
folder.mkdir(parents=True, exist_ok=True)
time.sleep(0.3)
(folder / "config.json").touch()
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": DIGEST}))
"""


@pytest.mark.parametrize(("digest", "is_identical"), [("'the same'", True), ("str(uuid.uuid4())", False)])
def test_killed_runs_are_compared_with_an_undisturbed_run(tmp_path, monkeypatch, digest, is_identical):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("lm_guide_train", "lm_data_prepare"):  # the first needs the other
        (tmp_path / f"{name}.py").write_text(PROGRAM.replace("DIGEST", digest))
    monkeypatch.setattr(robustness, "TASKS", tmp_path)
    monkeypatch.setattr(
        robustness, "make_command", lambda *paths: [sys.executable, str(paths[0]), "--artifacts", str(paths[1])]
    )
    config = robustness.Config(num_kills=3, tasks=("lm_guide_train",))
    robustness.run(config, Run(folder=folder, config=config))
    results = json.loads((folder / "results.json").read_text())
    assert results["kills"] == 3 == sum(row["kills"] for row in results["rows"])
    assert all(row["undisturbed_seconds"] > 0.3 for row in results["rows"])
    assert all(row["bit_identical"] is is_identical for row in results["rows"])
    assert [path.name for path in folder.iterdir()] == ["results.json"]  # only results remain


def test_every_task_that_trains_is_killed():
    """Such a task, or its recipe, calls `train`; the others only read what was trained."""
    names = {path.stem for path in robustness.TASKS.glob("*.py")}
    others = {"benchmark", "robustness", "lm_data_prepare", "lm_guide_inference", "lm_data_interpret"}
    assert set(get_args(TaskName)) == names - others


def test_kills_are_spread_evenly():
    config = robustness.Config(num_kills=7, tasks=("simple", "arithmetic", "lm_think"))
    assert split_kills(config) == {"simple": 3, "arithmetic": 2, "lm_think": 2}
    assert split_kills(robustness.Config(num_kills=1)) == {"simple": 1}


@pytest.mark.parametrize("task", get_args(TaskName))
def test_flags_of_a_killed_task_are_valid(task):
    assert set(TASK_FLAGS) <= set(get_args(TaskName))
    command = make_command(Path("tasks") / f"{task}.py", Path("out"))
    presets = importlib.import_module(f"tasks.{task}").PRESETS
    assert flags.parse(presets, command[command.index("--preset") :], task).artifacts == Path("out")


@pytest.mark.parametrize("name", robustness.PRESETS)
def test_presets_are_declared_and_valid(name):
    config = robustness.PRESETS[name].config
    assert find_declaration_errors(config) == []
    check(config)
