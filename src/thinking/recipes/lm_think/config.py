"""The config of language modelling with thoughts, and its presets. Free of JAX."""

import dataclasses
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, group, option
from thinking.recipes.groups import DecoderConfig, OptimizerConfig, SeedsConfig, check_names

Kind = Literal["none", "pause", "reinforced", "expert_iteration"]
KINDS: tuple[Kind, ...] = ("none", "pause", "reinforced", "expert_iteration")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The text."""

    source: str = option("python", "python (its own documentation), a UTF-8 file, or hf:NAME[:COLUMN] of Hugging Face")
    num_characters: int = option(
        2_000_000, "characters of the text at most; the last tenth is held out", minimum=1, maximum=10**10
    )
    bpe_tokens: int | None = option(None, "tokens of a byte-level BPE; None: bytes", minimum=257, maximum=65_536)


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """Lengths of a window of the text."""

    context_length: int = option(32, "tokens that are read before a thought", minimum=2, maximum=65_536)
    target_length: int = option(
        4, "tokens that follow a thought; 1: a thought before each next token", minimum=1, maximum=65_536
    )


@dataclasses.dataclass(frozen=True)
class ThoughtConfig:
    """Length and tokens of a thought."""

    length: int = option(4, "tokens of a thought; with expert_iteration, at most", minimum=1, maximum=65_536)
    num_tokens: int = option(8, "different tokens that thoughts are made of", minimum=1, maximum=65_536)


@dataclasses.dataclass(frozen=True)
class RLConfig:
    """Training of thoughts by rewards."""

    num_generations: int = option(
        4,
        "thoughts sampled for each window (reinforced, expert_iteration); 1: the reference is the only baseline",
        minimum=1,
        maximum=4096,
    )
    entropy_weight: float = option(0.01, "weight of the entropy bonus of reinforced thoughts", minimum=0)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length of training."""

    reference_steps: int = option(
        4000,
        "training steps of the reference, the model without thoughts from which the others start",
        minimum=1,
        maximum=10**9,
    )
    num_steps: int = option(800, "training steps of each model from there", minimum=1, maximum=10**9)
    batch_size: int = option(32, "windows of a step", minimum=1, maximum=2**20)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on held-out text."""

    num_windows: int = option(4000, "held-out windows", minimum=1, maximum=10**7)


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Teach small language models to think before the next tokens of real text."""

    seeds: int = option(
        1, "models of each kind, with seeds --seed, --seed + 1, ...", minimum=1, maximum=1024, affects_weights=False
    )
    thoughts: tuple[Kind, ...] = option(
        KINDS,
        "kinds of thoughts, each a model of its own: none, pause (empty tokens), reinforced (rewarded against the "
        "reference), expert_iteration (the best are imitated, and end by themselves)",
        affects_weights=False,
    )
    text: TextConfig = group(TextConfig, "the text to train and evaluate on")
    window: WindowConfig = group(
        WindowConfig, "lengths of a window: what is read before a thought, and what follows it"
    )
    thought: ThoughtConfig = group(ThoughtConfig, "length and tokens of a thought")
    rl: RLConfig = group(RLConfig, "learning of thoughts by rewards")
    model: DecoderConfig = group(DecoderConfig(width=128), "sizes of the decoder")
    training: TrainingConfig = group(
        TrainingConfig, "steps and batch size, of the reference and of each model that goes on from it"
    )
    optimizer: OptimizerConfig = group(
        OptimizerConfig(learning_rate=0.002), "AdamW, whose learning rate falls along a cosine"
    )
    eval: EvalConfig = group(EvalConfig, "evaluation on windows of held-out text", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for invalid seeds or kinds of thoughts."""
        super().validate()
        check_names(self.thoughts, "--thoughts", KINDS)
        if self.rl.num_generations < 2 and "expert_iteration" in self.thoughts:
            raise UserError(
                f"--rl.num-generations {self.rl.num_generations}: expert_iteration picks the best of several thoughts; "
                "give at least 2, or leave it out of --thoughts"
            )


PRESETS = {
    "default": Preset(Config(), "bytes of Python's documentation, a thought before every 4 bytes"),
    "bpe": Preset(
        Config(text=TextConfig(bpe_tokens=1024), window=WindowConfig(target_length=1)),
        "tokens of a byte-level BPE, a thought before each",
    ),
    "quick": Preset(
        Config(
            thoughts=("none", "pause"),
            text=TextConfig(num_characters=300_000),
            model=DecoderConfig(width=64),
            training=TrainingConfig(reference_steps=550, num_steps=150),
            eval=EvalConfig(num_windows=400),
        ),
        "a smaller model of less text, without learned thoughts; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(
            text=TextConfig(num_characters=40_000),
            model=DecoderConfig(width=16, num_heads=2, num_layers=1),
            training=TrainingConfig(reference_steps=20, num_steps=10, batch_size=8),
            eval=EvalConfig(num_windows=50),
        ),
        "everything once, in seconds",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_think.py",
    "./run_manual.sh local tasks/lm_think.py --text.source my.txt --thoughts reinforced",
)
