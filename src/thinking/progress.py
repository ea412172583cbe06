"""What a person sees of a run: lines, and a bar on a terminal."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal

Advance = Callable[[int, float], None]


@functools.cache
def console() -> Console:
    """The console of this process; a bar and the lines above it must share one."""
    return Console(highlight=False)


def log(text: str) -> None:
    """Print a line as it is, above a bar that may be drawn."""
    console().print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a one-line warning to standard error."""
    print(f"warning: {' '.join(text.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown(stage: str, done: int, steps: int, watch: str) -> Iterator[Advance]:
    """Show a stage's progress with rate, time left and the watched figure.

    Args:
        stage: its name.
        done: steps done before.
        steps: steps in all.
        watch: the figure's name.

    Yields:
        A function of (steps done, figure).
    """
    if console().is_terminal:
        with _bar(stage, done, steps, watch) as advance:
            yield advance
    else:
        yield _lines(stage, done, steps, watch)


@contextlib.contextmanager
def _bar(stage: str, done: int, steps: int, watch: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figure]}"),
    )
    rate = _rate(done)
    with Progress(*columns, console=console(), transient=False) as progress:
        task = progress.add_task(stage, total=steps, completed=done, rate="", figure="")

        def advance(now: int, figure: float) -> None:
            progress.update(task, completed=now, rate=f"{rate(now):,.0f} steps/s", figure=f"{watch} {figure:.4g}")

        yield advance


def _lines(stage: str, done: int, steps: int, watch: str) -> Advance:
    rate = _rate(done)
    last = time.monotonic()

    def advance(now: int, figure: float) -> None:
        nonlocal last
        if now < steps and time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        speed = rate(now)
        left = f", {(steps - now) / speed:.0f} s left" if now < steps and speed else ""
        log(f"{stage}: step {now}/{steps}, {speed:,.0f} steps/s{left}, {watch} {figure:.4g}")

    return advance


def _rate(done: int) -> Callable[[int], float]:
    """Steps a second since now, for a stage that starts at step `done`."""
    start = time.monotonic()
    return lambda now: (now - done) / max(time.monotonic() - start, 1e-9)
