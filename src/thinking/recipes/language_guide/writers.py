"""Writing of plans by a model, with progress.

Axes: M vectors of nodes, D dimensions.
"""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from thinking.errors import UserError, name_flags
from thinking.progress import show_progress
from thinking.recipes.language_guide import plan_writing
from thinking.recipes.language_guide.configs.interpret import Config
from thinking.recipes.language_guide.plan_writing import WriteFn
from thinking.recipes.language_guide.servers import open_server, report_cached_answers
from thinking.text import huggingface
from thinking.text.matching_embedder import MINILM, open_matching_embedder
from thinking.text.openai_protocol import MAX_PARALLEL, make_openai_answer_fn, map_in_order
from thinking.text.plans import Plan
from thinking.text.prepared_data import PreparedData


def write_plans(
    config: Config, plans: Sequence[Plan], data: PreparedData, vectors: np.ndarray, cache_folder: Path
) -> tuple[list[str], list[str]]:
    """Write all plans: the first of each split and mode by the model, the others by the nearest sentences.

    Args:
        config: of the task.
        plans: to write.
        data: the prepared data of the guide.
        vectors: [M, D] of the plans' nodes.
        cache_folder: of a server's answers.

    Returns:
        For each plan its text, and the name of its writer.

    Raises:
        UserError: the model cannot be loaded, or cannot be steered.
    """
    texts = [plan_writing.write_nearest(plan) for plan in plans]
    writers = ["nearest known sentences"] * len(plans)
    kind = config.writer.kind
    if kind == "nearest":
        return texts, writers
    method = "steered" if kind == "steered" else "rewritten from the nearest sentences"
    indices = select_first_of_each(plans, config.writer.num_plans)
    with _open_writer(config, data, vectors, cache_folder) as write:
        new_texts = _write_all(write, [plans[index] for index in indices], MAX_PARALLEL if kind == "openai" else 1)
        for index, text in zip(indices, new_texts, strict=True):
            texts[index] = text
            writers[index] = f"{config.writer.model}, {method}"
    return texts, writers


def select_first_of_each(plans: Sequence[Plan], count: int) -> list[int]:
    """Indices of the first `count` plans of each split and mode."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    indices = []
    for index, plan in enumerate(plans):
        counts[plan.split, plan.mode] += 1
        if counts[plan.split, plan.mode] <= count:
            indices.append(index)
    return indices


def check_steerable(embedder_folder: Path | None, data: PreparedData, vectors: np.ndarray) -> None:
    """Check that the embedder runs locally and matches the vectors [M, D]: steering embeds text after every token.

    Raises:
        UserError: the embedder runs on a server, or the vectors are of other data.
    """
    is_local = embedder_folder or data.embedder == MINILM or data.embedder.startswith("hashed-")
    if not is_local:
        raise UserError(
            f"--writer.kind steered: the data were embedded by {data.embedder}, and a server cannot be asked about "
            "every word; give the folder of that embedder with --embedder.folder, or prepare the data with "
            "--embedder.kind minilm"
        )
    if (plan_dims := vectors.shape[1]) != (dims := data.step_vectors.shape[1]):
        raise UserError(
            f"the plans have {plan_dims} dimensions, and the data {dims}: run tasks/lm_guide_inference.py again"
        )


@contextlib.contextmanager
def _open_writer(config: Config, data: PreparedData, vectors: np.ndarray, cache_folder: Path) -> Iterator[WriteFn]:
    writer = config.writer
    if writer.kind == "openai":
        with open_server(config.server, cache_folder) as server, report_cached_answers(cache_folder):
            yield plan_writing.make_rewriter(
                make_openai_answer_fn(server, writer.model, temperature=writer.temperature)
            )
    elif writer.kind == "huggingface":
        yield plan_writing.make_rewriter(huggingface.make_answer_fn(huggingface.load(writer.model)))
    else:
        folder = config.embedder.folder
        check_steerable(folder, data, vectors)
        flags = name_flags(folder="--embedder.folder")
        with flags, open_matching_embedder(data, folder, lambda: open_server(config.server, cache_folder)) as embedder:
            yield plan_writing.make_steered_writer(huggingface.load(writer.model), embedder, vectors, writer.strength)


def _write_all(write: WriteFn, plans: Sequence[Plan], num_workers: int) -> Iterator[str]:
    """The plans as written by the model, in order, with progress."""
    words = 0
    with show_progress("writing", 0, len(plans), "words") as report_progress:
        for done, text in enumerate(map_in_order(write, plans, num_workers), start=1):
            words += len(text.split())
            report_progress(done, words)
            yield text
