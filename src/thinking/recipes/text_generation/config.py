"""The config of generating a target text by rewards alone, and its presets. Free of JAX."""

import dataclasses
from typing import Literal

from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import (
    CurriculumConfig,
    DecoderConfig,
    OptimizerConfig,
    SeedsConfig,
    check_environment_steps,
    check_names,
)

Reward = Literal["outcome", "process"]
REWARDS: tuple[Reward, ...] = ("outcome", "process")

LETTERS = "abcdefghijklmnopqrstuvwxyz .,'-"
LONGEST = 200
"""Maximum letters of a target."""


@dataclasses.dataclass(frozen=True)
class RLConfig:
    """REINFORCE over the letters of texts."""

    num_updates: int = option(1000, "updates", minimum=1, maximum=10**9)
    batch_size: int = option(64, "texts of an update", minimum=1, maximum=65_536)
    entropy_weight: float = option(0.3, "weight of the entropy bonus", minimum=0)
    entropy_ceiling: float = option(0.3, "mean entropy above which there is no bonus, in nats", minimum=0)
    discount: float = option(0.5, "discount factor of process rewards, for each letter", minimum=0, maximum=1)
    optimizer: OptimizerConfig = group(OptimizerConfig, "AdamW, whose learning rate falls to 0 in the second half")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation of the policy during training."""

    beam_width: int = option(
        8, "texts of a beam search; pass@k is whether any of these k is right", minimum=1, maximum=4096
    )


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Teach a decoder to write a text by rewards alone."""

    seeds: int = option(
        1, "models of each reward, with seeds --seed, --seed + 1, ...", minimum=1, maximum=1024, affects_weights=False
    )
    target: str = option("thinking takes steps", "the text to write: lower-case letters, spaces and . , ' -")
    rewards: tuple[Reward, ...] = option(
        REWARDS,
        "how right letters are rewarded, a model for each: outcome (all in the end), process (each at once)",
        affects_weights=False,
    )
    model: DecoderConfig = group(DecoderConfig(num_layers=1), "sizes of the decoder")
    curriculum: CurriculumConfig = group(CurriculumConfig(threshold=0.5), "longer and longer parts of the target")
    rl: RLConfig = group(RLConfig, "REINFORCE on the rewards of texts")
    eval: EvalConfig = group(EvalConfig, "evaluation of the policy, greedily and by a beam")

    def validate(self) -> None:
        """Raises UserError for an invalid target, seeds or rewards, and for too many environment steps."""
        super().validate()
        check_names(self.rewards, "--rewards", REWARDS)
        if not 1 <= len(self.target) <= LONGEST:
            raise field_error("target", f"a text of 1 to {LONGEST} letters", suggestion="'thinking takes steps'")
        steps = self.rl.num_updates * self.rl.batch_size * (len(self.target) + 1)
        check_environment_steps("--rl.num-updates, --rl.batch-size", steps)
        if strange := sorted(set(self.target) - set(LETTERS)):
            raise field_error("target", f"a text of {LETTERS!r}, which has no {strange[0]!r}")


PRESETS = {
    "default": Preset(Config(), "all of the target at once, for both rewards"),
    "curriculum": Preset(Config(curriculum=CurriculumConfig(True, 0.5)), "longer and longer parts of the target"),
    "quick": Preset(Config(target="think", rl=RLConfig(num_updates=300)), "a word; less than a minute on two cores"),
    "smoke": Preset(
        Config(
            target="abc",
            model=DecoderConfig(width=16, num_heads=2, num_layers=1),
            curriculum=CurriculumConfig(True, 0.5),
            rl=RLConfig(num_updates=20, batch_size=8),
            eval=EvalConfig(beam_width=2),
        ),
        "everything once, in seconds",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/text_generation.py --seeds 3",
    "./run_manual.sh local tasks/text_generation.py --target 'hello world' --rewards process",
)
