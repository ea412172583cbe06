"""Scores of plans, and baseline planners.

A plan is a sequence of step ids. All wordings of a step share one id.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

Steps = Sequence[int]
NextStepFn = Callable[[Steps], int | None]
"""`next_step(steps so far) -> next step`, or None at the end."""

END = -1
NEXT_STEP_RECALL = "next_step_recall"
"""The name of the score `recall_at_1`."""


def step_f1(plan: Steps, reference: Steps) -> float:
    """Harmonic mean of precision and recall of steps as multisets, ignoring order."""
    shared = sum((Counter(plan) & Counter(reference)).values())
    return 2 * shared / (len(plan) + len(reference)) if plan or reference else 1.0


def compute_sub_goal_recall(plan: Steps, sections: Sequence[Steps]) -> float:
    """Fraction of sections whose last step, which completes them, is in the plan."""
    done = set(plan)
    return sum(section[-1] in done for section in sections) / len(sections)


def recall_at_1(predictions: Steps, reference: Steps) -> float:
    """Fraction of the reference's steps that are predicted correctly."""
    return sum(a == b for a, b in zip(predictions, reference, strict=True)) / len(reference)


def average_scores(scores: Sequence[Mapping[str, float]], num_steps: Sequence[int]) -> dict[str, float]:
    """Scores by name, averaged over plans; a plan without a score is left out of its mean.

    Recall of next steps is averaged over all steps, and all else over plans.

    Args:
        scores: of each plan.
        num_steps: of the reference of each plan.
    """
    averages = {}
    for name in dict.fromkeys(name for plan_scores in scores for name in plan_scores):
        scored = [(each[name], steps) for each, steps in zip(scores, num_steps, strict=True) if name in each]
        values, weights = zip(*scored, strict=True)
        averages[name] = float(np.average(values, weights=weights if name == NEXT_STEP_RECALL else None))
    return averages


def predict_next_steps(next_step: NextStepFn, reference: Steps) -> list[int]:
    """The predicted next step after each prefix of a reference; `END` for none."""
    predictions = (next_step(reference[:time]) for time in range(len(reference)))
    return [END if prediction is None else prediction for prediction in predictions]


def predict_plan(next_step: NextStepFn, max_steps: int) -> list[int]:
    """A whole plan by repeated prediction of the next step, at most `max_steps`."""
    plan: list[int] = []
    while len(plan) < max_steps and (step := next_step(plan)) is not None:
        plan.append(step)
    return plan


def make_bigram(texts: Iterable[Steps]) -> NextStepFn:
    """A planner that predicts the most frequent successor of the last step; ties go to the first seen."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for text in texts:
        for step, then in zip([END, *text], [*text, END], strict=True):
            counts[step][then] += 1

    def following(steps: Steps) -> int | None:
        successors = counts.get(steps[-1] if len(steps) else END)
        likeliest = max(successors, key=successors.__getitem__) if successors else END
        return None if likeliest == END else likeliest

    return following


def make_copier(text: Steps) -> NextStepFn:
    """A planner that copies a text: the step after the last one in the text, or the step at the same index."""
    text = list(text)

    def following(steps: Steps) -> int | None:
        time = len(steps)
        if time and (time > len(text) or text[time - 1] != steps[-1]):
            positions = [position for position, step in enumerate(text) if step == steps[-1]]
            time = min(positions, key=lambda position: abs(position + 1 - time)) + 1 if positions else time
        return text[time] if time < len(text) else None

    return following


def find_nearest(goal: np.ndarray, training_goals: np.ndarray) -> int:
    """Index of the training goal [N, D] most similar to a goal [D]."""
    return int(np.argmax(training_goals @ goal))
