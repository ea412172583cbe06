"""A text's steps as a nested outline of as many levels as a guide has layers."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from thinking.text.records import Outline, Text

Entries: TypeAlias = tuple["Node | str", ...]


class Node(NamedTuple):
    """What one sub-goal stands for.

    Attributes:
        heading: in words, where the text has any.
        inner: the level below, nodes alone or steps alone; never empty.
    """

    heading: str | None
    inner: Entries


def outline(text: Text, layers: int, group: int = 4) -> Entries:
    """The steps of a text in exactly so many levels: 1 is a flat tuple of steps, each further one groups that below.

    If the text has more levels, the outermost are dropped: with parts, operations and steps for two layers, operations
    stand right below the goal. If it has fewer, its topmost list is cut into runs of neighbours, as often as needed; so
    is the list of a section that lacks a level which others have.

    Args:
        text: a goal and the way there.
        layers: levels of the outline.
        group: the longest run; those of one list differ by at most 1 in length.

    Raises:
        ValueError: for less than one layer or one neighbour.
    """
    if layers < 1 or group < 1:
        raise ValueError(f"outline: {layers} layers, runs of {group}: allowed are whole numbers from 1")
    return _fitted(tuple(_nodes(text.steps)), layers, group)


def _nodes(steps: Outline) -> Iterator[Node | str]:
    for entry in steps:
        yield entry if isinstance(entry, str) else Node(entry.heading, tuple(_nodes(entry.steps)))


def _fitted(entries: Entries, levels: int, group: int) -> Entries:
    while (depth := _depth(entries)) > levels:
        entries = tuple(_opened(entries, depth))
    entries = tuple(
        entry if isinstance(entry, str) else Node(entry.heading, _fitted(entry.inner, depth - 1, group))
        for entry in entries
    )
    for _ in range(levels - depth):
        entries = tuple(_runs(entries, group))
    return entries


def _depth(entries: Entries) -> int:
    return 1 + max(0 if isinstance(entry, str) else _depth(entry.inner) for entry in entries)


def _opened(entries: Entries, depth: int) -> Iterator[Node | str]:
    """The entries, those of full depth replaced by what is within them."""
    for entry in entries:
        if isinstance(entry, Node) and 1 + _depth(entry.inner) == depth:
            yield from entry.inner
        else:
            yield entry


def _runs(entries: Entries, group: int) -> Iterator[Node]:
    count = -(-len(entries) // group)
    for run in range(count):
        yield Node(None, entries[run * len(entries) // count : (run + 1) * len(entries) // count])
