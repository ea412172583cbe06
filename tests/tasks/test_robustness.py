"""The robustness task: it tells a run that survives being killed from one that does not."""

import dataclasses
import json

import pytest

from tasks import robustness, simple
from thinking.experiment import Run, flags
from thinking.experiment.config import check
from thinking.experiment.settings import misdeclared

# A task of three short steps, each saved by its number; its "weights" are how often it was started, or nothing at all.
PROGRAM = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--artifacts") + 1], pathlib.Path(__file__).stem)
folder.mkdir(parents=True, exist_ok=True)
lives, saved = folder / "lives", folder / "saved"
lives.write_text((lives.read_text() if lives.exists() else "") + ".")
for step in range(int(saved.read_text() or 0) if saved.exists() else 0, 3):
    time.sleep(0.1)
    saved.write_text(str(step + 1))
weights = lives.read_text() if FORGETFUL else ""
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": weights}))
"""


@pytest.mark.parametrize("forgetful", [False, True])
def test_only_a_run_that_goes_on_where_it_was_killed_is_bit_identical(tmp_path, monkeypatch, forgetful):
    program = tmp_path / "stand_in.py"
    program.write_text(PROGRAM.replace("FORGETFUL", str(forgetful)))
    monkeypatch.setattr(robustness, "TASK", program)
    folder = tmp_path / "run"
    folder.mkdir()
    config = robustness.Config(num_kills=3)
    robustness.run(config, Run(folder=folder, config=config))
    results = json.loads((folder / "results.json").read_text())
    assert results["kills"] == 3 == sum(row["kills"] for row in results["rows"])
    assert results["undisturbed_seconds"] > 0.3
    killed = [row for row in results["rows"] if row["kills"]]
    assert all(row["bit_identical"] is not forgetful for row in killed)
    assert [path.name for path in folder.iterdir()] == ["results.json"]  # nothing but results stays


def test_the_task_that_is_killed_takes_its_flags():
    config = flags.parse(simple.PRESETS, robustness.flags_of_task(7), "simple.py")
    assert config != simple.PRESETS["default"]


@pytest.mark.parametrize("name", robustness.PRESETS)
def test_presets_are_declared_and_allowed(name):
    config = robustness.PRESETS[name].config
    assert misdeclared(config) == []
    check(config)
