"""All goals of prepared texts put to a planner, and what its plans are worth beside simpler ones.

Axes: N goals, T steps, D dimensions of a vector.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from thinking.guide.plan_trees.unrolling import UnrolledPlan
from thinking.recipes.language_guide import scores as judging
from thinking.recipes.language_guide.planning import MatchIndex, Planner
from thinking.text import plan_trees
from thinking.text.prepared_data import PreparedData
from thinking.text.records import SPLITS, iter_steps

Row = dict[str, Any]
Scores = Mapping[str, float]


class GoalSet(NamedTuple):
    """Goals of all splits, each with the first text for it.

    Attributes:
        splits: N of them.
        names: N goals in words.
        goals: [N, D].
        steps: for each goal, the numbers of the reference's steps.
        sections: for each goal, the lowest sections of the reference, as numbers of what steps mean.
    """

    splits: list[str]
    names: list[str]
    goals: np.ndarray
    steps: list[list[int]]
    sections: list[list[list[int]]]


def make_goal_set(data: PreparedData, max_steps: int) -> GoalSet:
    """What a planner is asked; of a reference, the first steps, so many at most."""
    number = {step: index for index, step in enumerate(data.steps)}
    place = {goal: index for index, goal in enumerate(data.goals)}
    texts = {(text.split, text.goal): text for text in reversed(data.texts)}
    keys = [key for split in SPLITS for key in reversed(texts) if key[0] == split]
    steps = [[number[step] for step in iter_steps(texts[key].steps)][:max_steps] for key in keys]
    sections = [
        [
            [int(data.canonical_index[number[step]]) for step in section.children]
            for section in plan_trees.build_plan_tree(texts[key], 2)
        ]
        for key in keys
    ]
    goals = data.goal_vectors[[place[goal] for _, goal in keys]]
    return GoalSet([split for split, _ in keys], [goal for _, goal in keys], goals, steps, sections)


def react_to_references(planner: Planner, goal_set: GoalSet, data: PreparedData) -> UnrolledPlan:
    """What a planner would do before each step of the references."""
    longest = max(map(len, goal_set.steps))
    observed = np.zeros((len(goal_set.steps), longest, data.step_vectors.shape[1]), np.float32)
    for row, steps in zip(observed, goal_set.steps, strict=True):
        row[: len(steps)] = data.step_vectors[steps]
    unrolled = planner.react(goal_set.goals, observed)
    return unrolled._replace(length=np.array([len(steps) for steps in goal_set.steps]))


def think_plans(planner: Planner, goals: np.ndarray) -> UnrolledPlan:
    """Whole plans for goals [N, D], from nothing done."""
    return planner.think(goals, np.zeros((len(goals), 0, goals.shape[1]), np.float32), np.zeros(len(goals), np.int32))


def measure_plans_per_second(planner: Planner, goals: np.ndarray) -> float:
    """How fast whole plans are made for all goals at once, by a planner that made some before."""
    start = time.perf_counter()
    think_plans(planner, goals)
    return len(goals) / (time.perf_counter() - start)


def score_plans(
    data: PreparedData, index: MatchIndex, goal_set: GoalSet, react: UnrolledPlan, think: UnrolledPlan
) -> list[Scores]:
    """The scores of each goal, by the sentences that are nearest to what was told and planned."""

    def meant(unrolled: UnrolledPlan) -> list[list[int]]:
        rows = [steps[:length] for steps, length in zip(unrolled.steps, unrolled.length, strict=True)]
        ends = np.cumsum([len(row) for row in rows])[:-1]
        return [row.tolist() for row in np.split(data.canonical_index[index.match(np.concatenate(rows))], ends)]

    told = [
        [judging.END if over else step for step, over in zip(steps, ended, strict=False)]
        for steps, ended in zip(meant(react), react.done, strict=True)
    ]
    return _score_goals(data, goal_set, told, meant(think))


def _score_goals(
    data: PreparedData, goal_set: GoalSet, predictions: Sequence[list[int]], plans: Sequence[list[int]]
) -> list[Scores]:
    found = []
    for steps, sections, before, plan in zip(goal_set.steps, goal_set.sections, predictions, plans, strict=True):
        reference = data.canonical_index[steps].tolist()
        found.append(
            {
                "next_step_recall": judging.recall_at_1(before, reference),
                "step_f1": judging.step_f1(plan, reference),
                "sub_goals": judging.compute_sub_goal_recall(plan, sections),
            }
        )
    return found


def compute_baseline_scores(data: PreparedData, goal_set: GoalSet, max_steps: int) -> dict[str, list[Scores]]:
    """The same of the nearest training goal's text, copied, and of what follows most often on a sentence."""
    texts = make_goal_set(data, max_steps)
    taught = [index for index, split in enumerate(texts.splits) if split == "train"]
    means = [data.canonical_index[texts.steps[index]].tolist() for index in taught]
    nearest = [judging.find_nearest(goal, texts.goals[taught]) for goal in goal_set.goals]
    follows = judging.make_bigram(means)
    planners = {"copied": [judging.make_copier(means[index]) for index in nearest], "bigram": [follows] * len(nearest)}
    references = [data.canonical_index[steps].tolist() for steps in goal_set.steps]
    return {
        name: _score_goals(
            data,
            goal_set,
            [
                judging.predict_next_steps(each, reference)
                for each, reference in zip(following, references, strict=True)
            ],
            [judging.predict_plan(each, max_steps) for each in following],
        )
        for name, following in planners.items()
    }


def make_rows(model: str, goal_set: GoalSet, scores: Sequence[Scores], **figures: float) -> list[Row]:
    """A row for each split: recall over all steps, the other scores as means over goals."""
    rows = []
    for split in SPLITS:
        chosen = [index for index, own in enumerate(goal_set.splits) if own == split]
        if not chosen:
            continue
        lengths = [len(goal_set.steps[index]) for index in chosen]
        mean = {name: np.mean([scores[index][name] for index in chosen]) for name in ("step_f1", "sub_goals")}
        recall = np.average([scores[index]["next_step_recall"] for index in chosen], weights=lengths)
        rows.append(
            {
                "split": split,
                "model": model,
                "goals": len(chosen),
                "next_step_recall_percent": 100 * float(recall),
                "plan_step_f1_percent": 100 * float(mean["step_f1"]),
                "sub_goals_percent": 100 * float(mean["sub_goals"]),
                **figures,
            }
        )
    return rows
