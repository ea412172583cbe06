"""Teaching the language guide: from a command to weights that are the same however often it was interrupted."""

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

from tasks import lm_data_prepare
from tasks import lm_guide_train as task
from thinking.experiment import Run, interruption, main
from thinking.guide.plan_trees.codecs import token_codec, whitening, whitening_codec
from thinking.recipes.language_guide import model
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


def called(module, artifacts, *flags):
    """Run the smoke preset of a task in this process; gives its exit code."""
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
    """The bundled texts, prepared."""
    folder = tmp_path_factory.mktemp("artifacts")
    assert called(lm_data_prepare, folder) == 0
    return folder


@pytest.fixture(scope="module")
def finished(artifacts):
    """A guide of two layers and a flat one, trained without a break."""
    config = dataclasses.replace(SMALL, artifacts=artifacts)
    run = Run(folder=artifacts / "lm_guide_train", config=config)
    run.folder.mkdir()
    task.run(config, run)
    return run


@pytest.fixture
def data(artifacts, tmp_path):
    """A copy of the prepared texts."""
    shutil.copytree(artifacts / "lm_data_prepare", tmp_path / "lm_data_prepare")
    return tmp_path / "lm_data_prepare"


@pytest.fixture
def call(tmp_path, capfd):
    """Run the task's command in this process; gives its exit code, output and complaint."""

    def run(*flags):
        capfd.readouterr()
        code = called(task, tmp_path, *flags)
        return code, *capfd.readouterr()

    return run


def refused(call, *flags):
    """The one line with which a command is refused."""
    code, _, err = call(*flags)
    assert code == 2
    assert err.count("\n") == 1
    return err


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_tells_what_it_built_and_leaves_metrics_and_a_plot(finished, artifacts):
    guide, flat = results(finished.folder)["rows"]
    assert (guide["model"], guide["layers"], flat["model"], flat["layers"]) == ("guide", 2, "flat", 1)
    texts = [text for text in prepared_data.load(artifacts / "lm_data_prepare").texts if text.split == "train"]
    # At every step, and where each leg is over. As many pairs as texts are learned, and the texts for their weight.
    steps = sum(len(list(iter_steps(text.steps))) for text in texts)
    sections = sum(len(plan_trees.build_plan_tree(text, 2)) for text in texts)
    assert guide["num_examples"] >= (steps + sections) + 2 * (sections + len(texts))
    assert flat["num_examples"] >= 2 * (steps + len(texts))
    assert guide["parameters"] <= flat["parameters"] < 1.05 * guide["parameters"]
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("guide", 50),
        ("guide", 100),
        ("flat", 50),
        ("flat", 100),
    ]
    assert {"layer_0/loss/value", "layer_1/loss/value"} <= set(lines[0])
    assert lines[1]["layer_0/loss/value"] < lines[0]["layer_0/loss/value"]
    assert (finished.plots_folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(finished, tmp_path):
    def stop(stage, step, figures):
        if step == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    run = dataclasses.replace(finished, folder=tmp_path)
    for _ in range(2):  # in the middle of the guide, and of the flat one
        with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
            task.run(run.config, dataclasses.replace(run, mirrors=(stop,)))
    with interruption.catch_signals():  # forgets the signals
        task.run(run.config, run)
    assert results(tmp_path)["state_digest"] == results(finished.folder)["state_digest"]
    for name in ("guide", "flat"):
        assert (tmp_path / name / "guide.json").read_bytes() == (finished.folder / name / "guide.json").read_bytes()


def test_tables_learn_tokens(data, call, tmp_path):
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
    code, out, err = call(*flags)
    assert (code, err) == (0, "")
    assert "lm_guide_inference.py" in out
    (guide,) = results(tmp_path / "lm_guide_train")["rows"]
    # The lowest layer hashes its 4096 questions, each a key of three numbers, a value and a score; the other has them
    # all in order: of the 16 tokens or the mark, pursuing one of as many.
    assert guide["parameters"] == 4096 * (3 + 1 + 1) + 17 * 17 * 2
    shape, fitted = model.load_guide(
        tmp_path / "lm_guide_train" / "guide", model.compute_checksum(prepared_data.load(data))
    )
    assert (shape.kernel, shape.context_lengths, shape.width) == ("table", (2, 1), 4096)
    assert [each.centroids.shape for each in fitted] == [(16, 64)] * 3


def test_without_prepared_data_or_with_others_than_were_learned_training_is_refused(data, call, tmp_path):
    flags = ("--layers.kernel", "table", "--codes.kind", "tokens", "--layers.width", 64)
    flags += ("--layers.context-lengths", 1, "--training.num-steps", 1)
    assert call(*flags)[0] == 0
    made = prepared_data.load(data)
    prepared_data.save(data, made._replace(texts=made.texts[1:]))
    line = refused(call, *flags)
    assert "learned from other data than is prepared now: run tasks/lm_guide_train.py --clear, then again" in line
    shutil.rmtree(data)
    assert f"{data} has no prepared data: run tasks/lm_data_prepare.py first" in refused(call, *flags)


def test_texts_that_leave_nothing_to_tell_apart_are_refused(data, call):
    made = prepared_data.load(data)
    prepared_data.save(data, made._replace(texts=made.texts[:1]))
    assert (
        "level 1 of the plan trees has one value alone; give more texts, or fewer --layers.context-lengths"
        in refused(call)
    )
    assert "level 1 of the plan trees has one goal alone; give more texts" in refused(
        call, "--layers.context-lengths", 4
    )


@pytest.mark.parametrize(("kernel", "heads"), [("linear", 1), ("transformer", 2)])
def test_a_flat_guide_is_as_wide_as_gives_no_fewer_parameters_than_the_guide(kernel, heads):
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    codecs = [whitening_codec(whitening(vectors, dims)) for dims in (6, 6, 4)]
    shape = model.GuideShape((1, 5), kernel, 16, 16, heads, 1, 1)

    def parameters(shape, codecs):
        return model.count_parameters(model.build_guide(shape, codecs))

    expected = parameters(shape, codecs)
    flat = make_flat_shape(shape, [codecs[0], codecs[-1]], expected)
    assert flat._replace(width=0) == shape._replace(context_lengths=(1,), width=0)
    narrower = flat._replace(width=flat.width - (2 * heads if kernel == "transformer" else 1))
    assert parameters(narrower, [codecs[0], codecs[-1]]) < expected <= parameters(flat, [codecs[0], codecs[-1]])


def test_a_flat_table_holds_as_many_questions_as_one_of_the_layers():
    codecs = [token_codec(normalize(np.random.default_rng(0).normal(size=(3, 4))))] * 3
    shape = model.GuideShape((2, 1), "table", 64, 64, 1, 1, 1)
    assert make_flat_shape(shape, codecs, 10**6) == shape._replace(context_lengths=(2,))


@pytest.mark.parametrize(
    ("flags", "names"),
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
def test_a_bad_value_is_refused_in_one_line_that_names_it(call, flags, names):
    line = refused(call, *flags)
    assert all(name in line for name in names)


def test_help_is_answered_without_loading_jax():
    probe = """if True:
        import runpy, sys
        sys.argv = ["lm_guide_train.py", "--help"]
        try:
            runpy.run_path("tasks/lm_guide_train.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--training.goal-noise" in done.stdout
