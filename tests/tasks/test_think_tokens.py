"""The task of thinking tokens: from a command to results that can be trusted."""

import dataclasses
import json

import pytest

from tasks import think_tokens
from thinking.errors import UserError
from thinking.experiment import Run
from thinking.experiment.config import check

SMALL = dataclasses.replace(think_tokens.PRESETS["smoke"], thoughts=("discrete", "none"), seeds=2)


def results(run):
    return json.loads((run.folder / "results.json").read_text())


@pytest.mark.parametrize(
    "changed",
    [
        {"gradient": "grpo", "group": 4, "tokens": 3},
    ],
    ids=lambda changed: next(iter(changed.values())),
)
def test_thoughts_learn_in_every_way(tmp_path, changed):
    config = dataclasses.replace(SMALL, **changed, thoughts=("discrete",), steps=2, seeds=1)
    check(config)
    taught = think_tokens.teach(config, Run(folder=tmp_path, config=config), "discrete", 0)
    assert int(taught.state.learner.optimizer[1][0].count) == 2


def test_a_code_is_told_with_how_much_of_it_is_used(tmp_path):
    config = dataclasses.replace(SMALL, code=6, tokens=3, length=2, seeds=1)
    check(config)
    run = Run(folder=tmp_path, config=config)
    think_tokens.run(config, run)
    (row,) = results(run)["rows"]
    assert 1 <= row["codes"] <= 6
    assert row["exact"] <= row["codes"] / 6  # no code stands for two numbers


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problem": "a6"}, "'a6' is no problem: give one of s3, a5"),
        ({"thoughts": ()}, "--thoughts: name at least one"),
        ({"thoughts": ("none", "none")}, "--thoughts none none: a kind stands twice"),
        ({"length": 1}, "--length 1: allowed is a whole number from 2"),
        ({"tokens": 1}, "--tokens 1: allowed is a whole number from 2"),
        ({"steps": 0}, "--steps 0: allowed is a whole number from 1"),
        ({"discount": 1.5}, "--discount 1.5: allowed is a number from 0 to 1"),
        ({"chains": -1.0}, "--chains -1.0: allowed is a number from 0"),
        ({"code": 6, "gradient": "grpo"}, "--gradient grpo: a code is learned through its choice"),
        ({"chains": 1.0, "tokens": 4}, "--chains: true states are tokens of the answers' head alone"),
        ({"mastery": 0.0}, "--mastery 0.0: allowed is above 0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: allowed is a number above 0"),
        ({"width": 30}, "--width 30: allowed is a multiple of twice --heads, 4"),
        ({"group": 3}, "--group 3: allowed is a divisor of --batch, 16"),
        ({"gradient": "grpo", "group": 1}, "--group 1: a group is told from its mean"),
    ],
)
def test_bad_values_are_refused_with_one_line(changed, said):
    with pytest.raises(UserError) as error:
        check(dataclasses.replace(SMALL, **changed))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
