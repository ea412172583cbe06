"""Thoughts that ask, written by a script that reverses words by their halves, and by a decoder."""

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

WORDS = Vocabulary(tuple("abcd"))
CONTEXT = 68


def reversing(text):
    """A text as far as it goes without being answered: the reverse of a word is that of its halves, swapped."""
    question, thought = text.removeprefix("<begin>").partition("<think>")[::2]
    if len(question) == 1:
        return f"<begin>{question}<think></think><answer>{question}<end>"
    half = len(question) // 2
    answers = [step.partition("<answer>")[2] for step in thought.partition("</think>")[0].split("<step>")]
    first, second = [*answers, "", ""][:2]
    generated = f"<begin>{question}<think><ask>{question[:half]}<answer>{first}"
    if first:
        generated += f"<step><ask>{question[half:]}<answer>{second}"
    return generated + (f"</think><answer>{second}{first}<end>" if second else "")


@pytest.fixture
def scripted(monkeypatch):
    """`scripted(script, **limits) -> solve(words)`, in which a function of the text is the model."""

    def generate(model, params, key, texts, lengths, *, max_new_tokens, sampling, stop_tokens):
        def write(texts, lengths):
            tokens, count = np.zeros((len(texts), max_new_tokens), np.int32), np.zeros(len(texts), np.int32)
            for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
                output = model.script(WORDS.decode(text[:length].tolist()))
                assert output.startswith(WORDS.decode(text[:length].tolist()))
                new = WORDS.encode(output)[length:][:max_new_tokens]
                stops = [place for place, token in enumerate(new) if token in stop_tokens]
                new = new[: stops[0] + 1] if stops else new
                tokens[row, : len(new)], count[row] = new, len(new)
            return tokens, count

        shapes = (len(texts), max_new_tokens), lengths.shape
        shapes = tuple(jax.ShapeDtypeStruct(shape, "int32") for shape in shapes)
        tokens, length = jax.pure_callback(write, shapes, texts, lengths)
        return types.SimpleNamespace(tokens=tokens, length=length)

    monkeypatch.setattr(subtasks, "generate", generate)

    def make(script, *, max_depth=9, max_contexts=99, batch=4, piece=4):
        model = types.SimpleNamespace(context_length=CONTEXT, vocab_size=len(WORDS), script=script)
        solve = make_solver(model, max_depth=max_depth, max_contexts=max_contexts, batch_size=batch, chunk_size=piece)
        return lambda words: solve(None, jax.random.key(0), [WORDS.encode(f"<begin>{word}") for word in words])

    return make


def parts_of(word):
    half = len(word) // 2
    return {word} | (parts_of(word[:half]) | parts_of(word[half:]) if half else set())


def test_words_of_any_length_are_solved_by_their_parts(scripted):
    solve = scripted(reversing, piece=8)

    @settings(max_examples=6, deadline=None, derandomize=True)
    @given(st.lists(st.text("abcd", min_size=1, max_size=12), min_size=1, max_size=4))
    def check(words):
        for word, solution in zip(words, solve(words), strict=True):
            assert solution.outcome == SOLVED
            assert WORDS.decode(solution.answer) == word[::-1]
            assert solution.num_contexts == len(parts_of(word))
            assert solution.depth == 1 + math.ceil(math.log2(len(word)))
            marks = {each: 9 if len(each) > 1 else 4 for each in parts_of(word)}
            answered = {each: 2 * len(each) if len(each) > 1 else 1 for each in parts_of(word)}
            assert solution.num_tokens == sum(marks.values()) + sum(answered.values())

    check()


def test_equal_questions_are_asked_once(scripted):
    asked = []

    def script(text):
        if "<think>" not in text:
            asked.append(text)
        return reversing(text)

    solutions = scripted(script, batch=1, piece=16)(["abab", "abab", "ab"])
    assert [WORDS.decode(each.answer) for each in solutions] == ["baba", "baba", "ba"]
    assert sorted(set(asked)) == ["<begin>a", "<begin>ab", "<begin>abab", "<begin>b"]
    assert solutions[0].trace.subtasks[0] is solutions[0].trace.subtasks[1]


def test_the_trace_is_a_tree_of_questions_and_answers(scripted):
    (solution,) = scripted(reversing)(["abab"])
    lines = ["abab baba", "  ab ba", "    a a", "    b b", "  ab ba (as above)"]
    assert list(format_trace(solution.trace, WORDS)) == lines
    (solution,) = scripted(reversing, max_depth=2)(["abab"])
    assert list(format_trace(solution.trace, WORDS)) == ["abab ?", "  ab ?"]


def asks_more(text):
    question = text.removeprefix("<begin>").partition("<think>")[0]
    return f"<begin>{question}<think><ask>{question}a<answer>"


def asks_others(text):
    """A question and, as it is answered, the next of all."""
    question = text.removeprefix("<begin>").partition("<")[0]
    if question != "a":
        return f"<begin>{question}<answer>a<end>"
    return f"{text}{'' if '<think>' in text else '<think>'}<ask>b{'c' * text.count('<ask>')}<answer>"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (lambda text: "<begin>a<think><ask>a<answer>", CYCLE),
        (lambda text: f"{text[:8]}<think><ask>{'ab'[text[7] == 'a']}<answer>", CYCLE),
        (asks_more, TOO_DEEP),
        (asks_others, TOO_MANY),
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
def test_who_asks_forever_or_says_what_cannot_be_read_fails_and_others_do_not(scripted, script, outcome):
    wild = scripted(
        lambda text: reversing(text) if text.startswith("<begin>d") else script(text),
        max_depth=5,
        max_contexts=7,
        piece=16,
    )
    failed, solved = wild(["a", "d"])
    assert (failed.outcome, failed.answer, failed.trace.answer) == (outcome, [], None)
    assert (solved.outcome, WORDS.decode(solved.answer)) == (SOLVED, "d")


@pytest.mark.parametrize(("limit", "enough", "outcome"), [("max_depth", 3, TOO_DEEP), ("max_contexts", 7, TOO_MANY)])
def test_limits_let_through_what_reaches_them_whoever_shares_the_batch(scripted, limit, enough, outcome):
    for words in (["abcd"], ["cd", "ab", "abcd"]):
        assert scripted(reversing, **{limit: enough})(words)[-1].outcome == SOLVED
        assert scripted(reversing, **{limit: enough - 1})(words)[-1].outcome == outcome


def test_a_decoder_writes_on_as_if_it_had_read_everything_at_once():
    model = decoder(
        vocab_size=len(WORDS),
        context_length=48,
        block=BlockConfig(width=16, num_heads=2),
        num_layers=1,
        tie_embeddings=False,
    )
    params = jit(model.init)(jax.random.key(3))
    solve = make_solver(model, max_depth=3, max_contexts=5, batch_size=2, chunk_size=16)
    solutions = solve(params, jax.random.key(0), [WORDS.encode(f"<begin>{word}") for word in ("a", "bc", "dab")])
    read = jit(model.apply)
    for solution in solutions:
        text = [*solution.trace.prompt, *solution.trace.completion]
        padded = np.zeros((1, 48), np.int32)
        padded[0, : len(text)] = text
        likeliest = np.argmax(read(params, padded).logits[0], axis=-1)
        start = len(solution.trace.prompt)
        assert solution.trace.num_subtask_tokens == 0
        assert solution.num_tokens == len(text) - start > 0
        assert likeliest[start - 1 : len(text) - 1].tolist() == text[start:]


def test_samples_depend_neither_on_who_shares_a_call_nor_on_the_size_of_chunks():
    model = decoder(vocab_size=len(WORDS), context_length=48, block=BlockConfig(width=16, num_heads=2), num_layers=1)
    params = jit(model.init)(jax.random.key(3))
    prompts = [WORDS.encode(f"<begin>{word}") for word in ("a", "bc", "dab")]

    def complete(prompts, **sizes):
        solve = make_solver(model, max_depth=3, max_contexts=5, sampling=Sampling(), **sizes)
        return [(each.outcome, each.trace.completion) for each in solve(params, jax.random.key(6), prompts)]

    together = complete(prompts, batch_size=4, chunk_size=4)
    assert len({str(each) for each in together}) == 3
    assert complete(prompts[2:], batch_size=4, chunk_size=4) == together[2:]
    assert complete(prompts[::-1], batch_size=2, chunk_size=4) == together[::-1]
    for one, other in zip(complete(prompts, batch_size=2, chunk_size=8), together, strict=True):
        common = min(len(one[1]), len(other[1]))
        assert one[1][:common] == other[1][:common]
        assert common > 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda make: make(reversing, max_depth=0), "max_depth 0 .*at least 1"),
        (lambda make: make(reversing, batch=0), "batch_size 0 .*at least 1"),
        (lambda make: make(reversing, piece=CONTEXT), f"chunk_size {CONTEXT} .*less than the context, {CONTEXT}"),
        (lambda make: make(reversing)(["a" * CONTEXT]), "a prompt has length 69; allowed is 1 to 64"),
    ],
)
def test_what_cannot_be_solved_is_refused_with_one_line(scripted, call, message):
    with pytest.raises(ValueError, match=message):
        call(scripted)
