"""Progress bars and tables on terminals of several widths and kinds."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from thinking import progress
from thinking.experiment import tables


def make_terminal(monkeypatch, width, **environment):
    """Make a terminal the console of this process; returns what is written to it."""
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=True, highlight=False)
    monkeypatch.setattr(progress, "console", lambda: console)
    return output


def show_step(stage="skip_transformer", metric="eval/solved_fraction"):
    with progress.show_progress(stage, 0, 1000, metric) as update:
        update(1000, 0.3203)


@pytest.mark.parametrize(("width", "is_shown"), [(160, "steps/s"), (100, "gone,"), (80, "gone,"), (62, "1000/1000")])
def test_bar_shows_what_fits(monkeypatch, width, is_shown):
    output = make_terminal(monkeypatch, width, NO_COLOR="1")
    show_step()
    line = Text.from_ansi(output.getvalue().split("\r")[-1]).plain.split("\n")[0]
    assert len(line) <= width
    assert "…" not in line
    for part in ("skip_transformer", "eval/solved_fraction 0.3203", is_shown):
        assert part in line


def test_dumb_terminal_gets_plain_lines(monkeypatch):
    output = make_terminal(monkeypatch, 80, TERM="dumb")
    show_step()
    assert "\x1b" not in output.getvalue()
    assert output.getvalue().startswith("skip_transformer: step 1000/1000, ")


def test_no_color_leaves_no_color(monkeypatch):
    for environment, has_color in (({}, True), ({"NO_COLOR": "1"}, False)):
        output = make_terminal(monkeypatch, 80, **environment)
        progress.console().print(Text("thought", "cyan"))
        assert ("\x1b[3" in output.getvalue()) == has_color


@pytest.mark.parametrize("width", [200, 80, 40])
def test_table_fits_and_loses_nothing(monkeypatch, width):
    output = make_terminal(monkeypatch, width)
    rows = [{"model": "a long name of a model", "solved_fraction": 0.5, "seconds": 12345.6, "hidden": 7}]
    tables.print_rows(rows, {"model": "model", "solved_fraction": "solved, %", "seconds": "s", "missing": "?"})
    text = Text.from_ansi(output.getvalue()).plain
    assert max(map(len, text.splitlines())) <= min(width, 80)
    assert "50.0" in text
    assert "12,346" in text
    assert "7" not in text
    assert ("a long name of a model" in text) == (width >= 80)
    assert "?" not in text


def test_many_columns_without_headers_become_two(monkeypatch):
    output = make_terminal(monkeypatch, 80)
    tables.print_rows([{"part": "kernel", **{f"figure_{index}": index for index in range(20)}}])
    text = Text.from_ansi(output.getvalue()).plain
    assert max(map(len, text.splitlines())) <= 80
    assert "figure_19 19" in " ".join(text.split())
