"""Config of lm_guide_train: codes, layers and training of the guide."""

import dataclasses
from pathlib import Path
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, RunConfig, field_error, group, option
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.language_guide.configs.shared import find_input

MAX_TRANSFORMER_WIDTH = 8192


@dataclasses.dataclass(frozen=True)
class CodesConfig:
    """Codes of sentence vectors, as the layers use them."""

    kind: Literal["whitened", "tokens"] = option(
        "whitened", "vectors become whitened vectors by a linear transformation, or tokens by k-means"
    )
    step_dims: int = option(96, "dimensions of whitened steps, or different tokens of steps", minimum=1, maximum=65536)
    sub_goal_dims: int = option(
        32,
        "dimensions of whitened sub-goals, which are averages of steps, or different tokens of them",
        minimum=1,
        maximum=65536,
    )
    goal_dims: int = option(128, "dimensions of whitened goals, or different tokens of goals", minimum=1, maximum=65536)


@dataclasses.dataclass(frozen=True)
class LayersConfig:
    """The layers of the guide."""

    kernel: Literal["transformer", "linear", "table"] = option("transformer", "learner (kernel) of all layers")
    context_lengths: tuple[int, ...] = option(
        (4, 2, 1), "items that each layer recalls, the lowest first; one for each layer", minimum=1, maximum=4096
    )
    width: int = option(
        272,
        "lowest layer: dimensions of a transformer, cells of a linear memory, or queries that a table holds",
        minimum=1,
        maximum=2**24,
    )
    upper_width: int = option(
        144,
        "dimensions, cells or queries of the layers above, which have fewer examples",
        minimum=1,
        maximum=2**24,
    )
    num_slots: int = option(1, "hypotheses per query of a transformer or a linear memory", minimum=1, maximum=1024)

    def validate(self) -> None:
        """Raises UserError if there is no layer."""
        if not self.context_lengths:
            raise field_error("context_lengths", "a whole number from 1 to 4096 for each layer", suggestion=(4, 2, 1))


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the transformer of each layer, beside its width."""

    num_heads: int = option(4, "attention heads", minimum=1, maximum=128)
    num_layers: int = option(1, "transformer blocks in each layer of the guide", minimum=1, maximum=128)


@dataclasses.dataclass(frozen=True)
class AdamWConfig(OptimizerConfig):
    """AdamW, whose learning rate falls to a hundredth along a cosine."""

    weight_decay: float = option(0.3, "weight decay of matrices", minimum=0, maximum=1000)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Training examples, noise and steps."""

    num_steps: int = option(2000, "training steps", minimum=1, maximum=10**9)
    batch_size: int = option(256, "examples of each layer in a step", minimum=1, maximum=2**20)
    sub_goal_noise: float = option(
        0.3, "standard deviation of the noise on codes of sub-goals", minimum=0, maximum=1000
    )
    goal_noise: float = option(0.3, "standard deviation of the noise on codes of goals", minimum=0, maximum=1000)
    num_pairs: int = option(
        3,
        "joined pairs of texts of different goals, added for each text; the top layer learns to pursue both goals",
        minimum=0,
        maximum=10**4,
    )


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Train a hierarchical guide to plan in sentence embeddings."""

    flat_baseline: bool = option(
        True, "also train a flat guide of as many parameters, as a baseline", affects_weights=False
    )
    codes: CodesConfig = group(CodesConfig, "how sentence vectors are encoded for the layers")
    layers: LayersConfig = group(LayersConfig, "kernel, context and sizes of the guide's layers")
    transformer: TransformerConfig = group(TransformerConfig, "heads and blocks of transformer layers")
    optimizer: AdamWConfig = group(
        AdamWConfig(learning_rate=0.002), "AdamW, whose learning rate falls to a hundredth along a cosine"
    )
    training: TrainingConfig = group(TrainingConfig, "training examples, noise and steps")

    def list_inputs(self) -> dict[str, Path]:
        """The prepared texts and their vectors."""
        folder = find_input(self.artifacts, "lm_data_prepare")
        return {file: folder / file for file in ("texts.jsonl", "steps.jsonl", "embeddings.safetensors")}

    def validate(self) -> None:
        """Raises UserError for a width that heads cannot divide, and for tables of vectors."""
        unit = 2 * self.transformer.num_heads
        for name in ("width", "upper_width") if self.layers.kernel == "transformer" else ():
            width = getattr(self.layers, name)
            if width % unit or width > MAX_TRANSFORMER_WIDTH:
                several = f"a multiple of twice --transformer.num-heads, {unit}"
                raise field_error(f"layers.{name}", f"{several}, up to {MAX_TRANSFORMER_WIDTH}")
        if self.layers.kernel == "table" and self.codes.kind != "tokens":
            raise UserError("--layers.kernel table: a table stores tokens only; give --codes.kind tokens")


_TOKENS = CodesConfig("tokens", step_dims=1024, sub_goal_dims=1024, goal_dims=512)
PRESETS = {
    "default": Preset(Config(), "transformers over whitened vectors, as in docs/results/planning_in_meaning.md"),
    "tokens": Preset(Config(codes=_TOKENS), "transformers over tokens"),
    "linear": Preset(
        Config(layers=LayersConfig("linear", width=2048, upper_width=2048), optimizer=AdamWConfig(learning_rate=0.01)),
        "linear memories over whitened vectors",
    ),
    "table": Preset(
        Config(
            codes=_TOKENS,
            layers=LayersConfig("table", width=2**20, upper_width=2**20),
            training=TrainingConfig(num_steps=600, num_pairs=0),
        ),
        "tables over tokens",
    ),
    "quick": Preset(
        Config(
            flat_baseline=False,
            layers=LayersConfig(width=128, upper_width=96),
            optimizer=AdamWConfig(learning_rate=0.003),
            training=TrainingConfig(num_steps=500, batch_size=128, num_pairs=1),
        ),
        "small transformers and no baseline; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(
            codes=CodesConfig(step_dims=16, sub_goal_dims=16, goal_dims=16),
            layers=LayersConfig(width=16, upper_width=16),
            training=TrainingConfig(num_steps=20, batch_size=32, num_pairs=1),
        ),
        "tiny transformers, in seconds",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_guide_train.py",
    "./run_manual.sh local tasks/lm_guide_train.py --preset table",
    "./run_manual.sh local tasks/lm_guide_train.py --layers.context-lengths 8 4 --layers.width 320 --no-flat-baseline",
)
