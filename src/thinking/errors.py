"""Errors that a user sees as one line instead of a traceback."""

import contextlib
import re
from collections.abc import Iterator

_MAX_WORD = 1000  # characters; longer than most paths


class UserError(Exception):
    """Bad input: a flag, a value or a combination of them. The program prints one line and exits with 2.

    The message names the value, what is allowed and how to fix it.
    """


class RunError(Exception):
    """A failure of a run that is no programming error. The program prints one line and exits with 1.

    Examples: a full disk, a read-only folder, a locked folder, a non-finite loss, a changed config.
    """


def escape_controls(text: str) -> str:
    r"""The text with control characters (C0 but tab and newline, C1, DEL) and lone surrogates as escapes such as \x1b.

    Text of a file or a server could otherwise drive the terminal that it is printed to.
    """
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


def to_line(message: object) -> str:
    """A message as one line without control characters. Of a word of thousands of letters, the start is shown."""
    words = escape_controls(str(message)).split()
    return " ".join(word if len(word) <= _MAX_WORD else f"{word[:100]}... ({len(word)} characters)" for word in words)


@contextlib.contextmanager
def name_flags(**flags: str) -> Iterator[None]:
    """Translate argument names in errors of a library into flags.

    Within `with name_flags(num_nodes="--num-nodes"):` the ValueError "num_nodes 0: allowed is ..." becomes a UserError
    "--num-nodes 0: allowed is ...". Any other error passes unchanged, so a programming error keeps its traceback.

    Args:
        **flags: for each argument name, the flag that its value comes from.

    Raises:
        UserError: in place of a ValueError or a UserError whose message begins with such a name.
    """
    try:
        yield
    except (ValueError, UserError) as error:
        message = str(error)
        name = re.match(r"\w*", message)[0]
        if name not in flags:
            raise
        raise UserError(flags[name] + message.removeprefix(name)) from error
