"""Texts that describe how to reach a goal, step by step, in JSON Lines: one object per line.

{"goal": "building a shelf", "steps": ["saw the boards", "drive in the screws"]}
{"goal": "building a boat", "steps": [{"heading": "hull", "steps": ["bend the ribs", ...]}, ...], "split": "held_out"}
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from thinking.errors import UserError
from thinking.files import write_atomic

SPLITS = ("train", "held_out", "compound")
MAX_SECTION_DEPTH = 2  # parts and their operations

NestedSteps: TypeAlias = tuple[str, ...] | tuple["Section", ...]


class Section(NamedTuple):
    """A heading, and its steps or sub-sections."""

    heading: str
    steps: NestedSteps


class Text(NamedTuple):
    """A procedural text: a goal and its steps.

    Attributes:
        goal: in words. Several texts may have the same goal.
        steps: strings, or sections nested at most two deep; never empty.
        split: one of `SPLITS`.
    """

    goal: str
    steps: NestedSteps
    split: str = "train"


def iter_steps(steps: NestedSteps) -> Iterator[str]:
    """All steps in order, without headings."""
    for entry in steps:
        if isinstance(entry, str):
            yield entry
        else:
            yield from iter_steps(entry[1])


def read(path: Path) -> list[Text]:
    """Read the texts of a file in order; blank lines are ignored.

    Raises:
        UserError: the file or a line is invalid. No line is skipped.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a file of JSON Lines") from error
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}, line 1: a byte order mark; allowed is UTF-8 without one: save the file so")
    texts = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                texts.append(_parse_text(_parse_line(line)))
            except _RecordError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if not texts:
        raise UserError(f'{path}, line 1: no text in it; allowed is {{"goal": "...", "steps": ["...", ...]}} a line')
    return texts


def write(path: Path, texts: Iterable[Text]) -> None:
    """Write the file atomically; an older one stays until the new one is complete.

    Raises:
        ValueError: for a text that `read` would refuse.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(texts):
        entry = {"goal": text.goal, "steps": _to_plain(text.steps), "split": text.split}
        try:
            _parse_text(entry)
        except _RecordError as error:
            raise ValueError(f"text {number}: {error}") from None
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_atomic(path, "".join(lines).encode())


class _RecordError(Exception):
    """A problem of one text, and what is allowed."""


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"), object_pairs_hook=_parse_object)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} of it is not UTF-8; save the file as UTF-8"
    except json.JSONDecodeError as error:
        wrong = f"not JSON ({error.msg}, column {error.colno}); allowed is one object a line"
    except ValueError as error:  # a number of thousands of digits
        wrong = f"not JSON that can be read ({error}); allowed are strings"[:160]
    except RecursionError:
        wrong = "nested too deep; allowed are strings, or sections at most two deep"
    raise _RecordError(wrong)


def _parse_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RecordError(f"`{twice}` stands twice in one object; allowed is once")
    return entry


def _parse_text(entry: Any) -> Text:
    _check_fields("it", entry, needed=("goal", "steps"), allowed=("goal", "steps", "split"))
    split = entry.get("split", "train")
    if split not in SPLITS:
        raise _RecordError(f"split is {_format_value(split)}; allowed is one of {', '.join(SPLITS)}")
    return Text(_parse_string("goal", entry["goal"]), _parse_steps("steps", entry["steps"], MAX_SECTION_DEPTH), split)


def _parse_steps(where: str, steps: Any, deeper: int) -> NestedSteps:
    if not isinstance(steps, list) or not steps:
        raise _RecordError(f"{where} is {_format_value(steps)}; allowed is a list of at least one string or section")
    kinds = {type(step) for step in steps}
    if kinds == {str}:
        return tuple(_parse_string(f"{where}[{index}]", step) for index, step in enumerate(steps))
    if kinds != {dict}:
        strange = next((step for step in steps if type(step) not in (str, dict)), None)
        contents = "both strings and sections" if strange is None else _format_value(strange)
        raise _RecordError(f"{where} holds {contents}; allowed are strings alone, or sections alone")
    if not deeper:
        raise _RecordError(f"{where} nests sections three deep; allowed are two levels of sections above the steps")
    return tuple(_parse_section(f"{where}[{index}]", step, deeper - 1) for index, step in enumerate(steps))


def _parse_section(where: str, section: dict[str, Any], deeper: int) -> Section:
    _check_fields(where, section, needed=("heading", "steps"), allowed=("heading", "steps"))
    heading = _parse_string(f"{where}.heading", section["heading"])
    return Section(heading, _parse_steps(f"{where}.steps", section["steps"], deeper))


def _check_fields(where: str, entry: Any, needed: Sequence[str], allowed: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise _RecordError(f"{where} is {_format_value(entry)}; allowed is an object with {', '.join(allowed)}")
    if missing := [name for name in needed if name not in entry]:
        raise _RecordError(f"{where} has no {' and no '.join(missing)}; needed are {' and '.join(needed)}")
    if unknown := [name for name in entry if name not in allowed]:
        raise _RecordError(
            f"{where} has an unknown field {_format_value(unknown[0])}; allowed are {', '.join(allowed)}"
        )


def _parse_string(where: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise _RecordError(f"{where} is {_format_value(text)}; allowed is a string that is not blank")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _RecordError(f"{where} holds half a character (a lone surrogate); write it as UTF-8")
    return text


def _to_plain(steps: NestedSteps) -> list[Any]:
    """Nested steps as a JSON value."""
    return [step if isinstance(step, str) else {"heading": step[0], "steps": _to_plain(step[1])} for step in steps]


def _format_value(value: Any) -> str:
    """A value for a message, ASCII and short."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
