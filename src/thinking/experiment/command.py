"""The command line of a task: parses flags, runs it, and turns errors into one line and an exit code."""

import dataclasses
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinking.errors import RunError, UserError, show_controls, to_line
from thinking.experiment import flags, folder, interruption
from thinking.experiment.config import Config, Preset
from thinking.experiment.identity import name_run
from thinking.experiment.run_folders import list_runs

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)


def main(
    name: str,
    run: Callable[[Any, folder.Run], None],
    presets: Mapping[str, Config | Preset[Config]],
    examples: Sequence[str] = (),
) -> None:
    """Run a task from the command line.

    Args:
        name: of the task and its folder.
        run: called with the config and the `Run`; imports what it needs itself, so that `--help` stays fast.
        presets: choices of `--preset`; the first is the default.
        examples: command lines shown at the end of `--help`.

    Raises:
        SystemExit: with 2 for bad input, 1 for a failed run, 130 or 143 after SIGINT or SIGTERM, each after one line on
            standard error. It returns after success.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the character shows its number
    code = 0
    try:
        with interruption.catch_signals():
            _execute(name, run, presets, examples)
    except UserError as error:
        code = _fail(2, "error", error)
    except RunError as error:
        code = _fail(1, "error", error)
    except interruption.Interrupted as stop:
        code = _fail(128 + stop.signal_number, "interrupted", stop)
    except BrokenPipeError:
        # The reader closed the pipe, so buffered output must not be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _fail(1, "error", RunError("standard output was closed; run the same command again"))
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        where = f" {error.filename}" if error.filename else ""
        code = _fail(1, "error", RunError(f"cannot write{where}: {error.strerror}; what was saved is kept"))
    if code:
        sys.exit(code)


def _execute(
    name: str,
    run: Callable[[Any, folder.Run], None],
    presets: Mapping[str, Config | Preset[Config]],
    examples: Sequence[str],
) -> None:
    program = f"python {sys.argv[0]}"
    config = flags.parse(presets, sys.argv[1:], program, examples)
    configs = {name: preset.config if isinstance(preset, Preset) else preset for name, preset in presets.items()}
    if config.clear:
        print(show_controls(_clear(config.artifacts / name / name_run(config, configs))))
        return
    with folder.open_run(name, config, configs) as opened_run:
        # Imported late, because JAX alone takes two seconds.
        from thinking.experiment import device, metrics

        device.prepare_device()
        command = shlex.join(["python", *sys.argv])
        folder.write_config(opened_run, configs, command, device.describe_device())
        with metrics.open_metric_writers(opened_run) as metric_writers:
            run(config, dataclasses.replace(opened_run, metric_writers=metric_writers))


def _clear(run_folder: Path) -> str:
    """Clear the folder of a run, and say what was done."""
    existed = run_folder.exists()
    left = folder.clear(run_folder)
    if not existed:
        others = ", ".join(other.name for other in list_runs(run_folder.parent))
        return f"there is no {run_folder}" + (f"; runs there: {others}" if others else "")
    return f"cleared {run_folder}" + (f"; left there, as no run wrote it: {', '.join(left)}" if left else "")


def _fail(code: int, kind: str, error: BaseException) -> int:
    """Print the error in one line."""
    print(f"{kind}: {to_line(error)}", file=sys.stderr)
    return code
