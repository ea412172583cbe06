"""Config of lm_data_interpret: writer and selection of plans."""

import dataclasses
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, RunConfig, group, option
from thinking.recipes.groups import check_names
from thinking.recipes.language_guide.configs.shared import EmbedderConfig, ServerConfig, WriterConfig

SplitName = Literal["train", "held_out", "compound", "custom"]
ModeName = Literal["think", "react"]


@dataclasses.dataclass(frozen=True)
class PlanWriterConfig(WriterConfig):
    """The writer of plans."""

    kind: Literal["nearest", "openai", "huggingface", "steered"] = option(
        "nearest",
        "the nearest known sentences, a server (needs OPENAI_API_KEY), a model of Hugging Face, or such a model "
        "steered toward the plan's vectors",
    )
    num_plans: int = option(
        3,
        "plans of each split and mode that a model writes out; the others stay lists of sentences",
        minimum=1,
        maximum=10**6,
    )
    strength: float = option(
        4.0, "steering: nats that a cosine similarity of 1 adds to a token's logit", minimum=0, maximum=10**6
    )

    def validate(self) -> None:
        """Raises UserError for a missing model."""
        if self.kind != "nearest" and not self.model:
            raise UserError(f"--kind {self.kind}: a model is needed; name it with --model")


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Which plans are reported."""

    splits: tuple[SplitName, ...] = option(
        ("held_out", "compound", "custom"),
        "goals to report, by split; custom: that of lm_guide_inference --plan.goal",
    )
    modes: tuple[ModeName, ...] = option(("think", "react"), "plans to report, by the mode in which they were made")

    def validate(self) -> None:
        """Raises UserError for empty lists and repetitions."""
        check_names(self.splits, "--splits", ("train", "held_out", "compound", "custom"))
        check_names(self.modes, "--modes", ("think", "react"))


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Write plans of the language guide as text, with a report of them."""

    # Nothing is trained here: plans are always written anew, with cached answers.
    seed: int = option(0, "without effect: texts are not random", affects_weights=False)
    writer: PlanWriterConfig = group(PlanWriterConfig, "what writes plans out as text", affects_weights=False)
    server: ServerConfig = group(ServerConfig, "the server of --writer.kind openai", affects_weights=False)
    embedder: EmbedderConfig = group(EmbedderConfig, "the model that embeds text for steering", affects_weights=False)
    report: ReportConfig = group(ReportConfig, "which plans are reported", affects_weights=False)


PRESETS = {
    "default": Preset(Config(), "held-out, compound and custom goals, written as the nearest sentences"),
    "quick": Preset(
        Config(report=ReportConfig(splits=("held_out",))), "held-out goals; less than a minute on two cores"
    ),
    "smoke": Preset(Config(writer=PlanWriterConfig(num_plans=1)), "at most one plan per split and mode for a model"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_data_interpret.py",
    "./run_manual.sh local tasks/lm_data_interpret.py --writer.kind openai --writer.model NAME --server.base-url http://localhost:8000/v1",
    "./run_manual.sh local tasks/lm_data_interpret.py --writer.kind steered --writer.model gpt2 --writer.strength 6",
)
