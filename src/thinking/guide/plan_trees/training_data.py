"""Training examples of a guide over plan trees: at each place of a sub-trajectory, the next value.

A *plan tree* is a nest of tuples whose leaves are indices of steps: L deep for L layers, the lowest tuples hold the
steps of a sub-trajectory. Two concatenated texts reach both goals (hindsight experience replay, Andrychowicz et al.
2017), so they train the top layer to pursue the average of their goals.

Axes: W steps of the vocabulary, N plan trees, R examples, G sub-trajectories, V values of one, M codes, C items
of a context, A stored examples of the layer above, D dimensions of a vector.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.guide.plan_trees.codecs import Codec, concat_targets
from thinking.guide.plan_trees.plan_guide import PlanGuide, State
from thinking.kernels.contract import Context, Transition
from thinking.trees import select_rows
from thinking.types import Array

PlanTree = tuple[Any, ...]


class SubTrajectory(NamedTuple):
    """A target, and the values that lead to it.

    Attributes:
        target: [D].
        values: [V, D].
        value_indices: [V] int, index of each value in its layer; sub-trajectory n of the layer below pursues value n.
        text_index: index of the plan tree; a layer's context spans the earlier sub-trajectories of the same text.
    """

    target: np.ndarray
    values: np.ndarray
    value_indices: np.ndarray
    text_index: int


class TrainingExamples(NamedTuple):
    """All examples of a layer; what they share is stored once.

    Attributes:
        codes: [M, ...] of values, the separator first.
        targets: [G, ...] codes of the targets.
        window: [R, C] int32, indices of the context's codes; padding is in front and never read.
        length: [R] int32, number of valid context items.
        value: [R] int32, index of the next code.
        sub_trajectory: [R] int32, index of the sub-trajectory.
        upper_examples: [G, A] int32, examples of the layer above whose value is the sub-trajectory's target; none for
            the top layer.
    """

    codes: Array
    targets: Array
    window: Array
    length: Array
    value: Array
    sub_trajectory: Array
    upper_examples: Array


def to_sub_trajectories(
    plan_trees: Sequence[PlanTree], goals: np.ndarray, vectors: np.ndarray, num_layers: int
) -> list[list[SubTrajectory]]:
    """The sub-trajectories of each layer, the lowest first, of N trees with goals [N, D] and step vectors [W, D]."""
    sub_trajectories: list[list[SubTrajectory]] = [[] for _ in range(num_layers)]
    counts = [0] * num_layers

    def collect(subtree: PlanTree, target: np.ndarray, level: int, text: int) -> None:
        values = np.stack([average_steps(part, vectors) for part in subtree])
        value_indices = counts[level] + np.arange(len(subtree))
        counts[level] += len(subtree)
        sub_trajectories[level].append(SubTrajectory(target, values, value_indices, text))
        if level > 0:
            for part, value in zip(subtree, values, strict=True):
                collect(part, value, level - 1, text)

    for text, (tree, goal) in enumerate(zip(plan_trees, goals, strict=True)):
        collect(tree, goal, num_layers - 1, text)
    return sub_trajectories


def average_steps(part: PlanTree | int, vectors: np.ndarray) -> np.ndarray:
    """[D] the mean of the steps below."""
    return vectors[list(collect_steps(part))].mean(axis=0)


def collect_steps(part: PlanTree | int) -> list[int]:
    """The indices of the steps below, in order."""
    return [step for inner in part for step in collect_steps(inner)] if isinstance(part, tuple) else [part]


def add_pairs(sub_trajectories: Sequence[SubTrajectory], num_pairs: int, seed: int) -> list[SubTrajectory]:
    """Sub-trajectories of the top layer, and `num_pairs` concatenated pairs for each.

    The former are repeated, so that they and the pairs have about equally many examples.

    The average of two goals does not tell their order. So pairs are ordered along the axis on which goals differ most.
    Two texts of one goal are no pair: goals are sampled uniformly, then a text of each.
    """
    goals, goal_of = np.unique(
        np.stack([sub_trajectory.target for sub_trajectory in sub_trajectories]), axis=0, return_inverse=True
    )
    if num_pairs == 0 or len(goals) < 2:
        return list(sub_trajectories)
    rank = (goals - goals.mean(axis=0)) @ np.linalg.svd(goals - goals.mean(axis=0), full_matrices=False)[2][0]
    texts_of = [np.flatnonzero(goal_of == goal) for goal in range(len(goals))]
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(num_pairs * len(sub_trajectories)):
        pair_goals = sorted(rng.choice(len(goals), 2, replace=False), key=lambda goal: rank[goal])
        first, second = (sub_trajectories[rng.choice(texts_of[goal])] for goal in pair_goals)
        target = first.target + second.target
        values = np.concatenate([first.values, second.values])
        value_indices = np.concatenate([first.value_indices, second.value_indices])
        pairs.append(SubTrajectory(target / np.linalg.norm(target), values, value_indices, -1))
    return [*list(sub_trajectories) * max(round(_count_examples(pairs) / _count_examples(sub_trajectories)), 1), *pairs]


def _count_examples(sub_trajectories: Sequence[SubTrajectory]) -> int:
    """Number of examples: the values and the separator of each."""
    return sum(len(sub_trajectory.values) + 1 for sub_trajectory in sub_trajectories)


def make_examples(
    sub_trajectories: Sequence[Sequence[SubTrajectory]], codecs: Sequence[Codec], context_lengths: Sequence[int]
) -> list[TrainingExamples]:
    """Examples of all layers, the lowest first.

    `sub_trajectories` are those of each layer, in the order of the texts; `codecs` of each layer's values, and of the
    goals.
    """
    examples: list[TrainingExamples] = []
    upper_indices = np.zeros(0, np.int64)
    for level in range(len(sub_trajectories) - 1, -1, -1):
        # The top layer's context starts empty: its sub-trajectories are whole texts.
        is_top = level == len(sub_trajectories) - 1
        rows, value_indices = _make_rows(sub_trajectories[level], context_lengths[level], is_top=is_top)
        upper_examples = (
            np.zeros((len(sub_trajectories[level]), 0), np.int64)
            if is_top
            else _find_upper_examples(upper_indices, len(sub_trajectories[level]))
        )
        codes = codecs[level].encode(jnp.asarray(np.concatenate([sub.values for sub in sub_trajectories[level]])))
        targets = codecs[level + 1].encode(jnp.asarray(np.stack([sub.target for sub in sub_trajectories[level]])))
        codes = jnp.concatenate([codecs[level].separator[None], codes])
        examples.append(
            TrainingExamples(codes, targets, *(jnp.asarray(part, jnp.int32) for part in (*rows, upper_examples)))
        )
        upper_indices = value_indices
    return examples[::-1]


def _make_rows(
    sub_trajectories: Sequence[SubTrajectory], context_length: int, *, is_top: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """The fields of all examples of a layer, and the number of each value, -1 for the separator."""
    separator, next_index = 0, 1
    windows, lengths, values, owners, value_indices = [], [], [], [], []
    history: list[int] = []
    for owner, sub in enumerate(sub_trajectories):
        if is_top or owner == 0 or sub_trajectories[owner - 1].text_index != sub.text_index:
            history = []
        history.append(separator)
        for value, number in zip(
            [*range(next_index, next_index + len(sub.values)), separator], [*sub.value_indices, -1], strict=True
        ):
            context = history[-context_length:]
            windows.append([separator] * (context_length - len(context)) + context)
            lengths.append(len(context))
            values.append(value)
            owners.append(owner)
            value_indices.append(number)
            history.append(value)
        history.pop()  # the final separator is also the first of the next sub-trajectory
        next_index += len(sub.values)
    return [np.array(part) for part in (windows, lengths, values, owners)], np.array(value_indices)


NUM_UPPER_EXAMPLES = 8
"""A: examples of the layer above that are stored per sub-trajectory."""


def _find_upper_examples(value_indices: np.ndarray, num_sub_trajectories: int) -> np.ndarray:
    """[G, A] for each sub-trajectory, examples with its number as the value, repeated where there are fewer."""
    order = np.argsort(value_indices, kind="stable")
    first = np.searchsorted(value_indices[order], np.arange(num_sub_trajectories))
    count = np.bincount(value_indices[value_indices >= 0], minlength=num_sub_trajectories)
    spread = np.arange(NUM_UPPER_EXAMPLES)[None] * np.maximum(count // NUM_UPPER_EXAMPLES, 1)[:, None] % count[:, None]
    return order[first[:, None] + spread]


def sample_examples(
    plan_guide: PlanGuide,
    state: State,
    examples: Sequence[TrainingExamples],
    key: Array,
    batch_size: int,
    noise_scales: Sequence[float],
) -> list[Transition]:
    """Sample `batch_size` examples for each layer, the lowest first; consumes the key.

    Half of the targets are those of the texts, with noise of standard deviation `noise_scales` (of each layer) on
    vectors. The other half are what the layer above currently infers in that place, so that a layer learns to follow
    one that errs (as in DAgger, Ross et al. 2011).
    """

    def context(layer: int, rows: Array) -> Context:
        layer_examples = examples[layer]
        return Context(layer_examples.codes[layer_examples.window[rows]], layer_examples.length[rows])

    def targets(layer: int, sub_trajectories: Array, key: Array) -> list[Array]:
        """The targets of sub-trajectories, and of the layers above in a place that leads to them."""
        noise_key, which_key, mixing_key, above_key = jax.random.split(key, 4)
        target = examples[layer].targets[sub_trajectories]
        if jnp.issubdtype(target.dtype, jnp.floating):
            target = target + noise_scales[layer] * jax.random.normal(noise_key, target.shape)
        if layer == len(examples) - 1:
            return [target]
        which = jax.random.randint(which_key, sub_trajectories.shape, 0, NUM_UPPER_EXAMPLES)
        upper = examples[layer].upper_examples[sub_trajectories, which]
        above = targets(layer + 1, examples[layer + 1].sub_trajectory[upper], above_key)
        sub_goal, is_known = plan_guide.infer_sub_goal(
            state, layer + 1, context(layer + 1, upper), concat_targets(above)
        )
        return [
            select_rows(is_known & jax.random.bernoulli(mixing_key, shape=sub_trajectories.shape), sub_goal, target),
            *above,
        ]

    def batch(layer: int, key: Array) -> Transition:
        layer_examples = examples[layer]
        row_key, target_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (batch_size,), 0, layer_examples.value.shape[0])
        ones = jnp.ones(batch_size)
        target = concat_targets(targets(layer, layer_examples.sub_trajectory[rows], target_key))
        return Transition(context(layer, rows), target, layer_examples.codes[layer_examples.value[rows]], ones, ones)

    return [batch(layer, key) for layer, key in enumerate(jax.random.split(key, len(examples)))]
