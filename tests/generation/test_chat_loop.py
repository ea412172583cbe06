"""A conversation: lines in, replies out, at a terminal and through a pipe."""

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


def read(line):
    return int(line)  # its ValueError is the refusal


def answer(question):
    yield Text("twice is ", "cyan")
    yield Text(str(2 * question), "bold")


def transcript(lines, answer=answer):
    out = io.StringIO()
    chat(read, answer, lines=lines, console=Console(file=out, width=200), greeting="Ask me.")
    return out.getvalue()


def at_terminal(monkeypatch, typed):
    """What is seen when something is typed at a terminal: the prompts of lines, and what the console prints."""
    master, slave = pty.openpty()
    os.write(master, typed)
    out = io.StringIO()
    with os.fdopen(slave) as stdin, os.fdopen(master, "rb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", out)
        chat(read, answer, greeting="Ask me.", console=Console(file=out, force_terminal=True, color_system="standard"))
    return out.getvalue()


def test_each_line_is_answered_and_what_is_no_question_is_refused_in_one_line():
    assert transcript(["4\n", "  \n", "four\n", " 5 \n"]) == (
        "twice is 8\ninvalid literal for int() with base 10: 'four'\ntwice is 10\n"
    )


def test_piped_input_is_read_to_its_end_without_prompts_or_colours(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("4\n5"))
    chat(read, answer, greeting="Ask me.")
    assert capsys.readouterr().out == "twice is 8\ntwice is 10\n"


def test_a_line_is_answered_before_the_next_is_read():
    out, seen = io.StringIO(), []

    def lines():
        for line in ("4", "5"):
            yield line
            seen.append(out.getvalue())

    chat(read, answer, lines=lines(), console=Console(file=out))
    assert seen == ["twice is 8\n", "twice is 8\ntwice is 10\n"]


@pytest.mark.parametrize("word", ["quit", "Quit", "exit"])
def test_a_word_ends_it(word):
    assert transcript(["4", word, "5"]) == "twice is 8\n"


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(signal.SIGINT)])
def test_ctrl_c_ends_it_in_peace_also_amid_an_answer(stop):
    def broken(question):
        yield Text("twice")
        raise stop

    assert transcript(["4", "5"], broken).rstrip("\n") == "twice"


def test_a_request_to_terminate_goes_on_to_the_caller():
    def broken(question):
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        transcript(["4"], broken)


def test_a_failure_to_answer_is_no_refusal():
    def broken(question):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        transcript(["4"], broken)


def test_at_a_terminal_there_are_a_greeting_and_prompts_and_colours(monkeypatch):
    seen = at_terminal(monkeypatch, b"4\n\nquit\n")
    assert seen == "Ask me.\n> \x1b[36mtwice is \x1b[0m\x1b[1m8\x1b[0m\n> > "


def test_the_end_of_input_at_a_terminal_leaves_its_line(monkeypatch):
    assert at_terminal(monkeypatch, b"\x04") == "Ask me.\n> \n"
