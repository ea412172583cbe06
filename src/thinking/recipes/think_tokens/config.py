"""The config of unsupervised thoughts, and its presets. Free of JAX."""

import dataclasses
from typing import Literal

from thinking.environments.automaton_names import parse_name
from thinking.errors import UserError, name_flags
from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import (
    CosineConfig,
    CurriculumConfig,
    DecoderConfig,
    SeedsConfig,
    TrainingConfig,
    check_names,
)

Kind = Literal["none", "pause", "discrete", "continuous"]
KINDS: tuple[Kind, ...] = ("none", "pause", "discrete", "continuous")
GROUP_GRADIENTS = ("grpo", "expert_iteration")
"""Gradients that compare several thoughts of one word."""
RL_GRADIENTS = ("reinforce", *GROUP_GRADIENTS)
"""Gradients of sampled thoughts, by policy gradient or imitation."""


@dataclasses.dataclass(frozen=True)
class ProblemConfig:
    """The automaton, and the lengths of its words."""

    name: str = option(
        "a5",
        "automaton: s3, a5, s5 (permutation groups), parity, graph (reachability), list (order after operations), "
        "modular:M (sums modulo M) or digits:D (sums of numbers of D digits)",
    )
    length: int = option(8, "symbols of the longest words in training", minimum=2, maximum=4096)
    test_length: int | None = option(
        None,
        "symbols of the longest words in evaluation; None: twice --problem.length",
        minimum=1,
        maximum=8192,
        affects_weights=False,
    )

    def validate(self) -> None:
        """Raises UserError for an unknown automaton."""
        with name_flags(name="--name"):
            parse_name(self.name)


@dataclasses.dataclass(frozen=True)
class ThoughtConfig:
    """Tokens of thoughts, how they are trained, and what attends to them."""

    gradient: Literal["straight_through", "gumbel", "grpo", "reinforce", "expert_iteration", "none"] = option(
        "straight_through",
        "how discrete thoughts learn: through their choice (straight_through, gumbel), by the log-probability of the "
        "right answer (grpo, reinforce), from the best of several (expert_iteration), or with the answers alone (none)",
    )
    num_tokens: int | None = option(
        None,
        "tokens that thoughts choose from by a head of their own; None: one for each answer, by the answers' head",
        minimum=2,
        maximum=65_536,
    )
    token_width: int | None = option(
        None, "dimensions of the tokens' embeddings; None: --model.width", minimum=1, maximum=8192
    )
    end_thought: bool = option(
        False, "let models end their thoughts, at word lengths learned with one thought a symbol"
    )
    step_cost: float = option(0.001, "cost in nats of each thought with --thought.end-thought", minimum=0)
    hide_word: bool = option(False, "let answers see the thoughts alone, not the word")
    separate_blocks: bool = option(False, "let the answer come from other blocks than those that think")
    convert_from_none: bool = option(False, "start the models that think from the weights of kind none")

    def validate(self) -> None:
        """Raises UserError for incompatible settings."""
        if self.end_thought and (self.hide_word or self.separate_blocks):
            other = "--hide-word" if self.hide_word else "--separate-blocks"
            raise UserError(
                f"--end-thought {other}: answers are computed in a context of a fixed number of thoughts; leave one out"
            )
        if self.convert_from_none and self.num_tokens is not None:
            raise UserError("--convert-from-none: there is one thought token for each answer; leave --num-tokens out")


@dataclasses.dataclass(frozen=True)
class RLConfig:
    """Training of sampled thoughts, with --thought.gradient grpo, reinforce or expert_iteration."""

    num_generations: int = option(
        8,
        "thoughts sampled for each word with grpo and expert_iteration; each is a row of the batch",
        minimum=1,
        maximum=65_536,
    )
    policy_weight: float = option(1.0, "weight of the policy's loss", minimum=0)
    entropy_weight: float = option(0.01, "weight of the entropy bonus", minimum=0)
    discount: float = option(1.0, "discount factor of rewards, for each further thought", minimum=0, maximum=1)
    repetition_penalty: float = option(0.0, "cost in nats of a thought that repeats the one before", minimum=0)


@dataclasses.dataclass(frozen=True)
class SupervisionConfig:
    """Supervision of discrete thoughts."""

    chain_weight: float = option(0.0, "weight of the loss that trains thoughts to be the true states", minimum=0)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation of trained models."""

    num_words: int = option(1000, "words of each length that models are evaluated on", minimum=1, maximum=2**20)


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Teach small models serial problems from the answer alone, with thoughts of several kinds."""

    seeds: int = option(1, "models of each kind, with seeds --seed, --seed + 1, ...", affects_weights=False)
    thoughts: tuple[Kind, ...] = option(KINDS, "kinds of thoughts, each a model of its own", affects_weights=False)
    problem: ProblemConfig = group(
        ProblemConfig, "the automaton whose final state is the answer, and the length of its input words"
    )
    thought: ThoughtConfig = group(ThoughtConfig, "tokens of a thought, how thoughts learn, and what attends to them")
    rl: RLConfig = group(RLConfig, "learning from rewards, with --thought.gradient grpo, reinforce or expert_iteration")
    supervision: SupervisionConfig = group(
        SupervisionConfig, "optional supervision of discrete thoughts by the true states"
    )
    model: DecoderConfig = group(DecoderConfig(width=128, num_layers=1), "sizes of the decoder")
    training: TrainingConfig = group(TrainingConfig(num_steps=2500), "steps and batch size of each model's training")
    optimizer: CosineConfig = group(
        CosineConfig(learning_rate=0.003), "AdamW, whose learning rate falls along a cosine"
    )
    curriculum: CurriculumConfig = group(
        CurriculumConfig(enabled=True, threshold=0.9), "words that grow longer as training goes on"
    )
    eval: EvalConfig = group(EvalConfig, "evaluation on words of every length", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for kinds of thoughts that are incompatible with other settings."""
        super().validate()
        check_names(self.thoughts, "--thoughts", KINDS)
        thought, count, batch = self.thought, self.rl.num_generations, self.training.batch_size
        if thought.gradient in GROUP_GRADIENTS and (count < 2 or batch % count):
            raise field_error("rl.num_generations", f"a divisor of --training.batch-size, {batch}, from 2 on")
        chain_weight = self.supervision.chain_weight
        for flag, given in (
            (f"--supervision.chain-weight {chain_weight}", chain_weight > 0),
            (f"--thought.gradient {thought.gradient}", thought.gradient in RL_GRADIENTS),
        ):
            if given and "discrete" not in self.thoughts:
                raise UserError(f"{flag}: only discrete thoughts are trained this way; add discrete to --thoughts")
        if chain_weight and thought.num_tokens is not None:
            raise UserError(
                f"--supervision.chain-weight {chain_weight}: true states are tokens of the answers' head alone; "
                "leave --thought.num-tokens out"
            )
        if thought.convert_from_none and "none" not in self.thoughts:
            raise UserError(
                "--thought.convert-from-none: models start from the one that answers at once; add none to --thoughts"
            )


PRESETS = {
    "default": Preset(Config(), "products of up to 8 even permutations of five things, all kinds of thoughts"),
    "policy": Preset(
        Config(
            thoughts=("discrete",),
            problem=ProblemConfig(length=4),
            thought=ThoughtConfig(gradient="reinforce"),
            training=TrainingConfig(num_steps=4000),
        ),
        "discrete thoughts, learned by rewards alone",
    ),
    "sum": Preset(
        Config(
            thoughts=("none", "discrete"),
            problem=ProblemConfig("digits:3", length=3, test_length=3),
            training=TrainingConfig(num_steps=1200),
        ),
        "sums of two numbers of three digits",
    ),
    "quick": Preset(
        Config(
            thoughts=("discrete",),
            problem=ProblemConfig("s3", length=4),
            model=DecoderConfig(num_layers=1),
            training=TrainingConfig(num_steps=1000, batch_size=256),
            eval=EvalConfig(num_words=300),
        ),
        "products of up to 4 permutations of three things, discrete thoughts alone; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(
            problem=ProblemConfig("parity", length=3),
            model=DecoderConfig(width=16, num_heads=2, num_layers=1),
            training=TrainingConfig(num_steps=4, batch_size=16),
            eval=EvalConfig(num_words=20),
        ),
        "everything once, in seconds; nothing is learned",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/think_tokens.py",
    "./run_manual.sh local tasks/think_tokens.py --thoughts discrete --problem.name s5",
    "./run_manual.sh local tasks/think_tokens.py --preset policy --thought.gradient grpo",
    "./run_manual.sh local tasks/think_tokens.py --thought.convert-from-none",
)
