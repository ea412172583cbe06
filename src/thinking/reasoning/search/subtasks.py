"""Thoughts that ask: each question is answered in a context of its own, so depth bounds what is solved, not length.

A thought that writes `<ask>question<answer>` pauses there. The same model is asked the question in a fresh context, and
what it answers, without its thought, is put behind the mark; then the thought goes on. This is Recursion of Thought
(Lee & Kim 2023), for many problems at once. It knows tokens and marks, not what they are about.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np

from thinking.batching import cut_rows
from thinking.generation.completions import generate
from thinking.generation.prompts import check_tokens
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.text.vocabulary import ANSWER, ASK, BEGIN, END, END_THINK, MARKS, THINK, Vocabulary
from thinking.types import Array, Params

SOLVED, MALFORMED, TOO_LONG = "solved", "malformed", "too long"
CYCLE, TOO_DEEP, TOO_MANY = "asks in a circle", "too deep", "too many contexts"
"""How a problem may end: it is solved; a context says what cannot be read, or has no more room; or a thought asks what
is being asked already, at too great a depth, or too much."""

MIN_WIDTH = 32
"""Texts are filled up to so many tokens, or twice as many and so on, so that few shapes are compiled."""


@dataclass(eq=False)
class Context:
    """A question and what is written behind it.

    Attributes:
        prompt: its tokens, `<begin>` included.
        completion: thought, answer and marks, what sub-tasks answered included.
        subtasks: the contexts of its sub-tasks, in order; equal questions share one.
        answer: without marks; None until it has ended well.
        height: of the tree that it is the root of, 1 where it asks nothing.
        num_subtask_tokens: how many of the written tokens sub-tasks answered.
    """

    prompt: tuple[int, ...]
    completion: list[int] = field(default_factory=list)
    subtasks: list["Context"] = field(default_factory=list)
    answer: list[int] | None = None
    height: int = 1
    num_subtask_tokens: int = 0


class Solution(NamedTuple):
    """What came of a problem.

    Attributes:
        answer: its tokens, without marks; empty unless it is solved.
        outcome: SOLVED, or why not. What is answered may still be wrong.
        num_contexts: different questions that were asked for it, itself included.
        depth: contexts within one another, from 1.
        num_tokens: written in all its contexts by the model, prompts and given answers left out.
        trace: its context, through which all others are reached.
    """

    answer: list[int]
    outcome: str
    num_contexts: int
    depth: int
    num_tokens: int
    trace: Context


@dataclass(eq=False)
class _Task:
    """A problem under way: each context waits for the next one's answer, and the last is being written."""

    stack: list[Context]
    outcome: str | None = None


SolveFn = Callable[[Params, Array, Sequence[Sequence[int]]], list[Solution]]
"""`solve(params, key, prompts) -> solutions`, one for each prompt; consumes the key."""


def make_solver(
    decoder: Decoder,
    *,
    max_depth: int,
    max_contexts: int,
    batch_size: int = 256,
    chunk_size: int = 32,
    sampling: Sampling = Sampling(temperature=0.0),
) -> SolveFn:
    """How a model solves problems by sub-tasks.

    Equal texts are gone on with once, and a question that was answered for any problem is not written out again. So
    where tokens are drawn, equal questions share what was drawn first. Greedily, which problems are solved together
    changes nothing but the time.

    Args:
        decoder: a decoder. A context, prompt and all, may grow until less than a piece is left of its length.
        max_depth: contexts within one another; a problem that asks nothing has depth 1.
        max_contexts: of a problem.
        batch_size: contexts that are written at once.
        chunk_size: tokens that each writes before all are looked at again.
        sampling: how tokens are drawn.

    Returns:
        `solve(params, key, prompts) -> solutions`; a prompt is tokens that begin with `<begin>`.

    Raises:
        ValueError: for a limit below 1, or a piece that the context has no room for; by `solve`, for a prompt that is
            empty or too long, or holds what is no word.
    """
    for name, limit in {
        "max_depth": max_depth,
        "max_contexts": max_contexts,
        "batch_size": batch_size,
        "chunk_size": chunk_size,
    }.items():
        if limit < 1:
            raise ValueError(f"make_solver: {name} {limit} is out of range; give at least 1")
    longest = decoder.context_length - chunk_size
    if longest < 1:
        raise ValueError(
            f"make_solver: chunk_size {chunk_size} is out of range; give less than the context, {longest + chunk_size}"
        )

    @jax.jit
    def write(params: Params, key: Array, texts: Array, lengths: Array) -> tuple[Array, Array]:
        options = {"max_new_tokens": chunk_size, "sampling": sampling, "stop_tokens": (ANSWER, END)}
        written = generate(decoder, params, key, texts, lengths, **options)
        return written.tokens, written.length

    def go_on(params: Params, key: Array, texts: set[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
        """What is written behind each text; those of like length share a batch."""
        found, ordered = {}, sorted(texts, key=lambda text: (len(text), text))
        for number, part in enumerate(cut_rows(ordered, batch_size)):
            rows, lengths = _pad_texts(part, batch_size, longest)
            tokens, count = jax.device_get(write(params, jax.random.fold_in(key, number * batch_size), rows, lengths))
            for row, text in enumerate(part):
                found[text] = tokens[row, : count[row]].tolist()
        return found

    def solve(params: Params, key: Array, prompts: Sequence[Sequence[int]]) -> list[Solution]:
        for prompt in prompts:
            if not 1 <= len(prompt) <= longest:
                raise ValueError(f"make_solver: a prompt has length {len(prompt)}; allowed is 1 to {longest}")
            check_tokens("prompt", prompt, 0, decoder.vocab_size)
        known: dict[tuple[int, ...], Context] = {}
        tasks = [_Task([Context(tuple(map(int, prompt)))]) for prompt in prompts]
        for number in itertools.count():
            going = {task: _text(task) for task in tasks if task.outcome is None}
            if not going:
                return [_to_solution(task) for task in tasks]
            new = go_on(params, jax.random.fold_in(key, number), set(going.values()))
            for task, text in going.items():
                task.stack[-1].completion += new[text]
                _process_completion(task, known, max_depth, max_contexts)
                if task.outcome is None and len(_text(task)) > longest:
                    task.outcome = TOO_LONG

    return solve


def format_trace(context: Context, vocabulary: Vocabulary) -> Iterator[str]:
    """Lines that tell of a context and those beneath: questions and answers; what stood above is not unfolded again."""
    shown: set[tuple[int, ...]] = set()
    left = [(context, 0)]
    while left:
        each, depth = left.pop()
        answer = "?" if each.answer is None else vocabulary.decode(each.answer)
        again = " (as above)" if each.prompt in shown and each.subtasks else ""
        yield f"{'  ' * depth}{vocabulary.decode(each.prompt[1:])} {answer}{again}"
        if not again:
            left += [(child, depth + 1) for child in reversed(each.subtasks)]
        shown.add(each.prompt)


def _process_completion(task: _Task, known: dict[tuple[int, ...], Context], max_depth: int, max_contexts: int) -> None:
    """Ask or answer, if what was written last calls for it."""
    context = task.stack[-1]
    if context.completion[-1] == END:
        context.answer = None if _is_in_thought(context) else _tokens_between(context.completion, ANSWER)
        if context.answer is None:
            task.outcome = MALFORMED
            return
        kept = known.setdefault(context.prompt, context)  # another problem may have been answered the same meanwhile
        if len(task.stack) == 1:
            task.outcome = SOLVED
            return
        task.stack.pop()
        task.stack[-1].subtasks[-1] = kept
        _insert_answer(task.stack[-1], kept)
    elif context.completion[-1] == ANSWER and _is_in_thought(context):
        question = _tokens_between(context.completion, ASK)
        if question is None:
            task.outcome = MALFORMED
            return
        _add_subtask(task, (BEGIN, *question), known, max_depth, max_contexts)


def _add_subtask(
    task: _Task, prompt: tuple[int, ...], known: dict[tuple[int, ...], Context], max_depth: int, max_contexts: int
) -> None:
    if any(context.prompt == prompt for context in task.stack):
        task.outcome = CYCLE
        return
    child = known.get(prompt) or Context(prompt)
    depth = len(task.stack) + child.height
    if depth > max_depth:
        task.outcome = TOO_DEEP
        return
    task.stack[-1].subtasks.append(child)
    for place, context in enumerate(task.stack):
        context.height = max(context.height, depth - place)
    if len(_reachable_contexts(task.stack[0])) > max_contexts:
        task.outcome = TOO_MANY
    elif child.answer is None:
        task.stack.append(child)
    else:
        _insert_answer(task.stack[-1], child)


def _insert_answer(context: Context, child: Context) -> None:
    context.completion += child.answer or []
    context.num_subtask_tokens += len(child.answer or [])


def _reachable_contexts(root: Context) -> list[Context]:
    """All contexts that are reached from one, itself included, each once."""
    found, left = {}, [root]
    while left:
        context = left.pop()
        if context.prompt not in found:
            found[context.prompt] = context
            left += context.subtasks
    return list(found.values())


def _to_solution(task: _Task) -> Solution:
    root, outcome = task.stack[0], task.outcome or ""
    every = _reachable_contexts(root)
    tokens = sum(len(each.completion) - each.num_subtask_tokens for each in every)
    return Solution(root.answer or [], outcome, len(every), root.height, tokens, root)


def _text(task: _Task) -> tuple[int, ...]:
    return (*task.stack[-1].prompt, *task.stack[-1].completion)


def _is_in_thought(context: Context) -> bool:
    """Whether its last token stands in a thought."""
    return next((token == THINK for token in reversed(context.completion) if token in (THINK, END_THINK)), False)


def _tokens_between(completion: list[int], mark: int) -> list[int] | None:
    """What stands between such a mark and the last token; None if that is nothing, or has another mark in it."""
    found: list[int] = []
    for token in reversed(completion[:-1]):
        if token == mark:
            return found[::-1] or None
        if token < len(MARKS):
            break
        found.append(token)
    return None


def _pad_texts(texts: Sequence[tuple[int, ...]], batch_size: int, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts as tokens [rows, T] and lengths [rows]; rows that are left over repeat the first."""
    width, most = MIN_WIDTH, max(map(len, texts))
    while width < most:
        width *= 2
    tokens, lengths = np.zeros((batch_size, min(width, max_length)), np.int32), np.zeros(batch_size, np.int32)
    for row in range(batch_size):
        text = texts[row] if row < len(texts) else texts[0]
        tokens[row, : len(text)], lengths[row] = text, len(text)
    return tokens, lengths
