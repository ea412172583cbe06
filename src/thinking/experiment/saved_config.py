"""The saved config of a run: reading `config.json`, and the config as it was."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from typing_extensions import TypedDict

from thinking.errors import RunError
from thinking.experiment.config_fields import Config, check
from thinking.experiment.run_folders import CONFIG_FILE
from thinking.experiment.settings import is_group, list_settings
from thinking.files import parse_json

FORMAT_VERSION = 4
"""Format of `config.json`; folders of another format are refused."""
CLEAR_HINT = "empty it with --clear, or choose another folder with --artifacts DIR"


class SavedRecord(TypedDict, extra_items=Any):
    """What is read of `config.json`."""

    config: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str | None]


def read_record(folder: Path) -> SavedRecord:
    """What `config.json` holds.

    Raises:
        RunError: it is missing, damaged or of another format.
    """
    path = folder / CONFIG_FILE
    try:
        content = path.read_bytes()
        if parse_json(content, dict[str, Any]).get("format") != FORMAT_VERSION:
            raise RunError(f"{folder} was written by another version of the program; {CLEAR_HINT}")
        return parse_json(content, SavedRecord)
    except FileNotFoundError as error:
        raise RunError(f"{folder} has no config.json, so its task is unknown; {CLEAR_HINT}") from error
    except (ValueError, IsADirectoryError) as error:
        raise RunError(f"{path} is damaged ({error}); empty the folder with --clear") from error


def load_config(folder: Path, default: Config) -> Config:
    """The config of a run, as its `config.json` has it; `artifacts` is where the folder lies now.

    Args:
        folder: `DIR/TASK/NAME`.
        default: the task's default config. A setting that the file lacks was added later, and gets its default.

    Raises:
        RunError: the file is missing, damaged, of another format, or does not fit the task.
        UserError: a value is out of bounds.
    """
    try:
        config = restore_config(read_record(folder)["config"], default)
    except ValueError as error:
        raise RunError(f"{folder / CONFIG_FILE} does not fit the task; train it anew after --clear") from error
    return dataclasses.replace(config, artifacts=folder.parent.parent)


def restore_config(saved: Mapping[str, Any], default: Config) -> Config:
    """A config from its JSON values; what they lack has its default.

    Raises:
        ValueError: a setting is unknown, or a value is not of its type.
        UserError: a value is out of bounds.
    """
    try:
        config = _restore(default, saved)
    except (TypeError, LookupError) as error:
        raise ValueError(f"the config has a value of another type: {error}") from error
    for setting in list_settings(config):
        if not _fits(setting.hint, setting.value):
            raise ValueError(f"{setting.flag} of the config is not of its type")
    check(config)
    return config


def _restore(part: Any, saved: Mapping[str, Any]) -> Any:
    """A config or group with its saved values."""
    hints = typing.get_type_hints(type(part))
    if not isinstance(saved, Mapping):
        raise TypeError(f"{saved!r:.40} is no group of settings")
    # One that was renamed must not fall back to the default.
    if unknown := saved.keys() - {field.name for field in dataclasses.fields(part)}:
        raise ValueError(f"the config has an unknown setting: {min(unknown)}")
    values = {
        field.name: _restore(getattr(part, field.name), saved[field.name])
        if is_group(getattr(part, field.name))
        else _from_json(hints[field.name], saved[field.name])
        for field in dataclasses.fields(part)
        if field.name in saved
    }
    return dataclasses.replace(part, **values)


def _from_json(hint: Any, value: Any) -> Any:
    """A value of a type from JSON, which has neither tuples nor paths."""
    if isinstance(value, list):
        inner = typing.get_args(hint)
        return tuple(_from_json(inner[0], item) for item in value)
    is_path = hint is Path or Path in typing.get_args(hint)
    return Path(value) if is_path and isinstance(value, str) else value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(inner[0], value)
    if origin is Literal:
        return value in inner
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in inner)
    if origin is tuple:
        parts = [inner[0]] * len(value) if inner[-1] is Ellipsis and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, parts, value))
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if hint is float else hint)
