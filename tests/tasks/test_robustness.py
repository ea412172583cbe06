"""The robustness task: it detects whether a killed run ends bit-identical."""

import json
from typing import get_args, get_type_hints

import pytest

from tasks import robustness, simple
from thinking.experiment import Run, flags
from thinking.experiment.config import check
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
    program, folder = tmp_path / "stand_in.py", tmp_path / "run"
    program.write_text(PROGRAM.replace("DIGEST", digest))
    folder.mkdir()
    monkeypatch.setattr(robustness, "TASK", program)
    config = robustness.Config(num_kills=3)
    robustness.run(config, Run(folder=folder, config=config))
    results = json.loads((folder / "results.json").read_text())
    assert results["kills"] == 3 == sum(row["kills"] for row in results["rows"])
    assert results["undisturbed_seconds"] > 0.3
    assert all(row["bit_identical"] is is_identical for row in results["rows"])
    assert [path.name for path in folder.iterdir()] == ["results.json"]  # only results remain


@pytest.mark.parametrize("preset", get_args(get_type_hints(robustness.Config)["task_preset"]))
def test_flags_of_the_killed_task_are_valid(preset):
    flag_lists = (robustness.make_task_flags(preset, steps) for steps in (7, 8))
    short_config, long_config = (flags.parse(simple.PRESETS, flag_list, "simple.py") for flag_list in flag_lists)
    assert short_config != long_config


@pytest.mark.parametrize("name", robustness.PRESETS)
def test_presets_are_declared_and_valid(name):
    config = robustness.PRESETS[name].config
    assert find_declaration_errors(config) == []
    check(config)
