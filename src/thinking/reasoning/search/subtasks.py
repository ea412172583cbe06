"""Recursive sub-tasks: the model answers its own questions in fresh contexts, so depth is the limit, not length.

A thought that generates `<ask>question<answer>` pauses. The same model gets the question as a new prompt, and its
answer, without its thought, is inserted after its answer token. This is Recursion of Thought (Lee & Kim 2023), batched.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np

from thinking.batching import cut_rows
from thinking.generation.completions import generate
from thinking.generation.prompts import check_tokens
from thinking.generation.sampling import Sampling, fold_in_rows
from thinking.networks.decoder import Decoder
from thinking.text.vocabulary import ANSWER, ASK, BEGIN, END, END_THINK, SPECIAL_TOKENS, THINK, Vocabulary
from thinking.types import Array, Params

SOLVED, MALFORMED, TOO_LONG = "solved", "malformed", "too long"
CYCLE, TOO_DEEP, TOO_MANY = "asks in a circle", "too deep", "too many contexts"
"""Outcomes of a problem: solved; a context is malformed or too long; a question asks for one that waits for it (CYCLE),
or is nested too deep; or the problem has too many contexts."""

MIN_WIDTH = 32
"""Minimum padded length in tokens; longer texts are padded to powers of two times this, for few compiled shapes."""


@dataclass(eq=False)
class SubtaskContext:
    """A question and its completion.

    Attributes:
        prompt: tokens, `<begin>` included.
        completion: thought, answer and special tokens, with the sub-tasks' answers inserted.
        subtasks: contexts of the sub-tasks, in order; equal questions share one.
        answer: without special tokens; None until it is complete.
        height: of its tree of sub-tasks, 1 without any.
        num_subtask_tokens: number of inserted tokens in the completion.
    """

    prompt: tuple[int, ...]
    completion: list[int] = field(default_factory=list)
    subtasks: list["SubtaskContext"] = field(default_factory=list)
    answer: list[int] | None = None
    height: int = 1
    num_subtask_tokens: int = 0


class SubtaskSolution(NamedTuple):
    """The result of a problem.

    Attributes:
        answer: tokens without special ones; empty unless solved.
        outcome: SOLVED, which does not mean correct, or the failure.
        num_contexts: number of distinct questions, the problem itself included.
        depth: depth of nested contexts, from 1.
        num_tokens: tokens generated in all contexts, without prompts and inserted answers.
        trace: the context of the problem itself, with those of its sub-tasks below it.
    """

    answer: list[int]
    outcome: str
    num_contexts: int
    depth: int
    num_tokens: int
    trace: SubtaskContext


@dataclass(eq=False)
class _Task:
    """An open problem: each context waits for the next one's answer, and the last is being generated."""

    stack: list[SubtaskContext]
    outcome: str | None = None


SolveFn = Callable[[Params, Array, Sequence[Sequence[int]]], list[SubtaskSolution]]
"""`solve(params, key, prompts) -> solutions`, one a prompt; consumes the key."""


def make_solver(
    decoder: Decoder,
    *,
    max_depth: int,
    max_contexts: int,
    batch_size: int = 256,
    chunk_size: int = 32,
    sampling: Sampling = Sampling(temperature=0.0),
) -> SolveFn:
    """A solver that answers questions by sub-tasks.

    Equal texts are continued once, and answers are shared between all problems of a call. Each question has its own
    samples, so the solutions do not depend on which problems share a call.

    Args:
        decoder: a decoder. A context may grow to `decoder.context_length - chunk_size` tokens before its last chunk.
        max_depth: depth of nested contexts; 1 without sub-tasks.
        max_contexts: contexts of a problem.
        batch_size: contexts that are generated together.
        chunk_size: tokens generated between two checks for questions and answers.
        sampling: sampling options.

    Returns:
        `solve(params, key, prompts) -> solutions`; prompts are tokens that start with `<begin>`.

    Raises:
        ValueError: for a limit below 1, or a chunk as long as the context; by `solve`, for a prompt that is empty, too
            long, or has tokens outside the vocabulary.
    """
    for name, limit in {
        "max_depth": max_depth,
        "max_contexts": max_contexts,
        "batch_size": batch_size,
        "chunk_size": chunk_size,
    }.items():
        if limit < 1:
            raise ValueError(f"make_solver: {name} {limit} is out of range; give at least 1")
    max_length = decoder.context_length - chunk_size
    if max_length < 1:
        raise ValueError(
            f"make_solver: chunk_size {chunk_size} is out of range; "
            f"give less than the context, {decoder.context_length}"
        )

    @jax.jit
    def generate_chunk(
        params: Params, key: Array, questions: Array, texts: Array, lengths: Array
    ) -> tuple[Array, Array]:
        options = {"max_new_tokens": chunk_size, "sampling": sampling, "stop_tokens": (ANSWER, END)}
        completions = generate(decoder, params, fold_in_rows(key, questions), texts, lengths, **options)
        return completions.tokens, completions.length

    def continue_texts(
        params: Params, key: Array, questions: dict[tuple[int, ...], tuple[int, ...]]
    ) -> dict[tuple[int, ...], list[int]]:
        """The continuation of each text, a key of `questions`; texts of similar length share a batch."""
        continuations, ordered = {}, sorted(questions, key=lambda text: (len(text), text))
        for batch in cut_rows(ordered, batch_size):
            rows, lengths = _pad_texts(batch, batch_size, max_length)
            question_hashes = np.full(batch_size, _hash_question(questions[batch[0]]), np.uint32)
            question_hashes[: len(batch)] = [_hash_question(questions[text]) for text in batch]
            tokens, num_new = jax.device_get(generate_chunk(params, key, question_hashes, rows, lengths))
            for row, text in enumerate(batch):
                continuations[text] = tokens[row, : num_new[row]].tolist()
        return continuations

    def solve(params: Params, key: Array, prompts: Sequence[Sequence[int]]) -> list[SubtaskSolution]:
        for prompt in prompts:
            if not 1 <= len(prompt) <= max_length:
                raise ValueError(f"make_solver: a prompt has length {len(prompt)}; allowed is 1 to {max_length}")
            check_tokens("prompt", prompt, 0, decoder.vocab_size)
        answered: dict[tuple[int, ...], SubtaskContext] = {}
        tasks = [_Task([SubtaskContext(tuple(map(int, prompt)))]) for prompt in prompts]
        while True:
            open_tasks = {task: _text(task) for task in tasks if task.outcome is None}
            if not open_tasks:
                return [_to_solution(task) for task in tasks]
            questions = {text: task.stack[-1].prompt for task, text in open_tasks.items()}
            continuations = continue_texts(params, key, questions)
            for task, text in open_tasks.items():
                task.stack[-1].completion += continuations[text]
                _process_completion(task, answered, max_depth, max_contexts)
                if task.outcome is None and len(_text(task)) > max_length:
                    task.outcome = TOO_LONG

    return solve


def format_trace(context: SubtaskContext, vocabulary: Vocabulary) -> Iterator[str]:
    """Indented lines `question answer` of a context and its sub-tasks; a repeated context is not expanded again."""
    expanded: set[tuple[int, ...]] = set()
    stack = [(context, 0)]
    while stack:
        node, depth = stack.pop()
        answer = "?" if node.answer is None else vocabulary.decode(node.answer)
        suffix = " (as above)" if node.prompt in expanded and node.subtasks else ""
        yield f"{'  ' * depth}{vocabulary.decode(node.prompt[1:])} {answer}{suffix}"
        if not suffix:
            stack += [(child, depth + 1) for child in reversed(node.subtasks)]
        expanded.add(node.prompt)


def _process_completion(
    task: _Task, answered: dict[tuple[int, ...], SubtaskContext], max_depth: int, max_contexts: int
) -> None:
    """Open or close a context if the last token asks or answers."""
    context = task.stack[-1]
    if context.completion[-1] == END:
        context.answer = None if _is_in_thought(context) else _tokens_between(context.completion, ANSWER)
        if context.answer is None:
            task.outcome = MALFORMED
            return
        shared = answered.setdefault(context.prompt, context)  # another problem may have answered it already
        if len(task.stack) == 1:
            task.outcome = SOLVED
            return
        task.stack.pop()
        task.stack[-1].subtasks[-1] = shared
        _insert_answer(task.stack[-1], shared)
    elif context.completion[-1] == ANSWER and _is_in_thought(context):
        question = _tokens_between(context.completion, ASK)
        if question is None:
            task.outcome = MALFORMED
            return
        _add_subtask(task, (BEGIN, *question), answered, max_depth, max_contexts)


def _add_subtask(
    task: _Task,
    prompt: tuple[int, ...],
    answered: dict[tuple[int, ...], SubtaskContext],
    max_depth: int,
    max_contexts: int,
) -> None:
    if any(context.prompt == prompt for context in task.stack):
        task.outcome = CYCLE
        return
    child = answered.get(prompt) or SubtaskContext(prompt)
    depth = len(task.stack) + child.height
    if depth > max_depth:
        task.outcome = TOO_DEEP
        return
    task.stack[-1].subtasks.append(child)
    for level, context in enumerate(task.stack):
        context.height = max(context.height, depth - level)
    if len(_reachable_contexts(task.stack[0])) > max_contexts:
        task.outcome = TOO_MANY
    elif child.answer is None:
        task.stack.append(child)
    else:
        _insert_answer(task.stack[-1], child)


def _insert_answer(context: SubtaskContext, child: SubtaskContext) -> None:
    context.completion += child.answer or []
    context.num_subtask_tokens += len(child.answer or [])


def _reachable_contexts(root: SubtaskContext) -> list[SubtaskContext]:
    """All distinct contexts below one, itself included."""
    found, stack = {}, [root]
    while stack:
        context = stack.pop()
        if context.prompt not in found:
            found[context.prompt] = context
            stack += context.subtasks
    return list(found.values())


def _to_solution(task: _Task) -> SubtaskSolution:
    root, outcome = task.stack[0], task.outcome or ""
    contexts = _reachable_contexts(root)
    tokens = sum(len(node.completion) - node.num_subtask_tokens for node in contexts)
    return SubtaskSolution(root.answer or [], outcome, len(contexts), root.height, tokens, root)


def _hash_question(question: tuple[int, ...]) -> int:
    """A hash of a question, by which its key is told from those of others."""
    return zlib.crc32(np.asarray(question, np.int32).tobytes())


def _text(task: _Task) -> tuple[int, ...]:
    return (*task.stack[-1].prompt, *task.stack[-1].completion)


def _is_in_thought(context: SubtaskContext) -> bool:
    """Whether its last token is inside a thought."""
    return next((token == THINK for token in reversed(context.completion) if token in (THINK, END_THINK)), False)


def _tokens_between(completion: list[int], start: int) -> list[int] | None:
    """Tokens between the last `start` token and the last of all; None if there are none, or a special one."""
    found: list[int] = []
    for token in reversed(completion[:-1]):
        if token == start:
            return found[::-1] or None
        if token < len(SPECIAL_TOKENS):
            break
        found.append(token)
    return None


def _pad_texts(texts: Sequence[tuple[int, ...]], batch_size: int, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded tokens [batch_size, T] and lengths [batch_size]; surplus rows repeat the first text."""
    width, longest = MIN_WIDTH, max(map(len, texts))
    while width < longest:
        width *= 2
    tokens, lengths = np.zeros((batch_size, min(width, max_length)), np.int32), np.zeros(batch_size, np.int32)
    for row in range(batch_size):
        text = texts[row] if row < len(texts) else texts[0]
        tokens[row, : len(text)], lengths[row] = text, len(text)
    return tokens, lengths
