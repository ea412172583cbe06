"""An interactive chat, line by line: at a terminal, or with piped input."""

import contextlib
import io
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from thinking import progress
from thinking.errors import escape_controls
from thinking.experiment import interruption
from thinking.generation.display import show

Question = TypeVar("Question")

EXIT_COMMANDS = ("quit", "exit")
"""Lines that end the chat, as do the end of the input and Ctrl-C."""


def chat(
    parse: Callable[[str], Question],
    answer: Callable[[Question], Iterable[Text]],
    *,
    greeting: Iterable[Text] = (),
    commands: Mapping[str, Callable[[], Iterable[Text]]] | None = None,
    refuse: Callable[[str, str], Text] = lambda line, reason: Text(reason, "yellow"),
    lines: Iterable[str] | None = None,
    console: Console | None = None,
) -> None:
    """Answer lines until there are no more. A signal other than Ctrl-C is raised to the caller.

    Piped input gets one reply for each line, so that lines correspond: a blank line is refused without a reason.

    Args:
        parse: parses a line; the message of its ValueError is the reason of a refusal.
        answer: texts of the reply, printed as they come; its exceptions are not caught.
        greeting: shown only at a terminal.
        commands: replies to lines that are these words, such as `help`.
        refuse: the reply to a line that is refused, and the reason; by default the reason alone.
        lines: the input; standard input by default.
        console: the output; standard output by default.
    """
    console = console or progress.console()
    at_terminal = lines is None and is_at_terminal(console)
    if at_terminal:
        show(greeting, console)
    if lines is None and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")  # bytes that are no text are refused as a line
    with _until_interrupted(console):
        for line in (_read_terminal(console) if at_terminal else sys.stdin) if lines is None else lines:
            text = escape_controls(line.strip())
            if text.lower() in EXIT_COMMANDS:
                return
            if command := (commands or {}).get(text.lower()):
                show(command(), console)
            elif text:
                show(_reply(text, parse, answer, refuse), console)
            elif not at_terminal:
                show([refuse("", "")], console)


def is_at_terminal(console: Console) -> bool:
    """Whether a person types and reads."""
    return sys.stdin.isatty() and console.is_terminal


def _reply(
    text: str,
    parse: Callable[[str], Question],
    answer: Callable[[Question], Iterable[Text]],
    refuse: Callable[[str, str], Text],
) -> Iterable[Text]:
    try:
        question = parse(text)
    except ValueError as refusal:
        return [refuse(text, str(refusal))]
    return answer(question)


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
