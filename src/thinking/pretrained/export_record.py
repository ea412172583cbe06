"""`config.json` of an exported model, and which models the package ships. Free of JAX."""

from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from thinking.errors import RunError, UserError
from thinking.files import parse_json

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
FILES = (CARD_FILE, WEIGHTS_FILE, CONFIG_FILE)
"""The files of an export in the order in which they are written: the config has the digest of the weights."""
FORMAT_VERSION = 1
"""Format of `config.json` of an exported model."""
_MAX_CONFIG_BYTES = 2**20


class ExportRecord(TypedDict, extra_items=Any):
    """What `config.json` of an exported model holds.

    `architecture` is the class of the model that `load` returns, `dtype` that of floating-point numbers in the file,
    `sha256` the digest of `model.safetensors`, `config` the task's config in full.
    """

    format: int
    task: str
    architecture: str
    dtype: str
    sha256: str
    num_parameters: int
    config: dict[str, Any]
    versions: dict[str, str | None]
    summary: str


def read_record(folder: Path) -> ExportRecord:
    """What the `config.json` of an exported model holds.

    Raises:
        UserError: there is no exported model in the folder.
        RunError: the file is damaged, or of another format.
    """
    path = folder / CONFIG_FILE
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no exported model; give a folder with {', '.join(FILES)}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > _MAX_CONFIG_BYTES:
        raise RunError(f"{path} has more than {_MAX_CONFIG_BYTES} bytes, so it is not the config of an exported model")
    try:
        if parse_json(content, dict[str, Any]).get("format") != FORMAT_VERSION:
            raise RunError(f"{path} is of another format than {FORMAT_VERSION}; load it with the version that wrote it")
        record = parse_json(content, ExportRecord)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if record["dtype"] not in ("float16", "float32"):
        raise RunError(f"{path} is damaged: dtype is neither float16 nor float32")
    return record


def is_exported(folder: Path) -> bool:
    """Whether a folder looks like an exported model."""
    return all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def list_shipped() -> dict[str, Path]:
    """The models that the package ships: folders by name."""
    return {path.parent.name: path.parent for path in sorted(Path(__file__).parent.glob(f"*/{WEIGHTS_FILE}"))}


def find_model(name: str | Path) -> Path:
    """The folder of an exported model.

    Args:
        name: a folder, or the name of a model that the package ships.

    Raises:
        UserError: there is none.
    """
    if is_exported(Path(name)):
        return Path(name)
    if str(name) in list_shipped():
        return list_shipped()[str(name)]
    shipped = ", ".join(list_shipped())
    raise UserError(f"{name}: no exported model; give a folder with {', '.join(FILES)}, or one of {shipped}")
