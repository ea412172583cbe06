"""Configs with groups: one check for all bounds, a line that names the whole flag, and what counts as a change."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import nested, toy
from tests.experiment.nested import Config, Evaluation, Learning, Model, Optimizer

from thinking.errors import UserError
from thinking.experiment.config import RunConfig, check, check_seeds, field_error, group, list_changes, option, to_json


def refused(config):
    with pytest.raises(UserError) as error:
        check(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_and_presets_pass():
    for preset in nested.PRESETS.values():
        check(getattr(preset, "config", preset))


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (Config(model=Model(width=0)), "--model.width 0: allowed is a whole number from 1 to 16384; take 64"),
        (
            Config(rl=Learning(steps=2**31)),
            f"--rl.steps {2**31}: allowed is a whole number from 1 to {2**31 - 1}; take 7",
        ),
        (
            Config(sft=Learning(warmup=-1)),
            f"--sft.warmup -1: allowed is a whole number from 0 to {2**31 - 1} or None; leave it out",
        ),
        (
            Config(sft=Learning(contexts=(4, 0, 1))),
            "--sft.contexts 4 0 1: allowed is any number of whole numbers from 1 to 64; take 4 2",
        ),
        (
            Config(rl=Learning(optimizer=Optimizer(learning_rate=0.0))),
            "--rl.optimizer.learning-rate 0.0: allowed is a number above 0; take 0.1",
        ),
        (
            Config(rl=Learning(optimizer=Optimizer(betas=(0.9, 1.0)))),
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
def test_a_number_out_of_bounds_is_told_with_its_whole_flag(config, line):
    assert refused(config) == line


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            Config(model=Model(width=30)),
            "--model.width 30: allowed is a multiple of twice --model.heads, 8; or give --model.no-gated",
        ),
        (
            Config(sft=Learning(steps=5, warmup=6)),
            "--sft.warmup 6: allowed is a whole number from 0 to --sft.steps, 5",
        ),
        (
            Config(rl=Learning(steps=13)),
            "--rl.optimizer.learning-rate 0.003: allowed is anything but this with --rl.steps 13; take 0.1",
        ),
        (Config(model=Model(width=8192)), "--model.*: too wide for this machine"),
        (Config(rl=Learning(steps=2000)), "--rl.steps 2000: allowed is ten times --sft.steps at most; take 7"),
        (Config(model=Model(width=6000, heads=1)), "--model.width 6000: nobody has that"),
        (
            Config(seed=2**32 - 1, seeds=2),
            f"--seed {2**32 - 1}: allowed with --seeds 2 is a whole number from 0 to {2**32 - 2}; take 0",
        ),
    ],
)
def test_what_a_validate_finds_is_told_with_whole_flags(config, line):
    assert refused(config) == line


def test_bounds_come_before_any_validate_and_inner_groups_before_outer_ones():
    asked = []

    @dataclasses.dataclass(frozen=True)
    class Inner:
        size: int = option(1, "size", minimum=1)

        def validate(self):
            asked.append("inner")

    @dataclasses.dataclass(frozen=True)
    class Outer(RunConfig):
        inner: Inner = group(Inner, "inner")

        def validate(self):
            asked.append("outer")

    check(Outer())
    assert asked == ["inner", "outer"]
    with pytest.raises(UserError):
        check(Outer(inner=Inner(size=0)))
    assert asked == ["inner", "outer"]


def test_an_error_of_a_group_alone_names_its_own_flags():
    with pytest.raises(UserError, match=r"^--width: allowed is a multiple of twice --heads, 8; or give --no-gated$"):
        Model(width=30).validate()
    assert (
        str(field_error("a.learning_rate", "less", suggestion=(1, 2))) == "--a.learning-rate: allowed is less; take 1 2"
    )


@given(seed=st.integers(0, 2**32 - 1), seeds=st.integers(-5, 2000))
def test_seeds_never_wrap_round(seed, seeds):
    good = 1 <= seeds <= 1024 and seed + seeds - 1 <= 2**32 - 1
    if good:
        check_seeds(seed, seeds)
    else:
        with pytest.raises(UserError, match=r"^--seeds? \d+|^--seeds -\d+"):
            check_seeds(seed, seeds)


@given(st.integers(1, 2000))
def test_the_seed_that_is_offered_is_allowed(seeds):
    with pytest.raises(UserError, match=r"--eval\.seeds") as error:
        check_seeds(2**32 - 1, seeds + 1, flag="--eval.seeds", max_num_seeds=2001)
    last = int(re.search(r"to (\d+);", str(error.value))[1])
    check_seeds(last, seeds + 1, max_num_seeds=2001)


def test_a_config_with_groups_declares_the_least_of_every_whole_number():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        size: int = option(1, "size")

    @dataclasses.dataclass(frozen=True)
    class Grouped(RunConfig):
        sizes: Sizes = group(Sizes, "sizes")

    with pytest.raises(TypeError, match=r"^Grouped: --sizes\.size needs minimum or above$"):
        check(Grouped())
    check(toy.Config())  # a flat one may leave that to its `validate`


def test_only_what_affects_the_weights_counts_as_a_change():
    saved = to_json(Config())
    free = Config(artifacts="elsewhere", clear=True, chat=True, eval=Evaluation(num_problems=3, share=0.5))
    assert list_changes(saved, free) == []
    assert list_changes(saved, Config(model=Model(width=32), seed=1)) == [
        "--seed: 0 saved, 1 given",
        "--model.width: 64 saved, 32 given",
    ]
    assert list_changes(saved, Config(rl=Learning(steps=7))) == [
        "--rl.optimizer.learning-rate: 0.1 saved, 0.003 given",
    ]
    assert list_changes(saved, Config(sft=Learning(contexts=(1,)))) == ["--sft.contexts: 4 2 saved, 1 given"]
    assert list_changes(saved, Config(sft=Learning(contexts=(1,) * 30))) == ["--sft.contexts differs"]


def test_fields_that_came_and_went_count_except_in_a_group_that_is_free():
    saved = to_json(Config())
    saved["model"]["depth"] = 2
    saved["eval"]["old"] = 2
    del saved["sft"]["steps"]
    assert list_changes(saved, Config()) == [
        "--sft.steps: nothing saved, 100 given",
        "--model.depth: 2 saved, nothing given",
    ]


WIDTHS = st.integers(1, 100).map(lambda half: Model(width=2 * half, heads=1))
CONTEXTS = st.lists(st.integers(1, 64), max_size=4).map(lambda items: Learning(contexts=tuple(items)))


@given(WIDTHS, CONTEXTS, WIDTHS, CONTEXTS)
def test_a_config_differs_from_another_where_its_fields_do(model, sft, other_model, other_sft):
    one, other = Config(model=model, sft=sft), Config(model=other_model, sft=other_sft)
    flags = [change.split(":")[0] for change in list_changes(to_json(one), other)]
    expected = ["--model.width"] * (model != other_model) + ["--sft.contexts"] * (sft != other_sft)
    assert flags == expected
