"""How good plans are, and what simpler planners reach.

A plan is a sequence of steps, each told by the number of what it means, so that all wordings of a step count as one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Steps = Sequence[int]
NextStepFn = Callable[[Steps], int | None]
"""`next(steps so far) -> the next step`, None where there is none."""

END = -1


def step_f1(plan: Steps, reference: Steps) -> float:
    """Harmonic mean of precision and recall of steps, whatever their order; one that is wanted twice counts twice."""
    shared = sum((Counter(plan) & Counter(reference)).values())
    return 2 * shared / (len(plan) + len(reference)) if plan or reference else 1.0


def compute_sub_goal_recall(plan: Steps, sections: Sequence[Steps]) -> float:
    """Share of sections whose last step, which completes them, stands in the plan."""
    done = set(plan)
    return sum(section[-1] in done for section in sections) / len(sections)


def recall_at_1(predictions: Steps, reference: Steps) -> float:
    """Share of the steps of a reference that are told right, each after all that come before it."""
    return sum(a == b for a, b in zip(predictions, reference, strict=True)) / len(reference)


def predict_next_steps(next_step: NextStepFn, reference: Steps) -> list[int]:
    """What is told before each step of a reference that is observed; `END` where nothing is."""
    answers = (next_step(reference[:at]) for at in range(len(reference)))
    return [END if answer is None else answer for answer in answers]


def predict_plan(next_step: NextStepFn, max_steps: int) -> list[int]:
    """A whole plan by telling one step after the other, at most so many."""
    plan: list[int] = []
    while len(plan) < max_steps and (step := next_step(plan)) is not None:
        plan.append(step)
    return plan


def make_bigram(texts: Iterable[Steps]) -> NextStepFn:
    """What followed most often on the last step; of equally many the first that was seen."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for text in texts:
        for step, then in zip([END, *text], [*text, END], strict=True):
            counts[step][then] += 1

    def following(steps: Steps) -> int | None:
        found = counts.get(steps[-1] if len(steps) else END)
        likeliest = max(found, key=found.__getitem__) if found else END
        return None if likeliest == END else likeliest

    return following


def make_copier(text: Steps) -> NextStepFn:
    """A text word for word: its step behind the last one, where that stands in it, else the one of the same number."""
    text = list(text)

    def following(steps: Steps) -> int | None:
        at = len(steps)
        if at and (at > len(text) or text[at - 1] != steps[-1]):
            places = [place for place, step in enumerate(text) if step == steps[-1]]
            at = min(places, key=lambda place: abs(place + 1 - at)) + 1 if places else at
        return text[at] if at < len(text) else None

    return following


def find_nearest(goal: np.ndarray, training_goals: np.ndarray) -> int:
    """Which of the goals that were taught [N, D] is most like a goal [D]."""
    return int(np.argmax(training_goals @ goal))
