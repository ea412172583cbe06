"""A cache of answers: a folder with one JSON file per answer, so that no request is paid for twice.

A file is named by the SHA-256 of its request, and also contains the request for readers.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from thinking import progress
from thinking.files import parse_json, write_atomic

_WARNED: set[Path] = set()  # folders with a warning so far


class _Entry(TypedDict, extra_items=Any):
    """What is read of a file; its request is for readers."""

    answer: Any


def answer_path(folder: Path, request: Mapping[str, Any]) -> Path:
    """The file of a request's answer; the order of the request's keys does not matter."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return folder / f"{hashlib.sha256(canonical.encode()).hexdigest()}.json"


def get(folder: Path, request: Mapping[str, Any], is_answer: Callable[[Any], bool]) -> Any | None:
    """The cached answer, or None. A damaged file counts as absent, with one warning per folder.

    Args:
        folder: of the cache; need not exist.
        request: a JSON object.
        is_answer: whether a value is a valid answer.
    """
    path = answer_path(folder, request)
    try:
        answer = parse_json(path.read_bytes(), _Entry)["answer"]
    except FileNotFoundError:
        return None
    except ValueError:
        answer = None
    if answer is not None and is_answer(answer):
        return answer
    _warn(path)
    return None


def put(folder: Path, request: Mapping[str, Any], answer: Any, redact: Callable[[str], str] = str) -> None:
    """Cache an answer; the file is written atomically.

    Args:
        folder: created if needed.
        request: a JSON object.
        answer: a JSON value without secrets, not None.
        redact: removes secrets from the text of the request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = answer_path(folder, request)
    request_text, answer_text = (json.dumps(value, ensure_ascii=False) for value in (request, answer))
    text = f'{{"request": {redact(request_text)}, "answer": {answer_text}}}\n'
    write_atomic(path, text.encode(errors="replace"))


def count_answers(folder: Path) -> int:
    """The number of cached answers."""
    return sum(1 for _ in folder.glob("[!.]*.json"))


def _warn(path: Path) -> None:
    if path.parent not in _WARNED:
        _WARNED.add(path.parent)
        progress.warn(f"{path} is damaged; its request is sent again")
