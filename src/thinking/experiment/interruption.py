"""SIGINT and SIGTERM: the first ends the run in order, after saving; the second ends it at once."""

import contextlib
import os
import signal
import threading
import time
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Some parents (`timeout`, `uv run`) forward one signal twice, microseconds apart; the copy is ignored.
ECHO_SECONDS = 0.1

_requested_number: int | None = None
_is_holding = False


class Interrupted(BaseException):
    """The run was ended by a signal. Not an `Exception`, so that no task swallows it.

    Args:
        signal_number: the program exits with 128 + `signal_number`.
        message: what was saved and how to continue.
    """

    def __init__(self, signal_number: int, message: str = "") -> None:
        super().__init__(message or "nothing was left to save; run the same command again")
        self.signal_number = signal_number


@contextlib.contextmanager
def catch_signals() -> Iterator[None]:
    """Raise `Interrupted` on the first SIGINT or SIGTERM, and end the process on the second.

    Python runs signal handlers in the main thread between bytecodes, and that thread may wait long for the device. So a
    second thread receives signals through the wake-up file descriptor, and ends the process.
    """
    global _requested_number
    _requested_number = None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, _on_signal) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)  # ends the watching thread


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Defer the first signal: it raises nothing, and `requested_signal` reports it."""
    global _is_holding
    _is_holding = True
    try:
        yield
    finally:
        _is_holding = False


def requested_signal() -> int | None:
    """The number of the signal received, or None."""
    return _requested_number


def _on_signal(number: int, frame: types.FrameType | None) -> None:
    global _requested_number
    first = _requested_number is None
    _requested_number = _requested_number or number
    if first and not _is_holding:
        raise Interrupted(number)


def _watch(reader: int) -> None:
    first: float | None = None
    while received := os.read(reader, 1):
        if received[0] not in SIGNALS:
            continue
        if first is None:
            first = time.monotonic()
            if _is_holding and os.isatty(2):
                os.write(2, b"\r\x1b[Kstopping: the steps under way are finished and saved; once more stops at once\n")
        elif time.monotonic() - first > ECHO_SECONDS:
            if os.isatty(1):
                os.write(1, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(128 + received[0])
    os.close(reader)
