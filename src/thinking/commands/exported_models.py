"""What the command `thinking` does with exported models, and with those that the package ships."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thinking import progress
from thinking.commands.tasks import load_task
from thinking.errors import RunError, UserError, escape_controls
from thinking.experiment.command import Task, change_config, load_finished
from thinking.experiment.run_records import read_run as read_run_record
from thinking.experiment.summary import thinking_command
from thinking.experiment.tables import print_rows
from thinking.pretrained.export_record import (
    CARD_FILE,
    WEIGHTS_FILE,
    find_model,
    is_exported,
    list_shipped,
    read_record,
)

DEFAULT_REASONER = "reasoner"
"""What one chats with unless another model is named."""


def is_model(name: str) -> bool:
    """Whether a name is that of a shipped model, or of a folder with an exported one."""
    return name in list_shipped() or is_exported(Path(name))


def find_models(task: str) -> list[str]:
    """The names of the models of a task that the package ships."""
    return [name for name, folder in list_shipped().items() if read_record(folder)["task"] == task]


def print_models() -> None:
    """Print the models that the package ships."""
    rows = []
    for name, folder in list_shipped().items():
        record = read_record(folder)
        size = f"{(folder / WEIGHTS_FILE).stat().st_size / 1000:.0f} kB"
        rows.append({"model": name, "task": record["task"], "what it does": record["summary"], "size": size})
    print_rows(rows)


def print_model(name: str) -> None:
    """Print the card of a model.

    Raises:
        RunError: its files are damaged.
    """
    folder = find_model(name)
    read_record(folder)
    try:
        card = (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunError(f"cannot read {folder / CARD_FILE}: {error.strerror}") from error
    print(escape_controls(card))


def use_model(name: str, mode: str, flags: Sequence[str]) -> None:
    """Do with a model what `--chat` or `--plan` does with a run.

    Raises:
        UserError: the model cannot do that, or bad input.
        RunError: its files are damaged.
    """
    task = load_task(read_record(find_model(name))["task"])
    if task.use is None or mode not in _list_modes(task):
        raise UserError(f"{name} is a model of {task.name}; such models cannot {mode}; see: {thinking_command()} list")
    from thinking.experiment.device import compile_quickly

    with compile_quickly():
        trained, config = _load(name, task, flags, f"{thinking_command()} {mode} {name}")
        task.use(config, trained)


def measure_model(name: str, flags: Sequence[str]) -> None:
    """Measure a model on held-out data, and print the rows."""
    task = load_task(read_record(find_model(name))["task"])
    trained, config = _load(name, task, flags, f"{thinking_command()} measure {name}")
    print_rows(task.measure(config, trained), task.metric_headers)


def draw_model(name: str, to: Path, flags: Sequence[str]) -> None:
    """Write pictures or videos of what a model does, and say where.

    Raises:
        UserError: models of the task cannot be drawn.
    """
    task = load_task(read_record(find_model(name))["task"])
    if task.draw is None:
        raise UserError(f"{name} is a model of {task.name}; such models cannot be drawn; try {thinking_command()} chat")
    trained, config = _load(name, task, flags, f"{thinking_command()} draw {name}")
    to.mkdir(parents=True, exist_ok=True)
    task.draw(config, trained, to)
    progress.log(f"drawn in: {to}/ ({', '.join(sorted(path.name for path in to.glob('[!.]*.*')))})")


def export_run(run_folder: Path, to: str, dtype: Any, flags: Sequence[str]) -> None:
    """Export the model of a finished run, measured as it is in the file.

    Raises:
        UserError: bad input, or the run is not finished.
        RunError: the checkpoint is damaged, or the hub refused the export.
    """
    from thinking.experiment import device
    from thinking.experiment.cards import describe_target, render_card
    from thinking.pretrained import exporting, recipes
    from thinking.trees import count_parameters

    program = f"{thinking_command()} export"
    record = read_run_record(run_folder).saved
    task = load_task(str(record["task"]))
    recipe = recipes.find_recipe(task.name)
    config = load_finished(task, run_folder, flags, program)
    is_upload = to.startswith(exporting.HUB_PREFIX)
    # Refused before anything is measured.
    exporting.parse_hub_target(to) if is_upload else exporting.check_folder(Path(to))
    device.prepare_device()
    export = exporting.prepare_export(task.name, config, run_folder, record, dtype)
    rows = task.measure(export.trained.config, export.trained)
    name = describe_target(to)
    commands = {
        "train": exporting.format_command(task.name, record),
        "export": shlex.join(["thinking", "export", task.name, "--to", name, "--dtype", dtype, *flags]),
        "measure": f"thinking measure {name}",
    }
    facts = {
        "num_parameters": count_parameters(export.trained.params),
        "dtype": dtype,
        "versions": record["versions"],
    }
    card = render_card(name, task.name, recipe.CARD, rows, task.metric_headers, commands, facts)
    files = exporting.make_files(export, card, recipe.CARD.summary)
    print_rows(rows, task.metric_headers)
    if is_upload:
        progress.log(f"exported to: {exporting.upload(files, to)}")
    else:
        exporting.write_folder(files, Path(to))
        progress.log(f"exported to: {to}/ ({sum(map(len, files.values())) / 1000:.0f} kB)")


def _load(name: str, task: Task, flags: Sequence[str], program: str) -> tuple[Any, Any]:
    """A model, and its config with what flags change."""
    from thinking.experiment import device
    from thinking.pretrained.loading import load

    device.prepare_device()
    trained = load(name)
    return trained, change_config(trained.config, flags, program)


def _list_modes(task: Task) -> set[str]:
    from thinking.experiment.settings import list_settings

    return {setting.path for setting in list_settings(task.default_config)} & {"chat", "plan"}
