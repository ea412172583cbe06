"""Progress and log lines: a bar on a terminal, plain lines elsewhere and where `TERM` is dumb."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from thinking.errors import escape_controls, to_line

SECONDS_BETWEEN_LINES = 5.0  # between two progress lines without a terminal

_WIDTH_WITH_BAR = 120
_WIDTH_WITH_TIMES = 80
_is_discarded = False

ProgressFn = Callable[[int, float | None], None]
"""`update(steps done, metric)`; without a metric, the last one stays."""


class PlainConsole(Console):
    """A console to which text is text: no markup, no emoji codes, and control characters are shown as escapes."""

    def __init__(self, width: int | None = None) -> None:
        """Write to standard output; `width` in place of the terminal's."""
        super().__init__(highlight=False, markup=False, emoji=False, width=width)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable; those that steer the terminal are rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_controls(segment.text))

    def on_broken_pipe(self) -> None:
        """Go on without output. A reader that leaves early, as `head`, costs no results; rich would exit here."""
        discard_output()


@functools.cache
def console() -> PlainConsole:
    """The console of this process, shared by bars and log lines."""
    return PlainConsole()


def discard_output() -> None:
    """Discard all further output, as its reader has left."""
    global _is_discarded
    _is_discarded = True
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def is_output_discarded() -> bool:
    """Whether the reader of the output left before the end."""
    return _is_discarded


def log(text: str) -> None:
    """Print a line unchanged, above any progress bar."""
    console().print(text, soft_wrap=True)


def warn(text: str) -> None:
    """Print a one-line warning to standard error."""
    print(f"warning: {to_line(text)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def show_status(text: str) -> Iterator[None]:
    """Say what is being done while nothing else is shown: a spinner on a terminal, a line elsewhere."""
    if console().is_terminal and not console().is_dumb_terminal:
        with console().status(escape(text)):
            yield
    else:
        log(text)
        yield


@contextlib.contextmanager
def show_progress(stage: str, start_step: int, num_steps: int, progress_metric: str) -> Iterator[ProgressFn]:
    """Show a stage's progress with rate, time left and one metric.

    Args:
        stage: its name.
        start_step: steps done before.
        num_steps: total steps.
        progress_metric: name of the metric.

    Yields:
        `update(steps done, metric)`.
    """
    if console().is_terminal and not console().is_dumb_terminal:
        with _bar(stage, start_step, num_steps, progress_metric) as update:
            yield update
    else:
        yield _lines(stage, start_step, num_steps, progress_metric)


@contextlib.contextmanager
def _bar(stage: str, start_step: int, num_steps: int, progress_metric: str) -> Iterator[ProgressFn]:
    rate = _rate(start_step)
    with Progress(*_make_columns(console().width), console=console(), transient=False) as progress:
        task = progress.add_task(stage, total=num_steps, completed=start_step, rate="", value="")

        def update_bar(now: int, value: float | None) -> None:
            progress.update(task, completed=now, rate=f"{rate(now):,.0f} steps/s")
            if value is not None:
                progress.update(task, value=f"{progress_metric} {value:.4g}")

        yield update_bar


def _make_columns(width: int) -> list[ProgressColumn]:
    """The columns for which a terminal has room: bar and rate are left out first, then times."""
    name, value = (TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[value]}"))
    times = [TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(compact=True), TextColumn("left")]
    columns: list[ProgressColumn] = [name]
    if width >= _WIDTH_WITH_BAR:
        columns += [BarColumn(20)]
    columns += [MofNCompleteColumn()]
    if width >= _WIDTH_WITH_BAR:
        columns += [TextColumn("{task.fields[rate]}")]
    if width >= _WIDTH_WITH_TIMES:
        columns += times
    return [*columns, value]


def _lines(stage: str, start_step: int, num_steps: int, progress_metric: str) -> ProgressFn:
    rate = _rate(start_step)
    last, shown = time.monotonic(), ""

    def print_line(now: int, value: float | None) -> None:
        nonlocal last, shown
        if value is not None:
            shown = f", {progress_metric} {value:.4g}"
        if now < num_steps and time.monotonic() - last < SECONDS_BETWEEN_LINES:
            return
        last = time.monotonic()
        speed = rate(now)
        left = f", {(num_steps - now) / speed:.0f} s left" if now < num_steps and speed else ""
        log(f"{stage}: step {now}/{num_steps}, {speed:,.0f} steps/s{left}{shown}")

    return print_line


def _rate(start_step: int) -> Callable[[int], float]:
    """Steps per second since this call, for a stage that starts at step `start_step`."""
    start = time.monotonic()
    return lambda now: (now - start_step) / max(time.monotonic() - start, 1e-9)
