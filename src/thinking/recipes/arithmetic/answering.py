"""Answers of a chat about arithmetic: thoughts as they come, then the conclusion."""

import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from thinking.environments.arithmetic.chains import verify_chain
from thinking.environments.arithmetic.plain_words import explain_step, reverse_numbers
from thinking.environments.arithmetic.problems import Problem, format_expression
from thinking.generation.completions import make_streamer
from thinking.generation.sampling import Sampling
from thinking.reasoning.search.strategies import Samples
from thinking.reasoning.search.subtasks import SOLVED, format_trace, make_solver
from thinking.recipes.arithmetic.evaluation import MAX_CONTEXTS, MAX_DEPTH
from thinking.recipes.arithmetic.replies import Candidate, Conclusion, Part, Question, Thought
from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.recipes.arithmetic.searches import (
    BEAM,
    BEST_FIRST,
    REVISION,
    TREE,
    SearchModel,
    has_candidates,
    sample_candidates,
    select_solutions,
    solve,
    verify_candidates,
)
from thinking.recipes.arithmetic.verification import Verification, extract_answers, make_inverse_problem
from thinking.text.vocabulary import BACK, END, END_THINK, STEP
from thinking.types import Array

MAX_PROMPT_LENGTH = 48
"""Maximum tokens of a prompt."""
_STEP_ENDS = (STEP, BACK, END_THINK)

AnswerFn = Callable[[Question], Iterator[Part]]


def make_streamed_answer(search_model: SearchModel, style: str) -> AnswerFn:
    """Greedy answers, each step as soon as it is written."""
    max_new_tokens = min(search_model.max_new_tokens, search_model.decoder.context_length - MAX_PROMPT_LENGTH)
    stream = make_streamer(
        search_model.decoder,
        max_prompt_tokens=MAX_PROMPT_LENGTH,
        max_new_tokens=max_new_tokens,
        chunk_size=1,
        stop_tokens=(END,),
        sampling=Sampling(temperature=0.0),
    )

    def answer(question: Question) -> Iterator[Part]:
        tokens, num_shown = [], 0
        for chunk in stream(search_model.params, jax.random.key(0), question.tokens):
            tokens += chunk
            if chunk and chunk[-1] in _STEP_ENDS:
                thoughts = _read_thoughts(question.problem, tokens, style, search_model.reverse_digits)
                yield from thoughts[num_shown:]
                num_shown = len(thoughts)
        padded = np.zeros((1, max_new_tokens), np.int32)
        padded[0, : len(tokens)] = tokens
        (found,) = extract_answers(padded, np.int32([len(tokens)]), search_model.reverse_digits)
        hint = "--answer.method verifier samples candidates and checks them"
        yield Conclusion(found, f"greedy, {len(tokens)} tokens written; {hint}")

    return answer


def make_searched_answer(
    search_model: SearchModel, style: str, method: str, size: int, key: Array, *, verbose: bool
) -> AnswerFn:
    """Answers of a search.

    Args:
        search_model: the model.
        style: of its thoughts.
        method: one of `searches.METHODS`.
        size: completions, width of the beam, or simulations of each tree.
        key: of all answers.
        verbose: list candidates with their checks, where the method has any.
    """
    numbers = itertools.count()

    def answer(question: Question) -> Iterator[Part]:
        prompt, prompt_length = np.zeros((1, MAX_PROMPT_LENGTH), np.int32), np.int32([len(question.tokens)])
        prompt[0, : len(question.tokens)] = question.tokens
        inputs = search_model, method, size, jax.random.fold_in(key, next(numbers))
        candidates: tuple[Candidate, ...] = ()
        if has_candidates(method):
            samples = sample_candidates(*inputs, prompt, prompt_length)
            checks = verify_candidates(search_model, [question.problem], samples) if verbose else None
            if checks is not None:
                candidates = _list_candidates(search_model, style, question.problem, samples, checks)
            solutions = select_solutions(*inputs[:3], [question.problem], samples, checks)
        else:
            solutions = solve(*inputs, [question.problem], prompt, prompt_length)
        tokens, lengths = np.asarray(solutions.tokens), np.asarray(solutions.length)
        completion = tokens[0, : int(lengths[0])].tolist()
        yield from _read_thoughts(question.problem, completion, style, search_model.reverse_digits)
        (found,) = extract_answers(tokens, lengths, search_model.reverse_digits)
        at_most = f"up to {size} completions"
        sizes = {BEAM: f"a beam of {size}", TREE: f"trees of {size}", REVISION: at_most, BEST_FIRST: at_most}
        description = sizes.get(method, f"{size} completions")
        effort = f"{method}, {description}, {int(solutions.num_tokens[0])} tokens written"
        yield Conclusion(found, effort, candidates)

    return answer


def _list_candidates(
    search_model: SearchModel, style: str, problem: Problem, samples: Samples, checks: Verification
) -> tuple[Candidate, ...]:
    tokens, lengths = np.asarray(samples.completions.tokens)[0], np.asarray(samples.completions.length)[0]
    answers = extract_answers(tokens, lengths, search_model.reverse_digits)
    candidates = []
    for found, is_verified, row, length in zip(answers, checks.is_verified[0], tokens, lengths, strict=True):
        inverse = make_inverse_problem(problem, found)
        check = f"{format_expression(inverse[0])} = {inverse[1].removesuffix('r0')}" if inverse else ""
        thoughts = _read_thoughts(problem, row[:length].tolist(), style, search_model.reverse_digits)
        candidates.append(Candidate(found, check, bool(is_verified), tuple(thoughts)))
    return tuple(candidates)


def make_subtask_answer(search_model: SearchModel) -> AnswerFn:
    """Answers by sub-tasks; the thoughts are their tree."""
    solve_subtasks = make_solver(
        search_model.decoder, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS, batch_size=1
    )  # one context at a time

    def restore(text: str) -> str:
        return reverse_numbers(text) if search_model.reverse_digits else text

    def answer(question: Question) -> Iterator[Part]:
        (solution,) = solve_subtasks(search_model.params, jax.random.key(0), [question.tokens])
        yield from (Thought(restore(line)) for line in format_trace(solution.trace, VOCABULARY))
        is_solved = solution.outcome == SOLVED
        found = restore(VOCABULARY.decode(solution.answer)) if is_solved else ""
        effort = f"{solution.num_contexts} contexts, {solution.depth} deep, {solution.num_tokens} tokens written"
        yield Conclusion(found, effort, failure="" if is_solved else solution.outcome)

    return answer


def _read_thoughts(problem: Problem, completion: list[int], style: str, reverse_digits: bool) -> list[Thought]:
    """The finished steps of a completion."""
    thoughts, text = [], VOCABULARY.decode(completion)
    for step in verify_chain(problem, text, style, reverse_digits)[: _count_finished_steps(completion)]:
        shown = reverse_numbers(step.text) if reverse_digits else step.text
        words = f"{explain_step(shown)}, retracted".removeprefix(", ") if step.is_retracted else explain_step(shown)
        thoughts.append(Thought(shown, words, step.is_correct))
    return thoughts


def _count_finished_steps(completion: list[int]) -> int:
    """The steps of the first thought that have ended."""
    thought = completion[: completion.index(END_THINK) + 1] if END_THINK in completion else completion
    return sum(token in _STEP_ENDS for token in thought)
