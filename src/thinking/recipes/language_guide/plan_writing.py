"""Writers that turn plans into Markdown: nearest sentences, a model that rewrites these, or steered generation.

Axes: M vectors of nodes, D dimensions.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from thinking.text.embedders import Embedder
from thinking.text.huggingface import CausalModel, generate_steered
from thinking.text.plans import Branch, Plan, build_branches
from thinking.text.providers import AnswerFn

WriteFn: TypeAlias = Callable[[Plan], str]
"""`write(plan) -> text`, in Markdown."""

REWRITE = (
    "Here is an outline of how to reach this goal: {goal}. A planner thought it out, and each line is the known "
    "sentence nearest to what it meant, so some lines may be slightly off.\n\n{outline}\n\n"
    "Write it out as a clear guide for somebody who does this for the first time. Keep the order of the outline and "
    "its headings, number the steps, say nothing that the outline does not imply, and answer with the guide alone."
)
CONTINUE = "How to reach this goal, one short sentence a step: {goal}.\n\n{so_far}"
MAX_STEPS = 12  # steered steps of a plan; the whole text is processed for every token
MAX_STEP_TOKENS = 24  # tokens of a step


def write_nearest(plan: Plan) -> str:
    """The sentences nearest to the steps, numbered, under the headings nearest to the sub-goals."""
    return "\n".join(_format_tree(build_branches(plan.nodes), 2, itertools.count(1))).strip()


def make_rewriter(answer_fn: AnswerFn) -> WriteFn:
    """A writer that asks a model to rewrite the nearest sentences; a leading <think> block is removed."""

    def write(plan: Plan) -> str:
        answer = answer_fn(REWRITE.format(goal=plan.goal, outline=write_nearest(plan))).strip()
        return answer.partition("</think>")[2].strip() if answer.startswith("<think>") else answer

    return write


def make_steered_writer(causal: CausalModel, embedder: Embedder, vectors: np.ndarray, strength: float) -> WriteFn:
    """A writer that generates each step, steered toward its vector; see `huggingface.generate_steered`.

    Args:
        causal: the model.
        embedder: the one that made the vectors.
        vectors: [M, D] of the plans' nodes.
        strength: nats that a cosine similarity of 1 adds.
    """
    # A step is one line, so any token with a line break ends it.
    vocabulary = range(len(causal.tokenizer))
    line_breaks = {token for token in vocabulary if "\n" in causal.tokenizer.decode([token], skip_special_tokens=True)}
    one_line_model = causal._replace(end_tokens=causal.end_tokens | line_breaks)

    def write(plan: Plan) -> str:
        lines: list[str] = []
        for node in plan.steps[:MAX_STEPS]:
            number = f"{len(lines) + 1}."
            prompt = CONTINUE.format(goal=plan.goal, so_far="\n".join([*lines, number]))
            target = vectors[node.vector_index]
            step = generate_steered(
                one_line_model, embedder, target, prompt, strength=strength, max_new_tokens=MAX_STEP_TOKENS
            )
            if step.strip():
                lines.append(f"{number} {' '.join(step.split())}")
        return "\n".join(lines)

    return write


def _format_tree(branches: Iterable[Branch], depth: int, numbers: Iterator[int]) -> Iterator[str]:
    """Lines of Markdown; `depth` is the level of the outermost headings."""
    for node, children in branches:
        words = " ".join(node.nearest_text.split())
        if node.level == 0:
            yield f"{next(numbers)}. {words}"
        else:
            yield ""
            yield f"{'#' * min(depth, 6)} {words}"
            yield from _format_tree(children, depth + 1, numbers)
