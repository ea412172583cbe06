"""How good plans are, and what simpler planners reach.

A plan is a sequence of steps, each told by the number of what it means, so that all wordings of a step count as one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Steps = Sequence[int]
Next = Callable[[Steps], int | None]
"""`next(steps so far) -> the next step`, None where there is none."""

END = -1


def step_f1(plan: Steps, reference: Steps) -> float:
    """Harmonic mean of precision and recall of steps, whatever their order; one that is wanted twice counts twice."""
    shared = sum((Counter(plan) & Counter(reference)).values())
    return 2 * shared / (len(plan) + len(reference)) if plan or reference else 1.0


def sub_goals_reached(plan: Steps, sections: Sequence[Steps]) -> float:
    """Share of sections whose last step, which completes them, stands in the plan."""
    done = set(plan)
    return sum(section[-1] in done for section in sections) / len(sections)


def recall_at_1(told: Steps, reference: Steps) -> float:
    """Share of the steps of a reference that are told right, each after all that come before it."""
    return sum(a == b for a, b in zip(told, reference, strict=True)) / len(reference)


def told_by(following: Next, reference: Steps) -> list[int]:
    """What is told before each step of a reference that is observed; `END` where nothing is."""
    answers = (following(reference[:at]) for at in range(len(reference)))
    return [END if answer is None else answer for answer in answers]


def planned_by(following: Next, most: int) -> list[int]:
    """A whole plan by telling one step after the other, at most so many."""
    plan: list[int] = []
    while len(plan) < most and (step := following(plan)) is not None:
        plan.append(step)
    return plan


def bigram(texts: Iterable[Steps]) -> Next:
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


def copied(text: Steps) -> Next:
    """A text word for word: its step behind the last one, where that stands in it, else the one of the same number."""
    text = list(text)

    def following(steps: Steps) -> int | None:
        at = len(steps)
        if at and (at > len(text) or text[at - 1] != steps[-1]):
            places = [place for place, step in enumerate(text) if step == steps[-1]]
            at = min(places, key=lambda place: abs(place + 1 - at)) + 1 if places else at
        return text[at] if at < len(text) else None

    return following


def nearest(goal: np.ndarray, taught: np.ndarray) -> int:
    """Which of the goals that were taught [N, D] is most like a goal [D]."""
    return int(np.argmax(taught @ goal))
