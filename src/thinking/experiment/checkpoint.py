"""Checkpoints of one stage: `FOLDER/STEP`, written atomically and verified by a digest when read."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from orbax.checkpoint import v1 as ocp

from thinking import progress
from thinking.errors import RunError
from thinking.experiment.memory_check import is_out_of_memory
from thinking.files import sync_folder
from thinking.trees import Leaf, digest_leaves, host_leaves, is_key

# Orbax raises its errors, and also logs them and those of its other tasks with tracebacks.
absl_logging.set_verbosity(absl_logging.FATAL)
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

MAX_TO_KEEP = 3  # newest checkpoints kept
MAX_TIME_FRACTION = 0.01  # largest fraction of the time spent on saving
MIN_SECONDS_BETWEEN_SAVES = 5.0


@dataclasses.dataclass(frozen=True)
class RestoredCheckpoint:
    """The `state` after `step` steps, and the `figures` saved with it: seconds so far, by name."""

    step: int
    state: Any
    figures: dict[str, float]


def list_saved_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def restore(folder: Path, template: Any, *, set_aside: bool = True) -> RestoredCheckpoint | None:
    """Restore the newest valid checkpoint.

    Of newer damaged ones there is a warning, if an older one is valid.

    Args:
        folder: of the checkpoints.
        template: a PyTree of JAX arrays that gives structure, types and placement on devices.
        set_aside: whether damaged ones are renamed to `STEP.damaged`; False for the folder of another run.

    Returns:
        The checkpoint, or None if there is none.

    Raises:
        RunError: the weights do not fit `template`, cannot be read, or all checkpoints are damaged.
    """

    def read(path: Path, metadata: dict[str, Any]) -> RestoredCheckpoint:
        _check_shapes(path, metadata["leaves"], _shapes(host_leaves(template)))
        return RestoredCheckpoint(metadata["step"], _load(path, metadata, template), metadata["figures"])

    return _read_newest(folder, read, set_aside=set_aside)


def read_part(folder: Path, template: Any, prefix: str = "") -> Any:
    """Read a part of the state of the newest valid checkpoint, without the rest of its structure.

    Args:
        folder: of the checkpoints.
        template: a PyTree of arrays or of their shapes and types: the part, without keys.
        prefix: its place in the state, as `.train_state.params`.

    Returns:
        A PyTree as the template, of NumPy arrays.

    Raises:
        RunError: as `restore`, and if there is no checkpoint.
    """
    flat, structure = jax.tree.flatten_with_path(template)
    expected = [[prefix + jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)] for path, leaf in flat]
    paths = [path for path, _, _ in expected]

    def read(path: Path, metadata: dict[str, Any]) -> Any:
        _check_shapes(path, [leaf for leaf in metadata["leaves"] if leaf[0] in paths], expected)
        saved = [
            Leaf(name, dtype, np.zeros(shape, np.uint32 if dtype.startswith("key<") else jnp.dtype(dtype)))
            for name, dtype, shape in metadata["leaves"]
        ]
        arrays = {leaf.path: leaf.array for leaf in _load_leaves(path, metadata, saved)}
        return jax.tree.unflatten(structure, [arrays[name] for name in paths])

    if (part := _read_newest(folder, read, set_aside=False)) is None:
        raise RunError(f"there is no checkpoint in {folder}; train it to the end first")
    return part


def _read_newest(folder: Path, read: Callable[[Path, dict[str, Any]], Any], *, set_aside: bool) -> Any:
    """What `read(path, metadata)` makes of the newest checkpoint that is valid; None if there is none at all."""
    _silence_closed_loop_errors()
    damaged: list[tuple[int, str]] = []
    for step in reversed(list_saved_steps(folder)):
        try:
            content = read(folder / str(step), _metadata(folder / str(step)))
        except Exception as error:  # a damaged file may raise anything
            if isinstance(error, RunError) or is_out_of_memory(error):
                raise
            if unreadable := _find_unreadable(folder / str(step)):
                raise RunError(
                    f"cannot read {unreadable}, as its owner or mode forbid it; give yourself the right to read it"
                ) from error
            damaged.append((step, f"{type(error).__name__}: {error}"[:120]))
            continue
        for bad, reason in damaged:
            if set_aside:
                _set_aside(folder / str(bad))
            progress.warn(f"checkpoint {folder / str(bad)} is damaged ({reason}); continuing from step {step}")
        return content
    if damaged:
        raise RunError(f"all checkpoints in {folder} are damaged ({damaged[0][1]}); start anew with --clear")
    return None


class Saver:
    """Saves verified states in a background thread, which takes about 1 % of the time.

    Orbax's own asynchronous save silently skips a step while another save runs, so this one waits for the previous
    save. Copying to the host, digesting and deletion also leave the training thread.

    Attributes:
        blocked_seconds: seconds that the training thread waited for saves.
    """

    def __init__(self, folder: Path) -> None:
        _silence_closed_loop_errors()
        _sweep(folder)  # left by a killed process
        self.blocked_seconds = 0.0
        self._folder = folder
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: concurrent.futures.Future[float] | None = None
        self._last = time.perf_counter()
        self._cost = 0.0

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(wait=True)  # the save in progress is of a verified state
        if kind is None:
            self.wait()

    def is_due(self) -> bool:
        """Whether it is time for a save.

        Raises:
            RunError: the previous save failed.
        """
        if self._running is not None and not self._running.done():
            return False
        self.wait()
        return time.perf_counter() - self._last >= max(MIN_SECONDS_BETWEEN_SAVES, self._cost / MAX_TIME_FRACTION)

    def save(self, step: int, state: Any, figures: dict[str, float]) -> None:
        """Start to save a state that is neither donated nor changed.

        Raises:
            RunError: the previous save failed.
        """
        self.wait()
        self._last = time.perf_counter()
        self._running = self._thread.submit(_write, self._folder, step, state, figures)

    def wait(self) -> None:
        """Wait for the save in progress.

        Raises:
            RunError: it failed; older checkpoints are untouched.
        """
        if self._running is None:
            return
        running, self._running = self._running, None
        try:
            with self.measure_blocked():
                self._cost = running.result()
        except (OSError, ValueError) as error:  # Orbax's storage reports a full disk as a ValueError
            raise RunError(_failure(self._folder, error)) from error

    @contextlib.contextmanager
    def measure_blocked(self) -> Iterator[None]:
        """Count the time within as waiting."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.blocked_seconds += time.perf_counter() - start


@jax.jit
def snapshot(state: Any) -> tuple[Any, list[jax.Array]]:
    """Copy a state on its devices, and flag the float leaves with a NaN (`[]` bool each).

    The copy can be saved while the original is donated to the next chunk.
    """
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jax.tree.map(_copy, state), [jnp.isnan(leaf).any() for leaf in floats]


def _copy(leaf: jax.Array) -> jax.Array:
    if is_key(leaf):
        return jax.random.wrap_key_data(jnp.copy(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    return jnp.copy(leaf)


def _write(folder: Path, step: int, state: Any, figures: dict[str, float]) -> float:
    """Write one checkpoint and delete old ones; returns the seconds it took."""
    start = time.perf_counter()
    leaves = host_leaves(state)
    metadata = {"step": step, "leaves": _shapes(leaves), "digest": digest_leaves(leaves), "figures": figures}
    metadata["seal"] = _seal(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        ocp.save(folder.resolve() / str(step), _arrays_by_path(leaves), custom_metadata=metadata)
    except Exception:
        # The disk may be full. Writes of other arrays may still be under way, and make files anew.
        for _ in range(50):
            if not _sweep(folder):
                break
            time.sleep(0.05)
        raise
    sync_folder(folder)
    for old in list_saved_steps(folder)[:-MAX_TO_KEEP]:
        shutil.rmtree(folder / str(old))
    return time.perf_counter() - start


def _sweep(folder: Path) -> bool:
    """Delete incomplete checkpoints; returns whether there were any."""
    leftovers = list(folder.glob("*.orbax-checkpoint-tmp*"))
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)
    return bool(leftovers)


def _arrays_by_path(leaves: list[Leaf]) -> dict[str, np.ndarray]:
    """Arrays by path, which is distinct for every structure. Orbax refuses empty arrays, so they are left out."""
    return {leaf.path: leaf.array for leaf in leaves if leaf.array.size}


def _metadata(path: Path) -> dict[str, Any]:
    metadata = ocp.metadata(path.resolve()).custom_metadata
    if metadata.pop("seal") != _seal(metadata):
        raise ValueError("the metadata are not those that were written")
    if metadata["step"] != int(path.name):
        raise ValueError(f"it is a copy of step {metadata['step']}")
    return metadata


def _find_unreadable(path: Path) -> Path | None:
    """The first file or folder of a checkpoint that this user may not read."""
    return next((entry for entry in (path, *path.rglob("*")) if not os.access(entry, os.R_OK)), None)


def _seal(metadata: dict[str, Any]) -> str:
    """A digest of the metadata, so that damage there is not mistaken for weights of another shape."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _load(path: Path, metadata: dict[str, Any], template: Any) -> Any:
    leaves = _load_leaves(path, metadata, host_leaves(template))
    placed = [_place_like(leaf.array, like) for leaf, like in zip(leaves, jax.tree.leaves(template), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(template), placed)


def _load_leaves(path: Path, metadata: dict[str, Any], expected: list[Leaf]) -> list[Leaf]:
    """All leaves of a checkpoint, verified; those expected have its shapes and types."""
    stored = ocp.load(path.resolve(), _arrays_by_path(expected))
    leaves = [leaf._replace(array=np.asarray(stored.get(leaf.path, leaf.array))) for leaf in expected]
    if digest_leaves(leaves) != metadata["digest"]:
        raise ValueError("the weights are not those that were written")
    return leaves


def _place_like(array: np.ndarray, template: jax.Array) -> jax.Array:
    """Put an array on the devices of `template`; key data become typed keys."""
    if is_key(template):
        key = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(template))
        return jax.device_put(key, template.sharding)
    return jax.device_put(array, template.sharding)


def _check_shapes(path: Path, saved: list[list[Any]], expected: list[list[Any]]) -> None:
    before = {name: f"{dtype}{shape}" for name, dtype, shape in saved}
    after = {name: f"{dtype}{shape}" for name, dtype, shape in expected}
    differences = [
        f"{name} is {before.get(name, 'nothing')} saved, {after.get(name, 'nothing')} given"
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 2} more" if len(differences) > 2 else ""
        raise RunError(
            f"the weights in {path} do not fit this program ({'; '.join(differences[:2])}{more}); "
            "start anew with --clear"
        )


def _shapes(leaves: list[Leaf]) -> list[list[Any]]:
    return [[leaf.path, leaf.dtype, list(leaf.array.shape)] for leaf in leaves]


def _set_aside(path: Path) -> None:
    aside = path.with_name(path.name + ".damaged")
    if aside.exists():
        shutil.rmtree(aside)
    path.rename(aside)


def _silence_closed_loop_errors() -> None:
    """Silence Orbax's tasks that report to a closed event loop after another array failed."""
    before = sys.unraisablehook
    if before.__module__ == __name__:
        return

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def _failure(folder: Path, error: Exception) -> str:
    steps = list_saved_steps(folder)
    remaining = f"the checkpoint of step {steps[-1]} is kept" if steps else "none was written before"
    code = re.search(r"os_error_code='(\d+)'", str(error))  # as Orbax's storage reports it
    reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or str(error)[:200]
    return f"cannot write a checkpoint in {folder}: {reason}; {remaining}; make room and give the same command again"
