"""Settings of a config: bounds, their descriptions, and the order of settings."""

import dataclasses
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import nested, toy

from thinking.experiment.config_fields import RunConfig, option
from thinking.experiment.settings import (
    MAX_INT,
    Bounds,
    Setting,
    describe_type,
    find_declaration_errors,
    format_value,
    iterate_parts,
    list_choices,
    list_settings,
)

NUMBERS = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)


@given(NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.booleans())
def test_bounds_allow_the_interval_with_its_closed_ends(value, low, high, closed_below, closed_above):
    lower = {"minimum" if closed_below else "above": low}
    upper = {"maximum" if closed_above else "below": high}
    expected = (low <= value if closed_below else low < value) and (value <= high if closed_above else value < high)
    assert Bounds(**lower, **upper).allows(value) == expected


@given(st.lists(NUMBERS, max_size=5), NUMBERS)
def test_tuple_is_allowed_if_each_of_its_numbers_is(values, low):
    bounds = Bounds(minimum=low)
    assert bounds.allows(tuple(values)) == all(bounds.allows(value) for value in values)
    assert bounds.allows((tuple(values), "word", None)) == bounds.allows(tuple(values))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_must_be_finite(value):
    for container in (value, (1.0, value), ((value,),)):
        assert not Bounds().allows(container)
        assert not Bounds(minimum=-math.inf).allows(container)


@given(st.integers())
def test_integers_fit_32_bits_unless_the_bounds_are_larger(value):
    assert Bounds().allows(value) == (-MAX_INT - 1 <= value <= MAX_INT)
    assert Bounds(minimum=0, maximum=2**40).allows(value) == (0 <= value <= 2**40)


def test_bounds_handle_huge_integers_booleans_none_and_strings():
    assert not Bounds().allows(10**400)
    assert Bounds(minimum=5).allows(True)
    assert Bounds(minimum=5).allows(None)
    assert Bounds(minimum=5).allows("word")


def test_two_bounds_on_one_side_raise_a_type_error():
    with pytest.raises(TypeError, match="minimum or above"):
        option(1, "", minimum=1, above=0)
    with pytest.raises(TypeError, match="maximum or below"):
        option(1, "", maximum=1, below=0)


@pytest.mark.parametrize(
    ("bounds", "description"),
    [
        ({}, ""),
        ({"minimum": 1, "maximum": 8}, "from 1 to 8"),
        ({"minimum": 0, "below": 1}, "from 0, below 1"),
        ({"above": 0, "maximum": 1}, "above 0, up to 1"),
        ({"above": 0, "below": 1}, "above 0, below 1"),
        ({"minimum": 0}, "from 0"),
        ({"above": 0}, "above 0"),
        ({"maximum": 9}, "up to 9"),
        ({"below": 9}, "below 9"),
    ],
)
def test_bounds_describe(bounds, description):
    assert Bounds(**bounds).describe() == description


@pytest.mark.parametrize(
    ("hint", "bounds", "description"),
    [
        (int, {"minimum": 1}, f"a whole number from 1 to {MAX_INT}"),
        (int | None, {"minimum": 1, "maximum": 8}, "a whole number from 1 to 8 or None"),
        (float, {}, "a finite number"),
        (float, {"above": 0}, "a number above 0"),
        (tuple[float, ...], {}, "a list of finite numbers"),
        (tuple[int, ...], {"minimum": 1, "maximum": 8}, "a list of whole numbers from 1 to 8"),
        (tuple[float, float], {"minimum": 0, "maximum": 1}, "2 numbers from 0 to 1"),
        (tuple[str, str] | None, {}, "2 words or None"),
        (tuple[str, float], {"minimum": 0}, "a word and a number from 0"),
        (tuple[Literal["a", "b"], ...], {}, "a list of a, b"),
        (Literal["a", "b"], {}, "one of a, b"),
    ],
)
def test_describe_type(hint, bounds, description):
    assert describe_type(hint, Bounds(**bounds)) == description


def test_error_message_has_flag_value_bounds_and_suggestion():
    setting = Setting("model.width", int, 0, 64, bounds=Bounds(minimum=1, maximum=16384))
    assert setting.error_message("0") == "--model.width 0: allowed is a whole number from 1 to 16384; take 64"
    for default in (None, (), ""):
        assert dataclasses.replace(setting, default=default).error_message("0").endswith("; leave it out")


def test_parts_are_in_the_order_of_declaration():
    paths = [part.path for part in iterate_parts(nested.Config())]
    start = paths.index("seeds")
    assert paths[start : start + 4] == ["seeds", "chat", "model", "model.width"]
    assert paths.index("sft") < paths.index("sft.steps") < paths.index("sft.optimizer.betas") < paths.index("rl")


def test_defaults_are_those_of_the_declared_group():
    by_path = {setting.path: setting for setting in list_settings(nested.Config(rl=nested.Training(steps=3)))}
    assert (by_path["rl.steps"].value, by_path["rl.steps"].default, by_path["sft.steps"].default) == (3, 7, 100)
    assert by_path["rl.optimizer.learning_rate"].default == 0.1


def test_affects_weights_of_a_group_applies_to_all_its_settings():
    paths = {setting.path for setting in list_settings(nested.Config()) if not setting.affects_weights}
    run_config_paths = {"artifacts", "clear", "tensorboard", "wandb"}
    assert paths == run_config_paths | {"chat", "eval.num_problems", "eval.share"}


def test_flags_and_negated_flags():
    by_path = {setting.path: setting for setting in list_settings(nested.Config())}
    assert by_path["sft.optimizer.learning_rate"].flag == "--sft.optimizer.learning-rate"
    assert by_path["model.gated"].negated_flag == "--model.no-gated"
    assert by_path["model.width"].negated_flag is None
    assert by_path["chat"].negated_flag is None


def test_redeclared_field_keeps_the_bounds_of_the_base_class():
    @dataclasses.dataclass(frozen=True)
    class Derived(RunConfig):
        seed: int = option(0, "of nothing")

    seed = next(setting for setting in list_settings(Derived()) if setting.path == "seed")
    assert seed.bounds == Bounds(minimum=0, maximum=2**32 - 1)


def test_find_declaration_errors():
    @dataclasses.dataclass(frozen=True)
    class Wrong(RunConfig):
        count: int | None = option(1, "no lower bound", maximum=3)
        sizes: tuple[int, ...] = option((1,), "no lower bound")
        name: str = option("a", "bounds of a word", minimum=0)
        speed: float = option(1.0, "may be anything")
        share: float = option(2.0, "too much", maximum=1)
        fine: int = option(1, "bounded", above=0)

    assert find_declaration_errors(Wrong()) == [
        "--count needs minimum or above",
        "--sizes needs minimum or above",
        "--name has bounds and is no number",
        "--share has a default out of its bounds",
    ]
    assert find_declaration_errors(nested.Config()) == []
    assert "--width needs minimum or above" in find_declaration_errors(toy.Config())


def test_list_choices_looks_into_tuples_and_optionals():
    choices = Literal["a", "b"]
    for hint in (choices, choices | None, tuple[choices, ...], tuple[choices, ...] | None):
        assert list_choices(hint) == ["a", "b"]
    assert list_choices(int | None) == list_choices(tuple[choices, choices]) == []


def test_format_value_gives_the_text_after_a_flag():
    assert format_value((1, (2.5, "a"))) == "1 2.5 a"
    assert format_value(None) == "None"
