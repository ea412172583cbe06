"""Text on the terminal while it is written."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from thinking.generation.display import STYLES, color_numbered_thoughts, color_tokens, show, show_growing_text
from thinking.text.vocabulary import ANSWER_KIND, MARK_KIND, PROMPT_KIND, THOUGHT_KIND, Vocabulary, token_kinds

VOCABULARY = Vocabulary((*"0123456789+-=,", " and "))
ASKED, WRITTEN = "<begin>57+8=", "<think>7+8=5,1<step>5+1=6</think><answer>65<end>"
PROMPT = VOCABULARY.encode(ASKED)
ROW = PROMPT + VOCABULARY.encode(WRITTEN)


def printed(texts, terminal=False, width=80):
    out = io.StringIO()
    kind = {"force_terminal": True, "color_system": "standard"} if terminal else {}
    show(texts, Console(file=out, width=width, legacy_windows=False, **kind))
    return out.getvalue()


def plain(tokens):
    return Text(bytes(tokens).decode(errors="replace"))


# Colours


def test_each_part_of_a_text_has_its_style():
    text = color_tokens(ROW, len(PROMPT), VOCABULARY)
    assert text.plain == ASKED + WRITTEN
    parts = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    prompt, mark, thought, answer = (STYLES[kind] for kind in (PROMPT_KIND, MARK_KIND, THOUGHT_KIND, ANSWER_KIND))
    assert parts == [
        (ASKED, prompt),
        ("<think>", mark),
        ("7+8=5,1", thought),
        ("<step>", mark),
        ("5+1=6", thought),
        ("</think><answer>", mark),
        ("65", answer),
        ("<end>", mark),
    ]
    assert len({prompt, mark, thought, answer}) == 4


def test_a_completion_is_coloured_without_its_prompt_and_a_long_row_as_well():
    alone = color_tokens(ROW[len(PROMPT) :], 0, VOCABULARY)
    assert alone == color_tokens(ROW, len(PROMPT), VOCABULARY)[len(ASKED) :]
    long = ROW[:-4] + [10] * 600
    text = color_tokens(long, len(PROMPT), VOCABULARY)
    expected = jax.jit(token_kinds)(np.int32([long]), np.int32([len(long)]), np.int32([len(PROMPT)]))[0]
    assert text.spans[-1].style == STYLES[int(expected[-1])]
    assert text.plain == VOCABULARY.decode(long)
    assert color_tokens([], 0, VOCABULARY).plain == ""


def test_numbered_thoughts_keep_their_colors_and_a_wrong_answer_looks_wrong():
    text = color_numbered_thoughts("a b", [3, 11, 3, 4], "c", separator="=")
    assert text.plain == "a b | 3 11 3 4 = c"
    prompt, _, three, eleven, again, four, _, answer = (span.style for span in text.spans)
    assert three == again == eleven != four
    assert not {prompt, answer} & {three, four}
    wrong = color_numbered_thoughts("a b", [], "c", is_correct=False)
    assert wrong.plain == "a b | | c"
    assert wrong.spans[-1].style != text.spans[-1].style


def test_colours_are_for_terminals_and_a_pipe_gets_the_words(monkeypatch):
    text = color_tokens(ROW, len(PROMPT), VOCABULARY)
    assert printed([text]) == f"{ASKED}{WRITTEN}\n"
    assert "\x1b[36m7+8=5,1\x1b[0m\x1b[2m<step>" in printed([text], terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in printed([text], terminal=True)
    assert "\x1b[1m65" in printed([text], terminal=True)


# While it is written


def test_a_text_grows_in_the_colours_that_it_has_as_a_whole():
    chunks = [ROW[start : start + 3] for start in range(0, len(ROW), 3)]
    texts = list(show_growing_text(chunks, lambda tokens: color_tokens(tokens, len(PROMPT), VOCABULARY)))
    assert len(texts) == len(chunks)
    whole = color_tokens(ROW, len(PROMPT), VOCABULARY)
    joined = Text("").join(texts)
    assert joined.plain == whole.plain
    for place in range(len(whole)):
        assert joined.get_style_at_offset(Console(), place) == whole.get_style_at_offset(Console(), place)


def test_text_is_printed_as_it_comes_and_ends_with_its_line():
    seen, out = [], io.StringIO()

    def chunks():
        for chunk in ([104, 105], [], [33]):
            yield chunk
            seen.append(out.getvalue())

    show(show_growing_text(chunks(), plain), Console(file=out))
    assert seen == ["hi", "hi", "hi!"]
    assert out.getvalue() == "hi!\n"


def test_a_character_of_several_tokens_is_printed_once_it_is_complete():
    texts = show_growing_text(([token] for token in "é!".encode()), plain)
    assert [text.plain for text in texts] == ["", "é", "!"]


def test_words_are_printed_as_they_are_however_narrow_the_terminal():
    text = "[bold]12[/bold] :smile: of  many and   "
    assert printed([Text(text), Text("more")], width=10) == f"{text}more\n"


def test_writing_that_is_broken_off_keeps_what_was_shown_and_ends_its_line():
    out = io.StringIO()

    def texts():
        yield Text("h")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show(texts(), Console(file=out))
    assert out.getvalue() == "h\n"
