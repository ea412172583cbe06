"""Evaluation of planners on the goals of prepared texts, with baselines.

Axes: N goals, D dimensions of a vector.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from thinking.guide.plan_trees.unrolling import UnrolledPlan
from thinking.recipes.language_guide import scores as plan_scores
from thinking.recipes.language_guide.planning import MatchIndex, Planner
from thinking.text import plan_trees
from thinking.text.prepared_data import PreparedData
from thinking.text.records import SPLITS, iter_steps

Row = dict[str, Any]
Scores = Mapping[str, float]


class GoalSet(NamedTuple):
    """Goals of all splits, each with its first text as reference.

    Attributes:
        splits: N splits.
        names: N goals in words.
        goals: [N, D].
        steps: for each goal, the step indices of the reference.
        sections: for each goal, the lowest sections of the reference, as canonical step ids. All wordings of a step
            have one canonical id.
    """

    splits: list[str]
    names: list[str]
    goals: np.ndarray
    steps: list[list[int]]
    sections: list[list[list[int]]]


def make_goal_set(data: PreparedData, max_steps: int) -> GoalSet:
    """All goals, with references cut to `max_steps` steps."""
    step_ids = {step: index for index, step in enumerate(data.steps)}
    goal_ids = {goal: index for index, goal in enumerate(data.goals)}
    texts = {(text.split, text.goal): text for text in reversed(data.texts)}
    keys = [key for split in SPLITS for key in reversed(texts) if key[0] == split]
    steps = [[step_ids[step] for step in iter_steps(texts[key].steps)][:max_steps] for key in keys]
    sections = [
        [
            [int(data.canonical_index[step_ids[step]]) for step in section.children]
            for section in plan_trees.build_plan_tree(texts[key], 2)
        ]
        for key in keys
    ]
    goals = data.goal_vectors[[goal_ids[goal] for _, goal in keys]]
    return GoalSet([split for split, _ in keys], [goal for _, goal in keys], goals, steps, sections)


def react_to_references(planner: Planner, goal_set: GoalSet, data: PreparedData) -> UnrolledPlan:
    """Closed-loop predictions before each step of the references."""
    longest = max(map(len, goal_set.steps))
    observed = np.zeros((len(goal_set.steps), longest, data.step_vectors.shape[1]), np.float32)
    for row, steps in zip(observed, goal_set.steps, strict=True):
        row[: len(steps)] = data.step_vectors[steps]
    unrolled = planner.react(goal_set.goals, observed)
    return unrolled._replace(length=np.array([len(steps) for steps in goal_set.steps]))


def think_plans(planner: Planner, goals: np.ndarray) -> UnrolledPlan:
    """Open-loop plans for goals [N, D], from the start."""
    return planner.think(goals, np.zeros((len(goals), 0, goals.shape[1]), np.float32), np.zeros(len(goals), np.int32))


def measure_plans_per_second(planner: Planner, goals: np.ndarray) -> float:
    """Throughput of open-loop plans; the planner must be compiled already."""
    start = time.perf_counter()
    think_plans(planner, goals)
    return len(goals) / (time.perf_counter() - start)


def score_plans(
    data: PreparedData, index: MatchIndex, goal_set: GoalSet, react: UnrolledPlan, think: UnrolledPlan
) -> list[Scores]:
    """Scores of each goal, by the known steps nearest to the predicted ones."""

    def match_steps(unrolled: UnrolledPlan) -> list[list[int]]:
        rows = [steps[:length] for steps, length in zip(unrolled.steps, unrolled.length, strict=True)]
        ends = np.cumsum([len(row) for row in rows])[:-1]
        return [row.tolist() for row in np.split(data.canonical_index[index.match(np.concatenate(rows))], ends)]

    predictions = [
        [plan_scores.END if is_end else step for step, is_end in zip(steps, row_done, strict=False)]
        for steps, row_done in zip(match_steps(react), react.done, strict=True)
    ]
    return _score_goals(data, goal_set, predictions, match_steps(think))


def _score_goals(
    data: PreparedData, goal_set: GoalSet, predictions: Sequence[list[int]], plans: Sequence[list[int]]
) -> list[Scores]:
    scores = []
    for steps, sections, predicted, plan in zip(goal_set.steps, goal_set.sections, predictions, plans, strict=True):
        reference = data.canonical_index[steps].tolist()
        scores.append(
            {
                plan_scores.NEXT_STEP_RECALL: plan_scores.recall_at_1(predicted, reference),
                "step_f1": plan_scores.step_f1(plan, reference),
                "sub_goal_recall": plan_scores.compute_sub_goal_recall(plan, sections),
            }
        )
    return scores


def compute_baseline_scores(data: PreparedData, goal_set: GoalSet, max_steps: int) -> dict[str, list[Scores]]:
    """Scores of two baselines: the nearest training goal's text, copied, and a bigram model."""
    texts = make_goal_set(data, max_steps)
    training_indices = [index for index, split in enumerate(texts.splits) if split == "train"]
    training_steps = [data.canonical_index[texts.steps[index]].tolist() for index in training_indices]
    nearest = [plan_scores.find_nearest(goal, texts.goals[training_indices]) for goal in goal_set.goals]
    bigram = plan_scores.make_bigram(training_steps)
    planners = {
        "copied": [plan_scores.make_copier(training_steps[index]) for index in nearest],
        "bigram": [bigram] * len(nearest),
    }
    references = [data.canonical_index[steps].tolist() for steps in goal_set.steps]
    return {
        name: _score_goals(
            data,
            goal_set,
            [
                plan_scores.predict_next_steps(next_step, reference)
                for next_step, reference in zip(next_steps, references, strict=True)
            ],
            [plan_scores.predict_plan(next_step, max_steps) for next_step in next_steps],
        )
        for name, next_steps in planners.items()
    }


def make_rows(model: str, goal_set: GoalSet, scores: Sequence[Scores], **figures: float) -> list[Row]:
    """A row per split, of `average_scores`."""
    rows = []
    for split in SPLITS:
        indices = [index for index, goal_split in enumerate(goal_set.splits) if goal_split == split]
        if not indices:
            continue
        num_steps = [len(goal_set.steps[index]) for index in indices]
        mean = plan_scores.average_scores([scores[index] for index in indices], num_steps)
        rows.append(
            {
                "split": split,
                "model": model,
                "num_goals": len(indices),
                "next_step_recall": mean[plan_scores.NEXT_STEP_RECALL],
                "plan_step_f1": mean["step_f1"],
                "sub_goal_recall": mean["sub_goal_recall"],
                **figures,
            }
        )
    return rows
