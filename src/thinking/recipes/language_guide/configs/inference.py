"""Config of lm_guide_inference: goals and display."""

import dataclasses
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import Preset, RunConfig, group, option
from thinking.recipes.language_guide.configs.shared import EmbedderConfig, ServerConfig


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """Goals and limits of plans."""

    goal: str | None = option(None, "plan for this goal alone, and show it; None: for all goals of the texts")
    start: tuple[str, ...] = option((), "steps toward that goal that are done already, in order")
    max_steps: int | None = option(
        None,
        "steps of a plan at most; None: twice the longest text of training, up to 256",
        minimum=1,
        maximum=10**5,
    )

    def validate(self) -> None:
        """Raises UserError for blank texts, and for start steps without a goal."""
        if self.goal is not None and not self.goal.strip():
            raise UserError("--goal: it is blank; say what is to be reached")
        if self.start and self.goal is None:
            raise UserError("--start: a goal is needed; name it with --goal")
        if any(not step.strip() for step in self.start):
            raise UserError("--start: a step is blank; leave it out")


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What is shown in the terminal."""

    mode: Literal["think", "react"] = option(
        "think", "mode of the plans that are shown: think (open loop), react (closed loop along a reference)"
    )


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Plan for all goals, or for one that you name."""

    # Nothing is trained here: plans are always made anew.
    seed: int = option(0, "without effect: plans are not random", affects_weights=False)
    plan: PlanConfig = group(PlanConfig, "goal, first steps and length of a plan", affects_weights=False)
    embedder: EmbedderConfig = group(
        EmbedderConfig, "the model that embeds a goal of --plan.goal", affects_weights=False
    )
    server: ServerConfig = group(ServerConfig, "the server that embedded the data, if one did", affects_weights=False)
    report: ReportConfig = group(ReportConfig, "which plans are shown in the terminal", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for mode `react` with a typed goal."""
        if self.plan.goal is not None and self.report.mode == "react":
            raise UserError(
                "--report.mode react: a goal of --plan.goal is planned open loop only; leave --report.mode out"
            )


PRESETS = {
    "default": Preset(Config(), "plans for all goals, as in docs/results/planning_in_meaning.md"),
    "quick": Preset(Config(plan=PlanConfig(max_steps=96)), "shorter plans; less than a minute on two cores"),
    "smoke": Preset(Config(plan=PlanConfig(max_steps=32)), "short plans, in seconds"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/lm_guide_inference.py",
    './run_manual.sh local tasks/lm_guide_inference.py --plan.goal "building a rocket"',
    './run_manual.sh local tasks/lm_guide_inference.py --plan.goal "forging a bronze bell" '
    '--plan.start "Go to the copper mine."',
)
