"""Free texts are split into steps without losing words."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinking.text.step_splitting import split_steps

CASES = {
    "numbers": ("1. Dig a hole.\n2. Pour concrete.\n3. Wait.", ["Dig a hole.", "Pour concrete.", "Wait."]),
    "brackets": ("1) Dig\n2) Pour\n(3) Wait", ["Dig", "Pour", "Wait"]),
    "step": ("Step 1: Dig\nStep 2 - Pour\n**Step 3:** Wait", ["Dig", "Pour", "Wait"]),
    "step above its text": ("Step 1\nDig a hole.\n\nStep 2\nPour.", ["Dig a hole.", "Pour."]),
    "bullets": ("- Dig\n* Pour\n• Wait\n+ [x] Go", ["Dig", "Pour", "Wait", "Go"]),
    "emoji digits": ("1️⃣ Dig\n2️⃣ Pour", ["Dig", "Pour"]),
    "preamble and farewell": ("Sure! Here is how to do it:\n\n1. Dig\n2. Pour\n\nGood luck!", ["Dig", "Pour"]),
    "preamble without a mark": ("Here is how:\nDig\nPour", ["Dig", "Pour"]),
    "headings between": ("# Plan\n\n## First\n1. Dig\n\n**Then:**\n2. Pour", ["Dig", "Pour"]),
    "numbered headings over bullets": ("**1. Ground**\n- dig\n- pour\n### 2. Walls\n- build", ["dig", "pour", "build"]),
    "numbered headings alone": ("### 1. Dig\n\nDeep.\n\n### 2. Pour\n\nSlowly.", ["Dig Deep.", "Pour Slowly."]),
    "items within items": ("1. Dig\n   - deep\n   - wide\n2. Pour", ["Dig", "deep", "wide", "Pour"]),
    "items of several lines": ("1. Dig a\nhole\n2. Pour\n   it\n\n   all", ["Dig a hole", "Pour it all"]),
    "items of paragraphs": ("1. **Dig**\n\nDeep.\n\n2. **Pour**\n\nAll.\n\nBye.", ["Dig Deep.", "Pour All."]),
    "marks of Markdown": (
        "1. **Dig** a `deep` _hole_\n2. Keep snake_case and 2 * 3",
        ["Dig a deep hole", "Keep snake_case and 2 * 3"],
    ),
    "one line": ("1. Dig 2. Pour it 3. Wait", ["Dig", "Pour it", "Wait"]),
    "one item": ("1. Dig. Then rest.", ["Dig. Then rest."]),
    "lines": ("Dig\n\nPour\nWait", ["Dig", "Pour", "Wait"]),
    "sentences": (
        "Dig a hole. Is it deep? Pour! Wait... Go.",
        ["Dig a hole.", "Is it deep?", "Pour!", "Wait...", "Go."],
    ),
    "decimals": ("Take 3.5 litres. Then wait.", ["Take 3.5 litres.", "Then wait."]),
    "a decimal at the start": ("3.5 litres go in.\nStir.", ["3.5 litres go in.", "Stir."]),
    "abbreviations": (
        "Ask Dr. Smith, e.g. Monday. Use approx. Nine.",
        ["Ask Dr. Smith, e.g. Monday.", "Use approx. Nine."],
    ),
    "times": ("10:30 is lunch. At 4 p.m. Eve comes.", ["10:30 is lunch.", "At 4 p.m. Eve comes."]),
    "numbers named": ("See No. 5 first. Say no. Then go.", ["See No. 5 first.", "Say no.", "Then go."]),
    "quotation marks": ('Say "Stop!" Then wait. "Go!" he said.', ['Say "Stop!"', "Then wait.", '"Go!" he said.']),
    "Chinese sentences": ("挖坑。倒水泥！好了吗？走", ["挖坑。", "倒水泥！", "好了吗？", "走"]),  # noqa: RUF001
    "Chinese lists": ("步骤如下：\n1、挖坑\n2、倒水泥", ["挖坑", "倒水泥"]),  # noqa: RUF001
    "Chinese steps": ("第一步：挖坑\n第二步：倒水泥", ["挖坑", "倒水泥"]),  # noqa: RUF001
    "German": ("Schritt 1: Grabe z. B. hier.\nSchritt 2: Warte.", ["Grabe z. B. hier.", "Warte."]),
    "thoughts": ("<think>\n1. Hm\n2. No\n</think>\n1. Dig\n2. Pour", ["Dig", "Pour"]),
    "fences and rules": ("```text\n1. Dig\n---\n2. Pour\n```", ["Dig", "Pour"]),
    "nothing": (" \n\n***\n---\n- \n", []),
}


@pytest.mark.parametrize("name", CASES)
def test_typical_model_answers_are_split(name):
    text, steps = CASES[name]
    assert split_steps(text) == steps


WORDS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
ITEM = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=3).map("\n   ".join)
LIST_MARKS = st.sampled_from(["{}. ", "{}) ", "Step {}: ", "- ", "* ", "• ", "**Step {}:** ", "({}) "])


@given(st.lists(ITEM, min_size=2, max_size=6), LIST_MARKS, st.booleans(), st.booleans())
def test_lists_keep_every_word(items, mark, blank_lines, preamble):
    lines = [mark.format(number) + item for number, item in enumerate(items, start=1)]
    text = ("Sure! Here you are:\n\n" if preamble else "") + ("\n\n" if blank_lines else "\n").join(lines)
    assert " ".join(split_steps(text)).split() == " ".join(items).split()


@given(st.text(st.sampled_from(list("ab1.)*-_#`> \n:!?。Step•")), max_size=60))
def test_steps_are_nonempty_single_lines(text):
    for step in split_steps(text):
        assert step == " ".join(step.split())
        assert step


@given(st.lists(WORDS, min_size=1, max_size=30), st.data())
def test_sentences_keep_every_word(words, data):
    stops = data.draw(st.lists(st.sampled_from(["", "", ".", "!", "?", "..."]), min_size=30, max_size=30))
    text = " ".join(word + stop for word, stop in zip(words, stops, strict=False))
    assert re.findall(r"\w+", " ".join(split_steps(f"so {text}"))) == re.findall(r"\w+", f"so {text}")


@pytest.mark.parametrize(
    "text",
    ["\n".join(f"{number}. do **it** {number}" for number in range(10_000))]
    + [
        fragment * 60_000
        for fragment in (".", "*", " ", "1. ", "_a", "- ", "> ", "a. ", "。", "A. B ", "\n", "`", "#", "1")
    ],
    ids=lambda text: repr(text[:6]),
)
def test_long_texts_are_split_in_linear_time(text):
    start = time.process_time()
    steps = split_steps(text)
    # A quadratic regular expression would take minutes.
    assert time.process_time() - start < 5
    assert len(steps) == 10_000 or not text.startswith("0. do")
