"""Answers of a server, kept in a folder of one JSON file an answer, so that none is paid for twice.

A file is named by the SHA-256 of the request that it answers, and holds that request for a reader's sake.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thinking import progress
from thinking.files import write_whole

_WARNED: set[Path] = set()  # folders of which was warned


def answer_path(folder: Path, request: Mapping[str, Any]) -> Path:
    """The file of a request's answer; the order of the request's names does not matter."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return folder / f"{hashlib.sha256(canonical.encode()).hexdigest()}.json"


def get(folder: Path, request: Mapping[str, Any], is_answer: Callable[[Any], bool]) -> Any | None:
    """The answer that is kept, or None. A file that is damaged counts as absent, with one warning a folder.

    Args:
        folder: where answers are kept; it need not exist.
        request: what was asked, as JSON knows it.
        is_answer: whether something can be an answer to it.
    """
    path = answer_path(folder, request)
    try:
        answer = json.loads(path.read_bytes())["answer"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        answer = None
    if answer is not None and is_answer(answer):
        return answer
    _warn(path)
    return None


def put(folder: Path, request: Mapping[str, Any], answer: Any, redact: Callable[[str], str] = str) -> None:
    """Keep an answer: the file is written whole or not at all.

    Args:
        folder: created if need be.
        request: what was asked, as JSON knows it.
        answer: anything but None, as JSON knows it, and without secrets.
        redact: takes secrets out of the request, where it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = answer_path(folder, request)
    asked, answered = (json.dumps(value, ensure_ascii=False) for value in (request, answer))
    text = f'{{"request": {redact(asked)}, "answer": {answered}}}\n'
    write_whole(path, text.encode(errors="replace"))


def count_answers(folder: Path) -> int:
    """How many answers are kept."""
    return sum(1 for _ in folder.glob("[!.]*.json"))


def _warn(path: Path) -> None:
    if path.parent not in _WARNED:
        _WARNED.add(path.parent)
        progress.warn(f"{path} is damaged, as others there may be: what they answered is asked again")
