"""An interactive chat, line by line: at a terminal, or with piped input."""

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
"""Lines that end the chat, as do the end of the input and Ctrl-C."""


def chat(
    parse: Callable[[str], Question],
    answer: Callable[[Question], Iterable[Text]],
    *,
    greeting: str = "",
    lines: Iterable[str] | None = None,
    console: Console | None = None,
) -> None:
    """Answer lines until there are no more. A signal other than Ctrl-C is raised to the caller.

    Args:
        parse: parses a line; the message of its ValueError is the reply.
        answer: texts of the reply, printed as they come; its exceptions are not caught.
        greeting: shown only at a terminal.
        lines: the input; standard input by default.
        console: the output; standard output by default.
    """
    console = console or progress.console()
    at_terminal = lines is None and sys.stdin.isatty() and console.is_terminal
    if greeting and at_terminal:
        show([Text(greeting)], console)
    with _until_interrupted(console):
        for line in (_read_terminal(console) if at_terminal else sys.stdin) if lines is None else lines:
            line_text = line.strip()
            if line_text.lower() in EXIT_COMMANDS:
                return
            if not line_text:
                continue
            try:
                question = parse(line_text)
            except ValueError as refusal:
                show([Text(str(refusal), "yellow")], console)
            else:
                show(answer(question), console)


def _read_terminal(console: Console) -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history
    while True:
        try:
            line = input("> ")
        except EOFError:
            console.print()
            return
        yield line


@contextlib.contextmanager
def _until_interrupted(console: Console) -> Iterator[None]:
    """Ends its block at Ctrl-C, raised by Python or by `interruption.catch_signals`."""
    try:
        yield
    except KeyboardInterrupt:
        console.print()
    except interruption.Interrupted as stop:
        if stop.signal_number != signal.SIGINT:
            raise
        console.print()
