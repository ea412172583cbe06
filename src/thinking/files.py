"""Atomic writes of files, and JSON of a schema."""

import json
import os
import threading
from pathlib import Path
from typing import Any, TypeVar

from thinking.errors import to_line

Schema = TypeVar("Schema")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically; an older one stays until the new one is complete.

    Threads and processes may write the same file at once: each has its own temporary file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
