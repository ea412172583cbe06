"""Plans for goals in words: the guide plans in vectors, and each vector is named by the nearest known sentence.

A guide is a hierarchical goal-conditioned planner. It *reacts* (closed loop: predicts the next step from the observed
ones) or *thinks* (open loop: predicts a whole plan from its own steps).

Axes: N goals, T steps, S steps done, D dimensions of a vector, K known vectors, M vectors of plans.
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
"""Maximum number of goals per batch."""
MATCH_BATCH_SIZE = 4096
"""Vectors matched per batch."""

MatchFn = Callable[[np.ndarray], np.ndarray]
"""`match(vectors [M, D]) -> [M] int`, the index of the nearest known vector."""


class MatchIndex(NamedTuple):
    """A nearest-neighbour index of one level.

    Attributes:
        names: K sentences or headings.
        vectors: [K, D].
        match: the indices of the nearest.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    match: MatchFn


def make_match_index(names: Sequence[str], vectors: np.ndarray, dims: int) -> MatchIndex:
    """An index by Euclidean distance after whitening to `dims` dimensions, which reduces noise."""
    if len(np.unique(vectors, axis=0)) < 2:
        return MatchIndex(tuple(names), vectors, lambda queries: np.zeros(len(queries), np.int64))
    codec = whitening_codec(whitening(vectors, dims))
    codes = codec.encode(jnp.asarray(vectors))

    @jax.jit
    def nearest(queries: jax.Array) -> jax.Array:
        return jnp.argmax(2 * codec.encode(queries) @ codes.T - jnp.sum(codes**2, axis=1)[None], axis=1)

    def match(queries: np.ndarray) -> np.ndarray:
        return apply_in_batches(nearest, queries, MATCH_BATCH_SIZE) if len(queries) else np.zeros(0, np.int64)

    return MatchIndex(tuple(names), vectors, match)


def make_level_indices(prepared: PreparedData, num_layers: int, dims: int) -> list[MatchIndex]:
    """An index per level: all steps (also held-out ones), and the sections of the training texts.

    A section's vector is the mean of all steps under its heading.
    """
    step_ids = {step: index for index, step in enumerate(prepared.steps)}
    sections: list[dict[str, list[int]]] = [{} for _ in range(num_layers)]

    def collect_steps(entries: plan_trees.TextPlanTree, level: int) -> list[int]:
        steps = []
        for entry in entries:
            if isinstance(entry, str):
                steps.append(step_ids[entry])
            else:
                inner_steps = collect_steps(entry.children, level - 1)
                name = entry.heading or f"{prepared.steps[inner_steps[0]]} ..."
                sections[level].setdefault(name, []).extend(inner_steps)
                steps += inner_steps
        return steps

    for text in prepared.texts:
        if text.split == "train":
            collect_steps(plan_trees.build_plan_tree(text, num_layers), num_layers - 1)
    averages = [
        make_match_index(
            list(level), np.stack([prepared.step_vectors[steps].mean(axis=0) for steps in level.values()]), dims
        )
        for level in sections[1:]
    ]
    return [make_match_index(prepared.steps, prepared.step_vectors, dims), *averages]


class Planner(NamedTuple):
    """A trained guide as a planner.

    Attributes:
        think: `think(goals [N, D], done [N, S, D], count [N]) -> UnrolledPlan`.
        react: `react(goals [N, D], observed [N, T, D]) -> UnrolledPlan`.
    """

    think: Callable[[np.ndarray, np.ndarray, np.ndarray], UnrolledPlan]
    react: Callable[[np.ndarray, np.ndarray], UnrolledPlan]


def make_planner(guide: PlanGuide, state: Any, max_steps: int) -> Planner:
    """A planner of at most `max_steps` steps, for any number of goals, in batches."""
    think_batch = jax.jit(lambda inputs: think(guide, state, *inputs, max_steps))
    react_batch = jax.jit(lambda inputs: react(guide, state, *inputs))
    return Planner(
        lambda *inputs: apply_in_batches(think_batch, inputs, min(MAX_BATCH_SIZE, len(inputs[0]))),
        lambda *inputs: apply_in_batches(react_batch, inputs, min(MAX_BATCH_SIZE, len(inputs[0]))),
    )


def make_nodes(
    indices: Sequence[MatchIndex], unrolled: UnrolledPlan, first_id: int = 0
) -> tuple[list[tuple[PlanNode, ...]], np.ndarray]:
    """The nodes of all plans in preorder, and their vectors [M, D].

    Args:
        indices: of all levels, the steps first.
        unrolled: N plans.
        first_id: index of the first vector.
    """
    levels, vectors, lengths = [], [], []
    for row, length in enumerate(unrolled.length):
        num_before = len(levels)
        for time in range(length):
            for level in range(unrolled.num_new_sub_goals[row, time], 0, -1):
                levels.append(level)
                vectors.append(unrolled.sub_goals[level - 1][row, time])
            levels.append(0)
            vectors.append(unrolled.steps[row, time])
        lengths.append(len(levels) - num_before)
    node_vectors, node_levels = np.array(vectors), np.array(levels)
    nearest, cosine = np.zeros(len(levels), np.int64), np.zeros(len(levels))
    for level, level_index in enumerate(indices):
        is_level = node_levels == level
        nearest[is_level] = level_index.match(node_vectors[is_level])
        nearest_vectors = level_index.vectors[nearest[is_level]]
        length = np.linalg.norm(node_vectors[is_level], axis=1) * np.linalg.norm(nearest_vectors, axis=1)
        cosine[is_level] = np.sum(node_vectors[is_level] * nearest_vectors, axis=1) / np.maximum(length, 1e-12)
    nodes = [
        PlanNode(level, indices[level].names[nearest[index]], float(cosine[index]), first_id + index)
        for index, level in enumerate(levels)
    ]
    ends = np.cumsum(lengths).tolist()
    return [tuple(nodes[end - length : end]) for end, length in zip(ends, lengths, strict=True)], node_vectors
