"""The smallest text generation task: a policy learns to spell its target."""

import dataclasses
import json
import sys

import pytest

from tasks import text_generation as task
from thinking.experiment import Run, main
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.text_generation.config import PRESETS, RLConfig

SMOKE = PRESETS["smoke"].config
SMALL = dataclasses.replace(
    SMOKE,
    target="ab",
    rewards=("process",),
    rl=RLConfig(num_updates=60, batch_size=64, optimizer=OptimizerConfig(0.01)),
)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    run = Run(folder=tmp_path_factory.mktemp("text_generation"), config=SMALL)
    task.run(SMALL, run)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def read_json_lines(run, name):
    return [json.loads(line) for line in (run.folder / name).read_text().splitlines()]


def test_target_is_learned_and_results_are_complete(finished_run):
    (row,) = read_results(finished_run)["rows"]
    assert (row["reward"], row["greedy_text"], row["oracle_text"]) == ("process", "ab", "ab")
    assert 0 < row["env_steps_to_pass_at_k"] <= row["num_env_steps"]
    assert 0 < row["env_steps_to_exact_match"] <= row["num_env_steps"]
    # Every episode has one letter or two.
    assert 60 * 64 <= row["num_env_steps"] <= 2 * 60 * 64
    last = read_json_lines(finished_run, "metrics.jsonl")[-1]
    assert (last["curriculum/num_unlocked"], last["eval/exact_match"], last["eval/pass_at_k"]) == (2, 1, 1)
    assert (finished_run.plots_folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert {record["prompt"] for record in read_json_lines(finished_run, "samples.jsonl")} == {"<begin>"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--target", "Ab"), "--target Ab: allowed is a text of \"abcdefghijklmnopqrstuvwxyz .,'-\", which has no 'A'"),
        (("--target", ""), "allowed is a text of 1 to 200 letters"),
        (("--target", "a" * 201), "allowed is a text of 1 to 200 letters"),
        (
            ("--rl.num-updates", "1000000000"),
            "up to 1344000000000 environment steps: allowed are 2147483647; give fewer",
        ),
        (("--rewards",), "--rewards: name at least one of outcome, process, each once"),
        (("--eval.beam-width", "0"), "--eval.beam-width 0: allowed is a whole number from 1"),
        (("--curriculum.threshold", "0"), "--curriculum.threshold 0"),
        (("--rl.discount", "2"), "--rl.discount 2"),
        (("--rl.optimizer.learning-rate", "0"), "--rl.optimizer.learning-rate 0"),
        (("--rl.entropy-weight", "-1"), "--rl.entropy-weight -1"),
        (("--model.width", "12"), "--model.width 12: allowed is a multiple of twice --model.num-heads, 8"),
    ],
)
def test_invalid_values_exit_with_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(sys, "argv", ["text_generation.py", *flags, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        main("text_generation", task.run, PRESETS)
    assert exit_info.value.code == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
