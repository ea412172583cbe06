"""What identifies a run: the settings that affect its weights, and the content of the files that it reads."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinking.errors import RunError
from thinking.experiment.config_fields import RunConfig, to_json
from thinking.experiment.run_folders import find_by_digest
from thinking.experiment.settings import Setting, format_value, list_choices, list_settings

_DIGEST_LENGTH = 6
_MAX_SHOWN = 2
"""Settings that a folder's name shows."""
_MAX_WORD_LENGTH = 24


def name_run(config: RunConfig, presets: Mapping[str, RunConfig]) -> str:
    """The name of a run's folder, as `default-num-nodes64-seed0-1f3a9c`.

    It has the nearest preset, the first settings that differ from it, the seed, and a digest of what identifies the
    run. Settings that do not affect weights change nothing in it.

    Raises:
        RunError: a file that a setting names cannot be read.
    """
    changes = {
        name: [change for change in find_changes(config, base) if change.affects_weights]
        for name, base in presets.items()
    }
    preset = min(changes, key=lambda name: len(changes[name]))
    words = [_describe(setting) for setting in changes[preset] if setting.path != "seed"]
    seeds = [
        _describe(setting) for setting in list_settings(config) if setting.path == "seed" and setting.affects_weights
    ]
    return "-".join([preset, *words[:_MAX_SHOWN], *seeds, compute_digest(config)])


def locate_run(task_folder: Path, config: RunConfig, presets: Mapping[str, RunConfig]) -> Path:
    """The folder of a run: one that has its digest in its name, or else where it is to be made."""
    name = name_run(config, presets)
    return find_by_digest(task_folder, name.rpartition("-")[2]) or task_folder / name


def describe_config(config: RunConfig, presets: Mapping[str, RunConfig]) -> tuple[str, dict[str, Any]]:
    """The nearest preset, and the settings that differ from it, as JSON values by flag.

    Flags that say where and how to write are left out.
    """
    changes = {name: find_changes(config, base) for name, base in presets.items()}
    preset = min(
        changes, key=lambda name: (sum(change.affects_weights for change in changes[name]), len(changes[name]))
    )
    return preset, {change.flag: to_json(change.value) for change in changes[preset]}


def find_changes(config: RunConfig, base: RunConfig) -> list[Setting]:
    """The settings of a config that differ from those of another, but for flags that say where and how to write."""
    general = {setting.path for setting in list_settings(RunConfig())} - {"seed"}
    values = {setting.path: to_json(setting.value) for setting in list_settings(base)}
    return [
        setting
        for setting in list_settings(config)
        if setting.path not in general and values.get(setting.path) != to_json(setting.value)
    ]


def compute_digest(config: RunConfig) -> str:
    """Six hexadecimal digits of what identifies a run.

    A setting counts if it affects weights and differs from its default, so that a later version may add settings.
    """
    values = {
        setting.path: to_json(setting.value)
        for setting in list_settings(config)
        if setting.affects_weights and to_json(setting.value) != to_json(setting.default)
    }
    text = json.dumps({"settings": values, "inputs": hash_inputs(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def hash_inputs(config: RunConfig) -> dict[str, str]:
    """A digest of each file and folder on which weights depend: by flag, or by the name that the config gives it.

    Raises:
        RunError: one cannot be read.
    """
    named = [setting for setting in list_settings(config) if setting.affects_weights and not list_choices(setting.hint)]
    paths = {setting.flag: Path(setting.value) for setting in named if isinstance(setting.value, Path | str)}
    paths |= config.list_inputs()
    try:
        return {name: _hash_path(path) for name, path in paths.items() if path.name and path.exists()}
    except OSError as error:
        raise RunError(f"cannot read {error.filename}: {error.strerror}; make it readable, or name another") from error


def _hash_path(path: Path) -> str:
    """A digest of a file, or of names and contents of all files below a folder."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path)} {content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def _describe(setting: Setting) -> str:
    """A setting in a folder's name, as `width64`, `no-gated` or `path-roads`."""
    name, value = setting.path.rpartition(".")[2], setting.value
    if isinstance(value, bool):
        word = name if value else f"no-{name}"
    elif isinstance(value, int | float):
        word = f"{name}{value}"
    else:
        word = f"{name}-{value.stem if isinstance(value, Path) else format_value(value)}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", word)[:_MAX_WORD_LENGTH].strip("-.")
