"""Outlines: all steps in order, at exactly the depth that is asked for, in runs of about equal length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.plan_trees import SubGoal, build_plan_tree
from thinking.text.records import Section, Text, iter_steps

WORDS = st.sampled_from(["saw", "screw", "paint", "wait", "木を切る"])
STEPS = st.lists(WORDS, min_size=1, max_size=12).map(tuple)
PARTS = st.lists(st.builds(Section, WORDS, STEPS), min_size=1, max_size=4).map(tuple)
UNEVEN = st.lists(st.builds(Section, WORDS, STEPS | PARTS), min_size=1, max_size=4).map(tuple)
TEXTS = st.builds(Text, WORDS, STEPS | PARTS | UNEVEN)


def steps_in(entries, level=1):
    """(step, the level at which it stands), in order."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry, level
        else:
            yield from steps_in(entry.children, level + 1)


def lists_in(entries):
    yield entries
    for entry in entries:
        if isinstance(entry, SubGoal):
            yield from lists_in(entry.children)


def headings(entries):
    for entry in entries:
        if not isinstance(entry, str):
            yield entry[0]
            yield from headings(entry[1])


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6), st.integers(1, 5))
def test_all_steps_stand_in_order_at_the_level_of_the_layers(text, layers, group):
    assert list(steps_in(build_plan_tree(text, layers, group))) == [(step, layers) for step in iter_steps(text.steps)]


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6))
def test_no_heading_is_invented_and_with_levels_to_spare_none_is_lost(text, layers):
    kept = [heading for heading in headings(build_plan_tree(text, layers)) if heading is not None]
    written = list(headings(text.steps))
    assert kept == written if layers >= 3 else set(kept) <= set(written)


@settings(max_examples=50)
@given(STEPS, st.integers(2, 6), st.integers(1, 5))
def test_a_flat_list_is_cut_into_as_few_runs_as_may_be_of_about_equal_length(steps, layers, group):
    nested = build_plan_tree(Text("goal", steps), layers, group)
    below = len(steps)
    for level in range(layers - 1, 0, -1):
        sizes = [len(node.children) for node in nodes_at(nested, level)]
        assert len(sizes) == -(-below // group)
        assert max(sizes) <= group
        assert max(sizes) - min(sizes) <= 1
        below = len(sizes)


def nodes_at(entries, level):
    return entries if level == 1 else [inner for node in entries for inner in nodes_at(node.children, level - 1)]


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6))
def test_no_list_is_empty_nor_mixed(text, layers):
    for entries in lists_in(build_plan_tree(text, layers)):
        assert len({type(entry) for entry in entries}) == 1


BOAT = Text(
    "building a boat",
    (
        Section("hull", (Section("ribs", ("bend", "fix")), Section("planks", ("saw", "nail")))),
        Section("mast", (Section("mast", ("fell", "trim")),)),
    ),
)
RIBS, PLANKS, MAST = (
    SubGoal("ribs", ("bend", "fix")),
    SubGoal("planks", ("saw", "nail")),
    SubGoal("mast", ("fell", "trim")),
)


def test_too_many_levels_lose_the_outermost():
    assert build_plan_tree(BOAT, 1) == ("bend", "fix", "saw", "nail", "fell", "trim")
    assert build_plan_tree(BOAT, 2) == (RIBS, PLANKS, MAST)
    assert build_plan_tree(BOAT, 3) == (SubGoal("hull", (RIBS, PLANKS)), SubGoal("mast", (MAST,)))


def test_too_few_levels_are_made_by_grouping_the_topmost():
    assert build_plan_tree(BOAT, 4, max_group_size=1) == tuple(
        SubGoal(None, (part,)) for part in build_plan_tree(BOAT, 3)
    )
    flat = Text("counting", tuple("abcde"))
    assert build_plan_tree(flat, 2) == (SubGoal(None, ("a", "b")), SubGoal(None, ("c", "d", "e")))


def test_a_section_that_lacks_a_level_has_its_steps_grouped():
    uneven = Text("both", (Section("long", tuple("abcde")), Section("deep", (Section("inner", ("x",)),))))
    grouped = SubGoal("long", (SubGoal(None, ("a", "b")), SubGoal(None, ("c", "d", "e"))))
    assert build_plan_tree(uneven, 3) == (grouped, SubGoal("deep", (SubGoal("inner", ("x",)),)))
    assert build_plan_tree(uneven, 2) == (SubGoal("long", tuple("abcde")), SubGoal("inner", ("x",)))


def test_one_step_and_ten_thousand():
    assert build_plan_tree(Text("waiting", ("wait",)), 3) == (SubGoal(None, (SubGoal(None, ("wait",)),)),)
    many = tuple(f"step {number}" for number in range(10_000))
    nested = build_plan_tree(Text("much", many), 4)
    assert list(steps_in(nested)) == [(step, 4) for step in many]
    assert len(nested) == 157  # 10,000, by 4 three times, rounded up


@pytest.mark.parametrize(("layers", "group"), [(0, 4), (2, 0)])
def test_no_layers_and_no_neighbours_are_refused(layers, group):
    with pytest.raises(ValueError, match="whole numbers from 1"):
        build_plan_tree(BOAT, layers, group)
