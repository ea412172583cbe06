"""Training of the guide, and of a flat baseline, on the plan trees of the training texts."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import jax

from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.guide.plan_trees.codecs import Codec
from thinking.guide.plan_trees.training_data import add_pairs, make_examples, sample_examples
from thinking.learning.optimizers import warmup_cosine
from thinking.recipes.language_guide import model
from thinking.recipes.language_guide.configs.train import Config
from thinking.recipes.language_guide.model import GuideShape
from thinking.text.prepared_data import PreparedData

CHUNK = 50
"""Training steps of a chunk."""


def make_shape(config: Config) -> GuideShape:
    """The architecture of the config's guide."""
    layers, transformer = config.layers, config.transformer
    return GuideShape(
        context_lengths=layers.context_lengths,
        kernel=layers.kernel,
        width=layers.width,
        upper_width=layers.upper_width,
        num_heads=transformer.num_heads,
        num_layers=transformer.num_layers,
        num_slots=layers.num_slots,
    )


def train_guide(
    config: Config, run: Run, name: str, data: PreparedData, num_flat_parameters: int | None = None
) -> tuple[TrainResult, dict[str, Any]]:
    """Train and save one guide.

    Args:
        config: of the task.
        run: of the task; the guide is saved in its folder, under its name.
        name: of the guide.
        data: the prepared data.
        num_flat_parameters: None: the config's layers. Otherwise one layer with about so many parameters.

    Returns:
        The training result, and a row of results.
    """
    shape, training = make_shape(config), config.training
    num_layers = len(shape.context_lengths) if num_flat_parameters is None else 1
    sub_trajectories = model.make_sub_trajectories(data, num_layers)
    codes = config.codes
    dims = {"dims": codes.step_dims, "average_dims": codes.sub_goal_dims, "goal_dims": codes.goal_dims}
    fitted = model.fit_codecs(sub_trajectories, kind=codes.kind, seed=config.seed, **dims)
    codecs = list(map(model.make_codec, fitted))
    if num_flat_parameters is not None:
        shape = make_flat_shape(shape, codecs, num_flat_parameters)
    model.save_guide(run.folder / name, shape, fitted, model.compute_checksum(data))

    sub_trajectories[-1] = add_pairs(sub_trajectories[-1], training.num_pairs, config.seed)
    examples = make_examples(sub_trajectories, codecs, shape.context_lengths)
    num_steps, optimizer = training.num_steps, config.optimizer
    schedule = warmup_cosine(optimizer.learning_rate, num_steps, min(50, num_steps // 10), 0.01)
    guide = model.build_guide(shape, codecs, schedule, optimizer.weight_decay)
    noises = [training.sub_goal_noise] * (num_layers - 1) + [training.goal_noise]
    key = jax.random.key(config.seed)

    def step(state: Any, index: jax.Array) -> tuple[Any, Any]:
        batch = sample_examples(guide, state, examples, jax.random.fold_in(key, index), training.batch_size, noises)
        return guide.fit(state, batch)

    progress_metric = "layer_0/num_written" if shape.kernel == "table" else "layer_0/loss/value"
    result = train(
        run,
        name,
        init=lambda: jax.jit(guide.init)(key),
        step=step,
        num_steps=num_steps,
        chunk_size=CHUNK,
        progress_metric=progress_metric,
    )
    return result, {
        "model": name,
        "num_layers": num_layers,
        "num_parameters": model.count_parameters(guide),
        "num_examples": sum(len(level.value) for level in examples),
        "train_seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
    }


def make_flat_shape(shape: GuideShape, codecs: Sequence[Codec], num_parameters: int) -> GuideShape:
    """A single layer with at least `num_parameters` parameters, as narrow as possible.

    Args:
        shape: of the guide.
        codecs: of steps and of goals.
        num_parameters: of the guide, all layers together.
    """

    def with_width(width: int) -> GuideShape:
        return shape._replace(context_lengths=shape.context_lengths[:1], width=width)

    if shape.kernel == "table":
        return with_width(shape.width)
    width_step = 2 * shape.num_heads if shape.kernel == "transformer" else 1
    # A cell reads each context item, so long contexts of upper layers need more than L times the width.
    max_width = sum(length + 1 for length in shape.context_lengths) * max(shape.width, shape.upper_width)
    widths = range(shape.width, max_width + 1, width_step)
    index = bisect_left(
        widths, num_parameters, key=lambda width: model.count_parameters(model.build_guide(with_width(width), codecs))
    )
    return with_width(widths[min(index, len(widths) - 1)])
