"""Texts that a language model writes, about goals that it is given."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from thinking import progress
from thinking.errors import UserError
from thinking.text import step_splitting
from thinking.text.openai_protocol import map_in_order
from thinking.text.records import Text

AnswerFn: TypeAlias = Callable[[str], str]  # what is said to a model -> what it answers

PROMPT_TEMPLATE = (
    "Write down, step by step, how to reach this goal: {goal}. Answer with a numbered list of short steps in the order "
    "in which they are done, one step a line, and nothing else."
)
MIN_STEPS = 2  # steps; with fewer there is nothing to plan


def generate_texts(
    answer_fn: AnswerFn,
    goals: Sequence[str],
    prompt: str = PROMPT_TEMPLATE,
    *,
    num_parallel: int = 1,
    report_progress: Callable[[int, float], None] = lambda done, skipped: None,
) -> Iterator[Text]:
    """A text for each goal, in their order, as a model writes it and `steps.split_steps` cuts it.

    A goal that gave fewer than two steps is left out, and a warning at the end says how many those are.

    Args:
        answer_fn: the model, such as that of `make_openai_answer_fn` or `huggingface.make_answer_fn`.
        goals: in words.
        prompt: what the model is told, with `{goal}` where the goal goes.
        num_parallel: how many goals are asked about at once: 4 for a server, 1 for a model of this process.
        report_progress: told after each goal how many are done and how many of them were left out.

    Raises:
        ValueError: the prompt has no `{goal}`.
        UserError: no goal gave two steps, or `answer_fn` failed.
    """
    if "{goal}" not in prompt:
        raise ValueError(f"prompt {prompt[:60]!r}: it has no {{goal}}; put {{goal}} where the goal goes")
    skipped: list[str] = []
    answers = map_in_order(lambda goal: answer_fn(prompt.replace("{goal}", goal)), goals, num_parallel)
    for done, (goal, answer) in enumerate(zip(goals, answers, strict=True), start=1):
        found = step_splitting.split_steps(answer)
        if len(found) < MIN_STEPS:
            skipped.append(goal)
        report_progress(done, float(len(skipped)))
        if len(found) >= MIN_STEPS:
            yield Text(goal, tuple(found))
    if not skipped:
        return
    which = f"{len(skipped)} of {len(goals)} goals gave fewer than {MIN_STEPS} steps, such as `{skipped[0]}`"
    if len(skipped) == len(goals):
        raise UserError(f"{which}; take another model, or change the prompt")
    progress.warn(f"{which}; they are left out")
