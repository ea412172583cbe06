"""Text on the terminal while it is written."""

import io

import pytest

from thinking.reasoning.display import show


def test_text_is_printed_as_it_comes_and_ends_with_its_line():
    seen, out = [], io.StringIO()

    def pieces():
        for piece in ([104, 105], [], [33]):
            yield piece
            seen.append(out.getvalue())

    assert show(pieces(), lambda tokens: bytes(tokens).decode(), out=out) == [104, 105, 33]
    assert seen == ["hi", "hi", "hi!"]
    assert out.getvalue() == "hi!\n"


def test_a_character_of_several_tokens_is_printed_once_it_is_complete():
    out, seen = io.StringIO(), []

    def pieces():
        for token in "é!".encode():
            yield [token]
            seen.append(out.getvalue())

    show(pieces(), lambda tokens: bytes(tokens).decode(errors="replace"), out=out)
    assert seen == ["", "é", "é!"]


def test_writing_that_is_broken_off_keeps_what_was_shown_and_ends_its_line():
    out = io.StringIO()

    def pieces():
        yield [104]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(pieces(), lambda tokens: bytes(tokens).decode(), out=out)
    assert out.getvalue() == "h\n"
