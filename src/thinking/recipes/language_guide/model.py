"""The guide over sentence embeddings: kernels of its layers, codecs, saving and loading.

A guide is a hierarchical goal-conditioned planner. Each of its layers is learned by a kernel, a triple of pure
functions (init, fit, infer). A model's folder has guide.json (its shape and the checksum of its data),
codecs.safetensors, and checkpoints.

Axes: W steps, D dimensions of a vector, K of a code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
import optax
import pydantic
from typing_extensions import TypedDict

from thinking.errors import UserError
from thinking.files import parse_json, write_atomic, write_json
from thinking.guide.plan_trees.codecs import (
    Codec,
    Whitening,
    concat_target_space,
    token_codec,
    whitening,
    whitening_codec,
)
from thinking.guide.plan_trees.plan_guide import PlanGuide, plan_guide
from thinking.guide.plan_trees.training_data import PlanTree, SubTrajectory, to_sub_trajectories
from thinking.kernels import linear, table, transformer
from thinking.kernels.contract import Kernel
from thinking.learning.optimizers import adamw
from thinking.text import clusters
from thinking.text import plan_trees as text_plan_trees
from thinking.text.embedders import normalize
from thinking.text.prepared_data import PreparedData
from thinking.train_state import RunnerState
from thinking.types import Space

KernelName = Literal["transformer", "linear", "table"]
FittedCodec = Whitening | clusters.Codebook
TRAIN_FIRST = "run tasks/lm_guide_train.py first"
TRAIN_AGAIN = "run tasks/lm_guide_train.py --clear, then again"
ZERO_SCHEDULE = optax.constant_schedule(0.0)


class GuideShape(NamedTuple):
    """The architecture of a guide.

    Attributes:
        context_lengths: context items of each layer, the lowest first.
        kernel: of all layers.
        width: of the lowest layer: width of a transformer, cells of a linear memory, or capacity of a table.
        upper_width: the same of the other layers.
        num_heads: attention heads of a transformer.
        num_layers: blocks of a transformer.
        num_slots: hypotheses per query of a transformer or a linear memory.
    """

    context_lengths: tuple[int, ...]
    kernel: KernelName
    width: int
    upper_width: int
    num_heads: int
    num_layers: int
    num_slots: int


class _SavedShape(TypedDict):
    """guide.json: a `GuideShape`, and the checksum of the data."""

    data: str
    context_lengths: list[pydantic.PositiveInt]
    kernel: KernelName
    width: pydantic.PositiveInt
    upper_width: pydantic.PositiveInt
    num_heads: pydantic.PositiveInt
    num_layers: pydantic.PositiveInt
    num_slots: pydantic.PositiveInt


def compute_checksum(prepared: PreparedData) -> str:
    """The checksums of all prepared files."""
    return " ".join(prepared.manifest["sha256"].values())


def number_steps(entries: text_plan_trees.TextPlanTree, step_ids: Mapping[str, int]) -> PlanTree:
    """A plan tree with step ids in place of steps, without headings."""
    return tuple(step_ids[e] if isinstance(e, str) else number_steps(e.children, step_ids) for e in entries)


def make_sub_trajectories(prepared: PreparedData, num_layers: int) -> list[list[SubTrajectory]]:
    """The sub-trajectories of each layer in all training texts, the lowest first."""
    step_ids = {step: index for index, step in enumerate(prepared.steps)}
    goal_ids = {goal: index for index, goal in enumerate(prepared.goals)}
    texts = [text for text in prepared.texts if text.split == "train"]
    plan_trees = [number_steps(text_plan_trees.build_plan_tree(text, num_layers), step_ids) for text in texts]
    goals = prepared.goal_vectors[[goal_ids[text.goal] for text in texts]]
    return to_sub_trajectories(plan_trees, goals, prepared.step_vectors, num_layers)


def fit_codecs(
    sub_trajectories: Sequence[Sequence[SubTrajectory]],
    *,
    kind: Literal["whitened", "tokens"],
    dims: int,
    average_dims: int,
    goal_dims: int,
    seed: int,
) -> list[FittedCodec]:
    """Fit the codec of each layer's values, and of the goals.

    Args:
        sub_trajectories: of each layer, the lowest first.
        kind: whitening, or tokens by k-means.
        dims: dimensions of codes of steps, or number of clusters.
        average_dims: the same for sub-goals, which are averages of steps.
        goal_dims: the same for goals.
        seed: of k-means.

    Raises:
        UserError: if all vectors of a level are the same.
    """
    levels = [np.concatenate([sub_trajectory.values for sub_trajectory in level]) for level in sub_trajectories]
    levels.append(np.stack([sub_trajectory.target for sub_trajectory in sub_trajectories[-1]]))
    fitted: list[FittedCodec] = []
    for level, vectors in enumerate(levels):
        vectors = normalize(vectors) if kind == "tokens" else vectors
        num_distinct = len(np.unique(vectors, axis=0))
        if num_distinct < 2:
            kind_of_vector = "goal" if level == len(sub_trajectories) else "value"
            raise UserError(
                f"level {level} of the plan trees has one {kind_of_vector} alone; give more texts, or fewer "
                "--layers.context-lengths"
            )
        size = dims if level == 0 else average_dims if level < len(sub_trajectories) else goal_dims
        if kind == "tokens":
            fitted.append(clusters.fit_codebook(vectors, min(size, num_distinct), seed))
        else:
            fitted.append(whitening(vectors, size))
    return fitted


def make_codec(fitted_codec: FittedCodec) -> Codec:
    """The codec of a fitted whitening or codebook."""
    return whitening_codec(fitted_codec) if isinstance(fitted_codec, Whitening) else token_codec(fitted_codec.centroids)


def build_guide(
    shape: GuideShape,
    codecs: Sequence[Codec],
    schedule: optax.Schedule = ZERO_SCHEDULE,
    weight_decay: float = 0.0,
) -> PlanGuide:
    """Build the guide; for inference the default schedule will do.

    Raises:
        UserError: if the kernel does not support the codes.
    """
    optimizer = adamw(schedule, weight_decay=weight_decay, b2=0.98)
    layers = [
        _kernel(shape, level, codecs[level].space, concat_target_space(codecs[level + 1 :]), optimizer)
        for level in range(len(shape.context_lengths))
    ]
    return plan_guide(layers=layers, codecs=codecs)


def _kernel(
    shape: GuideShape, level: int, space: Space, target: Space, optimizer: optax.GradientTransformation
) -> Kernel:
    spaces = {"input": space, "value": space, "target": target, "context_length": shape.context_lengths[level]}
    width = shape.width if level == 0 else shape.upper_width
    if shape.kernel == "table":
        try:
            return table(**spaces, capacity=width)
        except ValueError as error:
            raise UserError(f"--layers.kernel table: {error}; or give --codes.kind tokens") from None
    if shape.kernel == "linear":
        return linear(**spaces, optimizer=optimizer, num_cells=width, num_slots=shape.num_slots)
    sizes = {"width": width, "num_heads": shape.num_heads, "num_blocks": shape.num_layers, "num_slots": shape.num_slots}
    return transformer(**spaces, optimizer=optimizer, **sizes)


def count_parameters(guide: PlanGuide) -> int:
    """Number of trainable parameters of all layers."""
    states = jax.eval_shape(guide.init, jax.random.key(0))
    params = [state.train_state.params if isinstance(state, RunnerState) else state for state in states]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def save_guide(folder: Path, shape: GuideShape, fitted: Sequence[FittedCodec], data: str) -> None:
    """Save the architecture of a guide; its parameters are in its checkpoints.

    Args:
        folder: of the model.
        shape: of the guide.
        fitted: its codecs.
        data: checksum of its training data.
    """
    from safetensors.numpy import save as save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{level}.{name}": np.ascontiguousarray(array)
        for level, each in enumerate(fitted)
        for name, array in each._asdict().items()
    }
    write_atomic(folder / "codecs.safetensors", save_tensors(arrays))
    write_json(folder / "guide.json", {"data": data, **shape._asdict()})


def load_guide(folder: Path, data: str) -> tuple[GuideShape, list[FittedCodec]]:
    """Load the architecture of a guide.

    Raises:
        UserError: there is none, it was trained on other data, or a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    try:
        saved = parse_json((folder / "guide.json").read_bytes(), _SavedShape)
        arrays = load_tensors((folder / "codecs.safetensors").read_bytes())
        saved_data = saved.pop("data")
        shape = GuideShape(**saved | {"context_lengths": tuple(saved["context_lengths"])})
        fitted = [_read_codec(arrays, level) for level in range(len(shape.context_lengths) + 1)]
    except FileNotFoundError:
        raise UserError(f"{folder} has no trained guide: {TRAIN_FIRST}") from None
    except (ValueError, KeyError, IsADirectoryError, SafetensorError):
        raise UserError(f"{folder} is damaged or edited: {TRAIN_AGAIN}") from None
    if saved_data != data:
        raise UserError(f"{folder} learned from other data than is prepared now: {TRAIN_FIRST}")
    return shape, fitted


def _read_codec(arrays: Mapping[str, np.ndarray], level: int) -> FittedCodec:
    kind = Whitening if f"{level}.mean" in arrays else clusters.Codebook
    return kind(*(arrays[f"{level}.{name}"] for name in kind._fields))
