"""The bundled texts: what they teach, what they hold out, and in which order things are made."""

import itertools
import json
from collections import Counter
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.crafting import load_crafting_tree, make_texts, operations
from thinking.text.records import Section, iter_steps

ITEMS = json.loads(resources.files("thinking.text").joinpath("data/crafting.json").read_text("utf-8"))["items"]
BY_GOAL = {item["goal"]: name for name, item in ITEMS.items()}
SEEDS = st.integers(0, 2**32 - 1)


def needed(name):
    """An item and all that it is made of, however indirectly."""
    return {name}.union(*(needed(part) for part in ITEMS[name]["from"]))


def plain_steps(name):
    """An operation in plain words."""
    item = ITEMS[name]
    works = [f"{work[0].upper()}{work[1:]}." for work in item["work"]]
    return [f"Go to the {item['place']}.", *([f"Take the {item['tool']}."] if item["tool"] else []), *works]


def made(text):
    """The names of the items that a text makes, one list a part."""
    return [[BY_GOAL[operation.heading] for operation in part.steps] for part in text.steps]


@pytest.fixture(scope="module")
def bundle():
    return make_texts(load_crafting_tree(), seed=0)


def test_the_tree_is_of_235_items_each_with_a_goal_of_its_own_and_ingredients_before_what_is_made_of_them():
    known = load_crafting_tree()
    assert len(known.items) == len(BY_GOAL) == 235
    places = {name: place for place, name in enumerate(known.items)}
    for name, item in known.items.items():
        assert all(places[part] < places[name] for part in item.ingredients)
        assert set(operations(known, name)) == needed(name)
        assert operations(known, name)[-1] == name
    assert set(known.products) == set(ITEMS) - {part for item in ITEMS.values() for part in item["from"]}


def test_a_tool_is_named_with_works_that_it_does_itself():
    known = load_crafting_tree()
    works = {tool: {work.split()[0] for item in known.items.values() if item.tool == tool for work in item.work}
             for tool in known.tool_verbs}  # fmt: skip
    assert all(set(verbs) <= works[tool] for tool, verbs in known.tool_verbs.items())
    sentences = set(make_texts(known, seed=0, num_wordings=99).canonical_steps)
    assert "Use the felling axe to fell a straight oak tree." in sentences
    for verb in ("let", "ask", "hang", "stuff", "skim"):
        assert not any(f"to {verb} " in sentence for sentence in sentences if sentence.startswith("Use the "))
        assert not any(f", {verb} " in sentence for sentence in sentences if sentence.startswith("With the "))


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_fifth_of_the_items_is_held_out_and_none_of_them_on_the_way_to_a_goal_that_is_taught(seed):
    texts = make_texts(load_crafting_tree(), seed=seed, num_texts=1, num_wordings=1).texts
    hidden = {BY_GOAL[text.goal] for text in texts if text.split == "held_out"}
    taught = {BY_GOAL[text.goal] for text in texts if text.split == "train"}
    assert len(hidden) == 47
    assert taught == set(ITEMS) - hidden
    assert not hidden & set().union(*map(needed, taught))
    for text in texts:
        if text.split == "compound":
            first, second = text.goal.split(" and ")
            assert BY_GOAL[first] in taught
            assert BY_GOAL[second] in taught
            assert first != second


def test_every_goal_of_training_has_several_texts_and_every_other_one(bundle):
    counts = Counter((text.split, text.goal) for text in bundle.texts)
    assert {split: {n for (s, _), n in counts.items() if s == split} for split in ("train", "held_out")} == {
        "train": {4},
        "held_out": {1},
    }
    assert sum(split == "compound" for split, _ in counts) >= 40


def test_a_text_has_parts_and_operations_and_steps(bundle):
    for text in bundle.texts:
        for part in text.steps:
            assert isinstance(part, Section)
            assert all(isinstance(operation, Section) for operation in part.steps)
            assert all(isinstance(step, str) for operation in part.steps for step in operation.steps)


def test_ingredients_are_made_before_what_is_made_of_them(bundle):
    for text in bundle.texts:
        names = [name for part in made(text) for name in part]
        for place, name in enumerate(names):
            assert set(ITEMS[name]["from"]) <= set(names[:place])
        for part in made(text):
            assert len(part) == len(set(part))  # within a part nothing is made twice


def test_every_wording_means_one_step_and_the_texts_say_what_the_tree_says(bundle):
    for text in bundle.texts:
        steps = [bundle.canonical_steps[step] for step in iter_steps(text.steps)]
        assert steps == list(itertools.chain(*(plain_steps(name) for part in made(text) for name in part)))
    plain = set(bundle.canonical_steps.values())
    assert all(bundle.canonical_steps[step] == step for step in plain)
    ways = Counter(bundle.canonical_steps.values())
    assert max(ways.values()) == 6
    assert min(ways.values()) >= 3


def test_the_same_seed_writes_the_same_and_another_one_something_else(bundle):
    assert make_texts(load_crafting_tree(), seed=0) == bundle
    assert make_texts(load_crafting_tree(), seed=1) != bundle


def test_one_wording_is_the_plain_one():
    bundle = make_texts(load_crafting_tree(), seed=3, num_wordings=1, num_texts=1)
    assert all(wording == step for wording, step in bundle.canonical_steps.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_wordings": 0}, "^num_wordings 0: allowed is a whole number from 1"),
        ({"num_texts": 0}, "^num_texts 0: allowed is a whole number from 1"),
        ({"held_out_fraction": 0.0}, "^held_out_fraction 0.0: allowed is above 0"),
        ({"held_out_fraction": 0.9}, "up to 0.57; take 0.2"),
    ],
)
def test_numbers_out_of_range_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        make_texts(load_crafting_tree(), seed=0, **changed)
