"""Parameters as a safetensors file: flat names, float16 or float32, read with strict checks."""

import hashlib
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.errors import RunError, UserError
from thinking.types import Params


class _Spec(NamedTuple):
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


Dtype = Literal["float16", "float32"]
"""The type of floating-point parameters; integers stay as they are."""
_MAX_HEADER = 2**20
"""Bytes of a file beside its numbers."""
_MAX_DIFFERENCES = 2


def round_params(params: Params, dtype: Dtype) -> Params:
    """Parameters as they are after they were saved with a type: NumPy arrays, floating-point ones of float32.

    Raises:
        UserError: a number does not fit the type.
    """

    def round_leaf(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        if not np.issubdtype(array.dtype, np.floating):
            return array
        with np.errstate(over="ignore"):
            rounded = array.astype(dtype)
        if (np.isinf(rounded) & np.isfinite(array)).any():
            raise UserError(f"--dtype {dtype}: a parameter is beyond its range; give --dtype float32")
        return rounded.astype(np.float32)

    return jax.tree.map(round_leaf, params)


def encode_params(params: Params, dtype: Dtype) -> bytes:
    """Parameters as the content of a safetensors file."""
    from safetensors.numpy import save

    arrays = {
        name: np.array(array, dtype if np.issubdtype(array.dtype, np.floating) else None, order="C")
        for name, array in zip(_list_names(params), map(np.asarray, jax.tree.leaves(params)), strict=True)
    }
    return save(arrays, {"format": "np"})


def compute_digest(content: bytes) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def read_params(path: Path, template: Params, dtype: Dtype, digest: str) -> Params:
    """Read parameters; floating-point ones become float32.

    Args:
        path: of the file.
        template: a PyTree with the shapes and types that the model needs.
        dtype: of the floating-point numbers in the file.
        digest: of the file.

    Raises:
        RunError: the file is missing, too large, damaged, or has other names, shapes or types.
    """
    leaves, structure = jax.tree.flatten(template)
    expected = {
        name: _Spec(tuple(leaf.shape), dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else str(leaf.dtype))
        for name, leaf in zip(_list_names(template), leaves, strict=True)
    }
    stored = _read_arrays(path, sum(spec.num_bytes for spec in expected.values()), digest)
    found = {name: _Spec(array.shape, str(array.dtype)) for name, array in stored.items()}
    differences = [
        f"{name} is {found.get(name, 'missing')}, but {expected.get(name, 'nothing')} in the config"
        for name in dict.fromkeys([*expected, *found])
        if found.get(name) != expected.get(name)
    ]
    if differences:
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise RunError(f"{path} does not fit its config.json: {'; '.join(differences[:_MAX_DIFFERENCES])}{more}")
    # Tables have scores of -inf where nothing was seen.
    if bad := [name for name, array in stored.items() if np.isnan(array).any()]:
        raise RunError(f"{path}: {bad[0]} has a NaN")
    return jax.tree.unflatten(structure, [_widen(stored[name]) for name in expected])


def _read_arrays(path: Path, num_bytes: int, digest: str) -> dict[str, np.ndarray]:
    """The arrays of a file, which has no more than it should before it is read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        size = path.stat().st_size
        if not num_bytes <= size <= num_bytes + _MAX_HEADER:
            raise RunError(f"{path} has {size} bytes, but its config.json speaks of {num_bytes} and a header")
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    if compute_digest(content) != digest:
        raise RunError(f"{path} is not the file that its config.json speaks of: it is damaged or exchanged")
    try:
        return load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RunError(f"{path} is no safetensors file that can be read: {error}") from error


def _widen(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array, jnp.float32 if np.issubdtype(array.dtype, np.floating) else array.dtype)


def _list_names(params: Params) -> list[str]:
    """The path of each leaf, as `blocks.0.mixer.out_proj.kernel`."""
    flat, _ = jax.tree.flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
