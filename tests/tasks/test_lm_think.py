"""Thoughts in language modelling: from a text to rows that compare, and on where it was stopped."""

import dataclasses
import json
import os
import signal
import sys

import pytest

from tasks import lm_think as task
from thinking.experiment import Run, interruption, main
from thinking.experiment.config import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.lm_think.config import PRESETS, TextConfig, WindowConfig

SENTENCE = "the cat sat on the mat and "


@pytest.fixture(scope="module")
def small(tmp_path_factory):
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
def finished(small, tmp_path_factory):
    run = Run(folder=tmp_path_factory.mktemp("lm_think"), config=small)
    task.run(small, run)
    return run


def results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_models_of_each_kind_are_compared_on_the_same_text(finished):
    reference, trained = results(finished)["rows"]
    assert [row["thoughts"] for row in (reference, trained)] == ["reference", "expert_iteration"]
    # Bytes drawn at random take 8 bits; a sentence that comes again and again takes few.
    assert reference["bits_per_byte"] < 3
    assert trained["bits_per_byte"] < 3
    assert 0 <= trained["mean_thought_length"] <= 4
    assert 0 <= trained["fraction_improved"] <= 1
    assert trained["positions_per_token"] == pytest.approx((trained["mean_thought_length"] + 1 + 4) / 4)
    assert results(finished)["train_tokens"] == round(0.9 * len(SENTENCE) * 60)
    for name in ("bits_per_byte.png", "learning_curves.png"):
        assert (finished.plots_folder / name).read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(small, finished, tmp_path):
    def stop(stage, step, figures):
        if (stage, step) == ("expert_iteration-0", 20):
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(folder=tmp_path, config=small)
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        task.run(small, dataclasses.replace(run, mirrors=(stop,)))
    with interruption.catch_signals():
        task.run(small, run)
    assert results(run)["state_digest"] == results(finished)["state_digest"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--thoughts",), "--thoughts: name at least one of none, pause, reinforced, expert_iteration, each once"),
        (("--text.source", "nowhere.txt"), "--text.source nowhere.txt: No such file"),
        (("--text.num-characters", "30"), "it is too short for --window.context-length 32"),
        (("--text.bpe-tokens", "256"), "--text.bpe-tokens 256: allowed is a whole number from 257"),
        (("--window.context-length", "1"), "--window.context-length 1: allowed is a whole number from 2"),
        (("--window.target-length", "0"), "--window.target-length 0: allowed is a whole number from 1"),
        (("--rl.num-generations", "1"), "--rl.num-generations 1: the best of one thought is no choice"),
        (("--rl.entropy-weight", "-1"), "--rl.entropy-weight -1.0: allowed is a number from 0"),
        (("--optimizer.learning-rate", "0"), "--optimizer.learning-rate 0.0: allowed is a number above 0"),
        (("--model.width", "12"), "--model.width 12: allowed is a multiple of twice --model.num-heads, 8"),
    ],
)
def test_bad_values_are_refused_in_one_line(small, tmp_path, monkeypatch, capsys, flags, says):
    text = () if "--text.source" in flags else ("--text.source", small.text.source)
    monkeypatch.setattr(sys, "argv", ["lm_think.py", *flags, *text, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main("lm_think", task.run, PRESETS)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
