"""The bundled texts: how things are made, written out from a crafting tree.

An item is made from others, at a place, with a tool, by some work. To make one is to make its ingredients first, each
from its own ingredients, and then to put them together. So a text has three levels: *parts* (an ingredient, or the
thing itself), in each the *operations* that lead to it, and in each of these the *steps*: go to the place, take the
tool, do the work. Every step is worded in several ways.
"""

import dataclasses
import functools
import json
import random
from collections.abc import Mapping
from importlib import resources

from thinking.text.records import Section, Text


@dataclasses.dataclass(frozen=True)
class Item:
    """A thing that can be made or gathered.

    Attributes:
        goal: what making it is called, such as "sawing oak planks".
        ingredients: names of other items, in the order in which they are made; none for what is gathered.
        place: where the work is done.
        tool: what it is done with, if with anything.
        work: the work itself, each step beginning with a verb.
    """

    goal: str
    ingredients: tuple[str, ...]
    place: str
    tool: str | None
    work: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CraftingTree:
    """All items, and words that may stand for each other.

    Attributes:
        items: by name, ingredients before what is made of them.
        synonyms: other verbs for a verb.
        tool_verbs: for a tool the verbs of what it does itself; other works at its place are done while it is at hand.
    """

    items: Mapping[str, Item]
    synonyms: Mapping[str, tuple[str, ...]]
    tool_verbs: Mapping[str, tuple[str, ...]]

    @property
    def products(self) -> list[str]:
        """Names of the items that nothing else is made of."""
        used = {name for item in self.items.values() for name in item.ingredients}
        return [name for name in self.items if name not in used]


@functools.cache
def load_crafting_tree() -> CraftingTree:
    """The tree that comes with the project."""
    read = json.loads(resources.files("thinking.text").joinpath("data/crafting.json").read_text("utf-8"))
    items = {
        name: Item(item["goal"], tuple(item["from"]), item["place"], item["tool"], tuple(item["work"]))
        for name, item in read["items"].items()
    }
    words = ({word: tuple(others) for word, others in read[name].items()} for name in ("synonyms", "uses"))
    return CraftingTree(items, *words)


@dataclasses.dataclass(frozen=True)
class CraftedTexts:
    """What is written from a tree.

    Attributes:
        texts: of all three splits: "train", several for each goal; "held_out", of goals that no training text has, not
            on the way to another either; "compound", of two goals that were each taught, one after the other.
        canonical_steps: for each wording the step that it words, by that step's plainest wording.
    """

    texts: tuple[Text, ...]
    canonical_steps: Mapping[str, str]


def make_texts(
    tree: CraftingTree, *, seed: int, num_wordings: int = 6, num_texts: int = 4, held_out_fraction: float = 0.2
) -> CraftedTexts:
    """Texts for all goals of a tree.

    Args:
        tree: the tree.
        seed: of the goals that are held out, the wording, and the pairs of goals.
        num_wordings: in how many ways a step may be worded.
        num_texts: how many texts each goal of training has, each worded by chance.
        held_out_fraction: share of all items that is held out, of those that nothing else is made of.

    Raises:
        ValueError: if a number is out of range, or so many items cannot be held out.
    """
    for name, count in {"num_wordings": num_wordings, "num_texts": num_texts}.items():
        if count < 1:
            raise ValueError(f"{name} {count}: allowed is a whole number from 1")
    chance, products = random.Random(seed), tree.products
    count = round(held_out_fraction * len(tree.items))
    if not 0 < count < len(products) - 1:
        share = (len(products) - 2) / len(tree.items)
        raise ValueError(f"held_out_fraction {held_out_fraction}: allowed is above 0, up to {share:.2f}; take 0.2")
    hidden = set(chance.sample(products, count))
    taught = [name for name in tree.items if name not in hidden]
    ways = {
        step: _word_step(tree, step, item, num_wordings, chance)
        for item in tree.items.values()
        for step in _steps(item)
    }
    ways = _drop_ambiguous(ways)

    def text(names: list[str], split: str) -> Text:
        goal = " and ".join(tree.items[name].goal for name in names)
        parts = tuple(part for name in names for part in _parts(tree, name, ways, chance))
        return Text(goal, parts, split)

    pairs = [chance.sample([name for name in taught if name in products], 2) for _ in range(count)]
    written = (
        *(text([name], "train") for name in taught for _ in range(num_texts)),
        *(text([name], "held_out") for name in tree.items if name in hidden),
        *(text(pair, "compound") for pair in pairs),
    )
    return CraftedTexts(written, {wording: step for step, worded in ways.items() for wording in worded})


def operations(tree: CraftingTree, name: str) -> list[str]:
    """Names of the items on the way to one, itself the last, each once, ingredients first."""
    found: dict[str, None] = {}
    for ingredient in tree.items[name].ingredients:
        found |= dict.fromkeys(operations(tree, ingredient))
    return [*found, name]


def _parts(tree: CraftingTree, name: str, ways: Mapping[str, list[str]], chance: random.Random) -> list[Section]:
    def operation(made: str) -> Section:
        item = tree.items[made]
        return Section(item.goal, tuple(chance.choice(ways[step]) for step in _steps(item)))

    item = tree.items[name]
    parts = [
        Section(tree.items[part].goal, tuple(operation(made) for made in operations(tree, part)))
        for part in item.ingredients
    ]
    return [*parts, Section(item.goal, (operation(name),))]


def _steps(item: Item) -> list[str]:
    """The steps of an operation, each in its plainest wording."""
    taken = [] if item.tool is None else [f"Take the {item.tool}."]
    return [f"Go to the {item.place}.", *taken, *(f"{work[0].upper()}{work[1:]}." for work in item.work)]


_GOING = (
    "Walk to the {}.",
    "Head over to the {}.",
    "Make your way to the {}.",
    "Now go to the {}.",
    "Set out for the {}.",
)
_TAKING = ("Pick up the {}.", "Get the {} ready.", "Fetch the {}.", "Reach for the {}.", "Lay hands on the {}.")
_WORKING = ("Now {}.", "Next, {}.", "Then {}.", "Carefully {}.", "You {}.", "After that, {}.", "It is time to {}.")
_USING = ("With the {tool}, {{}}.", "Use the {tool} to {{}}.")


def _word_step(tree: CraftingTree, step: str, item: Item, count: int, chance: random.Random) -> list[str]:
    """So many wordings of a step, the plainest first."""
    for plain, frames in ((f"Go to the {item.place}.", _GOING), (f"Take the {item.tool}.", _TAKING)):
        if step == plain:
            others = [frame.format(item.place if frames is _GOING else item.tool) for frame in frames]
            return [plain, *chance.sample(others, min(count - 1, len(others)))]
    verb, rest = f"{step[0].lower()}{step[1:-1]}".split(" ", 1)
    works = [f"{other} {rest}" for other in (verb, *tree.synonyms.get(verb, ()))]
    using = _USING if verb in tree.tool_verbs.get(item.tool, ()) else ()
    frames = (*_WORKING, *(frame.format(tool=item.tool) for frame in using))
    others = [f"{work[0].upper()}{work[1:]}." for work in works[1:]] + [f.format(w) for f in frames for w in works]
    return [step, *chance.sample(others, min(count - 1, len(others)))]


def _drop_ambiguous(ways: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Without wordings that would word another step as well."""
    plain = dict.fromkeys(ways)
    owner: dict[str, str] = {}
    for step, worded in ways.items():
        for wording in worded:
            owner.setdefault(wording, step)
    return {
        step: [wording for wording in worded if wording == step or (owner[wording] == step and wording not in plain)]
        for step, worded in ways.items()
    }
