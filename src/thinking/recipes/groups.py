"""Groups of settings that several tasks share. Free of JAX."""

import dataclasses
from collections.abc import Sequence

from thinking.errors import UserError
from thinking.experiment import RunConfig, check_seeds, field_error, option


@dataclasses.dataclass(frozen=True)
class SeedsConfig(RunConfig):
    """Flags of tasks that train several seeds."""

    seeds: int = option(1, "models of each kind, with seeds --seed, --seed + 1, ...", minimum=1, maximum=1024)

    def validate(self) -> None:
        """Raises UserError if the last seed exceeds the maximum."""
        check_seeds(self.seed, self.seeds)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer with a learning rate schedule."""

    learning_rate: float = option(0.001, "highest learning rate", above=0, maximum=10)


@dataclasses.dataclass(frozen=True)
class CosineConfig(OptimizerConfig):
    """An optimizer with cosine decay."""

    final_fraction: float = option(0.05, "final learning rate, as a share of the highest", minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length of training."""

    num_steps: int = option(1000, "training steps of each model", minimum=1, maximum=10**9)
    batch_size: int = option(512, "examples of a step", minimum=1, maximum=2**20)


@dataclasses.dataclass(frozen=True)
class WidthConfig:
    """Sizes of attention."""

    width: int = option(64, "embedding dimensions", minimum=4, maximum=8192)
    num_heads: int = option(4, "attention heads", minimum=1, maximum=128)

    def validate(self) -> None:
        """Raises UserError unless heads have an even size, which rotary positions need."""
        if self.width % (2 * self.num_heads):
            raise field_error("width", f"a multiple of twice --num-heads, {2 * self.num_heads}")


@dataclasses.dataclass(frozen=True)
class DecoderConfig(WidthConfig):
    """Sizes of a decoder."""

    num_layers: int = option(2, "transformer blocks", minimum=1, maximum=128)


@dataclasses.dataclass(frozen=True)
class CurriculumConfig:
    """Levels that are unlocked one after another."""

    enabled: bool = option(False, "unlock one level after another, as the one before is mastered")
    threshold: float = option(0.8, "success rate that unlocks the next level", above=0, maximum=1)


def check_environment_steps(flags: str, most: int) -> None:
    """Raises UserError for more environment steps than their counter, of 32 bits, can count."""
    if most >= 2**31:
        raise UserError(f"{flags}: up to {most} environment steps: allowed are {2**31 - 1}; give fewer of one of these")


def check_names(values: Sequence[str], flag: str, choices: Sequence[str]) -> None:
    """Raises UserError unless at least one choice is named, and each once."""
    if not values or len(set(values)) < len(values):
        raise UserError(f"{' '.join([flag, *values])}: name at least one of {', '.join(choices)}, each once")
