"""The config of a run: a frozen dataclass with groups, the source of flags and `config.json`."""

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
    iterate_parts,
    list_settings,
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
    """Declare a field of a config or group, and so a flag.

    The bounds hold for every number in the value: int, float, optional, or in a tuple. Floats must also be finite. An
    integer without upper bound is at most 2**31 - 1.

    Args:
        default: the value without the flag.
        help: text for `--help`, with the unit.
        minimum: smallest number allowed.
        maximum: largest number allowed.
        above: exclusive lower bound, in place of `minimum`.
        below: exclusive upper bound, in place of `maximum`.
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

    Groups may be nested. A group may define `validate(self)` for constraints between its fields. That raises
    `UserError`, `ValueError` or `field_error(...)`, and writes flags without prefix, as `--heads`; users see
    `--model.heads`.

    Args:
        default: the group's class, or an instance with other values than the class defaults.
        help: text for `--help` above the flags of the group.
        affects_weights: False if all its values may change between runs over the same saved weights.
    """
    value = default() if isinstance(default, type) else default
    return dataclasses.field(default=value, metadata={"help": help, "affects_weights": affects_weights})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Flags of every task.

    A subclass adds fields and groups. It may define `validate(self)` as a group may, and `list_inputs(self)`.
    """

    seed: int = option(0, "seed of everything random", minimum=0, maximum=MAX_SEED)
    artifacts: Path = option(
        Path("artifacts"), "folder of all runs; this one has its own folder in it", affects_weights=False
    )
    clear: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "delete the run of these flags and end", affects_weights=False
    )
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "write metrics for TensorBoard too (needs tensorboardX)", affects_weights=False
    )
    wandb: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "send metrics to Weights & Biases too (needs wandb)", affects_weights=False
    )

    def list_inputs(self) -> dict[str, Path]:
        """Files of other runs on which weights depend, by name; their content identifies a run as flags do."""
        return {}

    def find_use(self) -> str | None:
        """The flag, as `--chat`, that uses a finished run of this config and trains none; None without such a flag."""
        return None


Config = TypeVar("Config", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class Preset(Generic[Config]):
    """A named config to start from.

    Attributes:
        config: the config.
        help: one line for `--help`.
    """

    config: Config
    help: str = ""


class _FieldError(UserError):
    """A field that conflicts with others; `check` adds prefix and value."""

    def __init__(self, name: str, allowed: str, suggestion: Any) -> None:
        self.name = name
        self.rest = f": allowed is {allowed}" + ("" if suggestion is None else f"; take {format_value(suggestion)}")
        super().__init__(to_flag(name) + self.rest)


def field_error(name: str, allowed: str, *, suggestion: Any = None) -> UserError:
    """Make the error that `validate` raises for a field that conflicts with others.

    As in `raise field_error("width", f"a multiple of twice --heads, {2 * self.heads}", suggestion=64)`.

    Args:
        name: the field, or its path, as `optimizer.learning_rate`.
        allowed: what is allowed; fields of the same group appear as `--heads`.
        suggestion: an allowed value.

    Returns:
        The error. `check` completes its flag and value.
    """
    return _FieldError(name, allowed, suggestion)


def check_seeds(seed: int, num_seeds: int, *, flag: str = "--seeds", max_num_seeds: int = MAX_NUM_SEEDS) -> None:
    """Check a range of seeds; for the `validate` of a task with `--seeds`.

    Args:
        seed: the first, `--seed`.
        num_seeds: how many.
        flag: the flag of `num_seeds`.
        max_num_seeds: its maximum.

    Raises:
        UserError: too many or too few, or the last seed exceeds `MAX_SEED`.
    """
    if not 1 <= num_seeds <= max_num_seeds:
        raise UserError(f"{flag} {num_seeds}: allowed is a whole number from 1 to {max_num_seeds}; take 1")
    if seed + num_seeds - 1 > MAX_SEED:
        last = MAX_SEED - num_seeds + 1
        raise UserError(f"--seed {seed}: allowed with {flag} {num_seeds} is a whole number from 0 to {last}; take 0")


def check(config: RunConfig) -> None:
    """Check the bounds of all settings, then `validate` of each group and of the config.

    Raises:
        UserError: a number out of bounds, a float that is not finite, or an error of a `validate`.
        TypeError: a config with groups is declared wrongly, as an integer without lower bound.
    """
    grouped = any(is_group(getattr(config, field.name)) for field in dataclasses.fields(config))
    if grouped and (errors := find_declaration_errors(config)):
        raise TypeError(f"{type(config).__name__}: {', '.join(errors)}")
    for setting in list_settings(config):
        if not setting.bounds.allows(setting.value):
            raise UserError(setting.error_message(format_value(setting.value)))
    _validate(config, "")


def to_json(value: Any) -> Any:
    """The config, or a part of it, as a JSON value."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def list_changes(saved: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Settings that affect the weights and differ from a saved config, as `--model.width: 32 saved, 64 given`.

    A setting that is not in the saved config is younger than it, and had its default.
    """
    defaults = {setting.path: to_json(setting.default) for setting in list_settings(config)}
    before, now = defaults | flatten(saved), flatten(to_json(config))
    free = {part.path for part in iterate_parts(config) if not part.affects_weights}
    differences = []
    for path in dict.fromkeys([*now, *before]):
        names = path.split(".")
        if any(".".join(names[:depth]) in free for depth in range(1, len(names) + 1)):
            continue
        if path not in before or path not in now or before[path] != now[path]:
            values = [format_value(side[path]) if path in side else "nothing" for side in (before, now)]
            brief = all(len(value) <= 40 for value in values)
            differences.append(to_flag(path) + (f": {values[0]} saved, {values[1]} given" if brief else " differs"))
    return differences


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a saved config by path: `{"model": {"width": 4}}` as `{"model.width": 4}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _validate(part: Any, prefix: str) -> None:
    """Validate inner groups first, as their errors are more specific."""
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
        if prefix and "--" not in message:  # such as a ValueError; name at least the group
            message = f"{to_flag(prefix)}*: {message}"
        raise UserError(_with_prefix(message, part, to_flag(prefix)) if prefix else message) from error


def _with_prefix(message: str, part: Any, prefix: str) -> str:
    """Add the prefix of a group to its flags in a message."""
    own = {field.name.replace("_", "-") for field in dataclasses.fields(part)}

    def whole(match: re.Match[str]) -> str:
        name = match[1].replace("_", "-")
        mine = name in own or name.removeprefix("no-") in own
        return f"{prefix}{name}" if mine else match[0]

    return re.sub(r"(?<![\w-])--([A-Za-z][\w-]*)", whole, message)
