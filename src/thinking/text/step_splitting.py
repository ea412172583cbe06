"""Splitting of free text, as a language model writes it, into steps."""

import re
from collections.abc import Callable, Iterator, Sequence

# Every pattern is linear in the line's length: adjacent repetitions never match the same character.
_WORD = "step|schritt|étape|paso|passo|шаг|步骤|步驟|ステップ|단계"
_NUMBER = re.compile(
    rf"[*_]{{0,3}}(?:(?:{_WORD})\s?\d{{1,5}}(?:\s?[.):：）-](?!\d)|[*_]*$)"  # noqa: RUF001
    r"|第[\d一二三四五六七八九十]{1,4}步[:：.、，,]?"  # noqa: RUF001
    r"|\d{1,5}(?:[.):：．）](?!\d)|、|\ufe0f?\u20e3)|[(（]\d{1,5}[)）])",  # noqa: RUF001
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:[-*+–—]\s|[•‣▪◦●○])\s*(?:\[[ xX]\]\s)?")  # noqa: RUF001
_INLINE = re.compile(r"(?:^| )(?=\d{1,3}[.)] )")
_EMPHASIS = re.compile(r"(?<!\w)(?:[*_]{1,3}|~~|`{1,3})(?=\S)|(?<=\S)(?:[*_]{1,3}|~~|`{1,3})(?!\w)")
# What precedes a list mark or a text: indentation, headings, quotations; the `> ` of "> 1. Mix.".
_BEFORE = " \t\u3000#>"
# A line without words, such as "---" or "```python".
_RULE = re.compile(r"[-*_=~]{3,}$|`{3,}\w*$")
# What may end a sentence; the `. ` of "Mix it. Wait.".
_STOP = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+ |(?<![。！？।؟])[。！？।؟]++[”’」』）\"']*+ ?(?=\S)")  # noqa: RUF001
_ABBREVIATIONS = frozenset(
    (
        "e.g",
        "i.e",
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "vs",
        "approx",
        "cf",
        "a.m",
        "p.m",
        "jr",
        "sr",
        "z.b",
        "d.h",
        "u.a",
        "bzw",
        "ca",
        "p.ex",
    )
)
_BEFORE_NUMBERS = frozenset(("no", "nr", "fig", "vol", "art"))


def split_steps(text: str) -> list[str]:
    """Split a text into steps: its list items if it has a list, else its lines, else its sentences.

    Removes list marks, Markdown, blank lines, headings, text before and (if set apart) after a list, and a leading
    <think> block. No step is empty.
    """
    if text.lstrip().startswith("<think>") and "</think>" in text:
        text = text.partition("</think>")[2]
    lines = [line for line in text.splitlines() if not _RULE.match(line.strip())]
    filled = [line for line in lines if line.strip()]
    is_item = _item_test(filled)
    num_items = sum(map(is_item, filled))
    if len(filled) == 1 and (parts := _split_inline_list(" ".join(filled[0].split()))):
        parts = list(map(_strip_mark, parts))
    elif num_items > 1 or 2 * num_items >= max(1, len(filled)):
        parts = _split_items(lines, is_item)
    else:
        parts = [line for line in filled if not _is_heading(line)] or filled
        if len(parts) > 2 and _introduces(parts[0]):
            parts = parts[1:]
        parts = list(map(_strip_mark, parts))
        parts = list(_split_sentences(" ".join(parts[0].split()))) if len(parts) == 1 else parts
    steps = (" ".join(_EMPHASIS.sub("", line).split()) for line in parts)
    return [step for step in steps if step]


def _item_test(lines: Sequence[str]) -> Callable[[str], bool]:
    """A predicate for list items. A numbered heading is an item only if there are no other items."""
    has_plain_items = any(_mark_length(line) and not _is_heading(line) for line in lines)
    return lambda line: _mark_length(line) > 0 and not (has_plain_items and _is_heading(line))


def _split_items(lines: Sequence[str], is_item: Callable[[str], bool]) -> list[str]:
    """Each item with the lines that belong to it.

    Those are the lines directly below it, indented lines, and paragraphs before the next item. A paragraph after the
    last item belongs to it only if other items have such paragraphs.
    """
    items: list[list[str]] = []
    paragraphs_after: list[str] = []  # belong to the last item if another item follows
    inside = has_paragraphs = after_blank = False
    for line in lines:
        if not line.strip():
            after_blank = True
            continue
        if is_item(line):
            if paragraphs_after:
                items[-1] += paragraphs_after
                has_paragraphs = True
            items.append([_strip_mark(line)])
            paragraphs_after, inside = [], True
        elif _is_heading(line) or (after_blank and not line[0].isspace() and _introduces(line)):
            inside = False
        elif inside and (after_blank or paragraphs_after) and not line[0].isspace():
            paragraphs_after.append(line)
        elif inside:
            items[-1].append(line)
        after_blank = False
    if has_paragraphs:
        items[-1] += paragraphs_after[:1]
    return [" ".join(item) for item in items]


def _mark_length(line: str) -> int:
    """Length of a line's list mark, including what precedes it; 0 if there is none."""
    start = len(line) - len(line.lstrip(_BEFORE))
    match = _BULLET.match(line, start) or _NUMBER.match(line, start)
    return match.end() if match else 0


def _strip_mark(line: str) -> str:
    """The line without its list mark, heading mark or quotation mark."""
    end = _mark_length(line)
    bold = _NUMBER.match(line.lstrip(_BEFORE)) and line.lstrip(_BEFORE).startswith(("*", "_"))
    # A bold mark may end before the rest of the line.
    return line[end:].lstrip("*_ ") if bold else line[end:] if end else line.lstrip(_BEFORE)


def _is_heading(line: str) -> bool:
    line = line.strip()
    return line.startswith("#") or (
        line.startswith("**") and line.rstrip(":").endswith("**") and line.count("**") == 2 and len(line) > 4
    )


def _introduces(line: str) -> bool:
    return line.rstrip(" *_").endswith((":", "："))  # noqa: RUF001


def _split_inline_list(line: str) -> list[str]:
    """The items of a list within one line, numbered from 1; [] if there is none."""
    items = [piece for piece in _INLINE.split(line) if piece]
    if items and not items[0].startswith("1"):
        items = items[1:]
    numbers = [re.split(r"[.)]", piece, maxsplit=1)[0] for piece in items]
    return items if len(items) > 1 and numbers == [str(number + 1) for number in range(len(items))] else []


def _split_sentences(line: str) -> Iterator[str]:
    start = 0
    for stop in _STOP.finditer(line):
        if _ends_sentence(line, stop):
            yield line[start : stop.end()]
            start = stop.end()
    yield line[start:]


def _ends_sentence(line: str, stop: re.Match[str]) -> bool:
    """Whether a full stop or similar mark ends a sentence."""
    if stop[0][0] in "。！？।؟":  # noqa: RUF001
        return True
    following = line[stop.end() : stop.end() + 2].lstrip("\"'(*_“‘«") or " "  # noqa: RUF001
    if following[0].islower():
        return False
    if stop[0] != ". ":
        return True
    words = line[max(0, stop.start() - 12) : stop.start()].split()
    word = words[-1].lstrip("(\"'*_").lower() if words else ""
    initial = len(word) == 1 and word.isalpha()
    return not (initial or word in _ABBREVIATIONS or (word in _BEFORE_NUMBERS and following[0].isdigit()))
