"""The task of thinking tokens, from its command line to its results."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tasks.exports import load_export
from tests.tasks.shared_stages import SharedStages

from tasks import think_tokens
from thinking.errors import UserError
from thinking.experiment import Run, interruption, metrics
from thinking.experiment.config_fields import check
from thinking.experiment.flags import parse
from thinking.experiment.results import digest
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.think_tokens import training
from thinking.recipes.think_tokens.config import PRESETS, RLConfig, SupervisionConfig, ThoughtConfig

ROOT = Path(__file__).resolve().parent.parent.parent
SMOKE = PRESETS["smoke"].config
SMALL = dataclasses.replace(
    SMOKE, thoughts=("discrete", "none"), thought=dataclasses.replace(SMOKE.thought, convert_from_none=True)
)


def replace_num_steps(config, num_steps):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=num_steps))


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


stages = SharedStages("none-0", "discrete-0", "continuous-0")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run of a direct model, and of a thinking model converted from it."""
    run = Run(folder=tmp_path_factory.mktemp("think_tokens"), config=SMALL)
    check(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        stages.patch(patch, training)
        think_tokens.run(SMALL, run)
    return run


def test_all_kinds_are_evaluated_at_all_lengths_and_plotted(finished_run):
    results = read_results(finished_run)
    rows = {row["thoughts"]: row for row in results["rows"]}
    assert list(rows) == ["discrete", "none"]
    for kind, row in rows.items():
        exact_match = results["exact_match_by_length"][f"{kind}-0"]
        assert len(exact_match) == 6
        assert [row["exact_match_at_3"], row["exact_match_at_6"]] == [exact_match[2], exact_match[5]]
        assert row["mean_num_steps"] == (1 if row["thoughts"] == "none" else 3)
    for plot in ("lengths", "dependence", "confusion", "learning_curves"):
        assert (finished_run.plots_folder / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    assert "discrete: steps of 10 words" in (finished_run.plots_folder / "thoughts.html").read_text()
    records = [json.loads(line) for line in (finished_run.folder / "samples.jsonl").read_text().splitlines()]
    assert [(record["stage"], record["step"]) for record in records] == [("none-0", 4), ("discrete-0", 4)]


def test_an_exported_model_answers_as_the_run_did(finished_run, tmp_path):
    exact_match = read_results(finished_run)["exact_match_by_length"]
    for kind, thoughts in {"none": ("none",), "discrete": ("none", "discrete")}.items():
        thinker = load_export("think_tokens", finished_run, tmp_path / kind, thoughts=thoughts)
        rows = think_tokens.measure(thinker.config, thinker)
        assert [row["length"] for row in rows] == [2, 3, 4, 6]
        assert [row["exact_match"] for row in rows] == [exact_match[f"{kind}-0"][row["length"] - 1] for row in rows]
    answer = thinker.answer(["1", "0", "1", "1"])
    assert (answer.true_state, len(answer.thoughts)) == ("odd", 3)
    with pytest.raises(ValueError, match="2: no symbol of parity"):
        thinker.answer(["1", "2"])
    with pytest.raises(ValueError, match="a word of 0 symbols"):
        thinker.answer([])


def test_converted_model_starts_from_the_direct_model(finished_run, monkeypatch):
    stages.patch(monkeypatch, training)  # the states are restored
    direct_state, converted_state = (
        training.train_model(SMALL, finished_run, kind, 0).state for kind in ("none", "discrete")
    )
    direct_params, converted_params = direct_state.train_state.params, converted_state.train_state.params
    for name in ("answer_head", "thought_head"):
        max_difference = abs(converted_params[name]["kernel"] - direct_params["answer_head"]["kernel"]).max()
        assert 0 < max_difference < 0.02  # after four steps of a learning rate of at most 0.003
    assert abs(direct_params["thought_head"]["kernel"] - direct_params["answer_head"]["kernel"]).max() > 0.3


def test_interrupted_training_ends_bit_identical(tmp_path, monkeypatch):
    def interrupt(stage, step, metrics):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "CHUNK", 1)
    stages.patch(monkeypatch, training)
    config = replace_num_steps(dataclasses.replace(SMOKE, thoughts=("continuous",)), 5)
    interrupted_run, undisturbed_run = (Run(folder=tmp_path / name, config=config) for name in ("interrupted", "whole"))
    for run in (interrupted_run, undisturbed_run):
        run.folder.mkdir()
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        training.train_model(config, dataclasses.replace(interrupted_run, metric_writers=(interrupt,)), "continuous", 0)
    with interruption.catch_signals():  # resets the signals
        resumed_result = training.train_model(config, interrupted_run, "continuous", 0)
    undisturbed_result = training.train_model(config, undisturbed_run, "continuous", 0)
    assert digest(resumed_result.state) == digest(undisturbed_result.state)
    for file_name in ("metrics.jsonl", "samples.jsonl"):
        interrupted_lines, undisturbed_lines = (
            [{**line, "time": None} for line in metrics.read(run.folder, file_name)]
            for run in (interrupted_run, undisturbed_run)
        )
        assert interrupted_lines == undisturbed_lines


def test_model_of_separate_blocks_learns_from_searched_thoughts(tmp_path):
    config = dataclasses.replace(
        replace_num_steps(SMOKE, 2),
        thoughts=("discrete",),
        thought=ThoughtConfig(gradient="expert_iteration", separate_blocks=True),
        rl=RLConfig(num_generations=4),
        supervision=SupervisionConfig(chain_weight=1.0),
    )
    check(config)
    result = training.train_model(config, Run(folder=tmp_path, config=config), "discrete", 0)
    assert int(result.state.train_state.opt_state[1][0].count) == 2
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    # After two steps, the two states of parity are still about equally likely.
    assert json.loads(line)["loss/chain"] == pytest.approx(math.log(2), rel=0.5)


CONVERT_FLAGS = "--thoughts none discrete --thought.convert-from-none"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--problem.name a6", "--problem.name a6: not an automaton; give one of s3, a5"),
        ("--problem.name modular:1", "--problem.name modular:1: not an automaton"),
        ("--thoughts", "--thoughts: name at least one of none, pause, discrete, continuous, each once"),
        (
            "--thoughts none none",
            "--thoughts none none: name at least one of none, pause, discrete, continuous, each once",
        ),
        ("--problem.length 1", "--problem.length 1: allowed is a whole number from 2 to 4096; take 8"),
        ("--thought.num-tokens 1", "--thought.num-tokens 1: allowed is a whole number from 2 to 65536 or None"),
        ("--training.num-steps 0", "--training.num-steps 0: allowed is a whole number from 1 to"),
        ("--rl.discount 1.5", "--rl.discount 1.5: allowed is a number from 0 to 1; take 1.0"),
        ("--supervision.chain-weight -1.0", "--supervision.chain-weight -1.0: allowed is a number from 0; take 0.0"),
        (
            f"{CONVERT_FLAGS} --thought.num-tokens 4",
            "--thought.convert-from-none: there is one thought token for each answer; leave --thought.num-tokens out",
        ),
        (
            "--thoughts discrete --thought.convert-from-none",
            "--thought.convert-from-none: models start from the one that answers at once; add none",
        ),
        (
            "--thought.end-thought --thought.hide-word",
            "--thought.end-thought --thought.hide-word: answers are computed in a context of a fixed number",
        ),
        (
            "--thought.end-thought --thought.separate-blocks",
            "--thought.end-thought --thought.separate-blocks: answers are computed",
        ),
        (
            "--supervision.chain-weight 1.0 --thought.num-tokens 4",
            "--supervision.chain-weight 1.0: true states are tokens of the answers' head alone",
        ),
        ("--curriculum.threshold 0.0", "--curriculum.threshold 0.0: allowed is a number above 0, up to 1; take 0.9"),
        ("--optimizer.learning-rate 0.0", "--optimizer.learning-rate 0.0: allowed is a number above 0"),
        (
            "--optimizer.final-fraction 2.0",
            "--optimizer.final-fraction 2.0: allowed is a number from 0 to 1",
        ),
        ("--model.width 30", "--model.width 30: allowed is a multiple of twice --model.num-heads, 4"),
        (
            "--thought.gradient expert_iteration --rl.num-generations 3",
            "--rl.num-generations 3: allowed is a divisor of --training.batch-size, 16, from 2 on",
        ),
        (
            "--thought.gradient grpo --rl.num-generations 1",
            "--rl.num-generations 1: allowed is a divisor of --training.batch-size, 16, from 2 on",
        ),
        (
            "--thought.gradient grpo --thoughts none",
            "--thought.gradient grpo: only discrete thoughts are trained this way; add discrete to --thoughts",
        ),
        ("--supervision.chain-weight 0.5 --thoughts pause", "--supervision.chain-weight 0.5: only discrete thoughts"),
        ("--seeds 2 --seed 4294967295", "--seed 4294967295: allowed with --seeds 2 is a whole number from 0 to"),
    ],
)
def test_invalid_values_raise_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        parse(PRESETS, ["--preset", "smoke", *flags.split()], "python tasks/think_tokens.py")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)


def test_flags_are_checked_without_importing_jax():
    program = """if True:
        import sys
        from tasks import invent_code, think_tokens
        from thinking.experiment.config_fields import check
        for task in (invent_code, think_tokens):
            for preset in task.PRESETS.values():
                check(preset.config)
        sys.exit(bool({"jax", "numpy", "flax", "optax", "matplotlib"} & set(sys.modules)))
    """
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
