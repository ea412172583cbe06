"""Errors about arguments of a library are translated to the flags that a user typed."""

import pytest

from thinking.errors import UserError, escape_controls, name_flags, to_line


def test_control_characters_are_shown_and_other_text_stays():
    assert escape_controls("a\tb\nc é 漢 🐱") == "a\tb\nc é 漢 🐱"
    assert escape_controls("\x1b]0;x\x07\r\x7f\x9b") == r"\x1b]0;x\x07\x0d\x7f\x9b"
    assert escape_controls("caf\udce9") == r"caf\udce9"  # a byte of a file's name that is no UTF-8
    assert to_line("two\nlines \x1b[2J") == r"two lines \x1b[2J"
    assert to_line(f"--seed {'7' * 5000}: no") == f"--seed {'7' * 100}... (5001 characters) no"


@pytest.mark.parametrize("error_type", [ValueError, UserError])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("held_out 0.9: allowed is up to 0.5", "--held-out 0.9: allowed is up to 0.5"),
        ("held_out: none of it", "--held-out: none of it"),
    ],
)
def test_argument_errors_name_the_flag(error_type, message, expected):
    with pytest.raises(UserError) as error, name_flags(texts="--texts", held_out="--held-out"):
        raise error_type(message)
    assert str(error.value) == expected


@pytest.mark.parametrize(
    "original",
    [ValueError("held_outs 3"), ValueError("a held_out of 3"), ValueError(), UserError("texts"), KeyError(3)],
)
def test_other_errors_propagate_unchanged(original):
    with pytest.raises(type(original)) as error, name_flags(held_out="--held-out"):
        raise original
    assert error.value is original
