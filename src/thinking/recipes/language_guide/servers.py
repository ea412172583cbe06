"""Servers that tasks ask, and the answers that are kept whatever ends a run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from thinking.errors import name_flags
from thinking.experiment.interruption import Interrupted
from thinking.recipes.language_guide.configs.shared import ServerConfig
from thinking.text import response_cache
from thinking.text.server import Server


@contextlib.contextmanager
def open_server(config: ServerConfig, folder: Path) -> Iterator[Server]:
    """A server to ask.

    Args:
        config: its address and limit.
        folder: where its answers are kept.

    Raises:
        UserError: there can be no such server, or an answer is wanted and the limit is reached.
    """
    flags = name_flags(base_url="--server.base-url", max_requests="--server.max-requests")
    with flags, Server(config.base_url, folder, max_requests=config.max_requests) as server:
        yield server


@contextlib.contextmanager
def report_cached_answers(folder: Path) -> Iterator[None]:
    """Tell whoever interrupts how many answers are kept in a folder.

    Raises:
        Interrupted: in place of one within.
    """
    try:
        yield
    except Interrupted as stop:
        kept = (
            f"{response_cache.count_answers(folder)} answers are kept in {folder}; the same command goes on from there"
        )
        raise Interrupted(stop.signal_number, kept) from None
