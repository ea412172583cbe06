"""Trained guides as planners, and their plans in the saved format.

Axes: N goals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from thinking.errors import UserError
from thinking.experiment import checkpoint
from thinking.guide.plan_trees.unrolling import UnrolledPlan
from thinking.recipes.language_guide import model, planning
from thinking.recipes.language_guide.evaluation import GoalSet
from thinking.recipes.language_guide.planning import Planner
from thinking.text.plans import Plan
from thinking.text.prepared_data import PreparedData
from thinking.text.records import iter_steps

MAX_STEPS = 256
"""Maximum steps of a plan by default."""


def compute_default_max_steps(data: PreparedData) -> int:
    """Maximum steps of a plan: twice those of the longest training text, at most `MAX_STEPS`."""
    longest = max(sum(1 for _ in iter_steps(text.steps)) for text in data.texts if text.split == "train")
    return min(2 * longest, MAX_STEPS)


def load_planners(folder: Path, data: PreparedData, max_steps: int) -> tuple[int, dict[str, Planner]]:
    """Load the trained guides.

    Args:
        folder: of the training task.
        data: the prepared data.
        max_steps: of a plan.

    Returns:
        The number of layers of the guide, and planners by name: `guide`, and `flat` if there is one.

    Raises:
        UserError: training is not finished, or used other data.
    """
    num_layers, planners = 1, {}
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} has no guide that was trained to the end: {model.TRAIN_FIRST}")
    for name in ("guide", "flat"):
        if name == "flat" and not (folder / "checkpoints" / name).exists():
            continue
        shape, fitted = model.load_guide(folder / name, model.compute_checksum(data))
        guide = model.build_guide(shape, list(map(model.make_codec, fitted)))
        saved = checkpoint.restore(
            folder / "checkpoints" / name, jax.jit(guide.init)(jax.random.key(0)), set_aside=False
        )
        if saved is None:
            raise UserError(f"{folder} has no trained {name}: {model.TRAIN_FIRST}")
        num_layers = max(num_layers, len(shape.context_lengths))
        planners[name] = planning.make_planner(guide, saved.state, max_steps)
    return num_layers, planners


def make_plans(
    data: PreparedData,
    goal_set: GoalSet,
    mode: str,
    unrolled: UnrolledPlan,
    nodes: Sequence[Any],
    scores: Sequence[Mapping[str, float]],
) -> list[Plan]:
    """All N plans of a mode, in the saved format.

    Args:
        data: the prepared data.
        goal_set: the goals.
        mode: `think` or `react`.
        unrolled: the plans in vectors.
        nodes: of each plan.
        scores: of each plan.
    """
    return [
        Plan(
            goal=goal_set.names[row],
            split=goal_set.splits[row],
            mode=mode,
            nodes=nodes[row],
            done=bool(mode == "react" or unrolled.length[row] < unrolled.steps.shape[1]),
            num_given=0,
            reference=tuple(data.steps[step] for step in goal_set.steps[row]),
            scores=scores[row],
        )
        for row in range(len(goal_set.names))
    ]
