"""Thoughts in language modelling: from a text to rows that compare, and on where it was stopped."""

import dataclasses
import json
import os
import signal
import sys

import pytest

from tasks import lm_think as task
from thinking.experiment import Run, interruption, main

SENTENCE = "the cat sat on the mat and "


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(SENTENCE * 60)
    return dataclasses.replace(
        task.PRESETS["smoke"], text=str(path), thoughts=("supervised",), context=8,
        reference_steps=60, steps=40, learning_rate=0.01,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    run = Run(folder=tmp_path_factory.mktemp("lm_think"), config=small)
    task.run(small, run)
    return run


def results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_models_of_each_kind_are_compared_on_the_same_text(finished):
    reference, supervised = results(finished)["rows"]
    assert [row["thoughts"] for row in (reference, supervised)] == ["reference", "supervised"]
    # Bytes drawn at random take 8 bits; a sentence that comes again and again takes few.
    assert reference["bits_per_byte"] < 3
    assert supervised["bits_per_byte"] < 3
    assert 0 <= supervised["thought_tokens"] <= 4
    assert 0 <= supervised["helped"] <= 1
    assert supervised["computed_per_token"] == pytest.approx((supervised["thought_tokens"] + 1 + 4) / 4)
    assert results(finished)["train_tokens"] == round(0.9 * len(SENTENCE) * 60)
    for name in ("bits_per_byte.png", "learning_curves.png"):
        assert (finished.plots / name).read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(small, finished, tmp_path):
    def stop(stage, step, figures):
        if (stage, step) == ("supervised-0", 20):
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(folder=tmp_path, config=small)
    with interruption.catching(), pytest.raises(interruption.Interrupted):
        task.run(small, dataclasses.replace(run, mirrors=(stop,)))
    with interruption.catching():
        task.run(small, run)
    assert results(run)["state_digest"] == results(finished)["state_digest"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--thoughts",), "--thoughts : name some of plain, pause, judged, supervised, each once"),
        (("--text", "nowhere.txt"), "--text nowhere.txt: No such file"),
        (("--characters", "30"), "it is too short for --context 32"),
        (("--bpe", "256"), "--bpe 256: allowed is a whole number from 257"),
        (("--context", "1"), "--context 1: allowed is a whole number from 2"),
        (("--ahead", "0"), "--ahead 0: allowed is a whole number from 1"),
        (("--group", "1"), "--group 1: the best of one thought is no choice"),
        (("--entropy-weight", "-1"), "--entropy-weight -1.0: allowed is a number from 0"),
        (("--learning-rate", "0"), "--learning-rate 0.0: allowed is a number above 0"),
        (("--width", "12"), "--width 12: allowed is a multiple of twice --heads, 8"),
    ],
)
def test_bad_values_are_refused_in_one_line(small, tmp_path, monkeypatch, capsys, flags, says):
    text = () if "--text" in flags else ("--text", small.text)
    monkeypatch.setattr(sys, "argv", ["lm_think.py", *flags, *text, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main("lm_think", task.run, task.PRESETS)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
