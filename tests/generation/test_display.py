"""Colored text on the terminal, printed while it is generated."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from thinking.generation.display import Marks, choose_marks, color_numbered_thoughts, show


def render(texts, terminal=False, width=80):
    out = io.StringIO()
    options = {"force_terminal": True, "color_system": "standard"} if terminal else {}
    show(texts, Console(file=out, width=width, legacy_windows=False, **options))
    return out.getvalue()


def test_numbered_thoughts_keep_their_colors_and_wrong_answers_differ():
    text = color_numbered_thoughts("a b", [3, 11, 3, 4], "c", separator="=")
    assert text.plain == "a b | 3 11 3 4 = c"
    prompt, _, first_three, eleven, second_three, four, _, answer = (span.style for span in text.spans)
    assert first_three == second_three == eleven != four
    assert not {prompt, answer} & {first_three, four}
    wrong_text = color_numbered_thoughts("a b", [], "c", is_correct=False)
    assert wrong_text.plain == "a b | | c"
    assert wrong_text.spans[-1].style != text.spans[-1].style


def test_colors_appear_only_on_terminals(monkeypatch):
    text = Text.assemble(("7+8", "cyan"), ("15", "bold green"))
    assert render([text]) == "7+815\n"
    assert render([text], terminal=True) == "\x1b[36m7+8\x1b[0m\x1b[1;32m15\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert render([text], terminal=True) == "7+8\x1b[1m15\x1b[0m\n"


@pytest.mark.parametrize(
    ("encoding", "terminal", "expected"),
    [
        ("utf-8", "xterm", ("\N{CHECK MARK}", "\N{BALLOT X}")),
        ("ascii", "xterm", ("(right)", "(wrong)")),
        ("latin-1", "xterm", ("(right)", "(wrong)")),
        ("utf-8", "dumb", ("(right)", "(wrong)")),
    ],
)
def test_marks_are_words_where_the_terminal_has_no_such_characters(encoding, terminal, expected, monkeypatch):
    monkeypatch.setenv("TERM", terminal)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert choose_marks(Console(file=out, force_terminal=True)) == Marks(*expected)


def test_text_is_printed_as_it_comes_and_ends_with_a_newline():
    outputs, out = [], io.StringIO()

    def texts():
        for text in ("hi", "", "!"):
            yield Text(text)
            outputs.append(out.getvalue())

    show(texts(), Console(file=out))
    assert outputs == ["hi", "hi", "hi!"]
    assert out.getvalue() == "hi!\n"


def test_text_is_printed_without_markup_or_wrapping():
    text = "[bold]12[/bold] :smile: of  many and   "
    assert render([Text(text), Text("more")], width=10) == f"{text}more\n"


def test_interrupted_text_is_kept_and_ends_with_a_newline():
    out = io.StringIO()

    def texts():
        yield Text("h")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(texts(), Console(file=out))
    assert out.getvalue() == "h\n"
