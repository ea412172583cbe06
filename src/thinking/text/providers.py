"""Texts for goals, written by a language model."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from thinking import progress
from thinking.errors import UserError
from thinking.text import step_splitting
from thinking.text.openai_protocol import map_in_order
from thinking.text.records import Text

AnswerFn: TypeAlias = Callable[[str], str]  # prompt -> answer

PROMPT_TEMPLATE = (
    "Write down, step by step, how to reach this goal: {goal}. Answer with a numbered list of short steps in the order "
    "in which they are done, one step a line, and nothing else."
)
MIN_STEPS = 2  # with fewer there is nothing to plan


def generate_texts(
    answer_fn: AnswerFn,
    goals: Sequence[str],
    prompt: str = PROMPT_TEMPLATE,
    *,
    num_parallel: int = 1,
    report_progress: Callable[[int, float], None] = lambda done, skipped: None,
) -> Iterator[Text]:
    """Generate a text for each goal, in order; `step_splitting.split_steps` splits the answers.

    A goal whose answer has fewer than two steps is skipped; a warning at the end counts these.

    Args:
        answer_fn: the model, as made by `make_openai_answer_fn` or `huggingface.make_answer_fn`.
        goals: in words.
        prompt: the template, with `{goal}`.
        num_parallel: goals in progress at once: several for a server, 1 for a model of this process.
        report_progress: called after each goal with the numbers of goals done and skipped.

    Raises:
        ValueError: the prompt has no `{goal}`.
        UserError: no goal gave two steps, or `answer_fn` failed.
    """
    if "{goal}" not in prompt:
        raise ValueError(f"prompt {prompt[:60]!r}: it has no {{goal}}; put {{goal}} where the goal goes")
    skipped: list[str] = []
    answers = map_in_order(lambda goal: answer_fn(prompt.replace("{goal}", goal)), goals, num_parallel)
    for done, (goal, answer) in enumerate(zip(goals, answers, strict=True), start=1):
        steps = step_splitting.split_steps(answer)
        if len(steps) < MIN_STEPS:
            skipped.append(goal)
        report_progress(done, float(len(skipped)))
        if len(steps) >= MIN_STEPS:
            yield Text(goal, tuple(steps))
    if not skipped:
        return
    which = f"{len(skipped)} of {len(goals)} goals gave fewer than {MIN_STEPS} steps, such as `{skipped[0]}`"
    if len(skipped) == len(goals):
        raise UserError(f"{which}; take another model, or change the prompt")
    progress.warn(f"{which}; they are left out")
