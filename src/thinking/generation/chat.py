"""A conversation, line by line: with a person at a terminal, or with whatever is piped in."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from thinking import progress
from thinking.experiment import interruption
from thinking.generation.display import show

Question = TypeVar("Question")

EXIT_COMMANDS = ("quit", "exit")
"""Lines that end it, as do the end of the input and Ctrl-C."""


def chat(
    parse: Callable[[str], Question],
    answer: Callable[[Question], Iterable[Text]],
    *,
    greeting: str = "",
    lines: Iterable[str] | None = None,
    console: Console | None = None,
) -> None:
    """Answer lines until there are no more. A signal other than Ctrl-C goes on to the caller.

    Args:
        parse: understands a line; it raises ValueError for one that it does not, and its message is the reply.
        answer: texts of the reply, printed as they come; what it raises is no refusal, but a failure.
        greeting: is said at a terminal alone.
        lines: what is asked; the standard input by default.
        console: where to; the standard output by default.
    """
    console = console or progress.console()
    at_terminal = lines is None and sys.stdin.isatty() and console.is_terminal
    if greeting and at_terminal:
        show([Text(greeting)], console)
    with _until_interrupted(console):
        for line in (_read_terminal(console) if at_terminal else sys.stdin) if lines is None else lines:
            asked = line.strip()
            if asked.lower() in EXIT_COMMANDS:
                return
            if not asked:
                continue
            try:
                question = parse(asked)
            except ValueError as refusal:
                show([Text(str(refusal), "yellow")], console)
            else:
                show(answer(question), console)


def _read_terminal(console: Console) -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  lets a person mend a line and find those before it
    while True:
        try:
            line = input("> ")
        except EOFError:
            console.print()
            return
        yield line


@contextlib.contextmanager
def _until_interrupted(console: Console) -> Iterator[None]:
    """Ends what is within at Ctrl-C, whether Python tells of it or `interruption.catch_signals`."""
    try:
        yield
    except KeyboardInterrupt:
        console.print()
    except interruption.Interrupted as stop:
        if stop.signal_number != signal.SIGINT:
            raise
        console.print()
