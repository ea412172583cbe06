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
from thinking.guide.plan_trees.codecs import Codec, concat_targets
from thinking.guide.plan_trees.plan_guide import PlanGuide, State
from thinking.kernels.contract import Context, Transition
from thinking.types import Array

PlanTree = tuple[Any, ...]


class SubTrajectory(NamedTuple):
    """A target, and the values that lead there.

    Attributes:
        target: [D].
        values: [V, D].
        numbers: [V] int, of the values among all of their layer: those of the legs below that lead to each.
        text_index: the number of the outline it is of; a layer remembers the legs of a text before it.
    """

    target: np.ndarray
    values: np.ndarray
    numbers: np.ndarray
    text_index: int


class TrainingExamples(NamedTuple):
    """All lessons of a layer; what they share is held once.

    Attributes:
        codes: [M, ...] of values, the mark first.
        targets: [G, ...] codes of the targets of legs.
        window: [R, C] int32, which codes are the context; those in front of a short one are never read.
        length: [R] int32, how many of them are real.
        value: [R] int32, which code comes next.
        sub_trajectory: [R] int32, of which leg it is.
        upper_examples: [G, A] int32, lessons of the layer above whose answer is the target of a leg; none for the top layer.
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
    """The legs of each layer, the lowest first.

    Args:
        plan_trees: N of them, each `num_layers` deep.
        goals: [N, D].
        vectors: [W, D] of steps.
        num_layers: L.
    """
    found: list[list[SubTrajectory]] = [[] for _ in range(num_layers)]
    counts = [0] * num_layers

    def walk(inner: PlanTree, target: np.ndarray, level: int, text: int) -> None:
        values = np.stack([average_steps(part, vectors) for part in inner])
        numbers = counts[level] + np.arange(len(inner))
        counts[level] += len(inner)
        found[level].append(SubTrajectory(target, values, numbers, text))
        if level > 0:
            for part, value in zip(inner, values, strict=True):
                walk(part, value, level - 1, text)

    for text, (outline, goal) in enumerate(zip(plan_trees, goals, strict=True)):
        walk(outline, goal, num_layers - 1, text)
    return found


def average_steps(part: PlanTree | int, vectors: np.ndarray) -> np.ndarray:
    """[D] the average of the steps below."""
    return vectors[list(collect_steps(part))].mean(axis=0)


def collect_steps(part: PlanTree | int) -> list[int]:
    """The numbers of the steps below, in order."""
    return [step for inner in part for step in collect_steps(inner)] if isinstance(part, tuple) else [part]


def add_pairs(sub_trajectories: Sequence[SubTrajectory], num_pairs: int, seed: int) -> list[SubTrajectory]:
    """Legs of the top layer with pairs of them, one behind the other; singles and pairs count about the same in all.

    An average does not tell in which order its goals are pursued. So pairs have one order, along the axis on which
    goals differ the most. Two texts of one goal are no pair: all goals are as likely, then all texts of each.

    Args:
        sub_trajectories: N of them.
        num_pairs: pairs for each leg; 0 for none.
        seed: of the draw.
    """
    goals, goal_of = np.unique(np.stack([leg.target for leg in sub_trajectories]), axis=0, return_inverse=True)
    if num_pairs == 0 or len(goals) < 2:
        return list(sub_trajectories)
    rank = (goals - goals.mean(axis=0)) @ np.linalg.svd(goals - goals.mean(axis=0), full_matrices=False)[2][0]
    texts_of = [np.flatnonzero(goal_of == goal) for goal in range(len(goals))]
    drawn, pairs = np.random.default_rng(seed), []
    for _ in range(num_pairs * len(sub_trajectories)):
        both = sorted(drawn.choice(len(goals), 2, replace=False), key=lambda goal: rank[goal])
        first, second = (sub_trajectories[drawn.choice(texts_of[goal])] for goal in both)
        target = first.target + second.target
        values, numbers = (np.concatenate([first[part], second[part]]) for part in (1, 2))
        pairs.append(SubTrajectory(target / np.linalg.norm(target), values, numbers, -1))
    return [*list(sub_trajectories) * max(round(_count_examples(pairs) / _count_examples(sub_trajectories)), 1), *pairs]


def _count_examples(sub_trajectories: Sequence[SubTrajectory]) -> int:
    """Of lessons: each value, and the mark."""
    return sum(len(leg.values) + 1 for leg in sub_trajectories)


def make_examples(
    sub_trajectories: Sequence[Sequence[SubTrajectory]], codecs: Sequence[Codec], context_lengths: Sequence[int]
) -> list[TrainingExamples]:
    """Lessons of all layers, the lowest first.

    Args:
        sub_trajectories: of each layer, those of a text one behind the other.
        codecs: of each layer's values, and of the goals.
        context_lengths: C of each layer.
    """
    found: list[TrainingExamples] = []
    said = np.zeros(0, np.int64)
    for level in range(len(sub_trajectories) - 1, -1, -1):
        # The top layer remembers nothing from before: its legs are whole texts.
        top = level == len(sub_trajectories) - 1
        rows, numbers = _make_rows(sub_trajectories[level], context_lengths[level], alone=top)
        asked = (
            np.zeros((len(sub_trajectories[level]), 0), np.int64)
            if top
            else _find_upper_examples(said, len(sub_trajectories[level]))
        )
        codes = codecs[level].encode(jnp.asarray(np.concatenate([leg.values for leg in sub_trajectories[level]])))
        targets = codecs[level + 1].encode(jnp.asarray(np.stack([leg.target for leg in sub_trajectories[level]])))
        codes = jnp.concatenate([codecs[level].mark[None], codes])
        found.append(TrainingExamples(codes, targets, *(jnp.asarray(part, jnp.int32) for part in (*rows, asked))))
        said = numbers
    return found[::-1]


def _make_rows(
    sub_trajectories: Sequence[SubTrajectory], context_length: int, *, alone: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Windows, lengths, values and legs of all lessons of a layer; and the number of each value, -1 for the mark."""
    mark, at = 0, 1
    windows, lengths, values, owners, numbers = [], [], [], [], []
    lived: list[int] = []
    for owner, leg in enumerate(sub_trajectories):
        if alone or owner == 0 or sub_trajectories[owner - 1].text_index != leg.text_index:
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


NUM_UPPER_EXAMPLES = 8
"""Lessons of the layer above that are remembered for a leg; with pairs of texts it is asked for in more of them."""


def _find_upper_examples(answers: np.ndarray, num_sub_trajectories: int) -> np.ndarray:
    """[G, A] for each leg, lessons whose answer has its number, over and over where there are fewer."""
    order = np.argsort(answers, kind="stable")
    first = np.searchsorted(answers[order], np.arange(num_sub_trajectories))
    count = np.bincount(answers[answers >= 0], minlength=num_sub_trajectories)
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
    """Lessons of all layers at random, the lowest first; consumes the key.

    Half of the targets are those of the texts, with noise; the other half what the layer above says now in such a
    place, so that a layer learns to serve one that errs (as DAgger does: Ross et al. 2011).

    Args:
        plan_guide: the guide.
        state: of the guide.
        examples: all lessons.
        key: of the draw.
        batch_size: B, of each layer.
        noise_scales: standard deviations of what is added to targets that are vectors, of each layer.
    """

    def context(layer: int, chosen: Array) -> Context:
        own = examples[layer]
        return Context(own.codes[own.window[chosen]], own.length[chosen])

    def targets(layer: int, sub_trajectories: Array, key: Array) -> list[Array]:
        """Of legs, and of the layers above in a place where they lead there."""
        noise_key, which_key, coin_key, above_key = jax.random.split(key, 4)
        true = examples[layer].targets[sub_trajectories]
        if jnp.issubdtype(true.dtype, jnp.floating):
            true = true + noise_scales[layer] * jax.random.normal(noise_key, true.shape)
        if layer == len(examples) - 1:
            return [true]
        which = jax.random.randint(which_key, sub_trajectories.shape, 0, NUM_UPPER_EXAMPLES)
        asked = examples[layer].upper_examples[sub_trajectories, which]
        above = targets(layer + 1, examples[layer + 1].sub_trajectory[asked], above_key)
        said, known = plan_guide.infer_subgoal(state, layer + 1, context(layer + 1, asked), concat_targets(above))
        return [select(known & jax.random.bernoulli(coin_key, shape=sub_trajectories.shape), said, true), *above]

    def batch(layer: int, key: Array) -> Transition:
        own = examples[layer]
        row_key, target_key = jax.random.split(key)
        chosen = jax.random.randint(row_key, (batch_size,), 0, own.value.shape[0])
        ones = jnp.ones(batch_size)
        pursuit = concat_targets(targets(layer, own.sub_trajectory[chosen], target_key))
        return Transition(context(layer, chosen), pursuit, own.codes[own.value[chosen]], ones, ones)

    return [batch(layer, key) for layer, key in enumerate(jax.random.split(key, len(examples)))]
