"""Digests, results, metrics, mirrors, plots and the description of the device."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line

from thinking import progress
from thinking.errors import RunError
from thinking.experiment import device, metrics, plots, tables
from thinking.experiment.folder import Run
from thinking.experiment.results import digest, write_results

TREE = {"a": jnp.arange(3.0), "b": (jnp.zeros(2, jnp.int32), jax.random.key(0))}


@pytest.fixture
def run(tmp_path):
    return Run(folder=tmp_path, config=toy.Config())


def test_digest_is_equal_on_device_and_host():
    host = {"a": np.arange(3, dtype=np.float32), "b": (np.zeros(2, np.int32), jax.random.key(0))}
    assert digest(TREE) == digest(host) == digest(dict(reversed(TREE.items())))


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "a": TREE["a"].at[1].add(1e-7)},
        {**TREE, "a": TREE["a"].astype(jnp.bfloat16)},
        {**TREE, "a": TREE["a"].reshape(3, 1)},
        {**TREE, "a": -TREE["a"]},  # changes the sign of zero, too
        {**TREE, "b": (jnp.zeros(2), jax.random.key(0))},
        {**TREE, "b": (jnp.zeros(2, jnp.int32), jax.random.key(1))},
        {**TREE, "b": (jnp.zeros(2, jnp.int32), jax.random.key_data(jax.random.key(0)))},
        {"c": TREE["a"], "b": TREE["b"]},
        {**TREE, "d": jnp.zeros((0,))},
    ],
)
def test_digest_changes_with_values_dtypes_shapes_and_names(other):
    assert digest(other) != digest(TREE)


def test_digest_distinguishes_zero_from_minus_zero():
    assert digest(jnp.zeros(1)) != digest(-jnp.zeros(1))


def test_results_json_has_rows_metrics_and_digest(run, capfd):
    rows = [
        {"model": "table", "loss": np.float32(0.25), "steps": jnp.int32(3), "solved": True, "seconds": float("nan")},
        {"model": "a name that is quite long, longer than any terminal would like, for a table of its kind " * 2},
    ]
    write_results(run, rows, TREE, gflops=np.float64(2.5), sizes=(1, 2))
    record = json.loads((run.folder / "results.json").read_text())
    assert record["rows"][0] == {"model": "table", "loss": 0.25, "steps": 3, "solved": True, "seconds": None}
    assert (record["gflops"], record["sizes"], record["state_digest"]) == (2.5, [1, 2], digest(TREE))
    table_rows = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith((" table", "table"))]
    assert table_rows == [["table", "0.25", "3", "yes", "-"]]  # a row is one line at any width


def test_read_skips_an_incomplete_line(tmp_path):
    metrics.append(tmp_path, "a", 1, {"loss": 0.5})
    with (tmp_path / metrics.METRICS_FILE).open("a") as file:
        file.write('{"stage": "a", "step": 2, "lo')
    assert metrics.read(tmp_path) == [{"stage": "a", "step": 1, "loss": 0.5}]


@pytest.mark.parametrize(
    "line",
    [
        '{"stage": "a", "step": "2"}',
        '{"stage": 1, "step": 2}',
        '{"stage": "a", "step": 2, "loss": "low"}',
        '{"stage": "a", "step": 2, "loss": NaN}',
        f'{{"stage": "a", "step": {"7" * 5000}}}',
        "[" * 100_000,
        "[]",
        "x",
    ],
    ids=lambda line: line[:40],
)
def test_damaged_line_is_named(tmp_path, line):
    metrics.append(tmp_path, "a", 1, {"loss": 0.5})
    path = tmp_path / metrics.METRICS_FILE
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2: damaged .*; mend or remove the line") as error:
        metrics.rewind(tmp_path, "a", 1)
    assert "\n" not in str(error.value)
    assert line in path.read_text()


def test_rewind_drops_later_lines_of_one_stage_only(tmp_path):
    for stage, step in (("a", 1), ("a", 2), ("b", 5), ("a", 3)):
        metrics.append(tmp_path, stage, step, {})
    metrics.rewind(tmp_path, "a", 2)
    assert [(line["stage"], line["step"]) for line in metrics.read(tmp_path)] == [("a", 1), ("a", 2), ("b", 5)]


def test_append_to_a_full_disk_is_a_run_error(tmp_path):
    (tmp_path / metrics.METRICS_FILE).symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        metrics.append(tmp_path, "a", 1, {})


@pytest.mark.parametrize(("flag", "library"), [("--tensorboard", "tensorboardX"), ("--wandb", "wandb")])
def test_missing_mirror_library_is_named(run_command, monkeypatch, flag, library):
    monkeypatch.setitem(sys.modules, library, None)
    result = run_command(flag)
    assert result.code == 2
    assert f"pip install {library}" in assert_one_line(result.err)


def test_tensorboard_and_wandb_receive_metrics_and_are_closed(run_command, monkeypatch):
    logged_metrics, closed_mirrors = [], []

    class Writer:
        def __init__(self, folder, purge_step):
            assert (folder.split("/")[-1], purge_step) == ("fit", 10)

        def add_scalar(self, name, value, step):
            logged_metrics.append((name, value, step))

        def close(self):
            closed_mirrors.append("tensorboard")

    wandb_run = SimpleNamespace(log=logged_metrics.append, finish=lambda: closed_mirrors.append("wandb"))
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: wandb_run, Error=OSError))
    result = run_command("--tensorboard", "--wandb", "--steps", "20")
    assert result.code == 0
    lines = metrics.read(result.folder)
    assert ("loss", lines[0]["loss"], 10) in logged_metrics
    assert {"fit/step": 20, "fit/loss": lines[1]["loss"], "fit/count": lines[1]["count"]} in logged_metrics
    assert sorted(closed_mirrors) == ["tensorboard", "wandb"]


def test_text_of_others_is_neither_markup_nor_control(capsys):
    progress.console.cache_clear()
    rows = [{"name": "[/b] [red]x[/red] :cat: 10:100:5", "\x1b]0;title\x07": "\x9b31m"}]
    tables.print_rows(rows)
    progress.log("[/b] \x1b[2J")
    out = capsys.readouterr().out
    for text in ("[/b] [red]x[/red] :cat: 10:100:5", r"\x1b]0;title\x07", r"\x9b31m", r"[/b] \x1b[2J"):
        assert text in out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)


def test_learning_curves_are_plotted_from_the_metrics(run):
    for step in range(10, 100, 10):
        metrics.append(run.folder, "a", step, {"loss": 1 / step, "accuracy": step / 100})
        metrics.append(run.folder, "b", step, {"loss": 2 / step})
    path = plots.plot_learning_curves(run, ["loss", "accuracy"], title="Two stages")
    assert path == run.folder / "plots" / "learning_curves.png"
    with Image.open(path) as image:
        assert image.size[0] > image.size[1] > 300
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_learning_curves_without_metrics_are_empty_axes(run):
    assert plots.plot_learning_curves(run, ["loss"], run.folder / "deep" / "x.png").exists()


def test_picture_that_cannot_be_drawn_is_a_warning(run, capfd):
    figure, (panel,) = plots.make_figure(1)
    panel.set_title("a$^$")
    path = plots.save_figure(figure, run.folder / "x.png")
    assert f"warning: {path} could not be drawn: " in assert_one_line(capfd.readouterr().err)
    panel.set_title(plots.escape("a$^$"))
    assert plots.save_figure(figure, path).exists()


def test_bars_stand_in_groups_with_their_errors(run, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure) or path)
    bars, errors = {"a": [0.1, 0.2], "b": [0.3, 0.4]}, {"a": [0.0, 0.1], "b": [0.05, 0.0]}
    plots.plot_bars(run.folder / "x.png", bars, ["left", "right"], "share", errors=errors)
    (panel,) = figures[0].axes
    assert [bar.get_height() for bar in panel.patches] == [0.1, 0.2, 0.3, 0.4]
    centers = [bar.get_x() + bar.get_width() / 2 for bar in panel.patches]
    assert [round(center) for center in centers] == [0, 1, 0, 1]
    assert centers[0] < centers[2]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["left", "right"]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["a", "b"]
    assert plots.plot_bars(run.folder / "y.png", bars, ["left", "right"], "share")


def test_missing_platform_is_one_line(run_command, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", fail)
    result = run_command("--steps", "10")
    assert result.code == 1
    assert "JAX_PLATFORMS=cuda: JAX finds no such device" in assert_one_line(result.err)


def test_x64_of_the_environment_is_switched_off():
    jax.config.update("jax_enable_x64", True)
    device.prepare_device()
    assert jnp.arange(3.0).dtype == jnp.float32


def test_device_description_and_speed_measurements():
    assert device.describe_device()["platform"] == "cpu"
    assert device.measure_matmul_gflops(64) > 0
    assert device.measure_memory_gbps(1) > 0
