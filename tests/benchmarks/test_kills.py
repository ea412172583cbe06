"""Runs that are killed: one that survives is told from one that fails by itself."""

import sys

import pytest

from thinking.benchmarks.kills import read_final_digest, run_killed, run_undisturbed
from thinking.errors import RunError

# Counts lives in a file; ends in the life that is the third or later, and takes a while in each.
COUNTING = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True)
lives = folder / "lives"; count = int(lives.read_text()) if lives.exists() else 0
lives.write_text(str(count + 1))
if count < 2: time.sleep(60)
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": f"{count >= 2}"}))
"""


def test_a_run_is_killed_until_it_comes_to_its_end(tmp_path):
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "killed")]
    assert run_killed(command, max_seconds=1.0, num_kills=2, seed=0) == 2
    assert read_final_digest(tmp_path / "killed") == "True"


def test_a_run_that_fails_by_itself_is_not_taken_for_killed(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such graph')"]
    with pytest.raises(RunError, match="no such graph"):
        run_undisturbed(command)
    with pytest.raises(RunError, match="no such graph"):
        run_killed(command, max_seconds=60.0, num_kills=1, seed=0)
