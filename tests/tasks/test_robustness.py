"""The robustness task: it tells a run that survives being killed from one that does not."""

import json
from typing import get_args, get_type_hints

import pytest

from tasks import robustness, simple
from thinking.experiment import Run, flags
from thinking.experiment.config import check
from thinking.experiment.settings import find_declaration_errors

# A task that takes a while; what it ends with is the same every time, or something else.
PROGRAM = """
import json, pathlib, sys, time, uuid
folder = pathlib.Path(sys.argv[sys.argv.index("--artifacts") + 1], pathlib.Path(__file__).stem)
folder.mkdir(parents=True, exist_ok=True)
time.sleep(0.3)
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": DIGEST}))
"""


@pytest.mark.parametrize(("digest", "same"), [("'the same'", True), ("str(uuid.uuid4())", False)])
def test_runs_are_killed_until_it_is_enough_and_compared_with_an_undisturbed_one(tmp_path, monkeypatch, digest, same):
    program, folder = tmp_path / "stand_in.py", tmp_path / "run"
    program.write_text(PROGRAM.replace("DIGEST", digest))
    folder.mkdir()
    monkeypatch.setattr(robustness, "TASK", program)
    config = robustness.Config(num_kills=3)
    robustness.run(config, Run(folder=folder, config=config))
    results = json.loads((folder / "results.json").read_text())
    assert results["kills"] == 3 == sum(row["kills"] for row in results["rows"])
    assert results["undisturbed_seconds"] > 0.3
    assert all(row["bit_identical"] is same for row in results["rows"])
    assert [path.name for path in folder.iterdir()] == ["results.json"]  # nothing but results stays


@pytest.mark.parametrize("preset", get_args(get_type_hints(robustness.Config)["task_preset"]))
def test_the_task_that_is_killed_takes_its_flags(preset):
    lines = (robustness.make_task_flags(preset, steps) for steps in (7, 8))
    few, many = (flags.parse(simple.PRESETS, line, "simple.py") for line in lines)
    assert few != many


@pytest.mark.parametrize("name", robustness.PRESETS)
def test_presets_are_declared_and_allowed(name):
    config = robustness.PRESETS[name].config
    assert find_declaration_errors(config) == []
    check(config)
