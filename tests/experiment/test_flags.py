"""Flags: one config class gives them all, and what is wrong ends in one line and code 2."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
from tests.experiment import toy
from tests.experiment.conftest import ROOT, one_line

from thinking.errors import UserError
from thinking.experiment import flags
from thinking.experiment.config import RunConfig, as_json, changes, option


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
        ("--width abc", ["--width abc", "whole number", "--width 4"]),
        ("--width", ["--width without a value", "whole number"]),
        ("--width 0", ["--width 0", "1 or more", "--width 4"]),
        ("--widht 3", ["--widht", "did you mean --width?"]),
        ("--kind xyz", ["--kind xyz", "one of mean, sum", "--kind mean"]),
        ("--kind sums", ["did you mean sum?"]),
        ("--plan a", ["--plan a", "2 words or None"]),
        ("--edge-probability nan", ["--edge-probability nan", "finite", "--edge-probability 0.1"]),
        ("--preset smokey", ["--preset smokey", "default, smoke", "did you mean smoke?"]),
        ("--preset", ["--preset without a value", "default, smoke"]),
        ("--seed -1", ["--seed -1", "0 to 4294967295"]),
        ("--seed 4294967296", ["--seed 4294967296"]),
        ("--aliased True", ["True", "--help"]),
        ("--no-clear", ["--no-clear", "did you mean --clear?"]),
        ("stray", ["stray", "--help"]),
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


def test_only_what_identifies_the_weights_counts_as_a_change():
    saved = as_json(parse())
    assert changes(saved, parse("--steps", "7", "--plan", "a", "b", "--artifacts", "elsewhere")) == []
    assert changes(saved, parse("--width", "5")) == ["width: 4 saved, 5 asked"]
    assert changes({**saved, "depth": 2}, parse()) == ["depth: 2 saved, nothing asked"]


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
