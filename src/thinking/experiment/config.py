"""The config of a run: one frozen dataclass with groups, from which the flags and `config.json` come."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from thinking.errors import UserError
from thinking.experiment.settings import (
    Bounds,
    find_declaration_errors,
    format_value,
    is_group,
    parts,
    settings,
    to_flag,
)

MAX_SEED = 2**32 - 1
MAX_NUM_SEEDS = 1024


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    affects_weights: bool = True,
) -> Any:
    """Declare a field of a config or of a group, and so a flag.

    The bounds hold for every number in the value: an `int`, a `float`, either of them or None, and those in a tuple.
    Floats must be finite beside that, and a whole number without an upper bound may be 2**31 - 1 at most.

    Args:
        default: the value without the flag.
        help: what `--help` says, with the unit.
        minimum: the least number allowed.
        maximum: the greatest number allowed.
        above: the number that is too small by a hair, in place of `minimum`.
        below: the number that is too large by a hair, in place of `maximum`.
        affects_weights: False if the value may change between runs over the same saved weights.

    Raises:
        TypeError: two lower bounds or two upper ones.
    """
    bounds = Bounds(minimum, maximum, above, below)
    return dataclasses.field(
        default=default, metadata={"help": help, "bounds": bounds, "affects_weights": affects_weights}
    )


def group(default: Any, help: str, *, affects_weights: bool = True) -> Any:
    """Declare a group of a config: a frozen dataclass, whose fields become flags as `--model.width`.

    A group may hold groups. It may define `validate(self)` for what concerns several of its fields, as if it stood
    alone: it raises `UserError` or `ValueError`, or what `field_error` makes, and writes its flags without a prefix, as
    `--heads`. Whoever reads the message sees them whole, as `--model.heads`.

    Args:
        default: the group's class, or an instance with other values than the class has by itself.
        help: what `--help` says above the flags of the group.
        affects_weights: False if all values in it may change between runs over the same saved weights.
    """
    value = default() if isinstance(default, type) else default
    return dataclasses.field(default=value, metadata={"help": help, "affects_weights": affects_weights})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Flags that every task has.

    A subclass adds fields and groups. It may define `validate(self)` for what concerns several of them; as in a group,
    that raises `UserError` or `ValueError`, or what `field_error` makes.
    """

    seed: int = option(0, "seed of everything random", minimum=0, maximum=MAX_SEED)
    artifacts: Path = option(
        Path("artifacts"), "folder of all runs; this one writes to its own folder in it", affects_weights=False
    )
    clear: tyro.conf.FlagCreatePairsOff[bool] = option(False, "empty this run's folder and end", affects_weights=False)
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "write metrics for TensorBoard too (needs tensorboardX)", affects_weights=False
    )
    wandb: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "send metrics to Weights & Biases too (needs wandb)", affects_weights=False
    )


Config = TypeVar("Config", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class Preset(Generic[Config]):
    """Settings to start from.

    Attributes:
        config: the settings.
        help: what `--help` says of them, in one line.
    """

    config: Config
    help: str = ""


class _FieldError(UserError):
    """A field that does not fit others; `check` adds the prefix and the value."""

    def __init__(self, name: str, allowed: str, suggestion: Any) -> None:
        self.name = name
        self.rest = f": allowed is {allowed}" + ("" if suggestion is None else f"; take {format_value(suggestion)}")
        super().__init__(to_flag(name) + self.rest)


def field_error(name: str, allowed: str, *, suggestion: Any = None) -> UserError:
    """Make the error that a `validate` raises for a field that does not fit others.

    As in `raise invalid("width", f"a multiple of twice --heads, {2 * self.heads}", suggestion=64)`.

    Args:
        name: the field, or the way to it, as `optimizer.learning_rate`.
        allowed: what is allowed; fields of the same group stand in it as `--heads`.
        suggestion: a value that is allowed, for the mend.

    Returns:
        The error. Its line names the whole flag and its value once `check` has seen it.
    """
    return _FieldError(name, allowed, suggestion)


def check_seeds(seed: int, num_seeds: int, *, flag: str = "--seeds", max_num_seeds: int = MAX_NUM_SEEDS) -> None:
    """Check how many seeds are taken from a first one on; for the `validate` of a task with `--seeds`.

    Args:
        seed: the first, `--seed`.
        num_seeds: how many.
        flag: the flag that says how many.
        max_num_seeds: how many are allowed.

    Raises:
        UserError: too many or too few, or the last of them would be greater than a seed may be.
    """
    if not 1 <= num_seeds <= max_num_seeds:
        raise UserError(f"{flag} {num_seeds}: allowed is a whole number from 1 to {max_num_seeds}; take 1")
    if seed + num_seeds - 1 > MAX_SEED:
        last = MAX_SEED - num_seeds + 1
        raise UserError(f"--seed {seed}: allowed with {flag} {num_seeds} is a whole number from 0 to {last}; take 0")


def check(config: RunConfig) -> None:
    """Check the bounds of all settings, then ask the `validate` of each group and of the config itself.

    Raises:
        UserError: a number out of its bounds, a float that is not finite, or whatever a `validate` finds.
        TypeError: a config with groups is misdeclared, as by a whole number without a lower bound.
    """
    grouped = any(is_group(getattr(config, field.name)) for field in dataclasses.fields(config))
    if grouped and (wrong := find_declaration_errors(config)):
        raise TypeError(f"{type(config).__name__}: {', '.join(wrong)}")
    for setting in settings(config):
        if not setting.bounds.allows(setting.value):
            raise UserError(setting.error_message(format_value(setting.value)))
    _validate(config, "")


def to_json(value: Any) -> Any:
    """The config (or a part of it) as JSON knows it: mappings, lists, numbers, text and null."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def list_changes(saved: Mapping[str, Any], config: RunConfig) -> list[str]:
    """What affects the weights and differs from a saved config, as `--model.width: 32 saved, 64 given`."""
    before, now = _flat(saved), _flat(to_json(config))
    free = {part.path for part in parts(config) if not part.affects_weights}
    found = []
    for path in dict.fromkeys([*now, *before]):
        names = path.split(".")
        if any(".".join(names[:depth]) in free for depth in range(1, len(names) + 1)):
            continue
        if path not in before or path not in now or before[path] != now[path]:
            values = [format_value(side[path]) if path in side else "nothing" for side in (before, now)]
            brief = all(len(value) <= 40 for value in values)
            found.append(to_flag(path) + (f": {values[0]} saved, {values[1]} given" if brief else " differs"))
    return found


def _validate(part: Any, prefix: str) -> None:
    """Ask the inner groups first: what they refuse would confuse the outer ones."""
    for field in dataclasses.fields(part):
        if is_group(value := getattr(part, field.name)):
            _validate(value, f"{prefix}{field.name}.")
    if not hasattr(part, "validate"):
        return
    try:
        part.validate()
    except (UserError, ValueError) as error:
        message = str(error)
        if isinstance(error, _FieldError):
            value = part
            for name in error.name.split("."):
                value = getattr(value, name)
            message = f"{to_flag(error.name)} {format_value(value)}{error.rest}"
        if prefix and "--" not in message:  # as an error of arithmetic; the group says where to look
            message = f"{to_flag(prefix)}*: {message}"
        raise UserError(_with_prefix(message, part, to_flag(prefix)) if prefix else message) from error


def _with_prefix(message: str, part: Any, prefix: str) -> str:
    """Write the flags of a group whole, wherever they stand in a message."""
    own = {field.name.replace("_", "-") for field in dataclasses.fields(part)}

    def whole(match: re.Match[str]) -> str:
        name = match[1].replace("_", "-")
        mine = name in own or name.removeprefix("no-") in own
        return f"{prefix}{name}" if mine else match[0]

    return re.sub(r"(?<![\w-])--([A-Za-z][\w-]*)", whole, message)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"width": 4}}` as `{"model.width": 4}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
