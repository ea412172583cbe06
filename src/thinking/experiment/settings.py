"""The settings of a config: its fields and those of its groups, with flags and bounds."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

MAX_INT = 2**31 - 1
"""Largest integer where no maximum is declared: that of int32."""

_ONE = {int: "a whole number", float: "a number", str: "a word", Path: "a path", bool: "no value", type(None): "None"}
_MANY = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of a number: `minimum` and `maximum` are inclusive, `above` and `below` exclusive."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if None not in (self.minimum, self.above) or None not in (self.maximum, self.below):
            raise TypeError("a number has one lower bound and one upper bound: minimum or above, maximum or below")

    def allows(self, value: Any) -> bool:
        """Whether all numbers in a value are within the bounds; floats must be finite."""
        if isinstance(value, tuple):
            return all(self.allows(item) for item in value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        if isinstance(value, float) and not math.isfinite(value):
            return False
        bounds = self.for_integers() if isinstance(value, int) else self
        return (
            (bounds.minimum is None or value >= bounds.minimum)
            and (bounds.maximum is None or value <= bounds.maximum)
            and (bounds.above is None or value > bounds.above)
            and (bounds.below is None or value < bounds.below)
        )

    def for_integers(self) -> "Bounds":
        """The bounds with defaults of int32."""
        minimum = -MAX_INT - 1 if self.minimum is None and self.above is None else self.minimum
        maximum = MAX_INT if self.maximum is None and self.below is None else self.maximum
        return dataclasses.replace(self, minimum=minimum, maximum=maximum)

    def describe(self) -> str:
        """As `from 1 to 8`, `above 0, up to 1` or `from 0`; empty without bounds."""
        lower = f"from {self.minimum}" if self.minimum is not None else f"above {self.above}"
        upper = f"up to {self.maximum}" if self.maximum is not None else f"below {self.below}"
        if self.minimum is None and self.above is None:
            return "" if self.maximum is None and self.below is None else upper
        if self.maximum is None and self.below is None:
            return lower
        both = self.minimum is not None and self.maximum is not None
        return f"{lower} to {self.maximum}" if both else f"{lower}, {upper}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a config or of one of its groups.

    Attributes:
        path: as `model.width`.
        hint: its type.
        value: its value.
        default: its default.
        help: text for `--help`.
        bounds: of its numbers.
        affects_weights: whether saved weights depend on the value.
    """

    path: str
    hint: Any
    value: Any
    default: Any
    help: str = ""
    bounds: Bounds = Bounds()
    affects_weights: bool = True

    @property
    def flag(self) -> str:
        """As `--model.width`."""
        return to_flag(self.path)

    @property
    def negated_flag(self) -> str | None:
        """The flag that sets False, as `--model.no-gated`, or None."""
        group, dot, name = self.path.rpartition(".")
        return to_flag(f"{group}{dot}no-{name}") if self.hint is bool else None

    def error_message(self, value: str) -> str:
        """The line for a bad value: flag, value, what is allowed, and a suggestion."""
        if describe_type(self.hint, self.bounds) == _ONE[bool]:
            hint = f"give {self.flag} or {self.negated_flag}" if self.negated_flag else f"give {self.flag} alone"
            return f"{self.flag} {value}: allowed is no value; {hint}"
        default = format_value(self.default)
        hint = "leave it out" if self.default is None or not default else f"take {default}"
        return f"{self.flag} {value}: allowed is {describe_type(self.hint, self.bounds)}; {hint}"


@dataclasses.dataclass(frozen=True)
class Group:
    """A config within a config; attributes as in `Setting`."""

    path: str
    value: Any
    help: str = ""
    affects_weights: bool = True


def iterate_parts(config: Any) -> Iterator[Setting | Group]:
    """Iterate over the settings and groups of a config in declaration order; a group precedes its contents."""
    return _iterate_parts(config, "", {field.name: field.default for field in dataclasses.fields(config)}, True)


def list_settings(config: Any) -> list[Setting]:
    """All settings of a config, including those of its groups."""
    return [part for part in iterate_parts(config) if isinstance(part, Setting)]


def is_group(value: Any) -> bool:
    """Whether the value of a field is a group."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def find_declaration_errors(config: Any) -> list[str]:
    """Errors in the declaration of a config, each with its flag.

    These are integers without lower bound, bounds of a type without numbers, and defaults out of bounds.
    """
    errors = []
    for setting in list_settings(config):
        kinds, bounds = _kinds(setting.hint), setting.bounds
        if int in kinds and bounds.minimum is None and bounds.above is None:
            errors.append(f"{setting.flag} needs minimum or above")
        if bounds != Bounds() and not kinds & {int, float}:
            errors.append(f"{setting.flag} has bounds and is no number")
        if not bounds.allows(setting.default):
            errors.append(f"{setting.flag} has a default out of its bounds")
    return errors


def describe_type(hint: Any, bounds: Bounds, plural: bool = False) -> str:
    """A type in words, with the bounds of its numbers."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe_type(inner[0], bounds, plural)
    if origin is Literal:
        return f"{'' if plural else 'one of '}{', '.join(str(choice) for choice in inner)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(part, bounds, plural) for part in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return f"a list of {describe_type(inner[0], bounds, plural=True)}"
    if origin is tuple and len(set(inner)) == 1:
        return f"{len(inner)} {describe_type(inner[0], bounds, plural=True)}"
    if origin is tuple:
        return " and ".join(describe_type(part, bounds) for part in inner)
    noun = (_MANY if plural else _ONE).get(hint, getattr(hint, "__name__", str(hint)))
    if hint is int:
        return f"{noun} {bounds.for_integers().describe()}"
    if hint is float:
        return f"{noun} {bounds.describe()}" if bounds != Bounds() else noun.replace("number", "finite number")
    return noun


def list_choices(hint: Any) -> list[str]:
    """The words that a flag accepts; empty if it accepts other values."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and inner[-1] is Ellipsis:
        return list_choices(inner[0])
    if origin in (typing.Union, types.UnionType):
        return [word for part in inner for word in list_choices(part)]
    return [str(choice) for choice in inner] if origin is Literal else []


def format_value(value: Any) -> str:
    """A value as written after its flag."""
    return " ".join(format_value(item) for item in value) if isinstance(value, tuple | list) else str(value)


def to_flag(path: str) -> str:
    """As `--model.learning-rate` for `model.learning_rate`."""
    return "--" + path.replace("_", "-")


def _iterate_parts(config: Any, prefix: str, defaults: dict[str, Any], affects: bool) -> Iterator[Setting | Group]:
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        path, value, default = prefix + field.name, getattr(config, field.name), defaults[field.name]
        help, affects_weights = field.metadata.get("help", ""), affects and field.metadata.get("affects_weights", True)
        if is_group(value):
            yield Group(path, value, help, affects_weights)
            base = default if isinstance(default, type(value)) else value
            within = {inner.name: getattr(base, inner.name) for inner in dataclasses.fields(value)}
            yield from _iterate_parts(value, path + ".", within, affects_weights)
        else:
            default = None if default is dataclasses.MISSING else default
            yield Setting(
                path, hints[field.name], value, default, help, _bounds(type(config), field.name), affects_weights
            )


@functools.cache
def _hints(config_class: type) -> dict[str, Any]:
    return typing.get_type_hints(config_class, include_extras=True)


@functools.cache
def _bounds(config_class: type, name: str) -> Bounds:
    """Bounds of a field; a subclass that redeclares a field without bounds inherits them."""
    for owner in config_class.__mro__:
        field = vars(owner).get("__dataclass_fields__", {}).get(name)
        bounds = Bounds() if field is None else field.metadata.get("bounds", Bounds())
        if bounds != Bounds():
            return bounds
    return Bounds()


def _kinds(hint: Any) -> set[type]:
    """The plain types within a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin in (typing.Union, types.UnionType, tuple):
        return set().union(*(_kinds(part) for part in inner))
    return {hint} if isinstance(hint, type) else set()
