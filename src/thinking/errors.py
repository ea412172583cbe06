"""What a person who runs a task is told in one line instead of a traceback."""

import contextlib
import re
from collections.abc import Iterator


class UserError(Exception):
    """Bad input: a flag, a value or a combination of them. The program prints one line and exits with 2.

    The message names the value, what is allowed and the mend.
    """


class RunError(Exception):
    """A failure of a run that is nobody's programming error. The program prints one line and exits with 1.

    A full disk, a read-only folder, a folder locked by another run, a loss that is not finite, a changed config.
    """


@contextlib.contextmanager
def name_flags(**flags: str) -> Iterator[None]:
    """Tell a person of flags what a library says of its arguments.

    Within `with name_flags(held_out="--held-out"):` an error that begins with the name of the argument, such as
    "held_out 0.9: allowed is ...", ends as a UserError that begins with "--held-out 0.9: allowed is ...". Any other
    error passes as it is: a mistake of the program keeps its traceback.

    Args:
        **flags: by name of an argument, the flag that its value came from.

    Raises:
        UserError: in place of a ValueError or a UserError that begins with such a name.
    """
    try:
        yield
    except (ValueError, UserError) as error:
        message = str(error)
        name = re.match(r"\w*", message)[0]
        if name not in flags:
            raise
        raise UserError(flags[name] + message.removeprefix(name)) from error
