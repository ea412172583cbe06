"""Pictures and videos of a run as data URIs, for a page that loads nothing."""

import base64
import dataclasses
from pathlib import Path

MAX_BYTES = 4_000_000
"""Maximum bytes of all pictures of a page, as they are embedded."""
_TYPES = {".png": "image/png", ".gif": "image/gif"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a run.

    Attributes:
        path: of its file, within the run's folder.
        alt: what it is, in words.
        uri: its content; None where the page has no room for it.
    """

    path: str
    alt: str
    uri: str | None


def embed_pictures(folder: Path, max_bytes: int = MAX_BYTES) -> list[Picture]:
    """The pictures of a run's `plots/` and `videos/`, by name.

    The smallest are embedded first, so that one large video does not crowd out all others.
    """
    files = [path for name in ("plots", "videos") for path in sorted((folder / name).glob("*")) if _is_picture(path)]
    uris: dict[Path, str] = {}
    remaining = max_bytes
    for file in sorted(files, key=lambda path: path.stat().st_size):
        if file.stat().st_size * 4 / 3 + 100 > remaining:
            break
        uris[file] = f"data:{_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        remaining -= len(uris[file])
    return [Picture(str(file.relative_to(folder)), _describe(file), uris.get(file)) for file in files]


def _is_picture(path: Path) -> bool:
    return path.suffix in _TYPES and path.is_file()


def _describe(file: Path) -> str:
    kind = "Animation" if file.suffix == ".gif" else "Plot"
    return f"{kind}: {file.stem.replace('_', ' ').replace('-', ' ')}"
