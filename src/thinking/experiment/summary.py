"""What a run says at its end: what was found, where it is, and what to do next. Free of JAX."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from thinking import progress

LAUNCHER = "THINKING_LAUNCHER"
"""Variable with the command that starts tasks, as `./run_manual.sh local`, for messages that name a command."""
_MAX_FILES = 5


def thinking_command() -> str:
    """How to call the command `thinking` here."""
    if launcher := os.environ.get(LAUNCHER):
        return f"{launcher} thinking"
    return "thinking" if shutil.which("thinking") else "python -m thinking.commands"


def print_summary(folder: Path, headline: str | None, next_steps: Sequence[str]) -> None:
    """Print the last lines of a run.

    Args:
        folder: of the run.
        headline: what was found, in a sentence.
        next_steps: commands to go on with, see `format_next`.
    """
    files = describe_files(folder)
    more = f", and {len(files) - _MAX_FILES} more" if len(files) > _MAX_FILES else ""
    if headline:
        progress.log(f"found:    {headline}")
    progress.log(f"saved in: {folder}/")
    progress.log(f"          {', '.join(files[:_MAX_FILES])}{more}")
    for step in next_steps:
        progress.log(f"next:     {format_next(folder, step)}")


def format_next(folder: Path, step: str) -> str:
    """A command to go on with, for a run that lies in a folder; RUN in it stands for the run."""
    artifacts = folder.parent.parent
    where = [] if artifacts == Path("artifacts") else ["--artifacts", str(artifacts)]
    words = [name_for_commands(folder) if word == "RUN" else word for word in shlex.split(step)]
    return f"{thinking_command()} {shlex.join([*words, *where])}"


def name_for_commands(folder: Path) -> str:
    """As `simple/1f3a9c`: task and digest, by which commands find a run."""
    return f"{folder.parent.name}/{folder.name.rpartition('-')[2]}"


def describe_files(folder: Path) -> list[str]:
    """The files of a run that a person opens: results, pictures and videos first, then its other files."""
    shown = sorted(path for name in ("plots", "videos") for path in (folder / name).glob("*"))
    others = sorted(path for path in folder.glob("[!.]*.*") if path.is_file() and path.name != "results.json")
    results = [path for path in [folder / "results.json"] if path.exists()]
    return [str(path.relative_to(folder)) for path in (*results, *shown, *others)]


def format_seconds(seconds: float) -> str:
    """As `45 s`, `2 min` or `1.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
