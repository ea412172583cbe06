"""From the command line to a config; whatever is wrong with it becomes one line."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from thinking.errors import UserError
from thinking.experiment.config import RunConfig, check, option

Config = TypeVar("Config", bound=RunConfig)

_KINDS = {int: "a whole number", float: "a number", str: "a word", Path: "a path", type(None): "None"}
_VALUES = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}


def parse(presets: Mapping[str, Config], arguments: Sequence[str], program: str) -> Config:
    """Read flags into a config.

    Args:
        presets: what `--preset` chooses from; the first is the default. All are of one class.
        arguments: the command line without the program.
        program: how the program is started, for `--help`.

    Returns:
        The preset with the other flags laid over it.

    Raises:
        UserError: an unknown flag, a bad value, or what the config's own check finds.
        SystemExit: after `--help`.
    """
    arguments = [_dashes(argument) for argument in arguments]
    base = presets[_preset(presets, arguments)]
    options = _with_preset(type(base), tuple(presets))
    defaults = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    _refuse_unknown_flags(options, arguments)
    parsed, rest = _tyro(options, options(**defaults), arguments, program)
    if rest:
        allowed = "allowed are flags and their values (a yes-or-no flag takes none)"
        raise UserError(f"{' '.join(rest)}: {allowed}; {program} --help lists them")
    config = type(base)(**{name: getattr(parsed, name) for name in defaults})
    check(config)
    return config


def _dashes(argument: str) -> str:
    """`--edge_probability=0.2` as `--edge-probability=0.2`; anything else unchanged."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _preset(presets: Mapping[str, Any], arguments: Sequence[str]) -> str:
    """The preset's name must be known before the other flags are read: it gives their defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default=next(iter(presets)), nargs="?")
    name = parser.parse_known_args(arguments)[0].preset
    if name not in presets:
        given = f"--preset {name or 'without a value'}"
        raise UserError(f"{given}: allowed is one of {', '.join(presets)}{_near(name, presets)}")
    return name


def _with_preset(config_class: type, names: tuple[str, ...]) -> type:
    """The config's class with one more field, so that `--help` shows `--preset` among the flags."""
    field = ("preset", Literal[names], option(names[0], "settings to start from; the other flags override them"))
    return dataclasses.make_dataclass("Options", [field], bases=(config_class,), frozen=True)


def _tyro(options: type, default: Any, arguments: Sequence[str], program: str) -> tuple[Any, list[str]]:
    """Let tyro parse; its boxed message on standard error is turned into one line."""
    message = io.StringIO()
    description = (options.__mro__[1].__doc__ or "").strip()
    try:
        with contextlib.redirect_stderr(message):
            words = {"prog": program, "description": description, "args": arguments, "default": default}
            return tyro.cli(options, **words, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            raise
    raise UserError(_explain(options, default, arguments, message.getvalue()))


def _explain(options: type, default: Any, arguments: Sequence[str], message: str) -> str:
    """Name the flag that tyro complains of, the value given, what is allowed and an example."""
    hints = {_flag(name): (name, hint) for name, hint in typing.get_type_hints(options).items()}
    complained = [flag for flag in re.findall(r"--[a-z0-9-]+", message) if flag in hints]
    if not complained:
        return " ".join(re.sub(r"[^\x20-\x7e]", " ", message).split())
    flag = complained[0]
    name, hint = hints[flag]
    values = _values(flag, arguments)
    given = " ".join(values) or "without a value"
    example = getattr(default, name)
    choices = _choices(hint)
    wrong = next((value for value in values if value not in choices), given)
    mend = _near(wrong, choices) or ("" if example is None else f"; for example {flag} {_written(example)}")
    return f"{flag} {given}: allowed is {_allowed(hint)}{mend}"


def _refuse_unknown_flags(options: type, arguments: Sequence[str]) -> None:
    known = {"-h", "--help"}
    for name, hint in typing.get_type_hints(options, include_extras=True).items():
        known.add(_flag(name))
        if hint is bool:  # the plain flags of `RunConfig` are annotated, and have no opposite
            known.add(_flag("no-" + name))
    for argument in arguments:
        flag = argument.partition("=")[0]
        if re.match(r"--?[A-Za-z]", flag) and flag not in known and not flag.startswith("--tyro-"):
            raise UserError(f"{flag}: no such flag{_near(flag, known)}; --help lists them all")


def _values(flag: str, arguments: Sequence[str]) -> list[str]:
    """What stands behind a flag's last appearance, up to the next flag."""
    found: list[str] = []
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == flag:
            found, taking = [value] if equals else [], True
        elif re.match(r"--?[A-Za-z]", argument):
            taking = False
        elif taking:
            found.append(argument)
    return found


def _allowed(hint: Any) -> str:
    """A type in plain words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in inner)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_allowed(part) for part in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        if choices := _choices(hint):
            return f"any number of {', '.join(choices)}"
        return f"any number of {_VALUES.get(inner[0], 'values')}"
    if origin is tuple:
        return f"{len(inner)} {_VALUES.get(inner[0], 'values') if len(set(inner)) == 1 else 'values'}"
    return _KINDS.get(hint, getattr(hint, "__name__", str(hint)))


def _choices(hint: Any) -> list[str]:
    """The words that a flag takes, one or any number of them; empty if it takes something else."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and inner[-1] is Ellipsis:
        return _choices(inner[0])
    return [str(choice) for choice in inner] if typing.get_origin(hint) is Literal else []


def _near(value: str | None, choices: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(value or "", sorted(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _written(value: Any) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
