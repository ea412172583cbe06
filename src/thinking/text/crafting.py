"""The bundled texts: how to make things, generated from a crafting tree.

An item has ingredients, a place, a tool and some work. To make it, first make its ingredients, then assemble it. A
text has three levels: *parts* (one per ingredient, and the item itself), the *operations* of each part, and the *steps*
of each operation: go to the place, take the tool, do the work. Each step has several wordings.
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
    """An item that can be made or gathered.

    Attributes:
        goal: what making it is called, such as "sawing oak planks".
        ingredients: names of other items, in the order in which they are made; empty for a gathered item.
        place: where the work is done.
        tool: the tool, if any.
        work: the work steps, each beginning with a verb.
    """

    goal: str
    ingredients: tuple[str, ...]
    place: str
    tool: str | None
    work: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CraftingTree:
    """All items, and synonyms.

    Attributes:
        items: by name, ingredients before products.
        synonyms: for a verb, other verbs.
        tool_verbs: for a tool, the verbs of work done with it.
    """

    items: Mapping[str, Item]
    synonyms: Mapping[str, tuple[str, ...]]
    tool_verbs: Mapping[str, tuple[str, ...]]

    @property
    def products(self) -> list[str]:
        """Names of the items that are no ingredients."""
        used = {name for item in self.items.values() for name in item.ingredients}
        return [name for name in self.items if name not in used]


@functools.cache
def load_crafting_tree() -> CraftingTree:
    """The bundled tree."""
    read = json.loads(resources.files("thinking.text").joinpath("data/crafting.json").read_text("utf-8"))
    items = {
        name: Item(item["goal"], tuple(item["from"]), item["place"], item["tool"], tuple(item["work"]))
        for name, item in read["items"].items()
    }
    words = ({word: tuple(others) for word, others in read[name].items()} for name in ("synonyms", "uses"))
    return CraftingTree(items, *words)


@dataclasses.dataclass(frozen=True)
class CraftedTexts:
    """Texts of a crafting tree.

    Attributes:
        texts: of three splits. "train": several per goal. "held_out": goals that no training text has, not even as a
            part. "compound": pairs of training goals, one after the other.
        canonical_steps: for each wording of a step, the step's canonical wording.
    """

    texts: tuple[Text, ...]
    canonical_steps: Mapping[str, str]


def make_texts(
    tree: CraftingTree, *, seed: int, num_wordings: int = 6, num_texts: int = 4, held_out_fraction: float = 0.2
) -> CraftedTexts:
    """Generate texts for all goals of a tree.

    Args:
        tree: the tree.
        seed: of held-out goals, wordings and pairs.
        num_wordings: wordings per step.
        num_texts: texts per training goal, in random wordings.
        held_out_fraction: fraction of all items to hold out, chosen from the products.

    Raises:
        ValueError: if a number is out of range, or so many items cannot be held out.
    """
    for name, count in {"num_wordings": num_wordings, "num_texts": num_texts}.items():
        if count < 1:
            raise ValueError(f"{name} {count}: allowed is a whole number from 1")
    rng, products = random.Random(seed), tree.products
    count = round(held_out_fraction * len(tree.items))
    if not 0 < count < len(products) - 1:
        maximum = (len(products) - 2) / len(tree.items)
        raise ValueError(f"held_out_fraction {held_out_fraction}: allowed is above 0, up to {maximum:.2f}; take 0.2")
    held_out = set(rng.sample(products, count))
    training_names = [name for name in tree.items if name not in held_out]
    wordings = {
        step: _word_step(tree, step, item, num_wordings, rng) for item in tree.items.values() for step in _steps(item)
    }
    wordings = _drop_ambiguous(wordings)

    def text(names: list[str], split: str) -> Text:
        goal = " and ".join(tree.items[name].goal for name in names)
        parts = tuple(part for name in names for part in _parts(tree, name, wordings, rng))
        return Text(goal, parts, split)

    pairs = [rng.sample([name for name in training_names if name in products], 2) for _ in range(count)]
    texts = (
        *(text([name], "train") for name in training_names for _ in range(num_texts)),
        *(text([name], "held_out") for name in tree.items if name in held_out),
        *(text(pair, "compound") for pair in pairs),
    )
    return CraftedTexts(texts, {wording: step for step, worded in wordings.items() for wording in worded})


def list_required_items(tree: CraftingTree, name: str) -> list[str]:
    """Names of the items needed for an item, each once, ingredients first, the item itself last."""
    names: dict[str, None] = {}
    for ingredient in tree.items[name].ingredients:
        names |= dict.fromkeys(list_required_items(tree, ingredient))
    return [*names, name]


def _parts(tree: CraftingTree, name: str, wordings: Mapping[str, list[str]], rng: random.Random) -> list[Section]:
    def operation(part_name: str) -> Section:
        item = tree.items[part_name]
        return Section(item.goal, tuple(rng.choice(wordings[step]) for step in _steps(item)))

    item = tree.items[name]
    parts = [
        Section(tree.items[part].goal, tuple(operation(part_name) for part_name in list_required_items(tree, part)))
        for part in item.ingredients
    ]
    return [*parts, Section(item.goal, (operation(name),))]


def _steps(item: Item) -> list[str]:
    """The steps of an operation in canonical wording."""
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


def _word_step(tree: CraftingTree, step: str, item: Item, count: int, rng: random.Random) -> list[str]:
    """Up to `count` wordings of a step, the canonical one first."""
    for plain, frames in ((f"Go to the {item.place}.", _GOING), (f"Take the {item.tool}.", _TAKING)):
        if step == plain:
            variants = [frame.format(item.place if frames is _GOING else item.tool) for frame in frames]
            return [plain, *rng.sample(variants, min(count - 1, len(variants)))]
    verb, rest = f"{step[0].lower()}{step[1:-1]}".split(" ", 1)
    phrases = [f"{other} {rest}" for other in (verb, *tree.synonyms.get(verb, ()))]
    using = _USING if verb in tree.tool_verbs.get(item.tool, ()) else ()
    frames = (*_WORKING, *(frame.format(tool=item.tool) for frame in using))
    variants = [f"{work[0].upper()}{work[1:]}." for work in phrases[1:]] + [
        f.format(w) for f in frames for w in phrases
    ]
    return [step, *rng.sample(variants, min(count - 1, len(variants)))]


def _drop_ambiguous(wordings: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Drop wordings that another step also has."""
    plain = dict.fromkeys(wordings)
    owner: dict[str, str] = {}
    for step, own_wordings in wordings.items():
        for wording in own_wordings:
            owner.setdefault(wording, step)
    return {
        step: [
            wording for wording in own_wordings if wording == step or (owner[wording] == step and wording not in plain)
        ]
        for step, own_wordings in wordings.items()
    }
