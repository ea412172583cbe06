"""Parsing of flags into a config; every error becomes one line."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import tyro

from thinking.errors import UserError
from thinking.experiment import help_text
from thinking.experiment.config_fields import Config, Preset, check
from thinking.experiment.settings import Setting, list_choices, list_settings

_MAX_SUGGESTIONS = 3


def parse(
    presets: Mapping[str, Config | Preset[Config]],
    arguments: Sequence[str],
    program: str,
    examples: Sequence[str] = (),
) -> Config:
    """Parse flags into a config.

    Args:
        presets: choices of `--preset`, all of one class; the first is the default.
        arguments: the command line without the program.
        program: the program's command, for `--help`.
        examples: command lines, for `--help`.

    Returns:
        The preset, overridden by the other flags.

    Raises:
        UserError: an unknown flag, a bad value, or an error of `check`.
        SystemExit: after `--help`.
    """
    presets_by_name = {name: known if isinstance(known, Preset) else Preset(known) for name, known in presets.items()}
    arguments = [_normalize_dashes(argument) for argument in arguments]
    name = _find_preset_name(presets_by_name, arguments)
    base = presets_by_name[name].config
    preset = Setting("preset", Literal[tuple(presets_by_name)], name, next(iter(presets_by_name)))
    known = {setting.flag: setting for setting in [preset, *list_settings(base)]}
    known |= {setting.negated_flag: setting for setting in known.values() if setting.negated_flag}
    _refuse_unknown_flags({"-h", "--help", *known}, arguments)
    if "-h" in arguments or "--help" in arguments:
        print(help_text.format_help(name, presets_by_name, program, examples), end="")
        raise SystemExit(0)
    config, rest = _parse_with_tyro(base, preset, known, arguments, program)
    if rest:
        raise UserError(_explain_rest(rest, known, arguments, program))
    check(config)
    return config


def _normalize_dashes(argument: str) -> str:
    """`--edge_probability=0.2` as `--edge-probability=0.2`; anything else unchanged."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _find_preset_name(presets: Mapping[str, Any], arguments: Sequence[str]) -> str:
    """The preset's name, parsed first because it determines the defaults of the other flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default=next(iter(presets)), nargs="?")
    name = parser.parse_known_args(arguments)[0].preset
    if name not in presets:
        flag = f"--preset {name or 'without a value'}"
        raise UserError(f"{flag}: allowed is one of {', '.join(presets)}{_suggest_word(name, presets)}")
    return name


def _parse_with_tyro(
    base: Config, preset: Setting, known: Mapping[str, Setting], arguments: Sequence[str], program: str
) -> tuple[Config, list[str]]:
    """Parse with tyro, and turn its boxed message on standard error into one line."""
    # The config's class with the preset, already parsed, as one more field.
    field = ("preset", preset.hint, dataclasses.field(default=preset.value))
    options = dataclasses.make_dataclass("Options", [field], bases=(type(base),), frozen=True)
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            words = {"prog": program, "args": arguments, "default": options(**values), "add_help": False}
            parsed, rest = tyro.cli(options, **words, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_explain(known, arguments, message.getvalue())) from None
    return type(base)(**{name: getattr(parsed, name) for name in values}), rest


def _explain(known: Mapping[str, Setting], arguments: Sequence[str], message: str) -> str:
    """Describe a tyro error: flag, value, what is allowed and a suggestion."""
    # The box may break a flag into two lines.
    plain = re.sub(r"[^\x21-\x7e]|\|", "", message)
    positions = [(plain.find(flag), -len(flag), flag) for flag in known if flag in plain]
    if not positions:
        return " ".join(re.sub(r"[^\x20-\x7e]", " ", message).split())
    flag = min(positions)[2]
    setting = known[flag]
    values = _values(flag, arguments)
    given_text = " ".join(values) or "without a value"
    line = setting.error_message(given_text)
    words = list_choices(setting.hint)
    wrong = next((value for value in values if value not in words), given_text)
    guess = _suggest_word(wrong, words)
    return line.rpartition("; ")[0] + guess if guess else line


def _explain_rest(rest: Sequence[str], known: Mapping[str, Setting], arguments: Sequence[str], program: str) -> str:
    """Describe arguments that no flag takes."""
    for flag, setting in known.items():
        values = _values(flag, arguments)
        takes_none = bool in (setting.hint, *typing.get_args(setting.hint))
        if rest[0] in values and (takes_none or len(values) > 1):
            return setting.error_message(" ".join(values))
    return f"{' '.join(rest)}: allowed are flags and their values; {program} --help lists them"


def _refuse_unknown_flags(known: set[str], arguments: Sequence[str]) -> None:
    for argument in arguments:
        flag = argument.partition("=")[0]
        if _is_flag(argument) and flag not in known and not flag.startswith("--tyro-"):
            raise UserError(f"{flag}: no such flag{_suggest_flags(flag, known)}; --help lists them all")


def _is_flag(argument: str) -> bool:
    """Whether an argument is a flag, and not a value such as -3 or -inf."""
    return bool(re.match(r"--?[A-Za-z]", argument)) and argument.lower() not in ("-inf", "-infinity", "-nan")


def _values(flag: str, arguments: Sequence[str]) -> list[str]:
    """The values of a flag's last occurrence, up to the next flag."""
    values: list[str] = []
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == flag:
            values, taking = [value] if equals else [], True
        elif _is_flag(argument):
            taking = False
        elif taking:
            values.append(argument)
    return values


def _suggest_flags(flag: str, known: Iterable[str]) -> str:
    """Similar flags: the same name in another group, flags of a group, or a similar spelling."""
    tails: dict[str, list[str]] = {}
    for name in sorted(known):
        tails.setdefault(_tail(name), []).append(name)
    negation, group = re.fullmatch(r"--(no-)?(.*)", flag), flag.removeprefix("--no-").rpartition(".")[0]
    negated_flag = f"--{group}.no-{_tail(flag)}" if negation and negation[1] and group else flag
    suggestions = [negated_flag] if negated_flag in known else tails.get(_tail(flag), [])
    suggestions = suggestions or sorted(name for name in known if name.startswith(flag + "."))
    suggestions = suggestions or difflib.get_close_matches(flag, sorted(known), n=1, cutoff=0.75)
    suggestions = suggestions or [
        name for tail in difflib.get_close_matches(_tail(flag), tails, n=1) for name in tails[tail]
    ]
    suggestions = suggestions or difflib.get_close_matches(flag, sorted(known), n=1)
    return f"; did you mean {' or '.join(suggestions[:_MAX_SUGGESTIONS])}?" if suggestions else ""


def _tail(flag: str) -> str:
    """The last name in a flag, as `learning-rate` of `--sft.optimizer.learning-rate`."""
    return flag.rpartition(".")[2].lstrip("-")


def _suggest_word(value: str | None, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(value or "", sorted(words), n=1)
    return f"; did you mean {close[0]}?" if close else ""
