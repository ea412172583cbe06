"""Flags: one config class gives them all, and what is wrong ends in one line and code 2."""

import dataclasses
import subprocess
import sys
from typing import Literal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import nested, toy
from tests.experiment.conftest import ROOT, one_line

from thinking.errors import UserError
from thinking.experiment import flags
from thinking.experiment.config import RunConfig, option, to_json
from thinking.experiment.settings import format_value, settings


def parse(*arguments):
    return flags.parse(toy.PRESETS, arguments, "python tasks/toy.py")


def test_without_flags_the_first_preset_holds():
    assert parse() == toy.PRESETS["default"]


@pytest.mark.parametrize(
    "line", ["--preset smoke --width 7", "--width 7 --preset smoke", "--width=7 --preset=smoke", "--steps 20 --width 7"]
)
def test_flags_override_the_preset_wherever_it_stands(line):
    config = parse(*line.split())
    assert (config.steps, config.width) == (20, 7)


def test_flags_are_typed_and_dashed():
    config = parse("--edge-probability", "0.25", "--aliased", "--plan", "a", "b", "--kind", "sum", "--artifacts", "x/y")
    assert (config.edge_probability, config.aliased, config.plan, config.kind) == (0.25, True, ("a", "b"), "sum")
    assert str(config.artifacts) == "x/y"
    assert not parse("--no-aliased").aliased
    assert parse("--edge_probability=0.5").edge_probability == 0.5


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--width abc", ["--width abc", "whole number", "take 4"]),
        ("--width", ["--width without a value", "whole number"]),
        ("--width 0", ["--width 0", "1 or more", "--width 4"]),
        ("--widht 3", ["--widht", "did you mean --width?"]),
        ("--kind xyz", ["--kind xyz", "one of mean, sum", "take mean"]),
        ("--kind sums", ["did you mean sum?"]),
        ("--plan a", ["--plan a", "2 words or None"]),
        ("--edge-probability nan", ["--edge-probability nan", "finite", "take 0.1"]),
        ("--preset smokey", ["--preset smokey", "default, smoke", "did you mean smoke?"]),
        ("--preset", ["--preset without a value", "default, smoke"]),
        ("--seed -1", ["--seed -1", "0 to 4294967295"]),
        ("--seed 4294967296", ["--seed 4294967296"]),
        ("--aliased True", ["--aliased True", "no value", "--no-aliased"]),
        ("--no-clear", ["--no-clear", "did you mean --clear?"]),
        ("stray", ["--artifacts", "stray", "a path"]),
        ("--edge-probability -inf", ["--edge-probability -inf", "finite"]),
        ("--ballast 2147483648", ["--ballast 2147483648", "to 2147483647", "take 1"]),
        ("-w 3", ["-w", "--help"]),
    ],
)
def test_a_bad_line_names_the_value_what_is_allowed_and_the_mend(command, line, named):
    done = command(*line.split())
    assert done.code == 2
    assert not done.out
    assert not done.folder.exists()
    for part in named:
        assert part in one_line(done.err)


def test_help_shows_docstring_help_and_defaults_of_the_preset(command):
    done = command("--preset", "smoke", "--help")
    assert done.code == 0
    for part in ("Fit a line.", "number of training steps (default: 20)", "--edge-probability FLOAT", "--preset"):
        assert part in done.out


def test_whatever_help_needs_imports_no_heavy_library():
    heavy = "jax", "numpy", "matplotlib", "orbax", "flax", "optax"
    program = f"import sys, tests.experiment.toy; print([name for name in {heavy} if name in sys.modules])"
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_post_init_may_refuse_as_validate_does():
    class Refusing(toy.Config):
        def __post_init__(self):
            if self.steps == 13:
                raise UserError("--steps 13: allowed is any other number")

    with pytest.raises(UserError, match="any other"):
        flags.parse({"default": Refusing()}, ["--steps", "13"], "python tasks/toy.py")


@dataclasses.dataclass(frozen=True)
class Menu(RunConfig):
    """Courses of a meal."""

    courses: tuple[Literal["soup", "fish", "cake"], ...] = option(("soup", "cake"), "what is served")


def test_a_flag_of_several_words_lists_them_all_and_guesses_the_one_that_is_wrong():
    with pytest.raises(
        UserError, match=r"^--courses soup fihs: allowed is any number of soup, fish, cake; did you mean fish\?$"
    ):
        flags.parse({"default": Menu()}, ["--courses", "soup", "fihs"], "meal")


def ask(*arguments):
    return flags.parse(nested.PRESETS, arguments, "python tasks/nested.py")


def test_flags_of_groups_override_the_preset():
    config = ask(
        *("--model.width=32", "--preset", "smoke", "--sft.optimizer.learning-rate", "0.5", "--rl.contexts", "1", "2"),
        *("--model.no-gated", "--rl.replay", "--eval.share", "0.5", "--sft.warmup", "None", "--chat"),
    )
    assert (config.model.width, config.model.heads, config.model.gated) == (32, 2, False)
    assert (config.sft.optimizer.learning_rate, config.rl.optimizer.learning_rate) == (0.5, 0.1)
    assert (config.rl.contexts, config.rl.replay, config.sft.replay) == ((1, 2), True, False)
    assert (config.eval.share, config.sft.warmup, config.chat) == (0.5, None, True)
    assert ask("--preset", "bare").seeds == 2
    assert type(config) is nested.Config


def test_underscores_are_dashes_and_the_last_of_a_repeated_flag_holds():
    config = ask("--sft.optimizer.learning_rate", "0.5", "--eval.num_problems=3", "--model.no_gated")
    assert (config.sft.optimizer.learning_rate, config.eval.num_problems, config.model.gated) == (0.5, 3, False)
    assert ask("--model.width", "32", "--model.width", "64").model.width == 64


@pytest.mark.parametrize("columns", ["12", "80", "200"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--model.width 0", "--model.width 0: allowed is a whole number from 1 to 16384; take 64"),
        ("--model.width=abc", "--model.width abc: allowed is a whole number from 1 to 16384; take 64"),
        ("--model.width=", "--model.width without a value: allowed is a whole number from 1 to 16384; take 64"),
        ("--model.width", "--model.width without a value: allowed is a whole number from 1 to 16384; take 64"),
        ("--model.width 1.5", "--model.width 1.5: allowed is a whole number from 1 to 16384; take 64"),
        ("--model.width 30", "--model.width 30: allowed is a multiple of twice --model.heads, 8; or give --model.no-g"),
        ("--preset smoke --model.width 0", "--model.width 0: allowed is a whole number from 1 to 16384; take 64"),
        ("--rl.optimizer.learning-rate x", "--rl.optimizer.learning-rate x: allowed is a number above 0; take 0.1"),
        ("--rl.optimizer.learning-rate -inf", "--rl.optimizer.learning-rate -inf: allowed is a number above 0; take"),
        ("--sft.contexts 4 x", "--sft.contexts 4 x: allowed is any number of whole numbers from 1 to 64; take 4 2"),
        ("--sft.contexts 4 0", "--sft.contexts 4 0: allowed is any number of whole numbers from 1 to 64; take 4 2"),
        ("--sft.optimizer.betas 0.5", "--sft.optimizer.betas 0.5: allowed is 2 numbers from 0, below 1; take 0.9 0.99"),
        (
            "--model.kinds table liner",
            "--model.kinds table liner: allowed is any number of table, linear; did you mean",
        ),
        ("--eval.share 1e999", "--eval.share inf: allowed is a number from 0 to 1 or None; leave it out"),
        ("--seed 4294967295 --seeds 2", "--seed 4294967295: allowed with --seeds 2 is a whole number from 0 to"),
        ("--seeds 65", "--seeds 65: allowed is a whole number from 1 to 64; take 1"),
        ("--model.gated True", "--model.gated True: allowed is no value; give --model.gated or --model.no-gated"),
        ("--model.no-gated=1 --seed 1", "--model.gated 1: allowed is no value; give --model.gated or --model.no-gated"),
        ("--chat=yes", "--chat yes: allowed is no value; give --chat alone"),
        ("--seed 1 2", "--seed 1 2: allowed is a whole number from 0 to 4294967295; take 0"),
        ("2 --seed 1", "2: allowed are flags and their values; python tasks/nested.py --help lists them"),
    ],
)
def test_a_bad_value_in_a_group_is_told_with_the_whole_flag(line, message, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(UserError) as error:
        ask(*line.split())
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--model.widht", "--model.width"),
        ("--modle.width", "--model.width"),
        ("--width", "--model.width"),
        ("--widht", "--model.width"),
        ("--learning-rate", "--rl.optimizer.learning-rate or --sft.optimizer.learning-rate"),
        ("--sft.learning-rate", "--rl.optimizer.learning-rate or --sft.optimizer.learning-rate"),
        ("--no-model.gated", "--model.no-gated"),
        ("--no-gated", "--model.no-gated"),
        ("--eval", "--eval.num-problems or --eval.share"),
        ("--presett", "--preset"),
        ("--no-chat", "--chat"),
        ("--sede", "--seed"),
    ],
)
def test_a_flag_much_like_others_is_answered_with_them(typed, meant):
    with pytest.raises(UserError) as error:
        ask(typed, "3")
    assert str(error.value) == f"{typed}: no such flag; did you mean {meant}?; --help lists them all"


FLAGS = [setting.flag for setting in settings(nested.Config())]


@hypothesis.settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*FLAGS, "--no-x", "--model", "-1", "0", "x", "nan", "=", "--", "--preset", "smoke"])))
def test_any_line_ends_in_a_config_or_in_one_line(line):
    try:
        outcome = to_json(ask(*line))
    except UserError as error:
        outcome = str(error)
    assert isinstance(outcome, dict) or (0 < len(outcome) < 1000 and "\n" not in outcome)


@hypothesis.settings(deadline=None, max_examples=60)
@given(
    st.builds(
        nested.Model,
        width=st.integers(1, 2000).map(lambda width: 2 * width),
        heads=st.just(1),
        gated=st.booleans(),
        kinds=st.lists(st.sampled_from(["table", "linear"])).map(tuple),
    ).filter(lambda model: model.width not in (6000, 8192)),
    st.builds(
        nested.Optimizer,
        learning_rate=st.floats(1e-6, 1e6),
        betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    ),
)
def test_a_config_written_as_flags_is_read_back(model, optimizer):
    config = nested.Config(model=model, sft=nested.Learning(optimizer=optimizer))
    line = []
    for setting in settings(config):
        if setting.negated_flag:
            line.append(setting.flag if setting.value else setting.negated_flag)
        elif not isinstance(setting.value, bool):
            values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
            line += [setting.flag, *(format_value(value) for value in values)]
    assert to_json(ask(*line)) == to_json(config)
