"""What a person who runs a task is told in one line instead of a traceback."""


class UserError(Exception):
    """Bad input: a flag, a value or a combination of them. The program prints one line and exits with 2.

    The message names the value, what is allowed and the mend.
    """


class RunError(Exception):
    """A failure of a run that is nobody's programming error. The program prints one line and exits with 1.

    A full disk, a read-only folder, a folder locked by another run, a loss that is not finite, a changed config.
    """
