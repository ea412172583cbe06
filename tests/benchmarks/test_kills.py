"""Runs that are killed and restarted, and runs that fail by themselves."""

import sys

import pytest

from thinking.benchmarks.kills import read_final_digest, run_undisturbed, run_with_kills
from thinking.errors import RunError

# Counts its starts in a file. Finishes from the third start on, and hangs before.
COUNTING_PROGRAM = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True)
starts = folder / "starts"; count = int(starts.read_text()) if starts.exists() else 0
starts.write_text(str(count + 1))
if count < 2: time.sleep(60)
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": f"{count >= 2}"}))
"""


def test_killed_run_is_restarted_until_it_finishes(tmp_path):
    command = [sys.executable, "-c", COUNTING_PROGRAM, str(tmp_path / "killed")]
    assert run_with_kills(command, max_seconds=1.0, num_kills=2, seed=0) == 2
    assert read_final_digest(tmp_path / "killed") == "True"


def test_failing_run_raises_its_own_error(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such graph')"]
    with pytest.raises(RunError, match="no such graph"):
        run_undisturbed(command)
    with pytest.raises(RunError, match="no such graph"):
        run_with_kills(command, max_seconds=60.0, num_kills=1, seed=0)
