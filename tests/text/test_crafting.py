"""The bundled crafting texts: splits, wordings, and the order of items."""

import itertools
import json
from collections import Counter
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.crafting import list_required_items, load_crafting_tree, make_texts
from thinking.text.records import Section, iter_steps

ITEMS = json.loads(resources.files("thinking.text").joinpath("data/crafting.json").read_text("utf-8"))["items"]
BY_GOAL = {item["goal"]: name for name, item in ITEMS.items()}
SEEDS = st.integers(0, 2**32 - 1)


def find_required_items(name):
    """An item and all its direct and indirect ingredients."""
    return {name}.union(*(find_required_items(ingredient) for ingredient in ITEMS[name]["from"]))


def make_canonical_steps(name):
    """The canonical steps of an operation."""
    item = ITEMS[name]
    work_steps = [f"{work[0].upper()}{work[1:]}." for work in item["work"]]
    return [f"Go to the {item['place']}.", *([f"Take the {item['tool']}."] if item["tool"] else []), *work_steps]


def list_items_by_part(text):
    """The names of the items that a text makes, one list per part."""
    return [[BY_GOAL[operation.heading] for operation in part.steps] for part in text.steps]


@pytest.fixture(scope="module")
def crafted_texts():
    return make_texts(load_crafting_tree(), seed=0)


def test_tree_has_235_items_with_ingredients_before_products():
    tree = load_crafting_tree()
    assert len(tree.items) == len(BY_GOAL) == 235
    indices = {name: index for index, name in enumerate(tree.items)}
    for name, item in tree.items.items():
        assert all(indices[ingredient] < indices[name] for ingredient in item.ingredients)
        assert set(list_required_items(tree, name)) == find_required_items(name)
        assert list_required_items(tree, name)[-1] == name
    assert set(tree.products) == set(ITEMS) - {ingredient for item in ITEMS.values() for ingredient in item["from"]}


def test_tools_are_named_only_with_their_own_verbs():
    tree = load_crafting_tree()
    verbs_by_tool = {tool: {work.split()[0] for item in tree.items.values() if item.tool == tool for work in item.work}
                     for tool in tree.tool_verbs}  # fmt: skip
    assert all(set(verbs) <= verbs_by_tool[tool] for tool, verbs in tree.tool_verbs.items())
    sentences = set(make_texts(tree, seed=0, num_wordings=99).canonical_steps)
    assert "Use the felling axe to fell a straight oak tree." in sentences
    for verb in ("let", "ask", "hang", "stuff", "skim"):
        assert not any(f"to {verb} " in sentence for sentence in sentences if sentence.startswith("Use the "))
        assert not any(f", {verb} " in sentence for sentence in sentences if sentence.startswith("With the "))


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_held_out_items_are_not_required_by_training_goals(seed):
    texts = make_texts(load_crafting_tree(), seed=seed, num_texts=1, num_wordings=1).texts
    held_out_items = {BY_GOAL[text.goal] for text in texts if text.split == "held_out"}
    training_items = {BY_GOAL[text.goal] for text in texts if text.split == "train"}
    assert len(held_out_items) == 47
    assert training_items == set(ITEMS) - held_out_items
    assert not held_out_items & set().union(*map(find_required_items, training_items))
    for text in texts:
        if text.split == "compound":
            first, second = text.goal.split(" and ")
            assert BY_GOAL[first] in training_items
            assert BY_GOAL[second] in training_items
            assert first != second


def test_training_goals_have_four_texts_and_held_out_goals_one(crafted_texts):
    counts = Counter((text.split, text.goal) for text in crafted_texts.texts)
    assert {split: {n for (s, _), n in counts.items() if s == split} for split in ("train", "held_out")} == {
        "train": {4},
        "held_out": {1},
    }
    assert sum(split == "compound" for split, _ in counts) >= 40


def test_texts_have_parts_operations_and_steps(crafted_texts):
    for text in crafted_texts.texts:
        for part in text.steps:
            assert isinstance(part, Section)
            assert all(isinstance(operation, Section) for operation in part.steps)
            assert all(isinstance(step, str) for operation in part.steps for step in operation.steps)


def test_ingredients_are_made_before_products(crafted_texts):
    for text in crafted_texts.texts:
        names = [name for part in list_items_by_part(text) for name in part]
        for index, name in enumerate(names):
            assert set(ITEMS[name]["from"]) <= set(names[:index])
        for part in list_items_by_part(text):
            assert len(part) == len(set(part))  # no duplicates within a part


def test_wordings_map_to_the_canonical_steps_of_the_tree(crafted_texts):
    for text in crafted_texts.texts:
        steps = [crafted_texts.canonical_steps[step] for step in iter_steps(text.steps)]
        assert steps == list(
            itertools.chain(*(make_canonical_steps(name) for part in list_items_by_part(text) for name in part))
        )
    canonical = set(crafted_texts.canonical_steps.values())
    assert all(crafted_texts.canonical_steps[step] == step for step in canonical)
    num_wordings = Counter(crafted_texts.canonical_steps.values())
    assert max(num_wordings.values()) == 6
    assert min(num_wordings.values()) >= 3


def test_texts_depend_on_the_seed(crafted_texts):
    assert make_texts(load_crafting_tree(), seed=0) == crafted_texts
    assert make_texts(load_crafting_tree(), seed=1) != crafted_texts


def test_single_wording_is_canonical():
    crafted_texts = make_texts(load_crafting_tree(), seed=3, num_wordings=1, num_texts=1)
    assert all(wording == step for wording, step in crafted_texts.canonical_steps.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_wordings": 0}, "^num_wordings 0: allowed is a whole number from 1"),
        ({"num_texts": 0}, "^num_texts 0: allowed is a whole number from 1"),
        ({"held_out_fraction": 0.0}, "^held_out_fraction 0.0: allowed is above 0"),
        ({"held_out_fraction": 0.9}, "up to 0.57; take 0.2"),
    ],
)
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_texts(load_crafting_tree(), seed=0, **arguments)
