"""Colored text on the terminal, printed while it is generated."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from thinking.generation.display import STYLES, color_numbered_thoughts, color_tokens, show, show_growing_text
from thinking.text.vocabulary import ANSWER_KIND, PROMPT_KIND, SPECIAL_KIND, THOUGHT_KIND, Vocabulary, token_kinds

VOCABULARY = Vocabulary((*"0123456789+-=,", " and "))
PROMPT_TEXT, COMPLETION_TEXT = "<begin>57+8=", "<think>7+8=5,1<step>5+1=6</think><answer>65<end>"
PROMPT = VOCABULARY.encode(PROMPT_TEXT)
ROW = PROMPT + VOCABULARY.encode(COMPLETION_TEXT)


def render(texts, terminal=False, width=80):
    out = io.StringIO()
    options = {"force_terminal": True, "color_system": "standard"} if terminal else {}
    show(texts, Console(file=out, width=width, legacy_windows=False, **options))
    return out.getvalue()


def to_text(tokens):
    return Text(bytes(tokens).decode(errors="replace"))


# Colors


def test_each_kind_of_token_has_its_style():
    text = color_tokens(ROW, len(PROMPT), VOCABULARY)
    assert text.plain == PROMPT_TEXT + COMPLETION_TEXT
    parts = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    prompt, mark, thought, answer = (STYLES[kind] for kind in (PROMPT_KIND, SPECIAL_KIND, THOUGHT_KIND, ANSWER_KIND))
    assert parts == [
        (PROMPT_TEXT, prompt),
        ("<think>", mark),
        ("7+8=5,1", thought),
        ("<step>", mark),
        ("5+1=6", thought),
        ("</think><answer>", mark),
        ("65", answer),
        ("<end>", mark),
    ]
    assert len({prompt, mark, thought, answer}) == 4


def test_completion_without_prompt_and_long_rows_are_colored():
    completion_text = color_tokens(ROW[len(PROMPT) :], 0, VOCABULARY)
    assert completion_text == color_tokens(ROW, len(PROMPT), VOCABULARY)[len(PROMPT_TEXT) :]
    long_row = ROW[:-4] + [10] * 600
    text = color_tokens(long_row, len(PROMPT), VOCABULARY)
    expected = jax.jit(token_kinds)(np.int32([long_row]), np.int32([len(long_row)]), np.int32([len(PROMPT)]))[0]
    assert text.spans[-1].style == STYLES[int(expected[-1])]
    assert text.plain == VOCABULARY.decode(long_row)
    assert color_tokens([], 0, VOCABULARY).plain == ""


def test_numbered_thoughts_keep_their_colors_and_wrong_answers_differ():
    text = color_numbered_thoughts("a b", [3, 11, 3, 4], "c", separator="=")
    assert text.plain == "a b | 3 11 3 4 = c"
    prompt, _, first_three, eleven, second_three, four, _, answer = (span.style for span in text.spans)
    assert first_three == second_three == eleven != four
    assert not {prompt, answer} & {first_three, four}
    wrong_text = color_numbered_thoughts("a b", [], "c", is_correct=False)
    assert wrong_text.plain == "a b | | c"
    assert wrong_text.spans[-1].style != text.spans[-1].style


def test_colors_appear_only_on_terminals(monkeypatch):
    text = color_tokens(ROW, len(PROMPT), VOCABULARY)
    assert render([text]) == f"{PROMPT_TEXT}{COMPLETION_TEXT}\n"
    assert "\x1b[36m7+8=5,1\x1b[0m\x1b[2m<step>" in render([text], terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in render([text], terminal=True)
    assert "\x1b[1m65" in render([text], terminal=True)


# Streaming


def test_growing_text_has_the_styles_of_the_full_text():
    chunks = [ROW[start : start + 3] for start in range(0, len(ROW), 3)]
    texts = list(show_growing_text(chunks, lambda tokens: color_tokens(tokens, len(PROMPT), VOCABULARY)))
    assert len(texts) == len(chunks)
    expected = color_tokens(ROW, len(PROMPT), VOCABULARY)
    actual = Text("").join(texts)
    assert actual.plain == expected.plain
    for offset in range(len(expected)):
        assert actual.get_style_at_offset(Console(), offset) == expected.get_style_at_offset(Console(), offset)


def test_text_is_printed_chunk_by_chunk_and_ends_with_a_newline():
    outputs, out = [], io.StringIO()

    def chunks():
        for chunk in ([104, 105], [], [33]):
            yield chunk
            outputs.append(out.getvalue())

    show(show_growing_text(chunks(), to_text), Console(file=out))
    assert outputs == ["hi", "hi", "hi!"]
    assert out.getvalue() == "hi!\n"


def test_multi_token_character_is_printed_when_complete():
    texts = show_growing_text(([token] for token in "é!".encode()), to_text)
    assert [text.plain for text in texts] == ["", "é", "!"]


def test_text_is_printed_without_markup_or_wrapping():
    text = "[bold]12[/bold] :smile: of  many and   "
    assert render([Text(text), Text("more")], width=10) == f"{text}more\n"


def test_interrupted_text_is_kept_and_ends_with_a_newline():
    out = io.StringIO()

    def texts():
        yield Text("h")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(texts(), Console(file=out))
    assert out.getvalue() == "h\n"
