"""Configs with groups: bounds, `validate`, error messages with the full flag, and changes between configs."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import nested, toy
from tests.experiment.nested import Config, Evaluation, Model, Optimizer, Training

from thinking.errors import UserError
from thinking.experiment.config_fields import (
    RunConfig,
    check,
    check_seeds,
    field_error,
    group,
    list_changes,
    option,
    to_json,
)


def get_check_error(config):
    with pytest.raises(UserError) as error:
        check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_presets_pass_the_check():
    for preset in nested.PRESETS.values():
        check(getattr(preset, "config", preset))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(model=Model(width=0)), "--model.width 0: allowed is a whole number from 1 to 16384; take 64"),
        (
            Config(rl=Training(steps=2**31)),
            f"--rl.steps {2**31}: allowed is a whole number from 1 to {2**31 - 1}; take 7",
        ),
        (
            Config(sft=Training(warmup=-1)),
            f"--sft.warmup -1: allowed is a whole number from 0 to {2**31 - 1} or None; leave it out",
        ),
        (
            Config(sft=Training(contexts=(4, 0, 1))),
            "--sft.contexts 4 0 1: allowed is a list of whole numbers from 1 to 64; take 4 2",
        ),
        (
            Config(rl=Training(optimizer=Optimizer(learning_rate=0.0))),
            "--rl.optimizer.learning-rate 0.0: allowed is a number above 0; take 0.1",
        ),
        (
            Config(rl=Training(optimizer=Optimizer(betas=(0.9, 1.0)))),
            "--rl.optimizer.betas 0.9 1.0: allowed is 2 numbers from 0, below 1; take 0.9 0.99",
        ),
        (
            Config(eval=Evaluation(share=float("nan"))),
            "--eval.share nan: allowed is a number from 0 to 1 or None; leave it out",
        ),
        (Config(seed=-1), f"--seed -1: allowed is a whole number from 0 to {2**32 - 1}; take 0"),
        (Config(seeds=65), "--seeds 65: allowed is a whole number from 1 to 64; take 1"),
    ],
)
def test_out_of_bounds_error_names_the_full_flag(config, message):
    assert get_check_error(config) == message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Config(model=Model(width=30)),
            "--model.width 30: allowed is a multiple of twice --model.heads, 8; or give --model.no-gated",
        ),
        (
            Config(sft=Training(steps=5, warmup=6)),
            "--sft.warmup 6: allowed is a whole number from 0 to --sft.steps, 5",
        ),
        (
            Config(rl=Training(steps=13)),
            "--rl.optimizer.learning-rate 0.003: allowed is anything but this with --rl.steps 13; take 0.1",
        ),
        (Config(model=Model(width=8192)), "--model.*: too wide for this machine"),
        (Config(rl=Training(steps=2000)), "--rl.steps 2000: allowed is ten times --sft.steps at most; take 7"),
        (Config(model=Model(width=6000, heads=1)), "--model.width 6000: nobody has that"),
        (
            Config(seed=2**32 - 1, seeds=2),
            f"--seed {2**32 - 1}: allowed with --seeds 2 is a whole number from 0 to {2**32 - 2}; take 0",
        ),
    ],
)
def test_validate_error_names_the_full_flags(config, message):
    assert get_check_error(config) == message


def test_bounds_are_checked_before_validate_and_inner_groups_first():
    validate_calls = []

    @dataclasses.dataclass(frozen=True)
    class Inner:
        size: int = option(1, "size", minimum=1)

        def validate(self):
            validate_calls.append("inner")

    @dataclasses.dataclass(frozen=True)
    class Outer(RunConfig):
        inner: Inner = group(Inner, "inner")

        def validate(self):
            validate_calls.append("outer")

    check(Outer())
    assert validate_calls == ["inner", "outer"]
    with pytest.raises(UserError):
        check(Outer(inner=Inner(size=0)))
    assert validate_calls == ["inner", "outer"]


def test_group_validate_outside_a_config_names_flags_without_prefix():
    with pytest.raises(UserError, match=r"^--width: allowed is a multiple of twice --heads, 8; or give --no-gated$"):
        Model(width=30).validate()
    assert (
        str(field_error("a.learning_rate", "less", suggestion=(1, 2))) == "--a.learning-rate: allowed is less; take 1 2"
    )


@given(seed=st.integers(0, 2**32 - 1), num_seeds=st.integers(-5, 2000))
def test_check_seeds_refuses_seeds_beyond_32_bits(seed, num_seeds):
    is_allowed = 1 <= num_seeds <= 1024 and seed + num_seeds - 1 <= 2**32 - 1
    if is_allowed:
        check_seeds(seed, num_seeds)
    else:
        with pytest.raises(UserError, match=r"^--seeds? \d+|^--seeds -\d+"):
            check_seeds(seed, num_seeds)


@given(st.integers(1, 2000))
def test_largest_seed_named_by_the_error_is_allowed(num_seeds):
    with pytest.raises(UserError, match=r"--eval\.seeds") as error:
        check_seeds(2**32 - 1, num_seeds + 1, flag="--eval.seeds", max_num_seeds=2001)
    largest_seed = int(re.search(r"to (\d+);", str(error.value))[1])
    check_seeds(largest_seed, num_seeds + 1, max_num_seeds=2001)


def test_config_with_groups_requires_a_minimum_for_every_integer():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        size: int = option(1, "size")

    @dataclasses.dataclass(frozen=True)
    class Grouped(RunConfig):
        sizes: Sizes = group(Sizes, "sizes")

    with pytest.raises(TypeError, match=r"^Grouped: --sizes\.size needs minimum or above$"):
        check(Grouped())
    check(toy.Config())  # a config without groups may check this in `validate`


def test_list_changes_ignores_options_that_do_not_affect_weights():
    saved_config = to_json(Config())
    config = Config(artifacts="elsewhere", clear=True, chat=True, eval=Evaluation(num_problems=3, share=0.5))
    assert list_changes(saved_config, config) == []
    assert list_changes(saved_config, Config(model=Model(width=32), seed=1)) == [
        "--seed: 0 saved, 1 given",
        "--model.width: 64 saved, 32 given",
    ]
    assert list_changes(saved_config, Config(rl=Training(steps=7))) == [
        "--rl.optimizer.learning-rate: 0.1 saved, 0.003 given",
    ]
    assert list_changes(saved_config, Config(sft=Training(contexts=(1,)))) == ["--sft.contexts: 4 2 saved, 1 given"]
    assert list_changes(saved_config, Config(sft=Training(contexts=(1,) * 30))) == ["--sft.contexts differs"]


def test_list_changes_reports_added_and_removed_fields():
    saved_config = to_json(Config())
    saved_config["model"]["depth"] = 2
    saved_config["eval"]["old"] = 2
    del saved_config["sft"]["steps"]  # a younger setting had its default
    assert list_changes(saved_config, Config()) == [
        "--model.depth: 2 saved, nothing given",
    ]


WIDTHS = st.integers(1, 100).map(lambda half: Model(width=2 * half, heads=1))
CONTEXTS = st.lists(st.integers(1, 64), max_size=4).map(lambda items: Training(contexts=tuple(items)))


@given(WIDTHS, CONTEXTS, WIDTHS, CONTEXTS)
def test_list_changes_reports_exactly_the_fields_that_differ(model, sft, other_model, other_sft):
    config, other_config = Config(model=model, sft=sft), Config(model=other_model, sft=other_sft)
    flags = [change.split(":")[0] for change in list_changes(to_json(config), other_config)]
    expected = ["--model.width"] * (model != other_model) + ["--sft.contexts"] * (sft != other_sft)
    assert flags == expected
