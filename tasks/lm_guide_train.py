"""Teach the language guide: how steps lead to a sub-goal, and sub-goals to a goal, all of them sentence embeddings.

Three layers learn from the outlines that lm_data_prepare left: the lowest what is done next, those above which sub-goal
comes next, each pursuing what the layer above it says. A flat guide of one layer and as many parameters learns the same
texts, to show what the hierarchy buys.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from thinking.experiment.training import Trained
    from thinking.guide.outlines.codecs import Codec
    from thinking.recipes.language_guide.model import Shape
    from thinking.text.prepared import Prepared


LOOK_EVERY = 50  # steps between two looks at the losses


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach a hierarchical guide to plan in sentence embeddings."""

    contexts: tuple[int, ...] = option((4, 2, 1), "items that each layer recalls, the lowest first; one for each layer")
    kernel: Literal["transformer", "linear", "table"] = option("transformer", "kernel of all layers")
    codes: Literal["whitened", "tokens"] = option(
        "whitened", "what a layer sees of a vector: a linear transformation of it, or its token by k-means"
    )
    dims: int = option(96, "dimensions of codes, or kinds of tokens, of steps")
    average_dims: int = option(32, "the same of the averages of steps, which differ in fewer directions")
    goal_dims: int = option(128, "the same of goals")
    width: int = option(
        272, "of the lowest layer: dimensions of a transformer, cells of a linear memory, questions that a table holds"
    )
    upper_width: int = option(144, "the same of the layers above, which learn less")
    heads: int = option(4, "attention heads of a transformer")
    blocks: int = option(1, "blocks of a transformer")
    slots: int = option(1, "hypotheses per question of a transformer or a linear memory")
    flat: bool = option(True, "teach a flat guide of as many parameters beside it", affects_weights=False)
    steps: int = option(2000, "training steps")
    rows: int = option(256, "lessons of each layer in a step")
    learning_rate: float = option(0.002, "highest learning rate, falling to a hundredth as a cosine")
    weight_decay: float = option(0.3, "the share of a matrix that a step at rate 1 would take away")
    noise: float = option(0.3, "standard deviation of what is added to codes of sub-goals, in learning")
    goal_noise: float = option(0.3, "the same of goals")
    pairs: int = option(3, "pairs of texts in a row, for each text, that the top layer learns to pursue as one goal")

    def validate(self) -> None:
        """Raises UserError for values that no guide can have."""
        if not self.contexts or min(self.contexts) < 1:
            raise UserError(
                f"--contexts {' '.join(map(str, self.contexts))}: allowed are whole numbers from 1; take 4 2 1"
            )
        for name in (
            "dims",
            "average_dims",
            "goal_dims",
            "width",
            "upper_width",
            "heads",
            "blocks",
            "slots",
            "steps",
            "rows",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: allowed is a whole number from 1")
        for name in ("pairs", "weight_decay", "noise", "goal_noise"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: allowed are numbers from 0")
        if not self.learning_rate > 0:
            raise UserError(f"--learning-rate {self.learning_rate}: allowed is a number above 0; take 0.002")
        for name in ("width", "upper_width") if self.kernel == "transformer" else ():
            if (width := getattr(self, name)) % (2 * self.heads):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} {width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if self.kernel == "table" and self.codes != "tokens":
            raise UserError("--kernel table: it holds no vectors; give --codes tokens")


TOKENS = {"dims": 1024, "average_dims": 1024, "goal_dims": 512}
PRESETS = {
    "default": Config(),
    "tokens": Config(codes="tokens", **TOKENS),
    "linear": Config(kernel="linear", width=2048, upper_width=2048, learning_rate=0.01),
    "table": Config(kernel="table", codes="tokens", **TOKENS, width=2**20, upper_width=2**20, steps=600, pairs=0),
    "smoke": Config(width=16, upper_width=16, dims=16, average_dims=16, goal_dims=16, steps=20, rows=32, pairs=1),
}


def run(config: Config, run: Run) -> None:
    """Train the guide and its flat rival, and write what they are built of."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide import model
    from thinking.text import prepared

    data = prepared.load(config.artifacts / "lm_data_prepare")
    if (run.folder / "guide" / "guide.json").exists():
        model.load(run.folder / "guide", model.checksum(data))  # which refuses other data
    widths = config.width, config.upper_width
    shape = model.Shape(config.contexts, config.kernel, *widths, config.heads, config.blocks, config.slots)
    trained, rows = {}, []
    for name in ("guide", "flat") if config.flat and len(config.contexts) > 1 else ("guide",):
        trained[name], row = teach(config, run, name, shape, data, rows[0]["parameters"] if rows else None)
        rows.append(row)
    plots.learning_curves(run, [f"value_loss/{layer}" for layer in range(len(config.contexts))])
    states = {name: stage.state for name, stage in trained.items()}
    write_results(run, rows, states)
    run.log(f"saved in {run.folder}; python tasks/lm_guide_inference.py plans with it")


def teach(
    config: Config, run: Run, name: str, shape: Shape, data: Prepared, flat: int | None
) -> tuple[Trained, dict[str, Any]]:
    """Train one guide on the outlines of all texts of training; returns what came of it, and its row.

    Args:
        config: of the task.
        run: of the task.
        name: of the guide.
        shape: of the guide.
        data: what is learned from.
        flat: the parameters of a guide of one layer; None for one of that shape.
    """
    import jax

    from thinking.experiment.training import train
    from thinking.guide.outlines.training_data import draw, lessons, paired
    from thinking.learning.optimizers import warmup_cosine
    from thinking.recipes.language_guide import model

    layers = len(shape.contexts) if flat is None else 1
    legs = model.legs_to_learn(data, layers)
    sizes = {"dims": config.dims, "average_dims": config.average_dims, "goal_dims": config.goal_dims}
    fitted = model.fit_codecs(legs, kind=config.codes, seed=config.seed, **sizes)
    codecs = list(map(model.codec_of, fitted))
    if flat is not None:
        shape = flattened(shape, codecs, flat)
    model.save(run.folder / name, shape, fitted, model.checksum(data))

    legs[-1] = paired(legs[-1], config.pairs, config.seed)
    taught = lessons(legs, codecs, shape.contexts)
    schedule = warmup_cosine(config.learning_rate, config.steps, min(50, config.steps // 10), 0.01)
    guide = model.build(shape, codecs, schedule, config.weight_decay)
    noises = [config.noise] * (layers - 1) + [config.goal_noise]
    key = jax.random.key(config.seed)

    def step(state: Any, index: jax.Array) -> tuple[Any, Any]:
        drawn = draw(guide, state, taught, jax.random.fold_in(key, index), config.rows, noises)
        return guide.fit(state, drawn)

    watch = "written/0" if config.kernel == "table" else "value_loss/0"
    stage = train(
        run, name, init=lambda: jax.jit(guide.init)(key), step=step, steps=config.steps, chunk=LOOK_EVERY, watch=watch
    )
    return stage, {
        "model": name,
        "layers": layers,
        "parameters": model.parameters(guide),
        "lessons": sum(len(level.value) for level in taught),
        "train_seconds": stage.seconds,
        "compile_seconds": stage.compile_seconds,
    }


def flattened(shape: Shape, codecs: list[Codec], wanted: int) -> Shape:
    """One layer, as wide as makes about as many parameters as the guide has."""
    from bisect import bisect_left

    from thinking.recipes.language_guide import model

    def wide(width: int) -> Shape:
        return shape._replace(contexts=shape.contexts[:1], width=width)

    if shape.kernel == "table":
        return wide(shape.width)
    unit = 2 * shape.heads if shape.kernel == "transformer" else 1
    # A cell reads each item of a context, so a guide of long contexts above the lowest is worth more than L layers.
    most = sum(length + 1 for length in shape.contexts) * max(shape.width, shape.upper_width)
    widths = range(shape.width, most + 1, unit)
    found = bisect_left(widths, wanted, key=lambda width: model.parameters(model.build(wide(width), codecs)))
    return wide(widths[min(found, len(widths) - 1)])


if __name__ == "__main__":
    main("lm_guide_train", run, PRESETS)
