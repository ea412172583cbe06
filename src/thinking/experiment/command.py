"""The command line of a task: parses flags, runs it, and turns errors into one line and an exit code."""

import dataclasses
import errno
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinking import progress
from thinking.errors import RunError, UserError, escape_controls, to_line
from thinking.experiment import flags, folder, interruption
from thinking.experiment.config_fields import Config, Preset, RunConfig, list_changes, to_json
from thinking.experiment.identity import locate_run
from thinking.experiment.run_folders import REPORT_FILE, RESULTS_FILE, list_runs
from thinking.experiment.saved_config import load_config, read_record
from thinking.experiment.summary import LAUNCHER, format_next

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)
_NAMES = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
"""Error numbers of an invalid path, or of one where another kind of file lies."""
_CLOSED_OUTPUT = 141  # what a shell shows of a program that SIGPIPE ended


@dataclasses.dataclass(frozen=True)
class Task:
    """What a task's file hands to `main`.

    Attributes:
        name: of the task and its folder.
        run: called with the config and the `Run`; imports what it needs itself, so that `--help` stays fast.
        presets: choices of `--preset`; the first is the default.
        examples: command lines shown at the end of `--help`.
        use: `use(config, trained)` does with a loaded model what `--chat` or `--plan` does with a run.
        measure: `measure(config, trained) -> rows` of results, as a run's own.
        metric_headers: headers of these rows by name.
        draw: `draw(config, trained, folder)` writes pictures or videos.
    """

    name: str
    run: Callable[[Any, folder.Run], None]
    presets: Mapping[str, RunConfig | Preset]
    examples: Sequence[str] = ()
    use: Callable[[Any, Any], None] | None = None
    measure: Callable[[Any, Any], list[dict[str, Any]]] | None = None
    metric_headers: Mapping[str, str] | None = None
    draw: Callable[[Any, Any, Path], None] | None = None

    @property
    def configs(self) -> dict[str, RunConfig]:
        """The configs of the presets."""
        return {name: known.config if isinstance(known, Preset) else known for name, known in self.presets.items()}

    @property
    def default_config(self) -> RunConfig:
        """The config of the fields' own defaults, without a preset."""
        return type(next(iter(self.configs.values())))()

    @property
    def description(self) -> str:
        """The first line of the docstring of the task's file; empty without one."""
        module = getattr(self.run, "__globals__", {})
        return (module.get("__doc__") or "").strip().partition("\n")[0]


def main(
    name: str,
    run: Callable[[Any, folder.Run], None],
    presets: Mapping[str, Config | Preset[Config]],
    examples: Sequence[str] = (),
) -> None:
    """Run a task from the command line; the arguments are those of `Task`.

    Raises:
        SystemExit: with 2 for bad input, 1 for a failed run, 130 or 143 after SIGINT or SIGTERM, 141 if the reader of
            the output left before the end, each after one line on standard error. It returns after success.
    """
    task = Task(name, run, presets, examples)
    program = f"{os.environ.get(LAUNCHER, 'python')} {sys.argv[0]}"
    exit_with_one_line(lambda: run_task(task, sys.argv[1:], program))


def exit_with_one_line(function: Callable[[], None]) -> None:
    """Call a function of the command line; end the process after one line if it fails, as `main` does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the character shows its number
    code = 0
    try:
        with interruption.catch_signals():
            try:
                function()
            finally:
                sys.stdout.flush()  # here, as an error at exit would be a traceback
    except UserError as error:
        code = _fail(2, "error", error)
    except RunError as error:
        code = _fail(1, "error", error)
    except interruption.Interrupted as stop:
        code = _fail(128 + stop.signal_number, "interrupted", stop)
    except BrokenPipeError:
        progress.discard_output()
    except OSError as error:
        if error.errno in _STORAGE:
            code = _fail(1, "error", f"cannot write {_name_file(error)}: {error.strerror}; what was saved is kept")
        elif error.errno in _NAMES:
            code = _fail(2, "error", f"{_name_file(error)}: {error.strerror}; name another, or move what is there")
        else:
            raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of tokenizers, as of all Rust; its class cannot be imported
            raise
        code = _fail(1, "error", f"a library failed ({error}); give it less, or other input")
    if progress.is_output_discarded() and not code:
        code = _fail(_CLOSED_OUTPUT, "error", "standard output was closed before the end; what was saved is kept")
    if code:
        sys.exit(code)


def run_task(task: Task, arguments: Sequence[str], program: str) -> None:
    """Parse the flags of a task, and run it in the folder of its config.

    Args:
        task: the task.
        arguments: the flags.
        program: the command before them, for `--help` and `config.json`.

    Raises:
        UserError: bad input.
        RunError: the run failed.
    """
    start = time.monotonic()
    config = flags.parse(task.presets, arguments, program, task.examples)
    run_folder = locate_run(config.artifacts / task.name, config, task.configs)
    if config.clear:
        print(escape_controls(clear(run_folder)))
        return
    if (use := config.find_use()) and not (run_folder / RESULTS_FILE).exists():
        training = f"{program} {shlex.join(argument for argument in arguments if argument != use)}".rstrip()
        raise UserError(f"{use}: this config is not trained to the end yet in {run_folder}; train it with: {training}")
    with folder.open_run(run_folder, config) as opened_run:
        if not use:
            progress.log(f"{task.name}: writes to {run_folder}/")
        # Imported late, because JAX alone takes two seconds.
        from thinking.experiment import device, memory_check, metrics

        device.prepare_device()
        command = f"{program} {shlex.join(arguments)}".rstrip()
        if not use:
            folder.write_config(opened_run, task.configs, command, device.describe_device(), task.description)
        try:
            with metrics.open_metric_writers(opened_run) as metric_writers:
                task.run(config, dataclasses.replace(opened_run, metric_writers=metric_writers))
        except interruption.Interrupted:
            folder.add_seconds(run_folder, time.monotonic() - start)
            raise
        except (MemoryError, RuntimeError) as error:
            if not memory_check.is_out_of_memory(error):
                raise
            raise memory_check.make_error(config, "there is not enough memory") from error
        folder.add_seconds(run_folder, time.monotonic() - start)
        if not use:
            _draw_report(run_folder)


def use_run(task: Task, run_folder: Path, arguments: Sequence[str], program: str) -> None:
    """Run a task with the saved config of a finished run, of which flags change what affects no weights.

    Raises:
        UserError: bad input, or the run is not finished.
        RunError: the run failed, or its config cannot be read.
    """
    config = load_finished(task, run_folder, arguments, program)
    with folder.lock_run(run_folder):
        from thinking.experiment import device

        device.prepare_device()
        task.run(config, folder.Run(run_folder, config))


def load_finished(task: Task, run_folder: Path, arguments: Sequence[str], program: str) -> Any:
    """The saved config of a finished run, of which flags change what affects no weights.

    Raises:
        UserError: bad input, or the run is not finished.
        RunError: the config cannot be read.
    """
    config = change_config(load_config(run_folder, task.default_config), arguments, program)
    if not (run_folder / RESULTS_FILE).exists():
        raise UserError(f"{run_folder} is not finished; go on with: {read_record(run_folder).get('command')}")
    return config


def change_config(saved: Any, arguments: Sequence[str], program: str) -> Any:
    """A saved config, of which flags change what affects no weights.

    Raises:
        UserError: bad input.
    """
    config = flags.parse({"saved": saved}, arguments, program)
    if differences := list_changes(to_json(saved), config):
        raise UserError(f"{'; '.join(differences)}: weights depend on that; leave it out, or train another run")
    return config


def clear(run_folder: Path) -> str:
    """Clear the folder of a run, and say what was done."""
    existed = run_folder.exists()
    left = folder.clear(run_folder)
    if not existed:
        others = ", ".join(other.name for other in list_runs(run_folder.parent))
        return f"there is no {run_folder}" + (f"; runs there: {others}" if others else "")
    return f"cleared {run_folder}" + (f"; left there, as no run wrote it: {', '.join(left)}" if left else "")


def _name_file(error: OSError) -> str:
    """The file of an error. Those of writes to standard output name none."""
    return error.filename2 or error.filename or "standard output"


def _draw_report(run_folder: Path) -> None:
    """Write the report and say where it is, or warn: what the run found is saved already."""
    import jinja2

    from thinking import progress
    from thinking.experiment.report import write_report

    try:
        path = write_report(run_folder)
    except (OSError, ValueError, TypeError, LookupError, RunError, jinja2.TemplateError) as error:
        again = format_next(run_folder, "report RUN")
        progress.warn(f"{run_folder / REPORT_FILE} could not be written: {error}; try again with: {again}")
    else:
        progress.log(f"report:   {path}")


def _fail(code: int, kind: str, error: object) -> int:
    """Print the error in one line."""
    print(f"{kind}: {to_line(error)}", file=sys.stderr)
    return code
