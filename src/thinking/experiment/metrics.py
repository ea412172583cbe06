"""Metrics of a run: `metrics.jsonl`, and copies in TensorBoard and Weights & Biases."""

import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired

import pydantic
from typing_extensions import TypedDict

from thinking.errors import RunError, UserError
from thinking.experiment.config_fields import to_json
from thinking.experiment.folder import MetricWriter, Run
from thinking.files import parse_json, write_atomic

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"


class _Metrics(TypedDict, extra_items=pydantic.FiniteFloat):
    """A line of `metrics.jsonl`."""

    stage: str
    step: int
    time: NotRequired[str]


class _Sample(TypedDict, extra_items=Any):
    """A line of `samples.jsonl`."""

    stage: str
    step: int


def append(folder: Path, stage: str, step: int, metrics: Mapping[str, Any], name: str = METRICS_FILE) -> None:
    """Append a line: metrics over the steps since the stage's previous line, up to `step`.

    Each is a mean over the steps that measured it, or the latest value (`types.Metrics`); what none of them measured
    is left out.

    Args:
        folder: of the run.
        stage: name of the stage.
        step: number of steps done.
        metrics: JSON values by name. Training adds `time`, the date and time at which the line was written (ISO 8601).
        name: of the file. Lines of `samples.jsonl` describe the step alone.

    Raises:
        RunError: the line cannot be written.
    """
    line = json.dumps({"stage": stage, "step": step, **metrics}, allow_nan=False) + "\n"
    try:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise RunError(f"cannot write {folder / name}: {error.strerror}; the checkpoints are kept") from error


def read(folder: Path, name: str = METRICS_FILE) -> list[dict[str, Any]]:
    """The lines of a run, oldest first, without an incomplete last line of a killed process.

    Raises:
        RunError: a line is damaged.
    """
    path = folder / name
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return [_record(path, number, line) for number, line in enumerate(lines, start=1)]


def rewind(folder: Path, stage: str, step: int, name: str = METRICS_FILE) -> None:
    """Drop a stage's lines after a step, and an incomplete last line, so that a resumed run repeats none.

    Raises:
        RunError: a line is damaged, or the file cannot be written.
    """
    path = folder / name
    remaining = [record for record in read(folder, name) if record["stage"] != stage or record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in remaining)
    try:
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") == text:
            return
        write_atomic(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; the checkpoints are kept") from error


def flush(folder: Path) -> None:
    """Flush the lines to disk, before the checkpoint that relies on them."""
    for path in (folder / METRICS_FILE, folder / SAMPLES_FILE):
        if path.exists():
            with path.open("a") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def open_metric_writers(run: Run) -> Iterator[tuple[MetricWriter, ...]]:
    """Open the metric writers of the config, and close them at the end.

    Raises:
        UserError: a library is not installed.
        RunError: Weights & Biases cannot start.
    """
    with contextlib.ExitStack() as stack:
        writers = []
        if run.config.tensorboard:
            writers.append(stack.enter_context(_open_tensorboard(run.folder / "tensorboard")))
        if run.config.wandb:
            writers.append(stack.enter_context(_open_wandb(run)))
        yield tuple(writers)


@contextlib.contextmanager
def _open_tensorboard(folder: Path) -> Iterator[MetricWriter]:
    library = _import_library("tensorboardX", "--tensorboard")
    writers: dict[str, Any] = {}

    def write(stage: str, step: int, figures: Mapping[str, float]) -> None:
        if stage not in writers:  # purges what an interrupted run wrote after this step
            writers[stage] = library.SummaryWriter(str(folder / stage), purge_step=step)
        for name, value in figures.items():
            writers[stage].add_scalar(name, value, step)

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()


@contextlib.contextmanager
def _open_wandb(run: Run) -> Iterator[MetricWriter]:
    library = _import_library("wandb", "--wandb")
    try:
        config = to_json(run.config)
        wandb_run = library.init(
            project="thinking", name=f"{run.task}/{run.folder.name}", dir=str(run.folder), config=config
        )
    except library.Error as error:
        hint = "set WANDB_API_KEY in the environment, or WANDB_MODE=offline"
        raise RunError(f"--wandb: {str(error).rstrip('.')}; {hint}") from error

    def write(stage: str, step: int, figures: Mapping[str, float]) -> None:
        # Steps of several stages are not monotonic together, so each stage logs its own.
        wandb_run.log({f"{stage}/{name}": value for name, value in {"step": step, **figures}.items()})

    try:
        yield write
    finally:
        wandb_run.finish()


def _import_library(name: str, flag: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{flag} needs {name}, which is not installed: pip install {name}") from error


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return parse_json(line, _Sample if path.name == SAMPLES_FILE else _Metrics)
    except ValueError as error:
        raise RunError(f"{path}, line {number}: damaged ({error}); mend or remove the line, or --clear") from error
