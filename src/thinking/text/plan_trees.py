"""A text's steps as a nested outline of as many levels as a guide has layers."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from thinking.text.records import NestedSteps, Text

TextPlanTree: TypeAlias = tuple["SubGoal | str", ...]


class SubGoal(NamedTuple):
    """What one sub-goal stands for.

    Attributes:
        heading: in words, where the text has any.
        children: the level below, nodes alone or steps alone; never empty.
    """

    heading: str | None
    children: TextPlanTree


def build_plan_tree(text: Text, num_layers: int, max_group_size: int = 4) -> TextPlanTree:
    """The steps of a text in exactly so many levels: 1 is a flat tuple of steps, each further one groups that below.

    If the text has more levels, the outermost are dropped: with parts, operations and steps for two layers, operations
    stand right below the goal. If it has fewer, its topmost list is cut into runs of neighbours, as often as needed; so
    is the list of a section that lacks a level which others have.

    Args:
        text: a goal and the way there.
        num_layers: levels of the outline.
        max_group_size: the longest run; those of one list differ by at most 1 in length.

    Raises:
        ValueError: for less than one layer or one neighbour.
    """
    if num_layers < 1 or max_group_size < 1:
        raise ValueError(f"outline: {num_layers} layers, runs of {max_group_size}: allowed are whole numbers from 1")
    return _fit_levels(tuple(_nodes(text.steps)), num_layers, max_group_size)


def _nodes(steps: NestedSteps) -> Iterator[SubGoal | str]:
    for entry in steps:
        yield entry if isinstance(entry, str) else SubGoal(entry.heading, tuple(_nodes(entry.steps)))


def _fit_levels(entries: TextPlanTree, levels: int, group: int) -> TextPlanTree:
    while (depth := _depth(entries)) > levels:
        entries = tuple(_unwrap_deepest(entries, depth))
    entries = tuple(
        entry if isinstance(entry, str) else SubGoal(entry.heading, _fit_levels(entry.children, depth - 1, group))
        for entry in entries
    )
    for _ in range(levels - depth):
        entries = tuple(_split_runs(entries, group))
    return entries


def _depth(entries: TextPlanTree) -> int:
    return 1 + max(0 if isinstance(entry, str) else _depth(entry.children) for entry in entries)


def _unwrap_deepest(entries: TextPlanTree, depth: int) -> Iterator[SubGoal | str]:
    """The entries, those of full depth replaced by what is within them."""
    for entry in entries:
        if isinstance(entry, SubGoal) and 1 + _depth(entry.children) == depth:
            yield from entry.children
        else:
            yield entry


def _split_runs(entries: TextPlanTree, group: int) -> Iterator[SubGoal]:
    count = -(-len(entries) // group)
    for run in range(count):
        yield SubGoal(None, entries[run * len(entries) // count : (run + 1) * len(entries) // count])
