"""The arithmetic task, from its command line to its results."""

import dataclasses
import functools
import io
import json
import os
import re
import signal
import sys

import pytest
from tests.tasks.exports import load_export
from tests.tasks.shared_stages import SharedStages

from tasks import arithmetic
from thinking.errors import UserError
from thinking.experiment import Run, interruption, main
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.arithmetic import model, searches
from thinking.recipes.arithmetic.presets import EXAMPLES, PRESETS


def replace_settings(config, **settings):
    """The config with other settings, each named by its path through the groups, such as `rl__clip`."""
    for path, value in settings.items():
        name, _, subpath = path.partition("__")
        value = replace_settings(getattr(config, name), **{subpath: value}) if subpath else value
        config = dataclasses.replace(config, **{name: value})
    return config


SMALL = replace_settings(
    PRESETS["smoke"].config,
    eval__sources=("add:2", "subtract:2"),
    sft__num_steps=8,
    rl__num_updates=3,
    rl__kl_weight=0.01,
)

stages = SharedStages("chain_of_thought")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run."""
    run = Run(folder=tmp_path_factory.mktemp("arithmetic"), config=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "CHUNK", 1)  # so that it can be interrupted between chunks
        stages.patch(patch)
        arithmetic.run(SMALL, run)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def read_json_lines(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run.folder / name).read_text().splitlines()]


def test_every_model_is_evaluated_by_subject(finished_run):
    rows = {(row["model"], row["subject"]): row for row in read_results(finished_run)["rows"]}
    assert set(rows) == {
        (name, subject) for name in ("chain_of_thought", "grpo") for subject in ("add:2", "subtract:2", "all")
    }
    for name in ("chain_of_thought", "grpo"):
        assert [rows[name, subject]["num_problems"] for subject in ("add:2", "subtract:2", "all")] == [20, 20, 40]
    assert (finished_run.plots_folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_model_answers_as_the_run_did(finished_run, tmp_path):
    reasoner = load_export("arithmetic", finished_run, tmp_path)
    rows = [row for row in read_results(finished_run)["rows"] if row["model"] == "grpo"]
    assert [{"model": "grpo", **row} for row in arithmetic.measure(reasoner.config, reasoner)] == rows
    assert reasoner.vocabulary.decode(reasoner.vocabulary.encode("57+8=")) == "57+8="
    written = reasoner.complete("3+4")
    assert reasoner.answer("3+4") == (re.findall(r"<answer>([^<]*)<end>$", written) or [""])[0]
    with pytest.raises(ValueError, match="is no arithmetic"):
        reasoner.answer("hello")


def test_metrics_have_the_names_of_post_training_libraries(finished_run):
    line = [line for line in read_json_lines(finished_run) if line["stage"] == "grpo"][-1]
    rewards = {f"rewards/{name}" for name in ("outcome", "process", "format", "length")}
    other_metrics = {"reward", "reward_std", "completions/mean_length", "completions/clipped_ratio", "entropy", "kl"}
    assert other_metrics | rewards | {"clip_ratio", "frac_reward_zero_std", "completions/answered_ratio"} <= line.keys()


def test_samples_have_texts_and_rewards(finished_run):
    table = read_json_lines(finished_run, "samples.jsonl")
    assert len(table) == 3 * 8
    for record in table:
        assert re.fullmatch(r"<begin>(\d\+\d=|.*(sum|plus|Add).*)", record["prompt"])
        assert record["completion"]
        expected = record["rewards/outcome"] + 0.5 * record["rewards/process"] + 0.1 * record["rewards/format"]
        assert record["reward"] == pytest.approx(expected, abs=1e-5)
        assert isinstance(record["advantage"], float)


def test_interrupted_run_ends_bit_identical(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(arithmetic, "CHUNK", 1)
    stages.patch(monkeypatch)
    row = {"subject": "all", "exact_match": 0.0, "num_problems": 1}
    monkeypatch.setattr(arithmetic, "evaluate", lambda *args: [row])  # training alone is interrupted

    def interrupt(stage, step, metrics):
        if (stage, step) == ("grpo", 1):
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run(folder=tmp_path, config=SMALL)
    with interruption.catch_signals(), pytest.raises(interruption.Interrupted):
        arithmetic.run(SMALL, dataclasses.replace(run, metric_writers=(interrupt,)))
    with interruption.catch_signals():  # resets the signals
        arithmetic.run(SMALL, run)
    assert read_results(run)["state_digest"] == read_results(finished_run)["state_digest"]
    assert read_json_lines(run, "samples.jsonl") == read_json_lines(finished_run, "samples.jsonl")


def test_chat_answers_problems_and_rejects_other_lines(finished_run, monkeypatch, capsys):
    monkeypatch.setattr(model, "CONTEXT_LENGTH", 128)
    for method, report in (("greedy", "greedy, "), ("verifier", "verifier, 2 completions, ")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("7+8\n\nhello\n12/0\n12+90\n"))
        capsys.readouterr()
        settings = {"chat": True, "verbose": True, "answer__method": method, "answer__num_samples": 2}
        config = replace_settings(SMALL, **settings)
        arithmetic.run(config, dataclasses.replace(finished_run, config=config))
        answer, blank, hello, division, out_of_range = capsys.readouterr().out.splitlines()
        assert re.match(r"7\+8 = ", answer)
        assert report in answer
        assert "range" not in answer  # sums and differences of one digit are taught
        assert blank == ""
        assert hello.startswith("'hello' is no arithmetic; ask as in ")
        assert "divide by 0" in division
        assert "out of range" in out_of_range


def test_chat_replies_in_json_and_prints_nothing_else(finished_run, monkeypatch, capsys):
    monkeypatch.setattr(model, "CONTEXT_LENGTH", 128)
    monkeypatch.setattr(sys, "stdin", io.StringIO("7+8\n\nhelp\n"))
    config = replace_settings(SMALL, chat=True, json=True)
    arithmetic.run(config, dataclasses.replace(finished_run, config=config))
    answer, blank, word = map(json.loads, capsys.readouterr().out.splitlines())
    assert set(answer) == {"problem", "thoughts", "answer", "right", "in_range"}
    assert (answer["problem"], answer["in_range"]) == ("7+8", True)
    assert answer["right"] is (answer["answer"] == 15)
    assert blank["error"] == "a blank line"
    assert word["problem"] == "help"


def test_chat_with_nothing_trained_says_how_to_train(tmp_path, monkeypatch, capsys):
    flags = ["--preset", "smoke", "--artifacts", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["arithmetic.py", *flags, "--chat"])
    with pytest.raises(SystemExit) as exit_info:
        main("arithmetic", arithmetic.run, PRESETS, EXAMPLES)
    assert exit_info.value.code == 2
    line = capsys.readouterr().err
    assert re.fullmatch(f"error: --chat: .* train it with: python arithmetic.py {' '.join(flags)}\n", line)
    assert not list(tmp_path.iterdir())


def test_search_methods_are_compared_at_equal_budgets(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(searches, "SIZES", {"beam_search": (2,), "tree_search": (1,)})
    config = replace_settings(SMALL, search__sources=("add:2",), search__num_problems=6, search__num_samples=2)
    decoder, params = init_untrained()
    rows = arithmetic.search(config, Run(folder=tmp_path, config=config), decoder, "chain_of_thought", params)
    assert {row["method"] for row in rows} == set(searches.METHODS)
    assert all(row["num_problems"] == 6 for row in rows)
    mean_tokens = {(row["method"], row["size"]): row["mean_tokens"] for row in rows}
    for method in ("majority_vote", "best_value", "best_likelihood", "verifier", "revision", "best_first"):
        assert 0 < mean_tokens[method, 1] <= mean_tokens[method, 2]
    problems = arithmetic.make_problem_set(config, ("add:2",), "chain_of_thought", 6, "test")
    assert mean_tokens["majority_vote", 2] <= 2 * model.compute_max_new_tokens(decoder, problems, "--search.sources")
    assert (tmp_path / "plots" / "search_chain_of_thought.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "expert_iteration"])
def test_every_algorithm_updates_the_policy(finished_run, algorithm, tmp_path):
    config = replace_settings(SMALL, rl__algorithm=algorithm, curriculum__enabled=True, rl__num_updates=1)
    result = arithmetic.post_train(config, Run(folder=tmp_path, config=config), *init_untrained())
    (line,) = [line for line in read_json_lines(Run(folder=tmp_path, config=config)) if line["stage"] == algorithm]
    assert line["curriculum/num_unlocked"] == 1
    assert int(result.state.train_state.opt_state[1][0].count) > 0


@functools.cache
def init_untrained():
    """The small decoder and its initial parameters."""
    import jax

    decoder = model.build_decoder(SMALL.model)
    return decoder, jax.jit(decoder.init)(jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "subjects"),
    [
        (
            {"styles": ("self_correction",), "eval__injected_errors": True},
            {"add:2", "add:2, after an injected error", "all", "all, after an injected error"},
        ),
        ({"styles": ("direct",), "model__positions": "digit", "data__reverse_digits": True}, {"add:2", "all"}),
    ],
    ids=["self-correction, injected errors", "direct, digit positions"],
)
def test_every_style_is_trained_and_evaluated(tmp_path, settings, subjects):
    minimal = {"rl__algorithm": "none", "sft__num_steps": 1, "eval__sources": ("add:2",), "eval__num_problems": 4}
    config = replace_settings(SMALL, **minimal, **settings)
    check(config)
    run = Run(folder=tmp_path, config=config)
    arithmetic.run(config, run)
    assert {row["subject"] for row in read_results(run)["rows"]} == subjects


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_declared_and_valid(name):
    config = PRESETS[name].config
    assert not find_declaration_errors(config)
    check(config)
    assert PRESETS[name].help


INVALID_VALUES = {
    "styles": [
        ((), "--styles: name at least one"),
        (("chain_of_thought", "chain_of_thought"), "--styles chain_of_thought chain_of_thought: name at least one of"),
    ],
    "data__sources": [
        ((), "--data.sources: name at least one"),
        (("power:2",), "--data.sources power:2: not a problem source; give words, or OPERATION:DIGITS"),
    ],
    "rl__sources": [((), "--rl.sources: name at least one")],
    "eval__sources": [
        ((), "--eval.sources: name at least one"),
        (("add:3", "add:1"), "--eval.sources add:1: chains of longer problems show all problems of one digit"),
    ],
    "search__sources": [(("power:2",), "--search.sources power:2: not a problem source")],
    "rl__num_generations": [
        (1, "--rl.num-generations 1: allowed is a whole number from 2 with --rl.algorithm grpo; take 8"),
        (0, "--rl.num-generations 0: allowed is a whole number from 1"),
    ],
    "model__width": [(30, "--model.width 30: allowed is a multiple of twice --model.num-heads, 4")],
    "rl__num_minibatches": [(5, "--rl.num-minibatches 5: allowed is a divisor of the 8 completions")],
    "data__verbal_fraction": [(1.5, "--data.verbal-fraction 1.5: allowed is a number from 0 to 1")],
    "data__error_fraction": [(-0.1, "--data.error-fraction -0.1: allowed is a number from 0 to 1")],
    "rl__kl_weight": [(-1.0, "--rl.kl-weight -1.0: allowed is a number from 0")],
    "rl__gae_lambda": [(1.1, "--rl.gae-lambda 1.1: allowed is a number from 0 to 1")],
    "rl__clip": [(0.0, "--rl.clip 0.0: allowed is a number above 0")],
    "rl__optimizer__learning_rate": [(0.0, "--rl.optimizer.learning-rate 0.0: allowed is a number above 0")],
    "rewards__length_weight": [(-1.0, "--rewards.length-weight -1.0: allowed is a number from 0")],
    "sft__optimizer__learning_rate": [(0.0, "--sft.optimizer.learning-rate 0.0: allowed is a number above 0")],
    "sft__optimizer__final_fraction": [(2.0, "--sft.optimizer.final-fraction 2.0: allowed is a number from 0 to 1")],
    "sft__optimizer__weight_decay": [(-1.0, "--sft.optimizer.weight-decay -1.0: allowed is a number from 0")],
    "sft__num_steps": [(0, "--sft.num-steps 0: allowed is a whole number from 1")],
    "curriculum__threshold": [(0.0, "--curriculum.threshold 0.0: allowed is a number above 0")],
    "search__temperature": [(1e-9, "--search.temperature 1e-09: allowed is a number from 0.01")],
    "rl__num_sampled_prompts": [
        (3, "--rl.num-sampled-prompts 3: allowed is a whole number from --rl.num-prompts, 4; take 4")
    ],
    "data__row_length": [(4096, "--data.row-length 4096: allowed is a whole number from 1 to 1024")],
    "model__positions": [("digit", "--model.positions digit: digits are counted from the last one")],
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({path: value}, message) for path, cases in INVALID_VALUES.items() for value, message in cases),
        ({"styles": ("self_correction",)}, "--rl.advantage step: only chain_of_thought has steps to verify"),
        ({"json": True}, "--json applies to --chat only; give --chat too"),
        ({"verbose": True}, "--verbose applies to --chat only; give --chat too"),
        ({"styles": ("subtasks",)}, "--styles subtasks: allowed are supervised training, evaluation and --chat"),
        (
            {"model__positions": "digit", "data__reverse_digits": True},
            "--model.positions digit: allowed are supervised training and evaluation; give --rl.algorithm none",
        ),
    ],
)
def test_invalid_values_raise_in_one_line(settings, message):
    with pytest.raises(UserError) as error:
        check(replace_settings(SMALL, **settings))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"rl__algorithm": "none"},
        {"rl__algorithm": "ppo", "rl__advantage": "completion"},
        {"rl__algorithm": "reinforce", "rl__advantage": "completion"},
    ],
)
def test_one_completion_suffices_without_group_comparison(settings):
    check(replace_settings(SMALL, rl__num_generations=1, **settings))


@pytest.mark.parametrize(
    ("flags", "pattern"),
    [
        ("--data.sources add:30", "--data.row-length 128: an example of add:30 has"),
        ("--sft.batch-size 1000", "--sft.batch-size 1000: allowed are at most"),
        ("--eval.sources add:120", r"--eval.sources: problems of \d+ tokens: allowed are 1024; give fewer digits"),
        (
            "--model.positions digit --data.reverse-digits --rl.algorithm none --model.num-digit-positions 1",
            r"--model.num-digit-positions 1: a row has \d+ digit positions",
        ),
    ],
)
def test_sizes_that_do_not_fit_exit_with_one_line(tmp_path, monkeypatch, capsys, flags, pattern):
    flags = ["--preset", "smoke", *flags.split(), "--artifacts", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["arithmetic.py", *flags])
    with pytest.raises(SystemExit) as exit_info:
        main("arithmetic", arithmetic.run, PRESETS, EXAMPLES)
    assert exit_info.value.code == 2
    stderr = capsys.readouterr().err
    assert re.search(pattern, stderr)
    assert stderr.count("\n") == 1
