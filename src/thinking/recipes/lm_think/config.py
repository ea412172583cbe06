"""The config of thoughts before real text, and its presets. Free of JAX."""

import dataclasses
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, group, option
from thinking.recipes.groups import DecoderConfig, OptimizerConfig, SeedsConfig, check_names

Kind = Literal["plain", "pause", "judged", "supervised"]
KINDS: tuple[Kind, ...] = ("plain", "pause", "judged", "supervised")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The text that is read."""

    source: str = option("python", "python (its own documentation), a UTF-8 file, or hf:NAME[:COLUMN] of Hugging Face")
    num_characters: int = option(
        2_000_000, "characters of the text at most; the last tenth is held out", minimum=1, maximum=10**10
    )
    bpe_tokens: int | None = option(None, "tokens of a byte-level BPE; None: bytes", minimum=257, maximum=65_536)


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """What a window of the text holds."""

    context_length: int = option(32, "tokens that are read before a thought", minimum=2, maximum=65_536)
    target_length: int = option(
        4, "tokens that follow a thought; 1: a thought before each next token", minimum=1, maximum=65_536
    )


@dataclasses.dataclass(frozen=True)
class ThoughtConfig:
    """What a thought may be."""

    length: int = option(4, "tokens of a thought; of a supervised one, at most", minimum=1, maximum=65_536)
    num_tokens: int = option(8, "tokens to think in", minimum=1, maximum=65_536)


@dataclasses.dataclass(frozen=True)
class RLConfig:
    """How thoughts are rewarded."""

    num_generations: int = option(
        4,
        "thoughts of each window, judged and supervised; 1: judged ones are compared with the reference alone",
        minimum=1,
        maximum=4096,
    )
    entropy_weight: float = option(0.01, "weight of the entropy bonus of judged thoughts", minimum=0)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long models learn, and how fast."""

    reference_steps: int = option(4000, "training steps of the reference", minimum=1, maximum=10**9)
    num_steps: int = option(800, "training steps of each model from there", minimum=1, maximum=10**9)
    batch_size: int = option(32, "windows of a step", minimum=1, maximum=2**20)
    optimizer: OptimizerConfig = group(OptimizerConfig(learning_rate=0.002), "AdamW, its rate falling as a cosine")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on held-out text."""

    num_windows: int = option(4000, "held-out windows", minimum=1, maximum=10**7)


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Teach small language models to think before the next tokens of real text."""

    seeds: int = option(
        1, "models of each kind, of seeds from --seed on", minimum=1, maximum=1024, affects_weights=False
    )
    thoughts: tuple[Kind, ...] = option(
        KINDS,
        "kinds of thoughts, each a model of its own: plain (none), pause (empty tokens), judged (rewarded against the "
        "reference), supervised (the best are imitated, and end by themselves)",
        affects_weights=False,
    )
    text: TextConfig = group(TextConfig, "the text that is read")
    window: WindowConfig = group(WindowConfig, "a window of the text")
    thought: ThoughtConfig = group(ThoughtConfig, "a thought")
    rl: RLConfig = group(RLConfig, "how thoughts are rewarded")
    model: DecoderConfig = group(DecoderConfig(width=128), "the decoder")
    training: TrainingConfig = group(TrainingConfig, "training")
    eval: EvalConfig = group(EvalConfig, "evaluation on held-out text", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for seeds and kinds of thoughts that cannot be trained."""
        super().validate()
        check_names(self.thoughts, "--thoughts", KINDS)
        if self.rl.num_generations < 2 and "supervised" in self.thoughts:
            raise UserError(
                f"--rl.num-generations {self.rl.num_generations}: the best of one thought is no choice; give at least "
                "2, or leave supervised out of --thoughts"
            )


PRESETS = {
    "default": Preset(Config(), "bytes of Python's documentation, a thought before every fourth"),
    "bpe": Preset(
        Config(text=TextConfig(bpe_tokens=1024), window=WindowConfig(target_length=1)),
        "tokens of a byte-level BPE, a thought before each",
    ),
    "smoke": Preset(
        Config(
            text=TextConfig(num_characters=40_000),
            model=DecoderConfig(width=16, num_heads=2, num_layers=1),
            training=TrainingConfig(
                reference_steps=20, num_steps=10, batch_size=8, optimizer=OptimizerConfig(learning_rate=0.002)
            ),
            eval=EvalConfig(num_windows=50),
        ),
        "everything once, in seconds",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_think.py",
    "./run_manual.sh local tasks/lm_think.py --text.source my.txt --thoughts plain judged --artifacts artifacts/mine",
)
