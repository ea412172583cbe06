"""The text of `--help`: presets, groups of flags, common flags and examples."""

import argparse
import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from thinking.experiment.config_fields import Preset, RunConfig
from thinking.experiment.settings import Setting, format_value, iterate_parts

_INDENT = 26
_NAMES = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", type(None): "None"}


def format_help(name: str, presets: Mapping[str, Preset], program: str, examples: Sequence[str] = ()) -> str:
    """Format the help text.

    Args:
        name: the preset whose values are shown as defaults.
        presets: all presets.
        program: the program's command.
        examples: command lines.
    """
    config = presets[name].config
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    parser = argparse.ArgumentParser(
        usage=f"{program} [--preset NAME] [--FLAG VALUE ...]".replace("%", "%%"),
        description=_paragraphs(_description(type(config)), width),
        epilog="examples:\n" + textwrap.indent("\n".join(examples), "  ") if examples else None,
        # argparse does not wrap, so each preset keeps its own line.
        formatter_class=lambda prog: argparse.RawTextHelpFormatter(prog, max_help_position=_INDENT, width=width),
        add_help=False,
    )
    first = parser.add_argument_group("presets")
    words = f"settings to start from; the other flags override them (default: {next(iter(presets))})"
    lines = [f"{known}: {preset.help}" if preset.help else known for known, preset in presets.items()]
    first.add_argument("--preset", metavar="NAME", help=_wrap_lines([words, *lines], width))

    sections = {"": parser.add_argument_group("flags")}
    general = {field.name for field in dataclasses.fields(RunConfig)}
    for part in iterate_parts(config):
        if not isinstance(part, Setting):
            sections[part.path] = parser.add_argument_group(part.path.replace("_", "-"), part.help)
        elif part.path not in general:
            _add(sections[part.path.rpartition(".")[0]], part, width)
    every = parser.add_argument_group("flags of every task")
    for part in iterate_parts(config):
        if part.path in general:
            _add(every, part, width)
    every.add_argument("-h", "--help", action="store_true", help="print this and end")
    return parser.format_help()


def _add(section: Any, setting: Setting, width: int) -> None:
    flags = [setting.flag, *([setting.negated_flag] if setting.negated_flag else [])]
    limits = setting.bounds.describe()
    default = "empty" if setting.value in ((), "") else format_value(setting.value)
    words = f"{setting.help} ({limits + '; ' if limits else ''}default: {default})"
    name = _name(setting.hint)
    takes: dict[str, Any] = {"metavar": name} if name else {"action": "store_true"}
    section.add_argument(*flags, help=_wrap_lines([words], width), **takes)


def _name(hint: Any) -> str:
    """The placeholder of a flag's value, as `INT` or `{a,b}`; empty for a boolean."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _name(inner[0])
    if origin is Literal:
        return "{" + ",".join(str(choice) for choice in inner) + "}"
    if origin in (typing.Union, types.UnionType):
        return "|".join(_name(part) for part in inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return f"[{_name(inner[0])} ...]"
    if origin is tuple:
        return " ".join(_name(part) for part in inner)
    return "" if hint is bool else _NAMES.get(hint, "VALUE")


def _description(config_class: type) -> str:
    """The docstring, unless it is the generated signature of a dataclass."""
    words = inspect.cleandoc(config_class.__doc__ or "")
    return "" if words.startswith(f"{config_class.__name__}(") else words


def _paragraphs(words: str, width: int) -> str:
    return "\n\n".join(textwrap.fill(paragraph, width - 2) for paragraph in words.split("\n\n"))


def _wrap_lines(lines: Sequence[str], width: int) -> str:
    """Wrap lines to fit beside the flags, with continuation lines indented by two."""
    wrapped = [textwrap.fill(line, width - _INDENT, subsequent_indent="  " * (len(lines) > 1)) for line in lines]
    return "\n".join(wrapped).replace("%", "%%")
