"""Plans for goals in words: the guide thinks and reacts in vectors, and the nearest sentences tell what it means.

Axes: N goals, T steps, D dimensions of a vector, L layers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import apply_in_batches
from thinking.guide.plan_trees.codecs import whitening, whitening_codec
from thinking.guide.plan_trees.plan_guide import PlanGuide
from thinking.guide.plan_trees.unrolling import UnrolledPlan, react, think
from thinking.text import plan_trees
from thinking.text.plans import PlanNode
from thinking.text.prepared_data import PreparedData

MAX_BATCH_SIZE = 512
"""Goals that are planned for at once, at most."""
MATCH_BATCH_SIZE = 4096
"""Vectors that are matched at once."""

MatchFn = Callable[[np.ndarray], np.ndarray]
"""`match(vectors [M, D]) -> [M] int`, which of those known is nearest."""


class MatchIndex(NamedTuple):
    """What plans are matched with, on one level.

    Attributes:
        names: of what is known: sentences, or headings.
        vectors: [K, D].
        match: the nearest of them.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    match: MatchFn


def make_match_index(names: Sequence[str], vectors: np.ndarray, dims: int) -> MatchIndex:
    """Things by their vectors, near by their distance after whitening to so many dimensions: that drops the noise."""
    if len(np.unique(vectors, axis=0)) < 2:
        return MatchIndex(tuple(names), vectors, lambda asked: np.zeros(len(asked), np.int64))
    codec = whitening_codec(whitening(vectors, dims))
    codes = codec.encode(jnp.asarray(vectors))

    @jax.jit
    def nearest(queries: jax.Array) -> jax.Array:
        return jnp.argmax(2 * codec.encode(queries) @ codes.T - jnp.sum(codes**2, axis=1)[None], axis=1)

    def match(queries: np.ndarray) -> np.ndarray:
        return apply_in_batches(nearest, queries, MATCH_BATCH_SIZE) if len(queries) else np.zeros(0, np.int64)

    return MatchIndex(tuple(names), vectors, match)


def make_level_indices(prepared: PreparedData, num_layers: int, dims: int) -> list[MatchIndex]:
    """What is known of each level: all steps, held-out ones too, and the sections of texts of training.

    A section's vector is the average of all steps that it ever had under its heading.
    """
    number = {step: index for index, step in enumerate(prepared.steps)}
    sections: list[dict[str, list[int]]] = [{} for _ in range(num_layers)]

    def walk(entries: plan_trees.TextPlanTree, level: int) -> list[int]:
        steps = []
        for entry in entries:
            if isinstance(entry, str):
                steps.append(number[entry])
            else:
                below = walk(entry.children, level - 1)
                name = entry.heading or f"{prepared.steps[below[0]]} ..."
                sections[level].setdefault(name, []).extend(below)
                steps += below
        return steps

    for text in prepared.texts:
        if text.split == "train":
            walk(plan_trees.build_plan_tree(text, num_layers), num_layers - 1)
    averages = [
        make_match_index(
            list(level), np.stack([prepared.step_vectors[steps].mean(axis=0) for steps in level.values()]), dims
        )
        for level in sections[1:]
    ]
    return [make_match_index(prepared.steps, prepared.step_vectors, dims), *averages]


class Planner(NamedTuple):
    """A trained guide that is asked for plans.

    Attributes:
        think: `think(goals [N, D], done [N, S, D], count [N]) -> Unrolled`.
        react: `react(goals [N, D], observed [N, T, D]) -> Unrolled`.
    """

    think: Callable[[np.ndarray, np.ndarray, np.ndarray], UnrolledPlan]
    react: Callable[[np.ndarray, np.ndarray], UnrolledPlan]


def make_planner(guide: PlanGuide, state: Any, max_steps: int) -> Planner:
    """A guide that plans at most so many steps, for any number of goals, a block of them at a time."""
    thinking = jax.jit(lambda asked: think(guide, state, *asked, max_steps))
    reacting = jax.jit(lambda asked: react(guide, state, *asked))
    return Planner(
        lambda *asked: apply_in_batches(thinking, asked, min(MAX_BATCH_SIZE, len(asked[0]))),
        lambda *asked: apply_in_batches(reacting, asked, min(MAX_BATCH_SIZE, len(asked[0]))),
    )


def make_nodes(
    indices: Sequence[MatchIndex], unrolled: UnrolledPlan, first_id: int = 0
) -> tuple[list[tuple[PlanNode, ...]], np.ndarray]:
    """The nodes of all plans in preorder, and their vectors [M, D], of which the first has the number `first_id`.

    Args:
        indices: what is known, the steps first.
        unrolled: N plans.
        first_id: how many vectors there are before.
    """
    above, vectors, lengths = [], [], []
    for row, length in enumerate(unrolled.length):
        before = len(above)
        for at in range(length):
            for level in range(unrolled.num_new_sub_goals[row, at], 0, -1):
                above.append(level)
                vectors.append(unrolled.sub_goals[level - 1][row, at])
            above.append(0)
            vectors.append(unrolled.steps[row, at])
        lengths.append(len(above) - before)
    found, numbers = np.array(vectors), np.array(above)
    near, cosine = np.zeros(len(above), np.int64), np.zeros(len(above))
    for level, place in enumerate(indices):
        own = numbers == level
        near[own] = place.match(found[own])
        like = place.vectors[near[own]]
        length = np.linalg.norm(found[own], axis=1) * np.linalg.norm(like, axis=1)
        cosine[own] = np.sum(found[own] * like, axis=1) / np.maximum(length, 1e-12)
    nodes = [
        PlanNode(level, indices[level].names[near[index]], float(cosine[index]), first_id + index)
        for index, level in enumerate(above)
    ]
    ends = np.cumsum(lengths).tolist()
    return [tuple(nodes[end - length : end]) for end, length in zip(ends, lengths, strict=True)], found
