"""The command line of a task: parses flags, runs it, and turns errors into one line and an exit code."""

import dataclasses
import errno
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thinking import progress
from thinking.errors import RunError, UserError, show_controls, to_line
from thinking.experiment import flags, folder, interruption
from thinking.experiment.config import Config, Preset

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)
_NAMES = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
"""Of a path that cannot be, or where something else lies."""
_CLOSED_OUTPUT = 141  # what a shell shows of a program that SIGPIPE ended


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
        SystemExit: with 2 for bad input, 1 for a failed run, 130 or 143 after SIGINT or SIGTERM, 141 if the reader of
            the output left before the end, each after one line on standard error. It returns after success.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the character shows its number
    code = 0
    try:
        with interruption.catch_signals():
            try:
                _execute(name, run, presets, examples)
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


def _execute(
    name: str,
    run: Callable[[Any, folder.Run], None],
    presets: Mapping[str, Config | Preset[Config]],
    examples: Sequence[str],
) -> None:
    config = flags.parse(presets, sys.argv[1:], f"python {sys.argv[0]}", examples)
    if config.clear:
        cleared, left = folder.clear(name, config)
        kept = f"; left there, as no run wrote it: {', '.join(left)}" if left else ""
        print(show_controls(f"cleared {cleared}{kept}"))
        return
    with folder.open_run(name, config) as opened_run:
        # Imported late, because JAX alone takes two seconds.
        from thinking.experiment import device, memory, metrics

        device.prepare_device()
        folder.write_config(opened_run, device.describe_device())
        with metrics.open_metric_writers(opened_run) as metric_writers:
            try:
                run(config, dataclasses.replace(opened_run, metric_writers=metric_writers))
            except (MemoryError, RuntimeError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                raise memory.make_error(config, "there is not enough memory") from error


def _name_file(error: OSError) -> str:
    """The file of an error. Those of writes to standard output name none."""
    return error.filename2 or error.filename or "standard output"


def _fail(code: int, kind: str, error: object) -> int:
    """Print the error in one line."""
    print(f"{kind}: {to_line(error)}", file=sys.stderr)
    return code
