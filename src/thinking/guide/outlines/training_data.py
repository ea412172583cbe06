"""What the layers of a guide over outlines learn from texts: at each place of a leg, what comes next.

An *outline* is a nest of tuples whose leaves are numbers of steps: L deep for L layers, the lowest the steps of a leg.
Whatever is done one after the other reaches both goals (hindsight experience replay, Andrychowicz et al. 2017), so two
texts in a row teach the top layer to pursue the average of their goals.

Axes: W steps of the vocabulary, N outlines, R lessons, M codes, C items of a context, D dimensions of a vector.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.guide.hippocampus import select
from thinking.guide.outlines.codecs import Codec, pursued
from thinking.guide.outlines.outliner import Outliner, State
from thinking.kernels.contract import Context, Transition
from thinking.types import Array

Outline = tuple[Any, ...]


class Leg(NamedTuple):
    """A target, and the values that lead there.

    Attributes:
        target: [D].
        values: [V, D].
        numbers: [V] int, of the values among all of their layer: those of the legs below that lead to each.
        text: the number of the outline it is of; a layer remembers the legs of a text before it.
    """

    target: np.ndarray
    values: np.ndarray
    numbers: np.ndarray
    text: int


class Lessons(NamedTuple):
    """All lessons of a layer; what they share is held once.

    Attributes:
        codes: [M, ...] of values, the mark first.
        targets: [G, ...] codes of the targets of legs.
        window: [R, C] int32, which codes are the context; those in front of a short one are never read.
        length: [R] int32, how many of them are real.
        value: [R] int32, which code comes next.
        leg: [R] int32, of which leg it is.
        asked: [G, A] int32, lessons of the layer above whose answer is the target of a leg; none for the top layer.
    """

    codes: Array
    targets: Array
    window: Array
    length: Array
    value: Array
    leg: Array
    asked: Array


def legs_of(outlines: Sequence[Outline], goals: np.ndarray, vectors: np.ndarray, layers: int) -> list[list[Leg]]:
    """The legs of each layer, the lowest first.

    Args:
        outlines: N of them, each `layers` deep.
        goals: [N, D].
        vectors: [W, D] of steps.
        layers: L.
    """
    found: list[list[Leg]] = [[] for _ in range(layers)]
    counts = [0] * layers

    def walk(inner: Outline, target: np.ndarray, level: int, text: int) -> None:
        values = np.stack([average(part, vectors) for part in inner])
        numbers = counts[level] + np.arange(len(inner))
        counts[level] += len(inner)
        found[level].append(Leg(target, values, numbers, text))
        if level > 0:
            for part, value in zip(inner, values, strict=True):
                walk(part, value, level - 1, text)

    for text, (outline, goal) in enumerate(zip(outlines, goals, strict=True)):
        walk(outline, goal, layers - 1, text)
    return found


def average(part: Outline | int, vectors: np.ndarray) -> np.ndarray:
    """[D] the average of the steps below."""
    return vectors[list(steps_of(part))].mean(axis=0)


def steps_of(part: Outline | int) -> list[int]:
    """The numbers of the steps below, in order."""
    return [step for inner in part for step in steps_of(inner)] if isinstance(part, tuple) else [part]


def paired(legs: Sequence[Leg], each: int, seed: int) -> list[Leg]:
    """Legs of the top layer with pairs of them, one behind the other; singles and pairs count about the same in all.

    An average does not tell in which order its goals are pursued. So pairs have one order, along the axis on which
    goals differ the most. Two texts of one goal are no pair: all goals are as likely, then all texts of each.

    Args:
        legs: N of them.
        each: pairs for each leg; 0 for none.
        seed: of the draw.
    """
    goals, goal_of = np.unique(np.stack([leg.target for leg in legs]), axis=0, return_inverse=True)
    if each == 0 or len(goals) < 2:
        return list(legs)
    rank = (goals - goals.mean(axis=0)) @ np.linalg.svd(goals - goals.mean(axis=0), full_matrices=False)[2][0]
    texts_of = [np.flatnonzero(goal_of == goal) for goal in range(len(goals))]
    drawn, pairs = np.random.default_rng(seed), []
    for _ in range(each * len(legs)):
        both = sorted(drawn.choice(len(goals), 2, replace=False), key=lambda goal: rank[goal])
        first, second = (legs[drawn.choice(texts_of[goal])] for goal in both)
        target = first.target + second.target
        values, numbers = (np.concatenate([first[part], second[part]]) for part in (1, 2))
        pairs.append(Leg(target / np.linalg.norm(target), values, numbers, -1))
    return [*list(legs) * max(round(_count(pairs) / _count(legs)), 1), *pairs]


def _count(legs: Sequence[Leg]) -> int:
    """Of lessons: each value, and the mark."""
    return sum(len(leg.values) + 1 for leg in legs)


def lessons(legs: Sequence[Sequence[Leg]], codecs: Sequence[Codec], contexts: Sequence[int]) -> list[Lessons]:
    """Lessons of all layers, the lowest first.

    Args:
        legs: of each layer, those of a text one behind the other.
        codecs: of each layer's values, and of the goals.
        contexts: C of each layer.
    """
    found: list[Lessons] = []
    said = np.zeros(0, np.int64)
    for level in range(len(legs) - 1, -1, -1):
        # The top layer remembers nothing from before: its legs are whole texts.
        top = level == len(legs) - 1
        rows, numbers = _rows(legs[level], contexts[level], alone=top)
        asked = np.zeros((len(legs[level]), 0), np.int64) if top else _asked(said, len(legs[level]))
        codes = codecs[level].encode(jnp.asarray(np.concatenate([leg.values for leg in legs[level]])))
        targets = codecs[level + 1].encode(jnp.asarray(np.stack([leg.target for leg in legs[level]])))
        codes = jnp.concatenate([codecs[level].mark[None], codes])
        found.append(Lessons(codes, targets, *(jnp.asarray(part, jnp.int32) for part in (*rows, asked))))
        said = numbers
    return found[::-1]


def _rows(legs: Sequence[Leg], context_length: int, *, alone: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Windows, lengths, values and legs of all lessons of a layer; and the number of each value, -1 for the mark."""
    mark, at = 0, 1
    windows, lengths, values, owners, numbers = [], [], [], [], []
    lived: list[int] = []
    for owner, leg in enumerate(legs):
        if alone or owner == 0 or legs[owner - 1].text != leg.text:
            lived = []
        lived.append(mark)
        for value, number in zip([*range(at, at + len(leg.values)), mark], [*leg.numbers, -1], strict=True):
            recalled = lived[-context_length:]
            windows.append([mark] * (context_length - len(recalled)) + recalled)
            lengths.append(len(recalled))
            values.append(value)
            owners.append(owner)
            numbers.append(number)
            lived.append(value)
        lived.pop()  # the mark that ends a leg is the one that begins the next
        at += len(leg.values)
    return [np.array(part) for part in (windows, lengths, values, owners)], np.array(numbers)


ALTERNATIVES = 8
"""Lessons of the layer above that are remembered for a leg; with pairs of texts it is asked for in more of them."""


def _asked(said: np.ndarray, legs: int) -> np.ndarray:
    """[G, A] for each leg, lessons whose answer has its number, over and over where there are fewer."""
    order = np.argsort(said, kind="stable")
    first = np.searchsorted(said[order], np.arange(legs))
    count = np.bincount(said[said >= 0], minlength=legs)
    spread = np.arange(ALTERNATIVES)[None] * np.maximum(count // ALTERNATIVES, 1)[:, None] % count[:, None]
    return order[first[:, None] + spread]


def draw(
    outliner: Outliner, state: State, taught: Sequence[Lessons], key: Array, rows: int, noises: Sequence[float]
) -> list[Transition]:
    """Lessons of all layers at random, the lowest first; consumes the key.

    Half of the targets are those of the texts, with noise; the other half what the layer above says now in such a
    place, so that a layer learns to serve one that errs (as DAgger does: Ross et al. 2011).

    Args:
        outliner: the guide.
        state: of the guide.
        taught: all lessons.
        key: of the draw.
        rows: B, of each layer.
        noises: standard deviations of what is added to targets that are vectors, of each layer.
    """

    def context(layer: int, chosen: Array) -> Context:
        own = taught[layer]
        return Context(own.codes[own.window[chosen]], own.length[chosen])

    def targets(layer: int, legs: Array, key: Array) -> list[Array]:
        """Of legs, and of the layers above in a place where they lead there."""
        noise_key, which_key, coin_key, above_key = jax.random.split(key, 4)
        true = taught[layer].targets[legs]
        if jnp.issubdtype(true.dtype, jnp.floating):
            true = true + noises[layer] * jax.random.normal(noise_key, true.shape)
        if layer == len(taught) - 1:
            return [true]
        which = jax.random.randint(which_key, legs.shape, 0, ALTERNATIVES)
        asked = taught[layer].asked[legs, which]
        above = targets(layer + 1, taught[layer + 1].leg[asked], above_key)
        said, known = outliner.told(state, layer + 1, context(layer + 1, asked), pursued(above))
        return [select(known & jax.random.bernoulli(coin_key, shape=legs.shape), said, true), *above]

    def batch(layer: int, key: Array) -> Transition:
        own = taught[layer]
        row_key, target_key = jax.random.split(key)
        chosen = jax.random.randint(row_key, (rows,), 0, own.value.shape[0])
        ones = jnp.ones(rows)
        pursuit = pursued(targets(layer, own.leg[chosen], target_key))
        return Transition(context(layer, chosen), pursuit, own.codes[own.value[chosen]], ones, ones)

    return [batch(layer, key) for layer, key in enumerate(jax.random.split(key, len(taught)))]
