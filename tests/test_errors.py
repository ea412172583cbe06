"""A library speaks of its arguments; a person who typed flags is told of these."""

import pytest

from thinking.errors import UserError, name_flags


@pytest.mark.parametrize("kind", [ValueError, UserError])
@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("held_out 0.9: allowed is up to 0.5", "--held-out 0.9: allowed is up to 0.5"),
        ("held_out: none of it", "--held-out: none of it"),
    ],
)
def test_an_error_about_an_argument_names_its_flag(kind, message, told):
    with pytest.raises(UserError) as error, name_flags(texts="--texts", held_out="--held-out"):
        raise kind(message)
    assert str(error.value) == told


@pytest.mark.parametrize(
    "mistake", [ValueError("held_outs 3"), ValueError("a held_out of 3"), ValueError(), UserError("texts"), KeyError(3)]
)
def test_any_other_error_passes_as_it_is(mistake):
    with pytest.raises(type(mistake)) as error, name_flags(held_out="--held-out"):
        raise mistake
    assert error.value is mistake
