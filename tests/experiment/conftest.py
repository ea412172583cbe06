"""Fixtures and helpers of the tests of `thinking.experiment`."""

import json
import multiprocessing
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.experiment import toy

from thinking.experiment import checkpoint
from thinking.experiment.run_folders import find_latest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def frequent_saves(monkeypatch):
    """Save a checkpoint after every chunk, unless the previous save is still running."""
    monkeypatch.setattr(checkpoint, "MIN_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_TIME_FRACTION", 1e9)


@pytest.fixture
def run_command(tmp_path, capfd):
    """`run_command(*flags, run=...)` runs the toy task here and returns code, out, err and the latest run's folder."""

    def call(*flags, run=toy.run, artifacts=tmp_path):
        code = 0
        capfd.readouterr()
        try:
            toy.run_main("--artifacts", str(artifacts), *flags, run=run)
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        folder = find_latest(Path(artifacts) / "toy") if len(str(artifacts)) < 1000 else None
        return SimpleNamespace(code=code, out=out, err=err, folder=folder)

    return call


@pytest.fixture(scope="session")
def start_process():
    """`start_process(flags, output)` starts the toy task in a process forked from a server with warm imports."""
    previous = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jax", "optax", "orbax.checkpoint.v1", "thinking.experiment.training_loop"])
    processes = []

    def start(flags, output, frequent_saves=True):
        process = context.Process(target=toy.run_process, args=([str(flag) for flag in flags], output, frequent_saves))
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
    if previous is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = previous


def assert_one_line(text):
    """Assert that a text is one line without a traceback or a box, and return it."""
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    assert not re.search("Traceback|[─│╭]", text)
    return text.strip()


def read_digest(folder):
    return json.loads((folder / "results.json").read_text())["state_digest"]


def read_untimed_metrics(folder):
    """The lines of `metrics.jsonl`, all of which have a time, without it."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines if line["time"]]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of three megabytes. The test is skipped if mounting is not permitted."""
    path = tmp_path / "disk"
    path.mkdir()
    result = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", path], capture_output=True, check=False)
    if result.returncode:
        pytest.skip("mounting a disk takes rights that this machine does not give")
    yield SimpleNamespace(
        path=path, make_read_only=lambda: subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    )
    subprocess.run(["umount", path], check=True)
