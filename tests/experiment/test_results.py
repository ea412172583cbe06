"""Results, metrics, plots and the device: what a reader of the run's folder relies on."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tests.experiment import toy
from tests.experiment.conftest import one_line

from thinking.errors import RunError
from thinking.experiment import device, metrics, plots
from thinking.experiment.folder import Run
from thinking.experiment.results import digest, write_results

TREE = {"a": jnp.arange(3.0), "b": (jnp.zeros(2, jnp.int32), jax.random.key(0))}


@pytest.fixture
def run(tmp_path):
    return Run(folder=tmp_path, config=toy.Config())


def test_equal_trees_have_equal_digests_on_device_and_host():
    host = {"a": np.arange(3, dtype=np.float32), "b": (np.zeros(2, np.int32), jax.random.key(0))}
    assert digest(TREE) == digest(host) == digest(dict(reversed(TREE.items())))


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "a": TREE["a"].at[1].add(1e-7)},
        {**TREE, "a": TREE["a"].astype(jnp.bfloat16)},
        {**TREE, "a": TREE["a"].reshape(3, 1)},
        {**TREE, "a": -TREE["a"]},  # differs from the first in a sign of zero, too
        {**TREE, "b": (jnp.zeros(2), jax.random.key(0))},
        {**TREE, "b": (jnp.zeros(2, jnp.int32), jax.random.key(1))},
        {**TREE, "b": (jnp.zeros(2, jnp.int32), jax.random.key_data(jax.random.key(0)))},
        {"c": TREE["a"], "b": TREE["b"]},
        {**TREE, "d": jnp.zeros((0,))},
    ],
)
def test_whatever_differs_changes_the_digest(other):
    assert digest(other) != digest(TREE)


def test_the_digest_tells_zero_from_minus_zero():
    assert digest(jnp.zeros(1)) != digest(-jnp.zeros(1))


def test_results_hold_plain_rows_figures_and_the_digest(run, capfd):
    rows = [
        {"model": "table", "loss": np.float32(0.25), "steps": jnp.int32(3), "solved": True, "seconds": float("nan")},
        {"model": "a name that is quite long, longer than any terminal would like, for a table of its kind " * 2},
    ]
    write_results(run, rows, TREE, gflops=np.float64(2.5), sizes=(1, 2))
    record = json.loads((run.folder / "results.json").read_text())
    assert record["rows"][0] == {"model": "table", "loss": 0.25, "steps": 3, "solved": True, "seconds": None}
    assert (record["gflops"], record["sizes"], record["state_digest"]) == (2.5, [1, 2], digest(TREE))
    printed = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith((" table", "table"))]
    assert printed == [["table", "0.25", "3", "yes", "-"]]  # a row is a line, however wide


def test_reading_metrics_passes_over_a_broken_line(tmp_path):
    metrics.append(tmp_path, "a", 1, {"loss": 0.5})
    with (tmp_path / metrics.METRICS_FILE).open("a") as file:
        file.write('{"stage": "a", "step": 2, "lo')
    assert metrics.read(tmp_path) == [{"stage": "a", "step": 1, "loss": 0.5}]


def test_rewinding_drops_later_lines_of_one_stage_alone(tmp_path):
    for stage, step in (("a", 1), ("a", 2), ("b", 5), ("a", 3)):
        metrics.append(tmp_path, stage, step, {})
    metrics.rewind(tmp_path, "a", 2)
    assert [(line["stage"], line["step"]) for line in metrics.read(tmp_path)] == [("a", 1), ("a", 2), ("b", 5)]


def test_metrics_that_cannot_be_written_are_a_failure_of_the_run(tmp_path):
    (tmp_path / metrics.METRICS_FILE).symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        metrics.append(tmp_path, "a", 1, {})


@pytest.mark.parametrize(("flag", "library"), [("--tensorboard", "tensorboardX"), ("--wandb", "wandb")])
def test_a_mirror_that_is_not_installed_is_named(command, monkeypatch, flag, library):
    monkeypatch.setitem(sys.modules, library, None)
    done = command(flag)
    assert done.code == 2
    assert f"pip install {library}" in one_line(done.err)


def test_tensorboard_and_wandb_are_told_the_metrics_and_closed(command, monkeypatch):
    told, closed = [], []

    class Writer:
        def __init__(self, folder, purge_step):
            assert (folder.split("/")[-1], purge_step) == ("fit", 10)

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def close(self):
            closed.append("tensorboard")

    board = SimpleNamespace(log=told.append, finish=lambda: closed.append("wandb"))
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: board, Error=OSError))
    done = command("--tensorboard", "--wandb", "--steps", "20")
    assert done.code == 0
    lines = metrics.read(done.folder)
    assert ("loss", lines[0]["loss"], 10) in told
    assert {"fit/step": 20, "fit/loss": lines[1]["loss"], "fit/count": lines[1]["count"]} in told
    assert sorted(closed) == ["tensorboard", "wandb"]


def test_learning_curves_are_drawn_from_the_metrics(run):
    for step in range(10, 100, 10):
        metrics.append(run.folder, "a", step, {"loss": 1 / step, "accuracy": step / 100})
        metrics.append(run.folder, "b", step, {"loss": 2 / step})
    path = plots.plot_learning_curves(run, ["loss", "accuracy"], title="Two stages")
    assert path == run.folder / "plots" / "learning_curves.png"
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 300
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_learning_curves_of_a_run_without_metrics_are_empty_axes(run):
    assert plots.plot_learning_curves(run, ["loss"], run.folder / "deep" / "x.png").exists()


def test_the_device_is_described_and_measured():
    assert device.describe_device()["platform"] == "cpu"
    assert device.measure_matmul_gflops(64) > 0
    assert device.measure_memory_gbps(1) > 0
