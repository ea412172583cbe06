"""The task of thinking tokens: from a command to results that can be trusted."""

import dataclasses
import json
import math
import os
import signal

import pytest

from tasks import think_tokens
from thinking.errors import UserError
from thinking.experiment import Run, interruption
from thinking.experiment.config import check
from thinking.experiment.results import digest

SMALL = dataclasses.replace(think_tokens.PRESETS["smoke"], thoughts=("discrete", "none"), convert=True)


def results(run):
    return json.loads((run.folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run of a model that answers at once, and of one that becomes a thinking one, and where it was written."""
    run = Run(folder=tmp_path_factory.mktemp("think_tokens"), config=SMALL)
    check(SMALL)
    think_tokens.run(SMALL, run)
    return run


def test_all_kinds_are_examined_at_all_lengths_and_seen(finished):
    written = results(finished)
    rows = {row["thoughts"]: row for row in written["rows"]}
    assert list(rows) == ["discrete", "none"]
    for kind, row in rows.items():
        exact = written["exact_by_length"][f"{kind}-0"]
        assert len(exact) == 6
        assert [row["exact_at_3"], row["exact_at_6"]] == [exact[2], exact[5]]
        assert row["steps"] == (1 if row["thoughts"] == "none" else 3)
    for plot in ("lengths", "dependence", "confusion", "learning_curves"):
        assert (finished.plots / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    assert "discrete: steps of 10 words" in (finished.plots / "thoughts.html").read_text()
    recorded = [json.loads(line) for line in (finished.folder / "samples.jsonl").read_text().splitlines()]
    assert [(record["stage"], record["step"]) for record in recorded] == [("none-0", 4), ("discrete-0", 4)]


def test_a_thinking_model_began_as_the_one_that_answers_at_once(finished):
    begun, ended = (think_tokens.teach(SMALL, finished, kind, 0).state for kind in ("none", "discrete"))
    none, taught = begun.train_state.params, ended.train_state.params
    for name in ("answer", "choose"):
        apart = abs(taught[name]["kernel"] - none["answer"]["kernel"]).max()
        assert 0 < apart < 0.02  # four steps of a rate of at most 0.003 away
    assert abs(none["choose"]["kernel"] - none["answer"]["kernel"]).max() > 0.3


def test_an_interrupted_training_ends_with_the_bits_of_an_undisturbed_one(tmp_path, monkeypatch):
    def stop(stage, step, figures):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(think_tokens, "CHUNK", 1)
    config = dataclasses.replace(SMALL, thoughts=("continuous",), convert=False, steps=5)
    run, whole = (Run(folder=tmp_path / name, config=config) for name in ("interrupted", "whole"))
    for each in (run, whole):
        each.folder.mkdir()
    with interruption.catching(), pytest.raises(interruption.Interrupted):
        think_tokens.teach(config, dataclasses.replace(run, mirrors=(stop,)), "continuous", 0)
    with interruption.catching():  # forgets the signals
        resumed = think_tokens.teach(config, run, "continuous", 0)
    undisturbed = think_tokens.teach(config, whole, "continuous", 0)
    assert digest(resumed.state) == digest(undisturbed.state)
    for told in ("metrics.jsonl", "samples.jsonl"):
        assert (run.folder / told).read_text() == (whole.folder / told).read_text()


def test_thoughts_that_are_drawn_for_another_model_learn(tmp_path):
    changed = {"gradient": "search", "group": 4, "split": True, "chains": 1.0, "convert": False, "steps": 2}
    config = dataclasses.replace(SMALL, **changed, thoughts=("discrete",))
    check(config)
    taught = think_tokens.teach(config, Run(folder=tmp_path, config=config), "discrete", 0)
    assert int(taught.state.train_state.optimizer[1][0].count) == 2
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    # Two steps from the beginning, parity's two states are all but equally likely.
    assert json.loads(line)["chain_loss"] == pytest.approx(math.log(2), rel=0.5)


def test_a_code_is_told_with_how_much_of_it_is_used(tmp_path):
    config = dataclasses.replace(SMALL, code=6, tokens=3, length=2, convert=False)
    check(config)
    run = Run(folder=tmp_path, config=config)
    think_tokens.run(config, run)
    (row,) = results(run)["rows"]
    assert 1 <= row["codes"] <= 6
    assert row["exact"] <= row["codes"] / 6  # no code stands for two numbers


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problem": "a6"}, "--problem a6: no such problem; give one of s3, a5"),
        ({"thoughts": ()}, "--thoughts: name at least one"),
        ({"thoughts": ("none", "none")}, "--thoughts none none: a kind stands twice"),
        ({"length": 1}, "--length 1: allowed is a whole number from 2"),
        ({"tokens": 1}, "--tokens 1: allowed is a whole number from 2"),
        ({"steps": 0}, "--steps 0: allowed is a whole number from 1"),
        ({"discount": 1.5}, "--discount 1.5: allowed is a number from 0 to 1"),
        ({"chains": -1.0}, "--chains -1.0: allowed is a number from 0"),
        ({"code": 6, "gradient": "grpo"}, "--gradient grpo: a code is learned through its choice"),
        ({"tokens": 4}, "--convert: each answer becomes a token"),
        ({"thoughts": ("discrete",)}, "--convert: models begin as the one that answers at once; add none"),
        ({"end_thought": True, "blind": True}, "--end-thought --blind: such an answer needs"),
        ({"chains": 1.0, "tokens": 4}, "--chains: true states are tokens of the answers' head alone"),
        ({"mastery": 0.0}, "--mastery 0.0: allowed is above 0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: allowed is a number above 0"),
        ({"width": 30}, "--width 30: allowed is a multiple of twice --heads, 4"),
        ({"gradient": "search", "group": 3}, "--group 3: allowed is a divisor of --batch, 16"),
        ({"gradient": "grpo", "group": 1}, "--group 1: allowed is a divisor of --batch, 16, from 2 on"),
        ({"gradient": "grpo", "thoughts": ("none",)}, "--gradient grpo: only discrete thoughts learn by it"),
        ({"code": 65, "tokens": 4, "convert": False}, "--code 65: so many tokens tell 64 numbers apart"),
        ({"code": 6, "split": True}, "--split: it is for words, and --code has none"),
    ],
)
def test_bad_values_are_refused_with_one_line(changed, said):
    with pytest.raises(UserError) as error:
        check(dataclasses.replace(SMALL, **changed))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
