"""Exporting a trained model: to a folder, or to Hugging Face's hub."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from thinking.errors import RunError, UserError, to_line
from thinking.experiment.config_fields import RunConfig, to_json
from thinking.experiment.saved_config import SavedRecord
from thinking.experiment.settings import list_settings
from thinking.files import sync_folder, write_atomic
from thinking.pretrained.export_record import CARD_FILE, CONFIG_FILE, FILES, FORMAT_VERSION, WEIGHTS_FILE
from thinking.pretrained.recipes import find_recipe
from thinking.pretrained.weights import Dtype, compute_digest, encode_params, round_params
from thinking.trees import count_parameters

HUB_PREFIX = "hf:"


class PreparedExport(NamedTuple):
    """A model that is ready to be written.

    Attributes:
        task: whose run it is of.
        trained: the model, with its parameters as they are in the file.
        dtype: of the floating-point numbers in the file.
        record: what `config.json` of the run holds.
    """

    task: str
    trained: Any
    dtype: Dtype
    record: SavedRecord


def prepare_export(task: str, config: RunConfig, folder: Path, record: SavedRecord, dtype: Dtype) -> PreparedExport:
    """The model of a finished run, rounded as in the file, so that what is measured is what is shared.

    Args:
        task: its name.
        config: of the run.
        folder: of the run.
        record: what its `config.json` holds.
        dtype: of the floating-point numbers in the file.

    Raises:
        UserError: models of the task cannot be exported, or a parameter does not fit the type.
        RunError: the checkpoint is missing or damaged.
    """
    recipe = find_recipe(task)
    selected = recipe.select(config)
    params = jax.tree.map(jax.numpy.asarray, round_params(recipe.read_params(config, folder), dtype))
    return PreparedExport(task, recipe.build(selected, params), dtype, record)


def make_files(export: PreparedExport, card: str, summary: str) -> dict[str, bytes]:
    """The contents of all files by name, in the order in which they are written.

    Args:
        export: the model.
        card: `README.md`.
        summary: what the model does, in a line.
    """
    weights = encode_params(export.trained.params, export.dtype)
    general = {setting.path for setting in list_settings(RunConfig())} - {"seed"}
    config = {name: value for name, value in to_json(export.trained.config).items() if name not in general}
    content = {
        "format": FORMAT_VERSION,
        "library_name": "thinking",
        "task": export.task,
        "summary": summary,
        "architecture": type(export.trained).__name__,
        "dtype": export.dtype,
        "num_parameters": count_parameters(export.trained.params),
        "sha256": compute_digest(weights),
        "config": config,
        "versions": export.record["versions"],
    }
    encoded = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    return {CARD_FILE: card.encode(), WEIGHTS_FILE: weights, CONFIG_FILE: encoded}


def format_command(task: str, record: Mapping[str, Any]) -> str:
    """The command that trains the run, without flags that say where and how to write."""
    preset, words = record.get("preset", "default"), []
    for flag, value in record.get("changed", {}).items():
        if flag in ("--chat", "--plan"):
            continue
        if isinstance(value, bool):
            head, dot, name = flag.rpartition(".")
            words.append(flag if value else (f"{head}.no-{name}" if dot else f"--no-{flag.removeprefix('--')}"))
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(["thinking", "run", task, *(["--preset", preset] if preset != "default" else []), *words])


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """Write an export to a folder, each file whole or not at all; an older export there is replaced.

    Raises:
        UserError: the folder has other files, or the path is no folder.
        OSError: it cannot be written.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)  # no config speaks of weights that are being replaced
    for name, content in files.items():
        write_atomic(folder / name, content)
    sync_folder(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder that has files of others.

    Raises:
        UserError: it has, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: a file is there; give a new folder")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES) if folder.exists() else []
    if others:
        raise UserError(f"--to {folder}: it has other files ({', '.join(others[:3])}); give a new folder")


def parse_hub_target(target: str) -> str:
    """The repository of `hf:USER/NAME`, after a check that the package and the token of an upload are there.

    Raises:
        UserError: the name is not USER/NAME, a package is missing, or there is no token in HF_TOKEN.
    """
    name = target.removeprefix(HUB_PREFIX)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise UserError(f"--to {target}: allowed is a folder or {HUB_PREFIX}USER/NAME")
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UserError(f"--to {target}: huggingface_hub is not installed; pip install huggingface_hub") from None
    if not os.environ.get("HF_TOKEN"):
        raise UserError(f"--to {target}: set HF_TOKEN to a token of huggingface.co that may write")
    return name


def upload(files: Mapping[str, bytes], target: str) -> str:
    """Upload an export to Hugging Face's hub, as one commit, and return its address.

    Raises:
        UserError: as `parse_hub_target`.
        RunError: the hub refused it or cannot be reached.
    """
    import httpx2
    import huggingface_hub

    name, token = parse_hub_target(target), os.environ["HF_TOKEN"]
    api = huggingface_hub.HfApi(token=token)
    try:
        address = api.create_repo(name, exist_ok=True)
        operations = [huggingface_hub.CommitOperationAdd(file, content) for file, content in files.items()]
        api.create_commit(name, operations, commit_message="Export of thinking")
    except (httpx2.HTTPError, OSError, ValueError) as error:
        text = to_line(error).replace(token, "HF_TOKEN")
        raise RunError(f"{target} could not be uploaded: {type(error).__name__}: {text}"[:500]) from None
    return str(address)
