"""Plan trees: all steps in order at the given depth, in groups of about equal size."""

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


def iter_steps_with_level(entries, level=1):
    """(step, its level), in order."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry, level
        else:
            yield from iter_steps_with_level(entry.children, level + 1)


def iter_child_lists(entries):
    yield entries
    for entry in entries:
        if isinstance(entry, SubGoal):
            yield from iter_child_lists(entry.children)


def iter_headings(entries):
    for entry in entries:
        if not isinstance(entry, str):
            yield entry[0]
            yield from iter_headings(entry[1])


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6), st.integers(1, 5))
def test_all_steps_are_in_order_at_the_lowest_level(text, num_layers, max_group_size):
    assert list(iter_steps_with_level(build_plan_tree(text, num_layers, max_group_size))) == [
        (step, num_layers) for step in iter_steps(text.steps)
    ]


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6))
def test_headings_come_from_the_text_and_are_kept_if_possible(text, num_layers):
    tree_headings = [heading for heading in iter_headings(build_plan_tree(text, num_layers)) if heading is not None]
    text_headings = list(iter_headings(text.steps))
    assert tree_headings == text_headings if num_layers >= 3 else set(tree_headings) <= set(text_headings)


@settings(max_examples=50)
@given(STEPS, st.integers(2, 6), st.integers(1, 5))
def test_flat_list_is_cut_into_few_groups_of_equal_size(steps, num_layers, max_group_size):
    tree = build_plan_tree(Text("goal", steps), num_layers, max_group_size)
    num_children = len(steps)
    for level in range(num_layers - 1, 0, -1):
        sizes = [len(node.children) for node in find_nodes_at_level(tree, level)]
        assert len(sizes) == -(-num_children // max_group_size)
        assert max(sizes) <= max_group_size
        assert max(sizes) - min(sizes) <= 1
        num_children = len(sizes)


def find_nodes_at_level(entries, level):
    return (
        entries
        if level == 1
        else [child for node in entries for child in find_nodes_at_level(node.children, level - 1)]
    )


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 6))
def test_children_are_all_steps_or_all_sub_goals(text, num_layers):
    for entries in iter_child_lists(build_plan_tree(text, num_layers)):
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


def test_surplus_outer_levels_are_dropped():
    assert build_plan_tree(BOAT, 1) == ("bend", "fix", "saw", "nail", "fell", "trim")
    assert build_plan_tree(BOAT, 2) == (RIBS, PLANKS, MAST)
    assert build_plan_tree(BOAT, 3) == (SubGoal("hull", (RIBS, PLANKS)), SubGoal("mast", (MAST,)))


def test_missing_levels_are_added_by_grouping_the_top():
    assert build_plan_tree(BOAT, 4, max_group_size=1) == tuple(
        SubGoal(None, (part,)) for part in build_plan_tree(BOAT, 3)
    )
    flat = Text("counting", tuple("abcde"))
    assert build_plan_tree(flat, 2) == (SubGoal(None, ("a", "b")), SubGoal(None, ("c", "d", "e")))


def test_shallow_sections_have_their_steps_grouped():
    uneven = Text("both", (Section("long", tuple("abcde")), Section("deep", (Section("inner", ("x",)),))))
    grouped = SubGoal("long", (SubGoal(None, ("a", "b")), SubGoal(None, ("c", "d", "e"))))
    assert build_plan_tree(uneven, 3) == (grouped, SubGoal("deep", (SubGoal("inner", ("x",)),)))
    assert build_plan_tree(uneven, 2) == (SubGoal("long", tuple("abcde")), SubGoal("inner", ("x",)))


def test_one_step_and_ten_thousand_steps():
    assert build_plan_tree(Text("waiting", ("wait",)), 3) == (SubGoal(None, (SubGoal(None, ("wait",)),)),)
    steps = tuple(f"step {number}" for number in range(10_000))
    tree = build_plan_tree(Text("much", steps), 4)
    assert list(iter_steps_with_level(tree)) == [(step, 4) for step in steps]
    assert len(tree) == 157  # 10,000, by 4 three times, rounded up


@pytest.mark.parametrize(("num_layers", "max_group_size"), [(0, 4), (2, 0)])
def test_invalid_sizes_raise(num_layers, max_group_size):
    with pytest.raises(ValueError, match="whole numbers from 1"):
        build_plan_tree(BOAT, num_layers, max_group_size)
