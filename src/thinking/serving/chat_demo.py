"""Chat with a reasoner: its thoughts, the answer, and candidates with the model's own checks of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from thinking.environments.arithmetic.chains import SUBTASKS
from thinking.environments.arithmetic.plain_words import say_answer
from thinking.environments.arithmetic.problems import format_answer, format_expression
from thinking.errors import UserError, escape_controls, to_line
from thinking.recipes.arithmetic.answering import (
    AnswerFn,
    make_searched_answer,
    make_streamed_answer,
    make_subtask_answer,
)
from thinking.recipes.arithmetic.chat import read_question
from thinking.recipes.arithmetic.replies import OUT_OF_RANGE, Candidate, Conclusion, Question, Thought, is_right
from thinking.recipes.arithmetic.searches import VERIFIER, SearchModel
from thinking.recipes.arithmetic.trained import Reasoner
from thinking.recipes.arithmetic.training_range import (
    TrainingRange,
    describe_range,
    draw_examples,
    parse_training_range,
)

NUM_CANDIDATES = 8
MAX_QUESTION = 200
"""Characters of a question."""
_NUM_EXAMPLES = 4


class ChatRequest(TypedDict):
    """A question; `check` whether candidates are sampled and checked."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
    check: bool


SCHEMA = ChatRequest
"""The schema of a request."""


class Chat(NamedTuple):
    """A model to chat with.

    Attributes:
        search_model: the model.
        training_range: what it was taught.
        answer: its answer of one thought.
        answer_checked: the same by candidates and checks; None where its style has none.
    """

    search_model: SearchModel
    training_range: TrainingRange
    answer: AnswerFn
    answer_checked: AnswerFn | None


def open_model(reasoner: Reasoner) -> Chat:
    """Prepare a reasoner.

    Raises:
        UserError: its positions are given by digits, so it cannot write as it goes.
    """
    config = reasoner.config
    if config.model.positions == "digit":
        raise UserError("--model.positions digit: such a model cannot chat")
    rewarded = config.rl.sources if config.rl.algorithm != "none" else ()
    decoder, style = reasoner.model, config.styles[0]
    search_model = SearchModel(
        decoder, reasoner.params, decoder.context_length // 2, config.search.temperature, config.data.reverse_digits
    )
    training_range = parse_training_range((*config.data.sources, *rewarded))
    if style == SUBTASKS:
        return Chat(search_model, training_range, make_subtask_answer(search_model), None)
    checked = make_searched_answer(
        search_model, style, VERIFIER, NUM_CANDIDATES, jax.random.key(config.seed), verbose=True
    )
    return Chat(search_model, training_range, make_streamed_answer(search_model, style), checked)


def describe(chat: Chat) -> dict[str, Any]:
    """What the model can do, examples, and whether it has candidates."""
    examples = draw_examples(chat.training_range, np.random.default_rng(0))
    return {
        "training_range": describe_range(chat.training_range),
        "examples": [next(examples) for _ in range(_NUM_EXAMPLES)],
        "num_candidates": NUM_CANDIDATES if chat.answer_checked else 0,
        "max_question": MAX_QUESTION,
    }


def answer(chat: Chat, request: ChatRequest) -> dict[str, Any]:
    """The reply to a question; of one that is no problem, `refusal` alone, which says why."""
    try:
        question = read_question(chat.search_model, chat.training_range, escape_controls(request["question"].strip()))
    except ValueError as error:
        return {"refusal": to_line(error).removesuffix(", or type examples")}
    answer_fn = chat.answer_checked if request["check"] and chat.answer_checked else chat.answer
    *thoughts, conclusion = answer_fn(question)
    return {
        "question": format_expression(question.problem),
        "thoughts": [_describe_thought(thought) for thought in thoughts],
        **_conclude(question, conclusion),
    }


def _describe_thought(thought: Thought) -> dict[str, Any]:
    return {"text": thought.text, "words": thought.words, "right": thought.is_correct}


def _conclude(question: Question, conclusion: Conclusion) -> dict[str, Any]:
    said = f"no answer ({conclusion.failure})" if conclusion.failure else say_answer(conclusion.answer)
    return {
        "answer": said,
        "right": is_right(question.problem, conclusion.answer),
        "truth": say_answer(format_answer(question.problem)),
        "note": "" if question.in_range else OUT_OF_RANGE,
        "tree": _merge_candidates(conclusion.candidates) if conclusion.candidates else None,
    }


def _merge_candidates(candidates: Sequence[Candidate], depth: int = 0) -> dict[str, Any]:
    """The tree of thoughts that candidates make, from a step on.

    Returns:
        `count` candidates begin with the same `thoughts`. There `branches` part, those of most candidates first, or
        the thought ends, with `answers` of `count` candidates each.
    """
    end = depth
    while len({_get_step(each, end) for each in candidates}) == 1 and _get_step(candidates[0], end) is not None:
        end += 1
    groups: dict[str | None, list[Candidate]] = {}
    for each in candidates:
        groups.setdefault(_get_step(each, end), []).append(each)
    ended = groups.pop(None, [])
    return {
        "count": len(candidates),
        "thoughts": [_describe_thought(thought) for thought in candidates[0].thoughts[depth:end]],
        "branches": [_merge_candidates(group, end) for group in sorted(groups.values(), key=len, reverse=True)],
        "answers": [
            {"count": count, "answer": say_answer(answer), "check": check, "verified": is_verified}
            for (answer, check, is_verified), count in Counter(each[:3] for each in ended).most_common()
        ],
    }


def _get_step(candidate: Candidate, index: int) -> str | None:
    return candidate.thoughts[index].text if index < len(candidate.thoughts) else None
