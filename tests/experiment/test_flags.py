"""Flags are generated from a config class; a wrong flag ends the program with one line and code 2."""

import dataclasses
import subprocess
import sys
from typing import Literal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import nested, toy
from tests.experiment.conftest import ROOT, assert_one_line

from thinking.errors import UserError
from thinking.experiment import flags
from thinking.experiment.config_fields import RunConfig, option, to_json
from thinking.experiment.settings import format_value, list_settings


def parse(*arguments):
    return flags.parse(toy.PRESETS, arguments, "python tasks/toy.py")


def test_first_preset_is_the_default():
    assert parse() == toy.PRESETS["default"]


@pytest.mark.parametrize(
    "arguments",
    ["--preset smoke --width 7", "--width 7 --preset smoke", "--width=7 --preset=smoke", "--steps 20 --width 7"],
)
def test_flags_override_the_preset_in_any_order(arguments):
    config = parse(*arguments.split())
    assert (config.steps, config.width) == (20, 7)


def test_flags_have_types_and_accept_dashes_and_underscores():
    config = parse("--edge-probability", "0.25", "--aliased", "--plan", "a", "b", "--kind", "sum", "--artifacts", "x/y")
    assert (config.edge_probability, config.aliased, config.plan, config.kind) == (0.25, True, ("a", "b"), "sum")
    assert str(config.artifacts) == "x/y"
    assert not parse("--no-aliased").aliased
    assert parse("--edge_probability=0.5").edge_probability == 0.5


@pytest.mark.parametrize(
    ("arguments", "message_parts"),
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
def test_error_names_the_value_the_allowed_values_and_a_suggestion(run_command, arguments, message_parts):
    result = run_command(*arguments.split())
    assert result.code == 2
    assert not result.out
    assert result.folder is None
    for part in message_parts:
        assert part in assert_one_line(result.err)


def test_help_shows_docstring_option_help_and_preset_defaults(run_command):
    result = run_command("--preset", "smoke", "--help")
    assert result.code == 0
    for part in ("Fit a line.", "number of training steps (default: 20)", "--edge-probability FLOAT", "--preset"):
        assert part in result.out


def test_config_module_imports_no_heavy_library():
    heavy_libraries = "jax", "numpy", "matplotlib", "orbax", "flax", "optax"
    program = f"import sys, tests.experiment.toy; print([name for name in {heavy_libraries} if name in sys.modules])"
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_post_init_may_raise_a_user_error():
    class Refusing(toy.Config):
        def __post_init__(self):
            if self.steps == 13:
                raise UserError("--steps 13: allowed is any other number")

    with pytest.raises(UserError, match="any other"):
        flags.parse({"default": Refusing()}, ["--steps", "13"], "python tasks/toy.py")


@dataclasses.dataclass(frozen=True)
class Menu(RunConfig):
    """A config with a tuple of choices."""

    courses: tuple[Literal["soup", "fish", "cake"], ...] = option(("soup", "cake"), "what is served")


def test_error_of_a_tuple_of_choices_suggests_the_closest_choice():
    with pytest.raises(
        UserError, match=r"^--courses soup fihs: allowed is a list of soup, fish, cake; did you mean fish\?$"
    ):
        flags.parse({"default": Menu()}, ["--courses", "soup", "fihs"], "meal")


def parse_nested(*arguments):
    return flags.parse(nested.PRESETS, arguments, "python tasks/nested.py")


def test_group_flags_override_the_preset():
    config = parse_nested(
        *("--model.width=32", "--preset", "smoke", "--sft.optimizer.learning-rate", "0.5", "--rl.contexts", "1", "2"),
        *("--model.no-gated", "--rl.replay", "--eval.share", "0.5", "--sft.warmup", "None", "--chat"),
    )
    assert (config.model.width, config.model.heads, config.model.gated) == (32, 2, False)
    assert (config.sft.optimizer.learning_rate, config.rl.optimizer.learning_rate) == (0.5, 0.1)
    assert (config.rl.contexts, config.rl.replay, config.sft.replay) == ((1, 2), True, False)
    assert (config.eval.share, config.sft.warmup, config.chat) == (0.5, None, True)
    assert parse_nested("--preset", "bare").seeds == 2
    assert type(config) is nested.Config


def test_underscores_equal_dashes_and_the_last_repeated_flag_wins():
    config = parse_nested("--sft.optimizer.learning_rate", "0.5", "--eval.num_problems=3", "--model.no_gated")
    assert (config.sft.optimizer.learning_rate, config.eval.num_problems, config.model.gated) == (0.5, 3, False)
    assert parse_nested("--model.width", "32", "--model.width", "64").model.width == 64


@pytest.mark.parametrize("columns", ["12", "80", "200"])
@pytest.mark.parametrize(
    ("arguments", "message"),
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
        ("--sft.contexts 4 x", "--sft.contexts 4 x: allowed is a list of whole numbers from 1 to 64; take 4 2"),
        ("--sft.contexts 4 0", "--sft.contexts 4 0: allowed is a list of whole numbers from 1 to 64; take 4 2"),
        ("--sft.optimizer.betas 0.5", "--sft.optimizer.betas 0.5: allowed is 2 numbers from 0, below 1; take 0.9 0.99"),
        (
            "--model.kinds table liner",
            "--model.kinds table liner: allowed is a list of table, linear; did you mean",
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
def test_group_value_error_names_the_full_flag(arguments, message, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(UserError) as error:
        parse_nested(*arguments.split())
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("flag", "suggestion"),
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
def test_unknown_flag_error_suggests_similar_flags(flag, suggestion):
    with pytest.raises(UserError) as error:
        parse_nested(flag, "3")
    assert str(error.value) == f"{flag}: no such flag; did you mean {suggestion}?; --help lists them all"


FLAGS = [setting.flag for setting in list_settings(nested.Config())]


@hypothesis.settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*FLAGS, "--no-x", "--model", "-1", "0", "x", "nan", "=", "--", "--preset", "smoke"])))
def test_any_arguments_give_a_config_or_a_one_line_error(arguments):
    try:
        outcome = to_json(parse_nested(*arguments))
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
def test_config_formatted_as_flags_parses_to_itself(model, optimizer):
    config = nested.Config(model=model, sft=nested.Training(optimizer=optimizer))
    arguments = []
    for setting in list_settings(config):
        if setting.negated_flag:
            arguments.append(setting.flag if setting.value else setting.negated_flag)
        elif not isinstance(setting.value, bool):
            values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
            arguments += [setting.flag, *(format_value(value) for value in values)]
    assert to_json(parse_nested(*arguments)) == to_json(config)
