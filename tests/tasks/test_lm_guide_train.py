"""Training of the language guide, from its command line to its results, with and without interruption."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.tasks.shared_stages import SharedStages

from tasks import lm_data_prepare
from tasks import lm_guide_train as task
from thinking.experiment import Run, interruption, main
from thinking.experiment.run_folders import find_latest, list_runs
from thinking.guide.plan_trees.codecs import token_codec, whitening, whitening_codec
from thinking.recipes.language_guide import model, training
from thinking.recipes.language_guide.configs.train import LayersConfig
from thinking.recipes.language_guide.training import make_flat_shape
from thinking.text import plan_trees, prepared_data
from thinking.text.embedders import normalize
from thinking.text.records import iter_steps

ROOT = Path(task.__file__).parents[1]
SMOKE = task.PRESETS["smoke"].config
SMALL = dataclasses.replace(
    SMOKE,
    layers=LayersConfig("linear", (3, 2), width=32, upper_width=32),
    training=dataclasses.replace(SMOKE.training, num_steps=100),
)
stages = SharedStages()


def run_command(module, artifacts, *flags):
    """Run the smoke preset of a task in this process, and return its exit code."""
    name = Path(module.__file__).stem
    with pytest.MonkeyPatch.context() as patch:
        flags = ("--preset", "smoke", "--artifacts", str(artifacts), *map(str, flags))
        patch.setattr(sys, "argv", [f"{name}.py", *flags])
        try:
            main(name, module.run, module.PRESETS)
        except SystemExit as stop:
            return stop.code
    return 0


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The artifacts of preparing the bundled texts."""
    folder = tmp_path_factory.mktemp("artifacts")
    assert run_command(lm_data_prepare, folder) == 0
    return folder


@pytest.fixture(scope="module")
def finished_run(artifacts):
    """A finished run that trained a two-layer and a flat guide without interruption."""
    config = dataclasses.replace(SMALL, artifacts=artifacts)
    run = Run(folder=artifacts / "lm_guide_train", config=config)
    run.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        stages.patch(patch, training)
        task.run(config, run)
    return run


@pytest.fixture
def data_folder(artifacts, tmp_path):
    """The folder of a copy of the prepared texts."""
    shutil.copytree(artifacts / "lm_data_prepare", tmp_path / "lm_data_prepare", symlinks=True)
    return tmp_path / "lm_data_prepare" / "latest"


@pytest.fixture
def run_task(tmp_path, capfd):
    """A function that runs the task in this process and returns exit code, stdout and stderr."""

    def run(*flags):
        capfd.readouterr()
        code = run_command(task, tmp_path, *flags)
        return code, *capfd.readouterr()

    return run


def get_error_line(run_task, *flags):
    """The one-line error of a failed command."""
    code, _, err = run_task(*flags)
    assert code == 2
    assert err.count("\n") == 1
    return err


def read_results(folder):
    return json.loads((folder / "results.json").read_text())


def test_run_writes_results_metrics_and_a_plot(finished_run, artifacts):
    guide, flat = read_results(finished_run.folder)["rows"]
    assert (guide["model"], guide["num_layers"], flat["model"], flat["num_layers"]) == ("guide", 2, "flat", 1)
    texts = [
        text for text in prepared_data.load(artifacts / "lm_data_prepare" / "latest").texts if text.split == "train"
    ]
    # One example per step and per end of a sub-trajectory. The top level repeats texts to balance their pairs.
    num_steps = sum(len(list(iter_steps(text.steps))) for text in texts)
    num_sections = sum(len(plan_trees.build_plan_tree(text, 2)) for text in texts)
    assert guide["num_examples"] >= (num_steps + num_sections) + 2 * (num_sections + len(texts))
    assert flat["num_examples"] >= 2 * (num_steps + len(texts))
    assert guide["num_parameters"] <= flat["num_parameters"] < 1.05 * guide["num_parameters"]
    lines = [json.loads(line) for line in (finished_run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("guide", 50),
        ("guide", 100),
        ("flat", 50),
        ("flat", 100),
    ]
    assert {"layer_0/loss/value", "layer_1/loss/value"} <= set(lines[0])
    assert lines[1]["layer_0/loss/value"] < lines[0]["layer_0/loss/value"]
    assert (finished_run.plots_folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_run_ends_bit_identical(finished_run, tmp_path, monkeypatch):
    stages.patch(monkeypatch, training)

    def interrupt(stage, step, metrics):
        if step == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    run = dataclasses.replace(finished_run, folder=tmp_path)
    for _ in range(2):  # once within each guide
        with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
            task.run(run.config, dataclasses.replace(run, metric_writers=(interrupt,)))
    with interruption.catch_signals():  # resets the signals
        task.run(run.config, run)
    assert read_results(tmp_path)["state_digest"] == read_results(finished_run.folder)["state_digest"]
    for name in ("guide", "flat"):
        assert (tmp_path / name / "guide.json").read_bytes() == (finished_run.folder / name / "guide.json").read_bytes()


def test_table_kernel_learns_tokens(data_folder, run_task, tmp_path):
    flags = (
        "--layers.kernel",
        "table",
        "--codes.kind",
        "tokens",
        "--layers.context-lengths",
        2,
        1,
        "--layers.width",
        4096,
        "--layers.upper-width",
        4096,
        "--training.num-steps",
        2,
        "--no-flat-baseline",
    )
    code, out, err = run_task(*flags)
    assert (code, err) == (0, "")
    assert "run lm_guide_inference --artifacts" in out
    (guide,) = read_results(tmp_path / "lm_guide_train" / "latest")["rows"]
    # The lowest layer has a hash table of 4096 entries: a key of three numbers, a value and a score. The upper one has
    # an entry for every context and target, each one of 16 tokens or the separator.
    assert guide["num_parameters"] == 4096 * (3 + 1 + 1) + 17 * 17 * 2
    shape, codecs = model.load_guide(
        tmp_path / "lm_guide_train" / "latest" / "guide", model.compute_checksum(prepared_data.load(data_folder))
    )
    assert (shape.kernel, shape.context_lengths, shape.width) == ("table", (2, 1), 4096)
    assert [codec.centroids.shape for codec in codecs] == [(16, 64)] * 3


def test_other_data_is_another_run_and_missing_data_exits(data_folder, run_task, tmp_path):
    flags = ("--layers.kernel", "table", "--codes.kind", "tokens", "--layers.width", 64)
    flags += ("--layers.context-lengths", 1, "--training.num-steps", 1)
    folders = []
    for _ in range(2):
        assert run_task(*flags)[0] == 0
        folders.append(find_latest(tmp_path / "lm_guide_train"))
        prepared = prepared_data.load(data_folder)
        prepared_data.save(data_folder, prepared._replace(texts=prepared.texts[1:]))
    assert folders[0] != folders[1]
    shutil.rmtree(data_folder.parent)
    missing = f"{data_folder.parent} has no prepared data: run tasks/lm_data_prepare.py first"
    assert missing in get_error_line(run_task, *flags)
    assert find_latest(tmp_path / "lm_guide_train") == folders[1]
    assert len(list_runs(tmp_path / "lm_guide_train")) == 2  # a run without data leaves no folder


def test_single_text_exits(data_folder, run_task):
    prepared = prepared_data.load(data_folder)
    prepared_data.save(data_folder, prepared._replace(texts=prepared.texts[:1]))
    assert (
        "level 1 of the plan trees has one value alone; give more texts, or fewer --layers.context-lengths"
        in get_error_line(run_task)
    )
    assert "level 1 of the plan trees has one goal alone; give more texts" in get_error_line(
        run_task, "--layers.context-lengths", 4
    )


@pytest.mark.parametrize(("kernel", "num_heads"), [("linear", 1), ("transformer", 2)])
def test_flat_guide_has_at_least_as_many_parameters(kernel, num_heads):
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    codecs = [whitening_codec(whitening(vectors, dims)) for dims in (6, 6, 4)]
    shape = model.GuideShape((1, 5), kernel, 16, 16, num_heads, 1, 1)

    def count_parameters(shape, codecs):
        return model.count_parameters(model.build_guide(shape, codecs))

    expected = count_parameters(shape, codecs)
    flat_shape = make_flat_shape(shape, [codecs[0], codecs[-1]], expected)
    assert flat_shape._replace(width=0) == shape._replace(context_lengths=(1,), width=0)
    narrower_shape = flat_shape._replace(width=flat_shape.width - (2 * num_heads if kernel == "transformer" else 1))
    assert (
        count_parameters(narrower_shape, [codecs[0], codecs[-1]])
        < expected
        <= count_parameters(flat_shape, [codecs[0], codecs[-1]])
    )


def test_flat_table_has_the_size_of_one_layer():
    codecs = [token_codec(normalize(np.random.default_rng(0).normal(size=(3, 4))))] * 3
    shape = model.GuideShape((2, 1), "table", 64, 64, 1, 1, 1)
    assert make_flat_shape(shape, codecs, 10**6) == shape._replace(context_lengths=(2,))


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("--layers.context-lengths", "4", "0"), ("--layers.context-lengths 4 0", "from 1")),
        (("--layers.context-lengths",), ("--layers.context-lengths", "take 4 2 1")),
        (("--training.num-steps", "0"), ("--training.num-steps 0", "from 1")),
        (("--codes.goal-dims", "0"), ("--codes.goal-dims 0", "from 1")),
        (("--training.num-pairs", "-1"), ("--training.num-pairs -1", "from 0")),
        (("--training.goal-noise", "-0.1"), ("--training.goal-noise -0.1", "from 0")),
        (("--training.sub-goal-noise", "nan"), ("--training.sub-goal-noise nan", "from 0")),
        (("--optimizer.learning-rate", "0"), ("--optimizer.learning-rate 0", "above 0")),
        (("--layers.width", "20"), ("--layers.width 20", "multiple", "8")),
        (("--layers.upper-width", "20"), ("--layers.upper-width 20", "multiple", "8")),
        (("--layers.width", "8200"), ("--layers.width 8200", "up to 8192")),
        (("--layers.kernel", "table"), ("--layers.kernel table", "--codes.kind tokens")),
        (("--layers.kernel", "tabel"), ("tabel", "table")),
        (("--kontext", "4"), ("--kontext",)),
    ],
)
def test_invalid_value_exits_with_one_line(run_task, flags, fragments):
    error_line = get_error_line(run_task, *flags)
    assert all(fragment in error_line for fragment in fragments)


def test_help_does_not_import_jax():
    program = """if True:
        import runpy, sys
        sys.argv = ["lm_guide_train.py", "--help"]
        try:
            runpy.run_path("tasks/lm_guide_train.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--training.goal-noise" in process.stdout
