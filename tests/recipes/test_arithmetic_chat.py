"""The chat about arithmetic: what it says of the model, and its replies in each form."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console
from tests.kernels.quick import jit

from thinking.environments.arithmetic.parsing import parse_problem
from thinking.environments.arithmetic.problems import Problem
from thinking.generation.display import Marks
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search.subtasks import SOLVED, TOO_DEEP, SubtaskContext, SubtaskSolution
from thinking.recipes.arithmetic import answering, replies
from thinking.recipes.arithmetic.chat import ChatSettings, run_chat
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_example, encode_prompt
from thinking.recipes.arithmetic.searches import SearchModel
from thinking.recipes.arithmetic.training_range import parse_training_range

MARKS = Marks("ok", "not ok")
SETTINGS = ChatSettings(parse_training_range(["add:1", "add:2", "multiply:1"]), "chain_of_thought")


def encode(text):
    return VOCABULARY.encode(text)


@pytest.fixture(scope="module")
def search_model():
    model = decoder(
        vocab_size=len(VOCABULARY), context_length=64, block=BlockConfig(8, 2), num_layers=1, value_head=True
    )
    return SearchModel(model, jit(model.init)(jax.random.key(0)), 16)


def ask(search_model, settings, lines):
    """The reply to each line."""
    out = io.StringIO()
    run_chat(search_model, settings, jax.random.key(0), lines=lines, console=Console(file=out, width=200))
    return out.getvalue().splitlines()


# A model


@pytest.mark.parametrize("method", ["greedy", "beam_search", "verifier", "revision", "best_first"])
def test_each_line_gets_one_reply(search_model, method):
    settings = SETTINGS._replace(method=method, size=2, as_json=True, verbose=True)
    lines = ["7+8", "", "seven", "1234+1"]
    answer, blank, word, out_of_range = map(json.loads, ask(search_model, settings, lines))
    assert answer["problem"] == "7+8"
    assert answer["in_range"]
    assert not out_of_range["in_range"]
    assert answer["right"] is (answer["answer"] == 15)
    assert len(answer["candidates"]) == 2 * (method in ("verifier", "revision", "best_first"))
    assert answer["effort"].startswith(method)
    assert (blank["problem"], word["problem"]) == ("", "seven")


def test_help_says_what_was_taught_and_nothing_else(search_model):
    said, examples, refusal = ask(search_model, SETTINGS, ["help", "Examples", "hello"])
    assert "taught to add numbers of up to 2 digits; multiply numbers of up to 1 digit. Ask as in: " in said
    assert "(12-5)*4" not in said
    for example in examples.split("    "):
        assert parse_problem(example).operation in ("add", "multiply")
    example = refusal.split("ask as in ")[1].removesuffix(", or type examples")
    assert parse_problem(example).operation in ("add", "multiply")


def test_subtasks_are_solved_by_a_decoder(search_model):
    settings = SETTINGS._replace(style="subtasks", verbose=True)
    reply, refusal = ask(search_model, settings, ["7+8", "x"])
    assert reply.startswith("7+8 = ")
    assert "tokens written" in reply
    assert "'x' is no arithmetic" in refusal


# Thoughts, which are those of worked examples


def answer_as_worked(problem, monkeypatch, style="chain_of_thought", reverse_digits=False, **options):
    """Thoughts and conclusion where the model writes the worked example of a problem."""
    example = encode_example(problem, style, reverse_digits=reverse_digits, **options)
    tokens = example.tokens[example.prompt_length :]
    monkeypatch.setattr(
        answering, "make_streamer", lambda *_, **__: lambda params, key, prompt: ([token] for token in tokens)
    )
    model = SearchModel(decoder(vocab_size=64, context_length=512, block=BlockConfig(8, 2), num_layers=1), None, 256)
    model = model._replace(reverse_digits=reverse_digits)
    question = replies.Question(problem, example.tokens[: example.prompt_length], True)
    *thoughts, conclusion = answering.make_streamed_answer(model, style)(question)
    return question, thoughts, conclusion


def format_parts(make, question, parts, **options):
    return "".join(text.plain for text in make(**options)(question, parts))


def test_terminal_shows_each_step_in_plain_words(monkeypatch):
    question, thoughts, conclusion = answer_as_worked(Problem("divide", (98, 8)), monkeypatch)
    shown = format_parts(replies.make_terminal_format, question, [*thoughts, conclusion], marks=MARKS, verbose=False)
    assert [line.split() for line in shown.splitlines()] == [
        ["9/8=1,1", "digit", "1,", "rest", "1"],
        ["18/8=2,2", "digit", "2,", "rest", "2"],
        ["98/8", "=", "12,", "remainder", "2", "ok"],
    ]


@pytest.mark.parametrize("reverse_digits", [False, True])
def test_numbers_are_shown_with_their_first_digit_first(reverse_digits, monkeypatch):
    problem = Problem("multiply", (12, 34))
    question, thoughts, conclusion = answer_as_worked(problem, monkeypatch, reverse_digits=reverse_digits)
    assert [thought.text for thought in thoughts if "+" not in thought.text] == ["=48", "=360"]
    assert all(thought.is_correct for thought in thoughts)
    line = format_parts(replies.make_line_format, question, [*thoughts, conclusion], marks=MARKS, verbose=False)
    assert line == "12*34 = 408 ok"


def test_corrected_errors_are_shown_as_retracted(monkeypatch):
    rng = np.random.default_rng(0)
    options = {"style": "self_correction", "error_fraction": 0.99, "rng": rng}
    question, thoughts, conclusion = answer_as_worked(Problem("add", (57, 8)), monkeypatch, **options)
    assert [thought.is_correct for thought in thoughts] == [False, True, False, True]
    assert ["retracted" in thought.words for thought in thoughts] == [True, False, True, False]
    shown = format_parts(replies.make_terminal_format, question, [*thoughts, conclusion], marks=MARKS, verbose=False)
    assert [line.endswith("not ok") for line in shown.splitlines()] == [True, False, True, False, False]


def test_direct_answers_have_no_thoughts(monkeypatch):
    _, thoughts, conclusion = answer_as_worked(Problem("add", (57, 8)), monkeypatch, style="direct")
    assert not thoughts
    assert conclusion.answer == "65"


# Replies


def conclude(problem, answer, *, in_range=True, verbose=False, **parts):
    question = replies.Question(problem, [], in_range)
    conclusion = replies.Conclusion(answer, "9 tokens written", **parts)
    return format_parts(replies.make_line_format, question, [conclusion], marks=MARKS, verbose=verbose)


@pytest.mark.parametrize(
    ("problem", "answer", "line"),
    [
        (("divide", (64, 8)), "8r0", "64/8 = 8 ok"),
        (("divide", (66, 8)), "8r2", "66/8 = 8, remainder 2 ok"),
        (("divide", (66, 8)), "8r0", "66/8 = 8 not ok it is 8, remainder 2"),
        (("subtract", (3, 8)), "-5", "3-8 = -5 ok"),
        (("add", (3, 8)), "12", "3+8 = 12 not ok it is 11"),
        (("add", (3, 8)), "", "3+8 = no answer not ok it is 11"),
    ],
)
def test_answers_are_said_and_verified(problem, answer, line):
    assert conclude(Problem(*problem), answer) == line


def test_problems_beyond_what_was_taught_are_marked():
    assert conclude(Problem("add", (3, 8)), "11", in_range=False) == f"3+8 = 11 ok  {replies.OUT_OF_RANGE}"


def test_candidates_are_shown_with_their_checks():
    candidates = (replies.Candidate("11", "11-8 = 3", True), replies.Candidate("", "", False))
    line = conclude(Problem("add", (3, 8)), "11", verbose=True, candidates=candidates)
    assert line.endswith("; 9 tokens written; 11, checked by 11-8 = 3 ok; no answer, without a check")


# Sub-tasks


def answer_with_solution(solution, monkeypatch):
    """The lines of a reply to 12*34 where the solver returns the solution."""
    question = replies.Question(Problem("multiply", (12, 34)), encode_prompt(Problem("multiply", (12, 34))), True)

    def make_fixed_solver(model, **limits):
        return lambda params, key, prompts: [solution]

    monkeypatch.setattr(answering, "make_solver", make_fixed_solver)
    parts = answering.make_subtask_answer(SearchModel(None, None, 16))(question)
    return format_parts(replies.make_terminal_format, question, parts, marks=MARKS, verbose=True).splitlines()


def test_subtask_tree_is_printed_before_the_answer(monkeypatch):
    subtasks = [
        SubtaskContext(tuple(encode_prompt(Problem(*args))), answer=encode(text))
        for args, text in ((("multiply", (12, 4)), "48"), (("multiply", (12, 30)), "360"), (("add", (48, 360)), "408"))
    ]
    root = SubtaskContext(
        tuple(encode_prompt(Problem("multiply", (12, 34)))), subtasks=subtasks, answer=encode("408"), height=2
    )
    lines = answer_with_solution(SubtaskSolution(encode("408"), SOLVED, 4, 2, 97, root), monkeypatch)
    expected_tree = ["  12*34= 408", "    12*4= 48", "    12*30= 360", "    48+360= 408"]
    assert lines == [*expected_tree, "  4 contexts, 2 deep, 97 tokens written", "12*34 = 408 ok"]


def test_unsolved_problem_prints_the_reason(monkeypatch):
    root = SubtaskContext(tuple(encode_prompt(Problem("multiply", (12, 34)))))
    lines = answer_with_solution(SubtaskSolution([], TOO_DEEP, 13, 12, 400, root), monkeypatch)
    assert lines[-1] == "12*34 = no answer (too deep) not ok it is 408"
