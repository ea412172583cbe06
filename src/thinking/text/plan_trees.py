"""A text's steps as a plan tree with as many levels as a guide (a hierarchical planner) has layers."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from thinking.text.records import NestedSteps, Text

TextPlanTree: TypeAlias = tuple["SubGoal | str", ...]


class SubGoal(NamedTuple):
    """An inner node of a plan tree.

    Attributes:
        heading: its name, if the text has one.
        children: the level below, sub-goals only or steps only; never empty.
    """

    heading: str | None
    children: TextPlanTree


def build_plan_tree(text: Text, num_layers: int, max_group_size: int = 4) -> TextPlanTree:
    """Group the steps of a text into exactly `num_layers` levels: 1 is a flat tuple of steps.

    If the text has more levels, the outermost are dropped. If it has fewer, the topmost list is split into runs of
    neighbours, repeatedly; so is the list of a section that lacks a level which others have.

    Args:
        text: a goal and its steps.
        num_layers: levels of the tree.
        max_group_size: length of the longest run; runs of one list differ by at most 1.

    Raises:
        ValueError: for less than one layer, or a group size below 1.
    """
    if num_layers < 1 or max_group_size < 1:
        raise ValueError(
            f"build_plan_tree: {num_layers} layers, runs of {max_group_size}: allowed are whole numbers from 1"
        )
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
    """The entries, with those of full depth replaced by their children."""
    for entry in entries:
        if isinstance(entry, SubGoal) and 1 + _depth(entry.children) == depth:
            yield from entry.children
        else:
            yield entry


def _split_runs(entries: TextPlanTree, group: int) -> Iterator[SubGoal]:
    count = -(-len(entries) // group)
    for run in range(count):
        yield SubGoal(None, entries[run * len(entries) // count : (run + 1) * len(entries) // count])
