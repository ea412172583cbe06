"""Settings of arithmetic with chains of thought. Free of JAX; the presets are in `presets.py`."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

from tyro.conf import FlagCreatePairsOff

from thinking.errors import UserError, name_flags
from thinking.experiment import RunConfig, field_error, group, option
from thinking.recipes.groups import CurriculumConfig, DecoderConfig, OptimizerConfig, check_names

Style = Literal["chain_of_thought", "direct", "subtasks", "self_correction"]
Method = Literal[
    "greedy",
    "majority_vote",
    "best_value",
    "best_likelihood",
    "verifier",
    "beam_search",
    "revision",
    "best_first",
    "tree_search",
]
Algorithm = Literal["none", "grpo", "ppo", "reinforce", "expert_iteration"]

CONTEXT_LENGTH = 1024
"""Maximum tokens of a prompt and its completion."""
MAX_PROBLEMS = 10**7
MAX_STEPS = 10**9


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Worked problems to learn from."""

    sources: tuple[str, ...] = option(
        ("words", "multiply:2", "divide:2"),
        "problems of supervised training, in this order with a curriculum: words (sums and differences up to 100, "
        "products and quotients up to 10), or OPERATION:DIGITS, as add:3 or multiply:4x2",
    )
    num_problems: int = option(
        4000, "problems drawn of each OPERATION:DIGITS to train on", minimum=1, maximum=MAX_PROBLEMS
    )
    verbal_fraction: float = option(
        0.5, "share of problems that are put in words instead of symbols", minimum=0, maximum=1
    )
    reverse_digits: bool = option(False, "write numbers with their least significant digit first")
    error_fraction: float = option(
        0.1,
        "share of steps that are wrong at first and then corrected, in the self_correction style",
        minimum=0,
        maximum=1,
    )
    row_length: int = option(
        128, "tokens of a packed row, which holds several problems", minimum=1, maximum=CONTEXT_LENGTH
    )

    def validate(self) -> None:
        """Raises UserError for an unknown source."""
        check_sources(self.sources)


@dataclasses.dataclass(frozen=True)
class ModelConfig(DecoderConfig):
    """A decoder with a value head."""

    gated: bool = option(True, "gated blocks (SwiGLU) instead of ReLU")
    positions: Literal["index", "digit"] = option(
        "index", "position of a token: its index in the text, or that of its digit in a number"
    )
    num_digit_positions: int = option(
        64, "digit positions that training draws from, with positions digit", minimum=1, maximum=2**16
    )


@dataclasses.dataclass(frozen=True)
class SFTOptimizerConfig(OptimizerConfig):
    """AdamW, whose learning rate rises, then falls along a cosine."""

    learning_rate: float = option(0.003, "highest learning rate")
    final_fraction: float = option(0.1, "final learning rate, as a share of the highest", minimum=0, maximum=1)
    schedule_steps: int = option(
        3000, "steps of the schedule; training may end before it does", minimum=1, maximum=MAX_STEPS
    )
    weight_decay: float = option(0.05, "weight decay of matrices", minimum=0, maximum=1000)


@dataclasses.dataclass(frozen=True)
class SFTConfig:
    """Supervised training on worked problems."""

    num_steps: int = option(485, "training steps", minimum=1, maximum=MAX_STEPS)
    batch_size: int = option(32, "rows of a step", minimum=1, maximum=2**20)
    optimizer: SFTOptimizerConfig = group(
        SFTOptimizerConfig, "AdamW, whose learning rate rises, then falls along a cosine"
    )


@dataclasses.dataclass(frozen=True)
class RLOptimizerConfig(OptimizerConfig):
    """AdamW, whose learning rate rises, stays, and falls to 0 in the second half."""

    learning_rate: float = option(5e-4, "highest learning rate")


@dataclasses.dataclass(frozen=True)
class RLConfig:
    """Post-training by rewards."""

    algorithm: Algorithm = option("grpo", "how the policy learns from rewards")
    sources: tuple[str, ...] = option(("words",), "problems to post-train on: words, or OPERATION:DIGITS")
    num_updates: int = option(280, "updates", minimum=1, maximum=MAX_STEPS)
    num_prompts: int = option(64, "prompts that an update learns from", minimum=1, maximum=2**20)
    num_sampled_prompts: int = option(
        128,
        "prompts sampled for an update, which learns from those whose rewards differ most",
        minimum=1,
        maximum=2**20,
    )
    num_generations: int = option(8, "completions of each prompt", minimum=1, maximum=2**16)
    prioritized: bool = option(True, "sample prompts by how much is left to learn of each, instead of evenly")
    advantage: Literal["step", "completion"] = option(
        "step",
        "advantage of a token: step: by the correctness of its own step; completion: by the rewards of the completion "
        "(always so with expert_iteration)",
    )
    num_epochs: int = option(
        1, "passes over the completions of an update (reinforce: always 1)", minimum=1, maximum=1000
    )
    num_minibatches: int = option(4, "minibatches of a pass (reinforce: always 1)", minimum=1, maximum=2**20)
    clip: float = option(
        0.2, "how far the probability ratio of grpo or ppo may be from 1 before it is clipped", above=0, maximum=1000
    )
    kl_weight: float = option(0.0, "weight of grpo's KL divergence from the initial policy", minimum=0, maximum=1000)
    entropy_weight: float = option(
        0.1, "weight of the entropy bonus; expert_iteration has none", minimum=0, maximum=1000
    )
    entropy_ceiling: float = option(0.2, "mean entropy in nats above which there is no bonus", minimum=0, maximum=1000)
    value_weight: float = option(0.1, "weight of the value head's loss", minimum=0, maximum=1000)
    gae_lambda: float = option(1.0, "lambda of generalized advantage estimation in ppo", minimum=0, maximum=1)
    optimizer: RLOptimizerConfig = group(
        RLOptimizerConfig, "AdamW, whose learning rate rises, stays, and falls to 0 in the second half"
    )

    def validate(self) -> None:
        """Raises UserError for inconsistent numbers of prompts, completions or minibatches."""
        check_sources(self.sources)
        alone = self.algorithm == "none" or (self.advantage == "completion" and self.algorithm in ("ppo", "reinforce"))
        if self.num_generations == 1 and not alone:
            raise field_error(
                "num_generations", f"a whole number from 2 with --algorithm {self.algorithm}", suggestion=8
            )
        if self.num_sampled_prompts < self.num_prompts:
            allowed = f"a whole number from --num-prompts, {self.num_prompts}"
            raise field_error("num_sampled_prompts", allowed, suggestion=self.num_prompts)
        if (count := self.num_prompts * self.num_generations) % self.num_minibatches:
            raise field_error("num_minibatches", f"a divisor of the {count} completions of an update", suggestion=1)


@dataclasses.dataclass(frozen=True)
class RewardsConfig:
    """Weights of the rewards."""

    outcome_weight: float = option(1.0, "weight of the right answer", minimum=0, maximum=1000)
    process_weight: float = option(0.5, "weight of the share of right steps", minimum=0, maximum=1000)
    format_weight: float = option(0.1, "weight of a well-formed completion", minimum=0, maximum=1000)
    length_weight: float = option(0.0, "weight of the share of the token budget that is left", minimum=0, maximum=1000)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Held-out problems, answered greedily."""

    sources: tuple[str, ...] = option(("words",), "held-out problems: words, or OPERATION:DIGITS")
    num_problems: int = option(1000, "problems drawn of each OPERATION:DIGITS", minimum=1, maximum=MAX_PROBLEMS)
    split: Literal["development", "test"] = option(
        "test", "held-out problems, of --search too: development to choose settings, test to report"
    )
    injected_errors: bool = option(
        False, "also evaluate chain_of_thought and self_correction on chains that begin with a wrong step"
    )

    def validate(self) -> None:
        """Raises UserError for an unknown source, or one without held-out problems."""
        check_sources(self.sources, held_out=True)


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """A comparison of all ways to search for an answer."""

    sources: tuple[str, ...] = option((), "held-out problems to search on: words, or OPERATION:DIGITS; none: no search")
    num_problems: int = option(256, "problems to search on", minimum=1, maximum=MAX_PROBLEMS)
    num_samples: int = option(16, "maximum completions sampled for a problem", minimum=1, maximum=2**12)
    temperature: float = option(0.7, "sampling temperature, of --chat too", minimum=0.01, maximum=1000)

    def validate(self) -> None:
        """Raises UserError for an unknown source, or one without held-out problems."""
        if self.sources:
            check_sources(self.sources, held_out=True)


@dataclasses.dataclass(frozen=True)
class AnswerConfig:
    """How `--chat` answers."""

    method: Method = option("greedy", "way to search for the answer")
    num_samples: int = option(
        8, "completions sampled, or the width of the beam, or the simulations of each tree", minimum=1, maximum=2**12
    )


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach a small decoder arithmetic: worked chains of thought first, then rewards, then search."""

    styles: tuple[Style, ...] = option(
        ("chain_of_thought",),
        "ways to answer, each a model of its own: chain_of_thought, direct (the answer alone), subtasks "
        "(each in a context of its own), self_correction (wrong steps are corrected); the first goes on to rewards and "
        "search",
    )
    chat: FlagCreatePairsOff[bool] = option(
        False, "answer typed problems with what was trained before, and end", affects_weights=False
    )
    verbose: FlagCreatePairsOff[bool] = option(
        False, "show candidates, their checks and the tokens written in --chat", affects_weights=False
    )
    json: FlagCreatePairsOff[bool] = option(
        False,
        "answer with a JSON object a line in --chat: problem, thoughts, answer, right, in_range "
        "(whether such problems were in training)",
        affects_weights=False,
    )
    data: DataConfig = group(DataConfig, "worked problems to learn from")
    model: ModelConfig = group(ModelConfig, "sizes and positions of the decoder")
    curriculum: CurriculumConfig = group(CurriculumConfig, "training sources, unlocked one after another")
    sft: SFTConfig = group(SFTConfig, "supervised fine-tuning on worked problems")
    rl: RLConfig = group(RLConfig, "post-training by rewards")
    rewards: RewardsConfig = group(RewardsConfig, "weights of the rewards in the sum that a completion earns")
    eval: EvalConfig = group(EvalConfig, "evaluation on held-out problems, answered greedily", affects_weights=False)
    search: SearchConfig = group(
        SearchConfig, "comparison of search methods on held-out problems", affects_weights=False
    )
    answer: AnswerConfig = group(AnswerConfig, "how --chat answers", affects_weights=False)

    def find_use(self) -> str | None:
        """A chat is with a trained model."""
        return "--chat" if self.chat else None

    def validate(self) -> None:
        """Raises UserError for styles and positions that a later stage does not support."""
        check_names(self.styles, "--styles", get_args(Style))
        for flag in ("verbose", "json"):
            if getattr(self, flag) and not self.chat:
                raise UserError(f"--{flag} applies to --chat only; give --chat too")
        first, algorithm = self.styles[0], self.rl.algorithm
        continued = algorithm != "none" or bool(self.search.sources)
        if self.model.positions == "digit" and not self.data.reverse_digits:
            raise UserError(
                "--model.positions digit: digits are counted from the last one; give --data.reverse-digits too"
            )
        if self.model.positions == "digit" and (continued or self.chat or "subtasks" in self.styles):
            raise UserError(
                "--model.positions digit: allowed are supervised training and evaluation; give --rl.algorithm none"
            )
        if first == "subtasks" and continued:
            raise UserError(
                "--styles subtasks: allowed are supervised training, evaluation and --chat; give --rl.algorithm none"
            )
        if (
            self.rl.advantage == "step"
            and first != "chain_of_thought"
            and algorithm not in ("none", "expert_iteration")
        ):
            raise UserError(
                "--rl.advantage step: only chain_of_thought has steps to verify; give --rl.advantage completion"
            )


def check_sources(sources: Sequence[str], *, held_out: bool = False) -> None:
    """Check names of sources, in the `validate` of a group with `--sources`.

    Raises:
        UserError: for no source, an unknown one, or, if `held_out`, one without held-out problems.
    """
    # Imports NumPy, which `--help` does not need.
    from thinking.environments.arithmetic.sources import check_has_held_out, parse_source

    if not sources:
        raise UserError("--sources: name at least one, as words or OPERATION:DIGITS")
    with name_flags(source="--sources"):
        for source in sources:
            (check_has_held_out if held_out else parse_source)(source)
