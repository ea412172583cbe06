"""The chat loop at a terminal and with piped input."""

import io
import os
import pty
import signal
import sys

import pytest
from rich.console import Console
from rich.text import Text

from thinking.experiment.interruption import Interrupted
from thinking.generation.chat_loop import chat


def parse(line):
    return int(line)  # raises ValueError for an invalid line


def answer(question):
    yield Text("twice is ", "cyan")
    yield Text(str(2 * question), "bold")


def run_chat(lines, answer=answer, **options):
    out = io.StringIO()
    chat(parse, answer, lines=lines, console=Console(file=out, width=200), greeting=[Text("Ask me.")], **options)
    return out.getvalue()


def run_chat_at_terminal(monkeypatch, input_bytes):
    """The output of a chat at a terminal with the given input: prompts and answers."""
    master, slave = pty.openpty()
    os.write(master, input_bytes)
    out = io.StringIO()
    with os.fdopen(slave) as stdin, os.fdopen(master, "rb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", out)
        chat(
            parse,
            answer,
            greeting=[Text("Ask me.")],
            console=Console(file=out, force_terminal=True, color_system="standard"),
        )
    return out.getvalue()


def test_lines_get_answers_and_invalid_lines_get_the_parse_error():
    assert run_chat(["4\n", "  \n", "four\n", " 5 \n"]) == (
        "twice is 8\n\ninvalid literal for int() with base 10: 'four'\ntwice is 10\n"
    )


def test_each_piped_line_gets_one_line():
    lines = ["4", "", "help", "four", "\x1b[2J", "\t", "5"]
    replies = run_chat(
        lines, commands={"help": lambda: [Text("type a number")]}, refuse=lambda line, reason: Text(f"<{line}>")
    ).splitlines()
    assert replies == ["twice is 8", "<>", "type a number", "<four>", r"<\x1b[2J>", "<>", "twice is 10"]


def test_bytes_that_are_no_text_are_refused_and_the_chat_goes_on(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x1b[31m\n5\n"), encoding="utf-8"))
    first, second = run_chat(None).splitlines()
    assert first.startswith("invalid literal")
    assert first.isprintable()
    assert second == "twice is 10"


def test_piped_input_is_answered_without_prompts_or_colors(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("4\n5"))
    chat(parse, answer, greeting=[Text("Ask me.")])
    assert capsys.readouterr().out == "twice is 8\ntwice is 10\n"


def test_line_is_answered_before_the_next_is_read():
    out, outputs = io.StringIO(), []

    def lines():
        for line in ("4", "5"):
            yield line
            outputs.append(out.getvalue())

    chat(parse, answer, lines=lines(), console=Console(file=out))
    assert outputs == ["twice is 8\n", "twice is 8\ntwice is 10\n"]


@pytest.mark.parametrize("command", ["quit", "Quit", "exit"])
def test_exit_command_ends_the_chat(command):
    assert run_chat(["4", command, "5"]) == "twice is 8\n"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), Interrupted(signal.SIGINT)])
def test_interrupt_during_an_answer_ends_the_chat_without_error(interrupt):
    def interrupted_answer(question):
        yield Text("twice")
        raise interrupt

    assert run_chat(["4", "5"], interrupted_answer).rstrip("\n") == "twice"


def test_sigterm_is_raised_to_the_caller():
    def interrupted_answer(question):
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_chat(["4"], interrupted_answer)


def test_exception_in_answer_is_raised_to_the_caller():
    def failing_answer(question):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_chat(["4"], failing_answer)


def test_terminal_shows_greeting_prompts_and_colors(monkeypatch):
    output = run_chat_at_terminal(monkeypatch, b"4\n\nquit\n")
    assert output == "Ask me.\n> \x1b[36mtwice is \x1b[0m\x1b[1m8\x1b[0m\n> > "


def test_end_of_input_at_a_terminal_ends_the_line(monkeypatch):
    assert run_chat_at_terminal(monkeypatch, b"\x04") == "Ask me.\n> \n"
