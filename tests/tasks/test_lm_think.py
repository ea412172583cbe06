"""The task of thoughts in language modelling: results, interruption, and checks of flags."""

import dataclasses
import json
import os
import signal
import sys

import pytest
from tests.tasks.shared_stages import SharedStages

from tasks import lm_think as task
from thinking.experiment import Run, interruption, main
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.lm_think import training
from thinking.recipes.lm_think.config import PRESETS, TextConfig, WindowConfig

SENTENCE = "the cat sat on the mat and "
stages = SharedStages()


@pytest.fixture(scope="module")
def small_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(SENTENCE * 60)
    smoke = PRESETS["smoke"].config
    return dataclasses.replace(
        smoke,
        thoughts=("expert_iteration",),
        text=TextConfig(source=str(path)),
        window=WindowConfig(context_length=8),
        training=dataclasses.replace(smoke.training, reference_steps=60, num_steps=40),
        optimizer=OptimizerConfig(learning_rate=0.01),
    )


@pytest.fixture(scope="module")
def finished_run(small_config, tmp_path_factory):
    run = Run(folder=tmp_path_factory.mktemp("lm_think"), config=small_config)
    with pytest.MonkeyPatch.context() as patch:
        stages.patch(patch, training)
        task.run(small_config, run)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_reference_and_thinking_models_are_compared(finished_run):
    reference_row, thinking_row = read_results(finished_run)["rows"]
    assert [row["thoughts"] for row in (reference_row, thinking_row)] == ["reference", "expert_iteration"]
    # Random bytes take 8 bits, a repeated sentence takes few.
    assert reference_row["bits_per_byte"] < 3
    assert thinking_row["bits_per_byte"] < 3
    assert 0 <= thinking_row["mean_thought_length"] <= 4
    assert 0 <= thinking_row["fraction_improved"] <= 1
    assert thinking_row["positions_per_token"] == pytest.approx((thinking_row["mean_thought_length"] + 1 + 4) / 4)
    assert read_results(finished_run)["num_train_tokens"] == round(0.9 * len(SENTENCE) * 60)
    for name in ("bits_per_byte.png", "learning_curves.png"):
        assert (finished_run.plots_folder / name).read_bytes().startswith(b"\x89PNG")


def test_interrupted_run_ends_bit_identical(small_config, finished_run, tmp_path, monkeypatch):
    stages.patch(monkeypatch, training)

    def interrupt(stage, step, metrics):
        if (stage, step) == ("expert_iteration-0", 20):
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(folder=tmp_path, config=small_config)
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        task.run(small_config, dataclasses.replace(run, metric_writers=(interrupt,)))
    with interruption.catch_signals():
        task.run(small_config, run)
    assert read_results(run)["state_digest"] == read_results(finished_run)["state_digest"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--thoughts",), "--thoughts: name at least one of none, pause, reinforced, expert_iteration, each once"),
        (("--text.source", "nowhere.txt"), "--text.source nowhere.txt: No such file"),
        (("--text.num-characters", "30"), "it is too short for --window.context-length 32"),
        (("--text.bpe-tokens", "256"), "--text.bpe-tokens 256: allowed is a whole number from 257"),
        (("--window.context-length", "1"), "--window.context-length 1: allowed is a whole number from 2"),
        (("--window.target-length", "0"), "--window.target-length 0: allowed is a whole number from 1"),
        (("--rl.num-generations", "1"), "--rl.num-generations 1: expert_iteration picks the best of several thoughts"),
        (("--rl.entropy-weight", "-1"), "--rl.entropy-weight -1.0: allowed is a number from 0"),
        (("--optimizer.learning-rate", "0"), "--optimizer.learning-rate 0.0: allowed is a number above 0"),
        (("--model.width", "12"), "--model.width 12: allowed is a multiple of twice --model.num-heads, 8"),
    ],
)
def test_invalid_values_exit_with_one_line(small_config, tmp_path, monkeypatch, capsys, flags, message):
    source_flags = () if "--text.source" in flags else ("--text.source", small_config.text.source)
    monkeypatch.setattr(sys, "argv", ["lm_think.py", *flags, *source_flags, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        main("lm_think", task.run, PRESETS)
    assert exit_info.value.code == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
