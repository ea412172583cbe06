"""The task of inventing a code: its results, and its checks of flags."""

import json

import pytest

from tasks import invent_code
from thinking.errors import UserError
from thinking.experiment import Run
from thinking.experiment.config_fields import check
from thinking.experiment.flags import parse
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.thought_code.config import PRESETS


def test_results_report_the_number_of_distinct_codes(tmp_path):
    config = PRESETS["smoke"].config
    invent_code.run(config, Run(folder=tmp_path, config=config))
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert (row["num_values"], row["code_length"], row["num_tokens"]) == (6, 2, 3)
    assert 1 <= row["num_distinct_codes"] <= 6
    assert row["exact_match"] <= row["num_distinct_codes"] / 6  # each code decodes to one value


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--code.gradient grpo", "--code.gradient grpo: allowed is one of straight_through, gumbel; take gumbel"),
        (
            "--code.num-values 65 --code.num-tokens 4 --code.length 3",
            "--code.num-values 65: allowed is at most 64, the codes of --code.length 3 and --code.num-tokens 4; take",
        ),
        ("--code.num-values 1", "--code.num-values 1: allowed is a whole number from 2 to"),
        ("--code.num-tokens 1", "--code.num-tokens 1: allowed is a whole number from 2 to"),
        ("--seeds 2 --seed 4294967295", "--seed 4294967295: allowed with --seeds 2 is a whole number from 0 to"),
    ],
)
def test_invalid_values_raise_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        parse(PRESETS, flags.split(), "python tasks/invent_code.py")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_long_code_is_checked_without_enumerating_codes():
    assert parse(PRESETS, ["--code.length", "1024"], "python tasks/invent_code.py").code.length == 1024


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert not find_declaration_errors(PRESETS[preset].config)
    check(PRESETS[preset].config)
