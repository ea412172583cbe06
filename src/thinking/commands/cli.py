"""Parsing of the command `thinking`, and what each of its commands does."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import tyro
from tyro.conf import Positional, arg, subcommand

from thinking.commands.exported_models import (
    DEFAULT_REASONER,
    draw_model,
    export_run,
    find_models,
    is_model,
    measure_model,
    print_model,
    print_models,
    use_model,
)
from thinking.commands.listing import print_comparison, print_run, print_runs, print_tasks
from thinking.commands.tasks import find_tasks, load_task
from thinking.errors import UserError, escape_controls
from thinking.experiment.command import Task, clear, exit_with_one_line, run_task, use_run
from thinking.experiment.run_comparison import read_groups
from thinking.experiment.run_folders import find_latest
from thinking.experiment.run_records import find_run
from thinking.experiment.saved_config import read_record
from thinking.experiment.settings import list_settings
from thinking.experiment.summary import thinking_command
from thinking.pretrained.export_record import is_exported

TaskName = Literal[tuple(find_tasks())]
RunName = Annotated[str, arg(metavar="RUN", help="a folder, TASK for its latest run, TASK/NAME or TASK/DIGEST")]
ModelName = Annotated[str, arg(metavar="MODEL", help="a model that `list` shows, or an exported folder")]
RunOrModel = Annotated[
    str, arg(metavar="RUN", help="TASK for its latest run, TASK/NAME, a folder, or a model that `list` shows")
]
Artifacts = Annotated[Path, arg(metavar="DIR", help="folder of all runs")]


@dataclasses.dataclass(frozen=True)
class ListCommand:
    """Show all tasks, what each shows, and about how long it takes; and the trained models of the package."""

    def execute(self, flags: Sequence[str]) -> None:
        """Print the tables."""
        print_tasks()
        print_models()


@dataclasses.dataclass(frozen=True)
class RunCommand:
    """Run a task, or continue it. Flags of the task follow: `thinking run TASK --help`."""

    task: Positional[TaskName]
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Run it as `python tasks/TASK.py` does."""
        run_task(load_task(self.task), flags, f"{thinking_command()} run {self.task}")


@dataclasses.dataclass(frozen=True)
class RunsCommand:
    """Show all runs: config, state, result, when and how long."""

    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Print the table."""
        print_runs(self.artifacts)


@dataclasses.dataclass(frozen=True)
class ShowCommand:
    """Show a run: result, config, command, files; or the card of a model."""

    run: Positional[RunOrModel]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Print it."""
        if _is_model(self.run, self.artifacts):
            print_model(self.run)
        else:
            print_run(find_run(self.run, self.artifacts))


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Write the report of a run again, also while it trains, and print its path."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Write it."""
        from thinking.experiment.report import write_report

        print(escape_controls(str(write_report(find_run(self.run, self.artifacts)))))


@dataclasses.dataclass(frozen=True)
class CompareCommand:
    """Show what differs among runs of a task, and what came out, also as a page with curves."""

    runs: Positional[tuple[RunName, ...]]
    to: Annotated[Path, arg(metavar="FILE", help="the page")] = Path("compare.html")
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Print tables, write the page, and say where it is."""
        from thinking.experiment.comparison_page import write_comparison

        groups = read_groups([find_run(run, self.artifacts) for run in self.runs])
        write_comparison(groups, self.to)
        print_comparison(groups)
        print(escape_controls(f"with curves: {self.to}"))


@dataclasses.dataclass(frozen=True)
class ChatCommand:
    """Ask a trained model, by default one of the package. Task flags may follow, as `--answer.method verifier`."""

    run: Positional[RunOrModel] = DEFAULT_REASONER
    artifacts: Artifacts = Path("artifacts")
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Answer typed lines."""
        _start_mode("chat", self.run, self.artifacts, ["--chat", *flags])


@dataclasses.dataclass(frozen=True)
class PlanCommand:
    """Show the plan of a trained guide from A to B."""

    run: Positional[RunOrModel]
    a: Positional[Annotated[str, arg(metavar="A", help="start")]]
    b: Positional[Annotated[str, arg(metavar="B", help="goal")]]
    artifacts: Artifacts = Path("artifacts")
    num_positional: ClassVar[int] = 3

    def execute(self, flags: Sequence[str]) -> None:
        """Print the plan of each guide."""
        _start_mode("plan", self.run, self.artifacts, ["--plan", self.a, self.b, *flags])


@dataclasses.dataclass(frozen=True)
class DrawCommand:
    """Draw what a model does: a plan, an episode, a maze. Flags of its task may follow."""

    model: Positional[ModelName]
    to: Annotated[Path, arg(metavar="DIR", help="folder of the pictures")] = Path("drawn")
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Write pictures and videos."""
        draw_model(self.model, self.to, flags)


@dataclasses.dataclass(frozen=True)
class MeasureCommand:
    """Measure a model on held-out data. Flags of its task may follow, as `--eval.num-words 100`."""

    model: Positional[ModelName]
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Print the table."""
        measure_model(self.model, flags)


@dataclasses.dataclass(frozen=True)
class ExportCommand:
    """Export the model of a run: config.json, model.safetensors and a model card. Flags of its task may follow."""

    run: Positional[RunName]
    to: Annotated[str, arg(metavar="DIR", help="a new folder, or hf:USER/NAME for Hugging Face's hub (needs HF_TOKEN)")]
    dtype: Annotated[Literal["float32", "float16"], arg(help="of the numbers in the file")] = "float32"
    artifacts: Artifacts = Path("artifacts")
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Measure it, and write it."""
        export_run(find_run(self.run, self.artifacts), self.to, self.dtype, flags)


@dataclasses.dataclass(frozen=True)
class ServeCommand:
    """Show runs and models as pages, with a playground, on this machine (needs the extra `serve`)."""

    host: Annotated[str, arg(help="address to listen on; others than 127.0.0.1 let others in")] = "127.0.0.1"
    port: Annotated[int, arg(help="0 takes a free one")] = 8000
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Serve until Ctrl-C."""
        from thinking.serving.server import serve

        serve(self.host, self.port, self.artifacts)


@dataclasses.dataclass(frozen=True)
class ClearCommand:
    """Delete a run."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Delete what the run wrote, and its folder."""
        print(escape_controls(clear(find_run(self.run, self.artifacts))))


COMMANDS = {
    "list": ListCommand,
    "run": RunCommand,
    "runs": RunsCommand,
    "show": ShowCommand,
    "report": ReportCommand,
    "compare": CompareCommand,
    "chat": ChatCommand,
    "plan": PlanCommand,
    "draw": DrawCommand,
    "measure": MeasureCommand,
    "export": ExportCommand,
    "serve": ServeCommand,
    "clear": ClearCommand,
}


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: as `thinking.experiment.main`.
    """
    exit_with_one_line(lambda: _execute(sys.argv[1:]))


def _execute(arguments: Sequence[str]) -> None:
    arguments = list(arguments) or ["--help"]
    name = arguments[0]
    if name not in COMMANDS and not name.startswith("-"):
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
        raise UserError(f"{name}: no such command; {hint}")
    own, flags = _split(arguments)
    _parse(own).execute(flags)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command with its own arguments, and the flags for a task that follow them."""
    name, *rest = arguments
    number = getattr(COMMANDS.get(name), "num_positional", None)
    if number is None:
        return list(arguments), []
    own = [name]
    if name != "run":  # the command's own options, such as `--artifacts`, which says where the run is
        for option in (field.name for field in dataclasses.fields(COMMANDS[name])):
            where = next((at for at, word in enumerate(rest) if word.partition("=")[0] == f"--{option}"), len(rest))
            length = 1 if "=" in "".join(rest[where : where + 1]) else 2
            own += rest[where : where + length]
            rest = rest[:where] + rest[where + length :]
    if name == "chat" and rest[:1] not in (["-h"], ["--help"]) and "".join(rest[:1]).startswith("-"):
        number = 0  # flags alone: the model is the one of the package
    if name == "run" and rest and not rest[0].startswith("-") and rest[0] not in find_tasks():
        load_task(rest[0])  # says what there is
    return own + rest[:number], rest[number:]


def _parse(arguments: Sequence[str]) -> Any:
    """Parse by tyro, and turn its boxed message into one line."""
    choices = tuple(Annotated[known, subcommand(name)] for name, known in COMMANDS.items())
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(
                Union[choices],  # noqa: UP007  of a tuple
                prog="thinking",
                description="A laboratory for small thinking models.",
                args=arguments,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        words = re.sub(r"[^\x20-\x7e]", " ", message.getvalue()).split()
        raise UserError(f"{' '.join(['thinking', *arguments])}: {' '.join(words)}") from None


def _start_mode(mode: str, run: str, artifacts: Path, flags: Sequence[str]) -> None:
    """Start a task with the saved config of a run and the flag `--chat` or `--plan`, or use a model."""
    if _is_model(run, artifacts):
        use_model(run, mode, flags)
        return
    if run in find_tasks():
        _check_mode(load_task(run), mode)
        if find_latest(artifacts / run) is None:
            training = f"{thinking_command()} run {run}"
            shipped = ", ".join(find_models(run))
            instead = f", or use what is trained already: {shipped}" if shipped else ""
            raise UserError(f"{run}: nothing is trained in {artifacts} yet; train it first: {training}{instead}")
    folder = find_run(run, artifacts)
    task = load_task(str(read_record(folder).get("task")))
    _check_mode(task, mode)
    use_run(task, folder, flags, f"{thinking_command()} {mode} {run}")


def _is_model(name: str, artifacts: Path) -> bool:
    """Whether a name is a model's. A run of that name comes first."""
    try:
        folder = find_run(name, artifacts)
    except UserError:
        return is_model(name)
    return is_exported(folder)


def _check_mode(task: Task, mode: str) -> None:
    """Refuse a task whose flags have no `--chat` or `--plan`."""
    if not _supports_mode(task, mode):
        able = [name for name in find_tasks() if _supports_mode(load_task(name), mode)]
        raise UserError(f"{task.name}: its runs cannot {mode}; those of {', '.join(able)} can")


def _supports_mode(task: Task, mode: str) -> bool:
    return mode in {setting.path for setting in list_settings(next(iter(task.configs.values())))}
