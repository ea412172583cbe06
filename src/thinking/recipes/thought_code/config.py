"""The config of discrete autoencoders, and its presets. Free of JAX."""

import dataclasses
from typing import Literal

from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import CosineConfig, SeedsConfig, TrainingConfig


@dataclasses.dataclass(frozen=True)
class CodeConfig:
    """Numbers, and the tokens that encode them."""

    num_values: int = option(64, "numbers to encode, from 0 on", minimum=2, maximum=2**20)
    length: int = option(2, "tokens of a code", minimum=1, maximum=1024)
    num_tokens: int = option(8, "different tokens", minimum=2, maximum=65_536)
    gradient: Literal["straight_through", "gumbel"] = option(
        "gumbel", "how gradients pass through the choice of a token"
    )

    def validate(self) -> None:
        """Raises UserError for more numbers than codes."""
        # 20 tokens have enough codes for any number of values; an exact count could have thousands of digits.
        if (num_codes := self.num_tokens ** min(self.length, 20)) < self.num_values:
            several = f"at most {num_codes}, the codes of --length {self.length} and --num-tokens {self.num_tokens}"
            raise field_error("num_values", several, suggestion=num_codes)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The encoder and the decoder."""

    width: int = option(64, "dimensions of the vectors in both of them", minimum=1, maximum=8192)


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Train autoencoders that pass a number through a few discrete tokens."""

    seeds: int = option(1, "models, with seeds --seed, --seed + 1, ...", affects_weights=False)
    code: CodeConfig = group(CodeConfig, "the numbers, and the tokens that encode them")
    model: ModelConfig = group(ModelConfig, "sizes of the encoder and the decoder")
    training: TrainingConfig = group(TrainingConfig(num_steps=3000), "steps and batch size of each model's training")
    optimizer: CosineConfig = group(
        CosineConfig(learning_rate=0.003), "AdamW, whose learning rate falls along a cosine"
    )


PRESETS = {
    "default": Preset(Config(), "64 numbers in codes of two tokens out of 8, of which there are just 64"),
    "quick": Preset(
        Config(code=CodeConfig(num_values=16, num_tokens=4), training=TrainingConfig(num_steps=1000)),
        "16 numbers through two of 4 tokens; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(
            code=CodeConfig(num_values=6, num_tokens=3),
            model=ModelConfig(width=16),
            training=TrainingConfig(num_steps=4, batch_size=16),
        ),
        "6 numbers, in seconds; nothing is learned",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/invent_code.py --seeds 3",
    "./run_manual.sh local tasks/invent_code.py --code.length 3",
)
