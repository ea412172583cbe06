"""Parsing of the command `thinking`, and what each of its commands does."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Union

import tyro
from tyro.conf import Positional, arg, subcommand

from thinking.commands.listing import print_comparison, print_run, print_runs, print_tasks
from thinking.commands.tasks import find_tasks, load_task
from thinking.errors import UserError, show_controls
from thinking.experiment.command import Task, clear, exit_with_one_line, run_task, use_run
from thinking.experiment.comparison import read_groups
from thinking.experiment.run_folders import find_latest
from thinking.experiment.run_records import find_run
from thinking.experiment.saved_config import read_record
from thinking.experiment.settings import settings
from thinking.experiment.summary import thinking_command

TaskName = Literal[tuple(find_tasks())]
RunName = Annotated[str, arg(metavar="RUN", help="a folder, TASK for its latest run, TASK/NAME or TASK/DIGEST")]
Artifacts = Annotated[Path, arg(metavar="DIR", help="folder of all runs")]


@dataclasses.dataclass(frozen=True)
class List:
    """Show all tasks, what each shows, and about how long it takes."""

    def execute(self, flags: Sequence[str]) -> None:
        """Print the table."""
        print_tasks()


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a task, or continue it. Flags of the task follow: `thinking run TASK --help`."""

    task: Positional[TaskName]
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Run it as `python tasks/TASK.py` does."""
        run_task(load_task(self.task), flags, f"{thinking_command()} run {self.task}")


@dataclasses.dataclass(frozen=True)
class Runs:
    """Show all runs: config, state, result, when and how long."""

    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Print the table."""
        print_runs(self.artifacts)


@dataclasses.dataclass(frozen=True)
class Show:
    """Show a run: result, config, command, files."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Print it."""
        print_run(find_run(self.run, self.artifacts))


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the report of a run again, also while it trains, and print its path."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Write it."""
        from thinking.experiment.report import write_report

        print(show_controls(str(write_report(find_run(self.run, self.artifacts)))))


@dataclasses.dataclass(frozen=True)
class Compare:
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
        print(show_controls(f"with curves: {self.to}"))


@dataclasses.dataclass(frozen=True)
class Chat:
    """Ask a trained model. Flags of its task may follow, as `--answer.method verifier`."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")
    num_positional: ClassVar[int] = 1

    def execute(self, flags: Sequence[str]) -> None:
        """Answer typed lines."""
        _use("chat", self.run, self.artifacts, ["--chat", *flags])


@dataclasses.dataclass(frozen=True)
class Plan:
    """Show the plan of a trained guide from A to B."""

    run: Positional[RunName]
    a: Positional[Annotated[str, arg(metavar="A", help="start")]]
    b: Positional[Annotated[str, arg(metavar="B", help="goal")]]
    artifacts: Artifacts = Path("artifacts")
    num_positional: ClassVar[int] = 3

    def execute(self, flags: Sequence[str]) -> None:
        """Print the plan of each guide."""
        _use("plan", self.run, self.artifacts, ["--plan", self.a, self.b, *flags])


@dataclasses.dataclass(frozen=True)
class Clear:
    """Delete a run."""

    run: Positional[RunName]
    artifacts: Artifacts = Path("artifacts")

    def execute(self, flags: Sequence[str]) -> None:
        """Delete what the run wrote, and its folder."""
        print(show_controls(clear(find_run(self.run, self.artifacts))))


COMMANDS = {
    "list": List,
    "run": Run,
    "runs": Runs,
    "show": Show,
    "report": Report,
    "compare": Compare,
    "chat": Chat,
    "plan": Plan,
    "clear": Clear,
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
    if name != "run":  # `--artifacts` says where the run is
        where = next((at for at, word in enumerate(rest) if word.partition("=")[0] == "--artifacts"), len(rest))
        length = 1 if "=" in "".join(rest[where : where + 1]) else 2
        own += rest[where : where + length]
        rest = rest[:where] + rest[where + length :]
    if name == "run" and rest and not rest[0].startswith("-") and rest[0] not in find_tasks():
        load_task(rest[0])  # says what there is
    return own + rest[:number], rest[number:]


def _parse(arguments: Sequence[str]) -> List | Run | Runs | Show | Report | Compare | Chat | Plan | Clear:
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


def _use(use: str, run: str, artifacts: Path, flags: Sequence[str]) -> None:
    """Start a task with the saved config of a run and the flag `--chat` or `--plan`."""
    if run in find_tasks():
        _check_use(load_task(run), use)
        if find_latest(artifacts / run) is None:
            training = f"{thinking_command()} run {run}"
            raise UserError(f"{run}: nothing is trained in {artifacts} yet; train it first: {training}")
    folder = find_run(run, artifacts)
    task = load_task(str(read_record(folder).get("task")))
    _check_use(task, use)
    use_run(task, folder, flags, f"{thinking_command()} {use} {run}")


def _check_use(task: Task, use: str) -> None:
    """Refuse a task whose flags have no `--chat` or `--plan`."""
    if not _takes(task, use):
        able = [name for name in find_tasks() if _takes(load_task(name), use)]
        raise UserError(f"{task.name}: its runs cannot {use}; those of {', '.join(able)} can")


def _takes(task: Task, use: str) -> bool:
    return use in {setting.path for setting in settings(next(iter(task.configs.values())))}
