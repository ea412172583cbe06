"""Subtasks, solved by a script that reverses words by their halves, and by a decoder."""

import math
import types

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.generation.sampling import Sampling
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search import subtasks
from thinking.reasoning.search.subtasks import (
    CYCLE,
    MALFORMED,
    SOLVED,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY,
    format_trace,
    make_solver,
)
from thinking.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("abcd"))
CONTEXT_LENGTH = 68


def reverse_by_halves(text):
    """The text up to its first unanswered question: the reverse of a word is the reverse of its halves, swapped."""
    question, thought = text.removeprefix("<begin>").partition("<think>")[::2]
    if len(question) == 1:
        return f"<begin>{question}<think></think><answer>{question}<end>"
    half = len(question) // 2
    answers = [step.partition("<answer>")[2] for step in thought.partition("</think>")[0].split("<step>")]
    first, second = [*answers, "", ""][:2]
    output = f"<begin>{question}<think><ask>{question[:half]}<answer>{first}"
    if first:
        output += f"<step><ask>{question[half:]}<answer>{second}"
    return output + (f"</think><answer>{second}{first}<end>" if second else "")


@pytest.fixture
def make_scripted_solver(monkeypatch):
    """`make_scripted_solver(script, **limits) -> solve(words)`, with a function of the text as the model."""

    def generate(model, params, key, texts, lengths, *, max_new_tokens, sampling, stop_tokens):
        def run_script(texts, lengths):
            tokens, num_new_tokens = np.zeros((len(texts), max_new_tokens), np.int32), np.zeros(len(texts), np.int32)
            for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
                output = model.script(VOCABULARY.decode(text[:length].tolist()))
                assert output.startswith(VOCABULARY.decode(text[:length].tolist()))
                completion = VOCABULARY.encode(output)[length:][:max_new_tokens]
                stop_positions = [position for position, token in enumerate(completion) if token in stop_tokens]
                completion = completion[: stop_positions[0] + 1] if stop_positions else completion
                tokens[row, : len(completion)], num_new_tokens[row] = completion, len(completion)
            return tokens, num_new_tokens

        shapes = (len(texts), max_new_tokens), lengths.shape
        shapes = tuple(jax.ShapeDtypeStruct(shape, "int32") for shape in shapes)
        tokens, length = jax.pure_callback(run_script, shapes, texts, lengths)
        return types.SimpleNamespace(tokens=tokens, length=length)

    monkeypatch.setattr(subtasks, "generate", generate)

    def make(script, *, max_depth=9, max_contexts=99, batch_size=4, chunk_size=4):
        model = types.SimpleNamespace(context_length=CONTEXT_LENGTH, vocab_size=len(VOCABULARY), script=script)
        solve = make_solver(
            model, max_depth=max_depth, max_contexts=max_contexts, batch_size=batch_size, chunk_size=chunk_size
        )
        return lambda words: solve(None, jax.random.key(0), [VOCABULARY.encode(f"<begin>{word}") for word in words])

    return make


def collect_subwords(word):
    half = len(word) // 2
    return {word} | (collect_subwords(word[:half]) | collect_subwords(word[half:]) if half else set())


def test_solver_reverses_words_by_subtasks(make_scripted_solver):
    solve = make_scripted_solver(reverse_by_halves, chunk_size=8)

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(st.lists(st.text("abcd", min_size=1, max_size=12), min_size=1, max_size=4))
    def check(words):
        for word, solution in zip(words, solve(words), strict=True):
            assert solution.outcome == SOLVED
            assert VOCABULARY.decode(solution.answer) == word[::-1]
            assert solution.num_contexts == len(collect_subwords(word))
            assert solution.depth == 1 + math.ceil(math.log2(len(word)))
            num_marks = {subword: 9 if len(subword) > 1 else 4 for subword in collect_subwords(word)}
            num_answer_tokens = {
                subword: 2 * len(subword) if len(subword) > 1 else 1 for subword in collect_subwords(word)
            }
            assert solution.num_tokens == sum(num_marks.values()) + sum(num_answer_tokens.values())

    check()


def test_equal_subtasks_are_solved_once(make_scripted_solver):
    prompts = []

    def script(text):
        if "<think>" not in text:
            prompts.append(text)
        return reverse_by_halves(text)

    solutions = make_scripted_solver(script, batch_size=1, chunk_size=16)(["abab", "abab", "ab"])
    assert [VOCABULARY.decode(each.answer) for each in solutions] == ["baba", "baba", "ba"]
    assert sorted(set(prompts)) == ["<begin>a", "<begin>ab", "<begin>abab", "<begin>b"]
    assert solutions[0].trace.subtasks[0] is solutions[0].trace.subtasks[1]


def test_format_trace_prints_the_tree_of_subtasks(make_scripted_solver):
    (solution,) = make_scripted_solver(reverse_by_halves)(["abab"])
    lines = ["abab baba", "  ab ba", "    a a", "    b b", "  ab ba (as above)"]
    assert list(format_trace(solution.trace, VOCABULARY)) == lines
    (solution,) = make_scripted_solver(reverse_by_halves, max_depth=2)(["abab"])
    assert list(format_trace(solution.trace, VOCABULARY)) == ["abab ?", "  ab ?"]


def ask_longer_questions(text):
    question = text.removeprefix("<begin>").partition("<think>")[0]
    return f"<begin>{question}<think><ask>{question}a<answer>"


def ask_new_questions(text):
    """A new question after every answer."""
    question = text.removeprefix("<begin>").partition("<")[0]
    if question != "a":
        return f"<begin>{question}<answer>a<end>"
    return f"{text}{'' if '<think>' in text else '<think>'}<ask>b{'c' * text.count('<ask>')}<answer>"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (lambda text: "<begin>a<think><ask>a<answer>", CYCLE),
        (lambda text: f"{text[:8]}<think><ask>{'ab'[text[7] == 'a']}<answer>", CYCLE),
        (ask_longer_questions, TOO_DEEP),
        (ask_new_questions, TOO_MANY),
        (lambda text: text + "a" * 99, TOO_LONG),
        (lambda text: "<begin>a<end>", MALFORMED),
        (lambda text: "<begin>a<answer><end>", MALFORMED),
        (lambda text: "<begin>a<answer>a<step>b<end>", MALFORMED),
        (lambda text: "<begin>a<think>b<answer>", MALFORMED),
        (lambda text: "<begin>a<think><ask><answer>", MALFORMED),
        (lambda text: "<begin>a<think><ask>b<step>a<answer>", MALFORMED),
        (lambda text: "<begin>a<think><answer>b<end>", MALFORMED),
    ],
)
def test_failures_have_an_outcome_and_leave_other_tasks_unchanged(make_scripted_solver, script, outcome):
    solve = make_scripted_solver(
        lambda text: reverse_by_halves(text) if text.startswith("<begin>d") else script(text),
        max_depth=5,
        max_contexts=7,
        chunk_size=16,
    )
    failed_solution, other_solution = solve(["a", "d"])
    assert (failed_solution.outcome, failed_solution.answer, failed_solution.trace.answer) == (outcome, [], None)
    assert (other_solution.outcome, VOCABULARY.decode(other_solution.answer)) == (SOLVED, "d")


@pytest.mark.parametrize(("option", "minimum", "outcome"), [("max_depth", 3, TOO_DEEP), ("max_contexts", 7, TOO_MANY)])
def test_limits_are_inclusive_and_independent_of_the_batch(make_scripted_solver, option, minimum, outcome):
    for words in (["abcd"], ["cd", "ab", "abcd"]):
        assert make_scripted_solver(reverse_by_halves, **{option: minimum})(words)[-1].outcome == SOLVED
        assert make_scripted_solver(reverse_by_halves, **{option: minimum - 1})(words)[-1].outcome == outcome


def test_chunked_solver_equals_a_full_forward_pass():
    model = decoder(
        vocab_size=len(VOCABULARY),
        context_length=48,
        block=BlockConfig(width=16, num_heads=2),
        num_layers=1,
        tie_embeddings=False,
    )
    params = jit(model.init)(jax.random.key(3))
    solve = make_solver(model, max_depth=3, max_contexts=5, batch_size=2, chunk_size=16)
    solutions = solve(params, jax.random.key(0), [VOCABULARY.encode(f"<begin>{word}") for word in ("a", "bc", "dab")])
    apply = jit(model.apply)
    for solution in solutions:
        tokens = [*solution.trace.prompt, *solution.trace.completion]
        padded_tokens = np.zeros((1, 48), np.int32)
        padded_tokens[0, : len(tokens)] = tokens
        argmax_tokens = np.argmax(apply(params, padded_tokens).logits[0], axis=-1)
        start = len(solution.trace.prompt)
        assert solution.trace.num_subtask_tokens == 0
        assert solution.num_tokens == len(tokens) - start > 0
        assert argmax_tokens[start - 1 : len(tokens) - 1].tolist() == tokens[start:]


def test_samples_depend_neither_on_the_batch_nor_on_the_chunk_size():
    model = decoder(
        vocab_size=len(VOCABULARY), context_length=48, block=BlockConfig(width=16, num_heads=2), num_layers=1
    )
    params = jit(model.init)(jax.random.key(3))
    prompts = [VOCABULARY.encode(f"<begin>{word}") for word in ("a", "bc", "dab")]

    def solve(prompts, **sizes):
        solver = make_solver(model, max_depth=3, max_contexts=5, sampling=Sampling(), **sizes)
        return [
            (solution.outcome, solution.trace.completion) for solution in solver(params, jax.random.key(6), prompts)
        ]

    expected = solve(prompts, batch_size=4, chunk_size=4)
    assert len({str(each) for each in expected}) == 3
    assert solve(prompts[2:], batch_size=4, chunk_size=4) == expected[2:]
    assert solve(prompts[::-1], batch_size=2, chunk_size=4) == expected[::-1]
    larger_chunks = solve(prompts, batch_size=2, chunk_size=8)
    for (_, completion), (_, expected_completion) in zip(larger_chunks, expected, strict=True):
        min_length = min(len(completion), len(expected_completion))
        assert completion[:min_length] == expected_completion[:min_length]
        assert min_length > 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda make: make(reverse_by_halves, max_depth=0), "max_depth 0 .*at least 1"),
        (lambda make: make(reverse_by_halves, batch_size=0), "batch_size 0 .*at least 1"),
        (
            lambda make: make(reverse_by_halves, chunk_size=CONTEXT_LENGTH),
            f"chunk_size {CONTEXT_LENGTH} .*less than the context, {CONTEXT_LENGTH}",
        ),
        (lambda make: make(reverse_by_halves)(["a" * CONTEXT_LENGTH]), "a prompt has length 69; allowed is 1 to 64"),
    ],
)
def test_invalid_arguments_raise_errors(make_scripted_solver, call, message):
    with pytest.raises(ValueError, match=message):
        call(make_scripted_solver)
