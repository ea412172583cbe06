"""The arithmetic task: from a command to results that can be trusted."""

import dataclasses
import functools
import io
import json
import os
import re
import signal
import sys

import jax
import pytest

from tasks import arithmetic
from thinking.environments.arithmetic import searching
from thinking.errors import UserError
from thinking.experiment import Run, interruption, main
from thinking.experiment.config import check

SMALL = dataclasses.replace(
    arithmetic.PRESETS["smoke"],
    styles=("worked",),
    exams=("add:1", "subtract:1"),
    supervised_steps=8,
    updates=3,
    kl_weight=0.01,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run, and where it was written."""
    run = Run(folder=tmp_path_factory.mktemp("arithmetic"), config=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "CHUNK", 1)  # so that there is something in between
        arithmetic.run(SMALL, run)
    return run


def results(run):
    return json.loads((run.folder / "results.json").read_text())


def lines(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run.folder / name).read_text().splitlines()]


def test_every_model_is_examined_by_subject(finished):
    rows = {(row["model"], row["subject"]): row for row in results(finished)["rows"]}
    assert set(rows) == {(model, subject) for model in ("worked", "grpo") for subject in ("add:1", "subtract:1", "all")}
    for model in ("worked", "grpo"):
        assert [rows[model, subject]["problems"] for subject in ("add:1", "subtract:1", "all")] == [20, 20, 40]
    assert (finished.plots / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_have_the_names_that_users_of_post_training_libraries_know(finished):
    line = [line for line in lines(finished) if line["stage"] == "grpo"][-1]
    rewards = {f"rewards/{name}" for name in ("outcome", "process", "format", "length")}
    known = {"reward", "reward_std", "completions/mean_length", "completions/clipped_ratio", "entropy", "kl"}
    assert known | rewards | {"clip_ratio", "frac_reward_zero_std", "valid_fraction"} <= line.keys()


def test_samples_are_a_table_of_texts_and_rewards(finished):
    table = lines(finished, "samples.jsonl")
    assert len(table) == 3 * 8
    for record in table:
        assert re.fullmatch(r"<begin>(\d\+\d=|.*(sum|plus|Add).*)", record["prompt"])
        assert record["completion"]
        weighted = record["rewards/outcome"] + 0.5 * record["rewards/process"] + 0.1 * record["rewards/format"]
        assert record["reward"] == pytest.approx(weighted, abs=1e-5)
        assert isinstance(record["advantage"], float)


def test_an_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "CHUNK", 1)

    def stop(stage, step, figures):
        if (stage, step) == ("grpo", 1):
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(folder=tmp_path, config=SMALL)
    with interruption.catching(), pytest.raises(interruption.Interrupted):
        arithmetic.run(SMALL, dataclasses.replace(run, mirrors=(stop,)))
    with interruption.catching():  # forgets the signals
        arithmetic.run(SMALL, run)
    assert results(run)["state_digest"] == results(finished)["state_digest"]
    assert lines(run, "samples.jsonl") == lines(finished, "samples.jsonl")


def test_typed_problems_are_answered_line_by_line_and_others_refused(finished, monkeypatch, capsys):
    monkeypatch.setattr(arithmetic, "CONTEXT", 128)
    arithmetic.build.cache_clear()
    for method, said in (("greedy", ""), ("check", "check, 2 paths, ")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("7+8\nhello\n12/0\n"))
        capsys.readouterr()
        arithmetic.run(dataclasses.replace(SMALL, chat=True, method=method, paths=2), finished)
        out = capsys.readouterr().out
        assert re.search(r"^7\+8=", out, re.MULTILINE)
        assert said in out
        assert out.count("ask as in 57+8") == 2
    arithmetic.build.cache_clear()


def test_all_ways_of_searching_are_compared_at_equal_budgets(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "SIZES", {"beam": (2,), "tree": (1,)})
    config = dataclasses.replace(SMALL, search=("add:1",), search_problems=6, attempts=2)
    rows = arithmetic.search(config, Run(folder=tmp_path, config=config), "worked", begun())
    assert {row["method"] for row in rows} == set(searching.METHODS)
    assert all(row["problems"] == 6 for row in rows)
    cost = {(row["method"], row["size"]): row["tokens_mean"] for row in rows}
    for method in ("vote", "value", "likeliest", "check", "revision"):
        assert 0 < cost[method, 1] <= cost[method, 2]
    assert cost["vote", 2] <= 2 * arithmetic.room(arithmetic.examined(config, ("add:1",), "worked", 6))
    assert (tmp_path / "plots" / "search_worked.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "expert_iteration"])
def test_every_algorithm_updates_the_policy_it_is_given(finished, algorithm, tmp_path):
    config = dataclasses.replace(SMALL, algorithm=algorithm, curriculum=True, updates=1, exams=("add:1",))
    asked = arithmetic.practise(config, Run(folder=tmp_path, config=config), "worked", begun())
    (line,) = [line for line in lines(Run(folder=tmp_path, config=config)) if line["stage"] == algorithm]
    assert line["levels_open"] == 1
    assert int(asked.state.learner.optimizer[1][0].count) > 0


@functools.cache
def drawn_parameters():
    return jax.device_get(jax.jit(arithmetic.build(SMALL).init)(jax.random.key(0)))


def begun():
    """The parameters that every untaught model has, in arrays of their own: training may take them over."""
    return jax.device_put(drawn_parameters())


@pytest.mark.parametrize(
    ("changed", "subjects"),
    [
        ({"styles": ("revised",), "slips": True}, {"add:1", "add:1, after a slip", "all", "all, after a slip"}),
        ({"styles": ("direct",), "positions": "place", "least_first": True}, {"add:1", "all"}),
    ],
    ids=["revised, slips", "direct, places"],
)
def test_every_way_to_be_taught_is_examined(tmp_path, changed, subjects):
    once = {"algorithm": "none", "supervised_steps": 1, "exams": ("add:1",), "exam_problems": 4}
    config = dataclasses.replace(SMALL, styles=("worked",), **once)
    config = dataclasses.replace(config, **changed)
    check(config)
    run = Run(folder=tmp_path, config=config)
    arithmetic.run(config, run)
    assert {row["subject"] for row in results(run)["rows"]} == subjects


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"styles": ()}, "--styles: name at least one"),
        ({"styles": ("worked", "worked")}, "--styles worked worked: a style stands twice"),
        ({"lessons": ("power:2",)}, "'power:2' is no source of problems: give words, or OPERATION:DIGITS"),
        ({"group": 1}, "--group 1: allowed is a whole number from 2"),
        ({"width": 30}, "--width 30: allowed is a multiple of twice --heads"),
        ({"minibatches": 5}, "--minibatches 5: allowed is a divisor of 8 answers"),
        ({"speech": 1.5}, "--speech 1.5: allowed is a number from 0 to 1"),
        ({"kl_weight": -1.0}, "--kl-weight -1.0: allowed is a number from 0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: allowed is a number above 0"),
        ({"mastery": 0.0}, "--mastery 0.0: allowed is a number above 0"),
        ({"clip": 0.0}, "--clip 0.0: allowed is a number above 0"),
        ({"temperature": 1e-9}, "--temperature 1e-09: allowed is a number from 0.01"),
        ({"tried": 3}, "--tried 3: allowed is a number from --problems, 4"),
        ({"styles": ("revised",)}, "--credit step: steps are told apart in the worked style alone"),
        ({"row_length": 4096}, "--row-length 4096: allowed are at most 1024 tokens"),
        ({"positions": "place"}, "--positions place: places are counted from the last digit"),
        ({"positions": "place", "least_first": True}, "--positions place: allowed are lessons and exams alone"),
        ({"styles": ("subtasks",)}, "--styles subtasks: allowed are lessons, exams and --chat"),
        ({"supervised_steps": 0}, "--supervised-steps 0: allowed is a whole number from 1"),
    ],
)
def test_bad_values_are_refused_with_one_line(changed, said):
    with pytest.raises(UserError) as error:
        check(dataclasses.replace(SMALL, **changed))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--lessons", "add:30"], "a text of add:30 has"),
        (["--batch", "1000"], "--batch 1000: allowed are at most"),
        (["--exams", "add:120"], "allowed are 1024; give fewer digits"),
    ],
)
def test_what_does_not_fit_ends_with_one_line(tmp_path, monkeypatch, capsys, flags, wanted):
    flags = ["--preset", "smoke", *flags, "--artifacts", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["arithmetic.py", *flags])
    with pytest.raises(SystemExit) as stop:
        main("arithmetic", arithmetic.run, arithmetic.PRESETS)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
