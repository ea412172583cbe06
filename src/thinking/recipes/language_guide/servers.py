"""Servers of the tasks, and a message about cached answers on interruption."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from thinking.errors import name_flags
from thinking.experiment.interruption import Interrupted
from thinking.recipes.language_guide.configs.shared import ServerConfig
from thinking.text import response_cache
from thinking.text.openai_server import Server


@contextlib.contextmanager
def open_server(config: ServerConfig, folder: Path) -> Iterator[Server]:
    """Open a server.

    Args:
        config: its address and limit.
        folder: of cached answers.

    Raises:
        UserError: the address or key is invalid, or the limit is reached.
    """
    flags = name_flags(base_url="--server.base-url", max_requests="--server.max-requests")
    with flags, Server(config.base_url, folder, max_requests=config.max_requests) as server:
        yield server


@contextlib.contextmanager
def report_cached_answers(folder: Path) -> Iterator[None]:
    """Add the number of cached answers to the message of an interruption.

    Raises:
        Interrupted: in place of one within.
    """
    try:
        yield
    except Interrupted as stop:
        message = (
            f"{response_cache.count_answers(folder)} answers are kept in {folder}; the same command goes on from there"
        )
        raise Interrupted(stop.signal_number, message) from None
