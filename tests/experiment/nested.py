"""A config with nested groups, for the tests of flags."""

import dataclasses
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from thinking.experiment import Preset, RunConfig, check_seeds, field_error, group, option


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Options of the optimizer."""

    learning_rate: float = option(0.003, "highest learning rate", above=0)
    betas: tuple[float, float] = option((0.9, 0.99), "what a step leaves of the averages", minimum=0, below=1)


@dataclasses.dataclass(frozen=True)
class Model:
    """Options of the decoder."""

    width: int = option(64, "dimensions", minimum=1, maximum=16384)
    heads: int = option(4, "attention heads", minimum=1)
    gated: bool = option(True, "whether blocks are gated")
    kinds: tuple[Literal["table", "linear"], ...] = option(("table",), "kinds of layers")

    def validate(self) -> None:
        if self.width % (2 * self.heads):
            raise field_error("width", f"a multiple of twice --heads, {2 * self.heads}; or give --no-gated")
        if self.width == 8192:
            raise ValueError("too wide for this machine")


@dataclasses.dataclass(frozen=True)
class Training:
    """Options of a training stage."""

    steps: int = option(100, "steps", minimum=1)
    warmup: int | None = option(None, "steps before the highest rate; None: a tenth", minimum=0)
    contexts: tuple[int, ...] = option((4, 2), "items that each layer recalls", minimum=1, maximum=64)
    replay: bool = option(False, "whether examples come again")
    optimizer: Optimizer = group(Optimizer, "how weights are changed")

    def validate(self) -> None:
        if self.warmup is not None and self.warmup > self.steps:
            raise ValueError(f"--warmup {self.warmup}: allowed is a whole number from 0 to --steps, {self.steps}")
        if self.steps == 13:
            raise field_error("optimizer.learning_rate", "anything but this with --steps 13", suggestion=0.1)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Options of the evaluation."""

    num_problems: int = option(1000, "problems examined", minimum=1)
    share: float | None = option(None, "share of them asked in words", minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Learn with groups."""

    seeds: int = option(1, "models, with seeds --seed, --seed + 1, ...", minimum=1, maximum=64)
    chat: FlagCreatePairsOff[bool] = option(False, "answer typed problems", affects_weights=False)
    model: Model = group(Model, "the decoder")
    sft: Training = group(Training, "learning from examples")
    rl: Training = group(
        Training(steps=7, optimizer=Optimizer(learning_rate=0.1)), "learning from rewards, 100 % by trial"
    )
    eval: Evaluation = group(Evaluation, "held-out problems", affects_weights=False)

    def validate(self) -> None:
        check_seeds(self.seed, self.seeds)
        if self.rl.steps > 10 * self.sft.steps:
            raise field_error("rl.steps", "ten times --sft.steps at most", suggestion=7)
        if self.model.width == 6000:
            raise ValueError("--model.width 6000: nobody has that")


PRESETS = {
    "default": Preset(Config(), "what the figures show"),
    "smoke": Preset(Config(model=Model(width=16, heads=2)), "seconds only"),
    "bare": Config(seeds=2),
}
EXAMPLES = ("python tasks/nested.py --preset smoke", "python tasks/nested.py --model.width 32")
