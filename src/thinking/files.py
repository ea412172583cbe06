"""Atomic writes of files, and JSON of a schema."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from thinking.errors import to_line

Schema = TypeVar("Schema")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically; see `open_atomic`."""
    with open_atomic(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file, which then becomes `path`; an older one stays until the new one is complete.

    Threads and processes may write the same file at once: each has its own temporary file. It ends as `path` does.
    """
    temporary = path.with_name(f"{_temporary_prefix()}{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:  # one of a write names no file, and one of an open the temporary file
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def make_temporary_folder(parent: Path) -> Iterator[Path]:
    """Make a folder that is deleted at the end, or by `sweep` after a kill."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=_temporary_prefix()) as folder:
        yield Path(folder)


def sync_folder(folder: Path) -> None:
    """Write a folder's names to disk, so that a renamed file survives a power failure."""
    if os.name == "posix":  # elsewhere folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a name that only this module gives."""
    return re.fullmatch(r"\.\d+-\d+\.tmp\..+", path.name, re.DOTALL) is not None


def sweep(folder: Path) -> None:
    """Delete temporary files and folders that a killed process left below a folder. No other may write there."""
    for path in [path for path in folder.rglob(".*.tmp.*") if is_temporary(path)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _temporary_prefix() -> str:
    return f".{os.getpid()}-{threading.get_ident()}.tmp."


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    # Bytes of a file's name that are no UTF-8 become the escapes that JSON has for them.
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def parse_json(content: bytes, schema: type[Schema]) -> Schema:
    """Parse JSON of a schema. No value is converted: a number in quotes is no number.

    Args:
        content: UTF-8, perhaps with a byte order mark.
        schema: a TypedDict of typing_extensions, or another type whose parts are annotated.

    Raises:
        ValueError: it is not JSON, or not of the schema; the message is one line without the values.
    """
    import pydantic  # late, as it takes a tenth of a second

    try:
        value = json.loads(content.removeprefix(b"\xef\xbb\xbf"))
        return pydantic.TypeAdapter(schema).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        wrong = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    except (ValueError, RecursionError) as error:
        wrong = f"not JSON: {to_line(error)}"
    raise ValueError(wrong)
