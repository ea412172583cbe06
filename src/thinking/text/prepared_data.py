"""Prepared data of lm_data_prepare: texts, their steps and goals, and embeddings of both.

A folder has texts.jsonl, steps.jsonl, goals.jsonl, embeddings.safetensors, and manifest.json with sources and
checksums. The manifest is removed first and written last, so an interrupted run leaves no valid data.

Axes: W steps, G goals, D dimensions.
"""

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import TypedDict

from thinking.batching import cut_rows
from thinking.errors import UserError
from thinking.files import parse_json, write_atomic, write_json
from thinking.text import records
from thinking.text.embedders import Embedder
from thinking.text.records import Text, iter_steps

MANIFEST = "manifest.json"
FILES = ("texts.jsonl", "steps.jsonl", "goals.jsonl", "embeddings.safetensors")
TEXTS_PER_CALL = 1024  # sentences embedded between two progress reports
RERUN_HINT = "run tasks/lm_data_prepare.py again"


class _SavedManifest(TypedDict, extra_items=Any):
    """What is read of a manifest."""

    embedder: str
    sha256: dict[str, str]
    manifest_sha256: str


class PreparedData(NamedTuple):
    """Texts, and all their sentences as vectors.

    Attributes:
        texts: of all splits.
        steps: W distinct sentences in the order of the texts, then canonical wordings that no text has.
        canonical_index: [W] int32, for each step the index of its canonical wording; its own index if none is known.
        goals: G distinct goals, in the order of the texts.
        step_vectors: [W, D] float32 unit vectors.
        goal_vectors: [G, D] float32 unit vectors.
        embedder: name of the embedder.
        manifest: sources of the texts; once saved, also date, counts and checksums.
    """

    texts: tuple[Text, ...]
    steps: tuple[str, ...]
    canonical_index: np.ndarray
    goals: tuple[str, ...]
    step_vectors: np.ndarray
    goal_vectors: np.ndarray
    embedder: str
    manifest: dict[str, Any]


def list_distinct_steps(texts: Sequence[Text], canonical_steps: Mapping[str, str]) -> tuple[str, ...]:
    """Distinct steps in the order of the texts, then canonical wordings that no text has."""
    steps = dict.fromkeys(step for text in texts for step in iter_steps(text.steps))
    return tuple(steps | dict.fromkeys(canonical_steps.get(step, step) for step in steps))


def list_distinct_goals(texts: Sequence[Text]) -> tuple[str, ...]:
    """Distinct goals, in the order of the texts."""
    return tuple(dict.fromkeys(text.goal for text in texts))


def prepare_texts(
    texts: Sequence[Text],
    canonical_steps: Mapping[str, str],
    embedder: Embedder,
    manifest: Mapping[str, Any],
    report_progress: Callable[[int], None] = lambda done: None,
) -> PreparedData:
    """Number the steps and goals of texts, and embed each once.

    Args:
        texts: of all splits, at least one.
        canonical_steps: for a wording, the canonical wording of its step; a missing one is canonical itself.
        embedder: of steps and goals.
        manifest: sources of the texts.
        report_progress: called with the number of sentences embedded so far, out of W + G.
    """
    steps, goals = list_distinct_steps(texts, canonical_steps), list_distinct_goals(texts)
    number = {step: index for index, step in enumerate(steps)}
    canonical_index = np.array([number[canonical_steps.get(step, step)] for step in steps], np.int32)
    vectors, done = [], 0
    for sentences in cut_rows([*steps, *goals], TEXTS_PER_CALL):
        vectors.append(embedder.embed(sentences))
        done += len(sentences)
        report_progress(done)
    step_vectors, goal_vectors = np.split(np.concatenate(vectors), [len(steps)])
    return PreparedData(
        tuple(texts), steps, canonical_index, goals, step_vectors, goal_vectors, embedder.name, dict(manifest)
    )


def summarize_splits(prepared: PreparedData) -> list[dict[str, Any]]:
    """A row for each split with texts: counts, and the overlap with the training texts.

    Of the steps, `in_training_fraction` are in training texts word for word, and `in_training_any_wording_fraction`
    in any wording.
    """
    number = {step: index for index, step in enumerate(prepared.steps)}
    trained = {number[step] for text in prepared.texts if text.split == "train" for step in iter_steps(text.steps)}
    trained_meanings = set(prepared.canonical_index[list(trained)].tolist())
    rows = []
    for split in records.SPLITS:
        texts = [text for text in prepared.texts if text.split == split]
        if not texts:
            continue
        lengths = [sum(1 for _ in iter_steps(text.steps)) for text in texts]
        steps = [number[step] for text in texts for step in iter_steps(text.steps)]
        row = {
            "split": split,
            "num_goals": len(list_distinct_goals(texts)),
            "num_texts": len(texts),
            "num_steps": len(steps),
            "mean_steps": len(steps) / len(texts),
            "max_steps": max(lengths),
            "in_training_fraction": sum(step in trained for step in steps) / len(steps),
            "in_training_any_wording_fraction": sum(
                int(prepared.canonical_index[step]) in trained_meanings for step in steps
            )
            / len(steps),
        }
        rows.append(row)
    return rows


def save(folder: Path, prepared: PreparedData) -> None:
    """Write the files of a folder atomically, the manifest last."""
    from safetensors.numpy import save as save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    records.write(folder / "texts.jsonl", prepared.texts)
    steps = (
        {"step": step, "canonical_index": int(index)}
        for step, index in zip(prepared.steps, prepared.canonical_index, strict=True)
    )
    write_atomic(folder / "steps.jsonl", _lines(steps))
    write_atomic(folder / "goals.jsonl", _lines({"goal": goal} for goal in prepared.goals))
    vectors = {"steps": prepared.step_vectors, "goals": prepared.goal_vectors}
    # safetensors writes memory as it is, and a view may have another layout.
    vectors = {name: np.ascontiguousarray(array) for name, array in vectors.items()}
    write_atomic(folder / "embeddings.safetensors", save_tensors(vectors))
    manifest = {
        **prepared.manifest,
        "embedder": prepared.embedder,
        "dims": prepared.step_vectors.shape[1],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "distinct_steps": len(prepared.steps),
        "distinct_goals": len(prepared.goals),
        "splits": summarize_splits(prepared),
        "sha256": {name: _checksum(folder / name) for name in FILES},
    }
    write_json(folder / MANIFEST, manifest | {"manifest_sha256": _checksum_of(manifest)})


def load(folder: Path) -> PreparedData:
    """Load prepared data.

    Raises:
        UserError: there is none, or a file does not match its checksum.
    """
    from safetensors.numpy import load as load_tensors

    try:
        manifest = parse_json((folder / MANIFEST).read_bytes(), _SavedManifest)
    except FileNotFoundError:
        raise UserError(f"{folder} has no prepared data: run tasks/lm_data_prepare.py first") from None
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}): {RERUN_HINT}") from None
    if manifest.pop("manifest_sha256") != _checksum_of(manifest):
        raise UserError(f"{folder / MANIFEST} is not as it was written, but damaged or edited: {RERUN_HINT}")
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: {RERUN_HINT}")
        if _checksum(folder / name) != manifest["sha256"].get(name):
            raise UserError(f"{folder / name} is not as it was written, but damaged or edited: {RERUN_HINT}")
    steps = _read(folder / "steps.jsonl")
    vectors = load_tensors((folder / "embeddings.safetensors").read_bytes())
    return PreparedData(
        tuple(records.read(folder / "texts.jsonl")),
        tuple(step["step"] for step in steps),
        np.array([step["canonical_index"] for step in steps], np.int32),
        tuple(goal["goal"] for goal in _read(folder / "goals.jsonl")),
        vectors["steps"],
        vectors["goals"],
        manifest["embedder"],
        manifest,
    )


def _lines(entries: Iterable[Any]) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def _read(path: Path) -> list[Any]:
    # Not `splitlines`, which also splits at characters that a sentence may contain.
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def _checksum_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
