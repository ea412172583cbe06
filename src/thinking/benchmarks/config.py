"""The benchmark's settings: its parts, and a group of sizes for each."""

import dataclasses
from typing import Literal, get_args

from thinking.experiment import Preset, RunConfig, field_error, group, option
from thinking.recipes.cart_pole.config import Environment as EnvName
from thinking.recipes.groups import DecoderConfig, WidthConfig, check_names

Part = Literal[
    "kernels",
    "guides",
    "attention",
    "mixers",
    "training",
    "generation",
    "search",
    "post_training",
    "long_context",
    "embedding",
    "collection",
    "ppo",
    "utilisation",
]
PARTS: tuple[Part, ...] = get_args(Part)
MAX_TOP_K_TOKENS = 2**14
"""Maximum tokens at which top-k attention is compared with dense attention, whose scores fill the memory."""


@dataclasses.dataclass(frozen=True)
class KernelsConfig:
    """Sizes of kernels."""

    batch_size: int = option(1024, "rows of a fit and of an infer", minimum=1, maximum=2**20)
    num_nodes: int = option(32, "size of the spaces of inputs, values and targets", minimum=2, maximum=2**20)
    num_slots: int = option(
        32, "hypotheses per query of the transformers and the linear memory", minimum=1, maximum=8192
    )
    num_steps: int = option(20, "fits and infers timed together", minimum=1, maximum=10**6)
    transformer: WidthConfig = group(WidthConfig(width=128), "the transformer kernels")


@dataclasses.dataclass(frozen=True)
class GuidesConfig:
    """Sizes of guides that plan on a graph."""

    num_nodes: int = option(32, "nodes of the graph", minimum=2, maximum=2**14)
    num_slots: int = option(32, "hypotheses per query of the transformers", minimum=1, maximum=8192)
    num_steps: int = option(20, "training steps timed together", minimum=1, maximum=10**6)
    checkpoint_steps: int = option(
        600, "training steps over which the cost of checkpoints is measured", minimum=1, maximum=10**9
    )
    transformer: WidthConfig = group(WidthConfig(width=64), "the transformer layers of a guide")


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """Sizes of sparse attention."""

    window: int = option(128, "tokens that each token sees in the windowed pattern", minimum=1, maximum=2**20)
    sequence_length: int = option(
        4096, "tokens at which the window is compared with dense attention", minimum=1, maximum=2**17
    )
    long_sequence_lengths: tuple[int, ...] = option(
        (2**12, 2**14, 2**17),
        "tokens at which the window alone is timed; at the last length that is not above "
        f"{MAX_TOP_K_TOKENS}, blocks picked by content are compared with dense attention",
        minimum=1,
        maximum=2**24,
    )
    block_size: int = option(64, "tokens of a block that is picked by content", minimum=1, maximum=2**14)
    num_blocks: int = option(16, "blocks that each block of queries picks", minimum=1, maximum=2**14)

    def validate(self) -> None:
        """Raises UserError unless a length can be compared with dense attention."""
        if not any(length <= MAX_TOP_K_TOKENS for length in self.long_sequence_lengths):
            raise field_error("long_sequence_lengths", f"at least one up to {MAX_TOP_K_TOKENS}", suggestion=4096)


@dataclasses.dataclass(frozen=True)
class MixersConfig:
    """Sizes of decoders of one mixer each."""

    sequence_length: int = option(4096, "tokens of the row of a training step", minimum=2, maximum=2**17)
    num_steps: int = option(2, "training steps timed together", minimum=1, maximum=10**6)
    decoder: DecoderConfig = group(DecoderConfig(width=128, num_layers=2), "the decoders")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Sizes of a training step of a decoder."""

    batch_size: int = option(64, "rows of a step", minimum=1, maximum=2**20)
    sequence_length: int = option(64, "tokens of a row", minimum=2, maximum=2**20)
    num_microbatches: int = option(4, "parts of a batch whose gradients are accumulated", minimum=1, maximum=2**20)
    num_steps: int = option(10, "training steps timed together", minimum=1, maximum=10**6)
    decoder: DecoderConfig = group(DecoderConfig(width=128, num_layers=4), "the decoder that is trained")

    def validate(self) -> None:
        """Raises UserError unless microbatches divide the batch."""
        if self.batch_size % self.num_microbatches:
            raise field_error("num_microbatches", f"a divisor of --batch-size, {self.batch_size}", suggestion=1)


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """Sizes of sampling from a decoder."""

    batch_size: int = option(32, "rows written at once", minimum=1, maximum=2**20)
    max_new_tokens: int = option(256, "tokens written to each row", minimum=1, maximum=2**20)
    decoder: DecoderConfig = group(DecoderConfig(width=128, num_layers=4), "the decoder that writes")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Sizes of Gumbel search over tokens."""

    batch_size: int = option(64, "prompts searched at once", minimum=1, maximum=2**20)
    prompt_length: int = option(64, "tokens of each prompt", minimum=1, maximum=2**20)
    vocabulary_size: int = option(64, "different tokens, which are the actions of a tree", minimum=2, maximum=2**20)
    num_simulations: int = option(32, "simulations of each search", minimum=1, maximum=2**20)
    # No tree of 32 simulations with 16 considered actions is deeper.
    max_depth: int = option(4, "tokens from the root of a tree to a leaf, at most", minimum=1, maximum=2**20)
    decoder: DecoderConfig = group(DecoderConfig(width=128, num_layers=4), "the decoder that is searched with")


@dataclasses.dataclass(frozen=True)
class PostTrainingConfig:
    """Sizes of GRPO over small arithmetic problems."""

    num_prompts: int = option(128, "problems of a step", minimum=1, maximum=2**16)
    num_generations: int = option(4, "completions of each problem", minimum=2, maximum=2**12)
    max_new_tokens: int = option(64, "tokens of a completion, at most", minimum=1, maximum=2**20)
    num_steps: int = option(30, "steps of the whole loop", minimum=1, maximum=10**6)
    decoder: DecoderConfig = group(DecoderConfig(width=64, num_layers=2), "the decoder that is trained")

    def validate(self) -> None:
        """Raises UserError for an odd number of completions, as there are two minibatches."""
        if self.num_prompts * self.num_generations % 2:
            raise field_error("num_generations", f"an even number with --num-prompts {self.num_prompts}", suggestion=4)


@dataclasses.dataclass(frozen=True)
class LongContextConfig:
    """Sizes of reading a very long row."""

    sequence_length: int = option(128_000, "tokens of the row", minimum=1, maximum=2**24)
    window: int = option(128, "tokens that each token sees", minimum=1, maximum=2**20)
    num_global_tokens: int = option(16, "tokens at the start that all see as well", minimum=1, maximum=2**20)
    decoder: DecoderConfig = group(DecoderConfig(width=128, num_layers=4), "the decoder that reads")


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
    """Sizes of embedding sentences."""

    num_texts: int = option(1024, "sentences embedded", minimum=1, maximum=2**24)
    batch_size: int = option(64, "sentences that sentence-transformers takes at once", minimum=1, maximum=2**20)
    num_repeats: int = option(5, "times that each implementation is timed", minimum=1, maximum=10**4)


@dataclasses.dataclass(frozen=True)
class CollectionConfig:
    """Sizes of collecting experience; the networks are those that the cart pole task has by default."""

    env_name: EnvName = option("CartPole-v1", "the environment, as Gymnasium names it")
    num_envs: int = option(1024, "environments side by side", minimum=1, maximum=2**20)
    num_steps: int = option(100, "steps of each environment timed together", minimum=1, maximum=10**6)


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Sizes of PPO; the defaults are those of CleanRL and PureJaxRL."""

    env_name: Literal["CartPole-v1", "Acrobot-v1", "MountainCar-v0"] = option(
        "CartPole-v1", "the environment, as Gymnasium names it"
    )
    num_steps: int = option(500_000, "environment steps of each seed", minimum=1, maximum=2**31 - 1)
    num_seeds: int = option(8, "seeds, one after the other", minimum=1, maximum=1024)
    num_envs: int = option(4, "environments side by side", minimum=1, maximum=2**20)
    rollout_length: int = option(128, "steps of each environment between two updates", minimum=1, maximum=2**20)
    num_epochs: int = option(4, "passes over each rollout", minimum=1, maximum=1000)
    num_minibatches: int = option(4, "minibatches of each pass", minimum=1, maximum=2**20)
    learning_rate: float = option(2.5e-4, "learning rate of Adam, constant", above=0)
    clip_values: bool = option(True, "clip the change of values here, as rejax always does")

    def validate(self) -> None:
        """Raises UserError for minibatches that do not divide a rollout."""
        if (steps := self.num_envs * self.rollout_length) % self.num_minibatches:
            raise field_error("num_minibatches", f"a divisor of {steps} steps", suggestion=1)


@dataclasses.dataclass(frozen=True)
class UtilisationConfig:
    """Sizes of a training step in bfloat16; the default is GPT-2 small."""

    batch_size: int = option(32, "rows of a step", minimum=1, maximum=2**20)
    sequence_length: int = option(1024, "tokens of a row", minimum=2, maximum=2**20)
    vocabulary_size: int = option(50_257, "different tokens", minimum=2, maximum=2**20)
    num_steps: int = option(5, "training steps timed together", minimum=1, maximum=10**6)
    decoder: DecoderConfig = group(DecoderConfig(width=768, num_heads=12, num_layers=12), "the decoder that is trained")


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Measure what this machine does: kernels, guides, attention, decoders, search, and what saving costs."""

    parts: tuple[Part, ...] = option(
        PARTS[:-1],
        "what is measured; `utilisation` trains a decoder of GPT-2's size and wants a GPU",
        affects_weights=False,
    )
    kernels: KernelsConfig = group(
        KernelsConfig, "kernels (learners of a guide's layer): a fit and an infer of each", affects_weights=False
    )
    guides: GuidesConfig = group(
        GuidesConfig, "guides (hierarchical planners) on a graph, and the cost of checkpoints", affects_weights=False
    )
    attention: AttentionConfig = group(
        AttentionConfig, "sparse attention against dense attention", affects_weights=False
    )
    mixers: MixersConfig = group(MixersConfig, "recurrences and memories beside dense attention", affects_weights=False)
    training: TrainingConfig = group(TrainingConfig, "a training step of a decoder", affects_weights=False)
    generation: GenerationConfig = group(GenerationConfig, "sampling from a decoder", affects_weights=False)
    search: SearchConfig = group(SearchConfig, "Gumbel search over tokens", affects_weights=False)
    post_training: PostTrainingConfig = group(
        PostTrainingConfig, "GRPO over small arithmetic problems", affects_weights=False
    )
    long_context: LongContextConfig = group(LongContextConfig, "reading a very long row", affects_weights=False)
    embedding: EmbeddingConfig = group(EmbeddingConfig, "embedding of sentences", affects_weights=False)
    collection: CollectionConfig = group(
        CollectionConfig, "collecting experience in control environments", affects_weights=False
    )
    ppo: PPOConfig = group(PPOConfig, "PPO beside rejax: speed and learning", affects_weights=False)
    utilisation: UtilisationConfig = group(
        UtilisationConfig, "the share of a GPU's arithmetic that training uses", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError if nothing is to be measured, or something twice."""
        check_names(self.parts, "--parts", PARTS)


_TINY_DECODER = DecoderConfig(width=16, num_layers=1)
PRESETS = {
    "default": Preset(Config(), "sizes that are measured in minutes on a laptop"),
    "smoke": Preset(
        Config(
            kernels=KernelsConfig(
                batch_size=32, num_nodes=8, num_slots=4, num_steps=2, transformer=WidthConfig(width=16)
            ),
            guides=GuidesConfig(
                num_nodes=8, num_slots=4, num_steps=2, checkpoint_steps=10, transformer=WidthConfig(width=8)
            ),
            attention=AttentionConfig(
                window=4, sequence_length=32, long_sequence_lengths=(32, 64), block_size=4, num_blocks=2
            ),
            mixers=MixersConfig(sequence_length=16, num_steps=1, decoder=_TINY_DECODER),
            training=TrainingConfig(
                batch_size=2, sequence_length=8, num_microbatches=2, num_steps=2, decoder=_TINY_DECODER
            ),
            generation=GenerationConfig(batch_size=2, max_new_tokens=4, decoder=_TINY_DECODER),
            search=SearchConfig(
                batch_size=2,
                prompt_length=4,
                vocabulary_size=16,
                num_simulations=4,
                max_depth=2,
                decoder=_TINY_DECODER,
            ),
            post_training=PostTrainingConfig(
                num_prompts=2, num_generations=2, max_new_tokens=4, num_steps=3, decoder=_TINY_DECODER
            ),
            long_context=LongContextConfig(sequence_length=256, window=4, num_global_tokens=2, decoder=_TINY_DECODER),
            embedding=EmbeddingConfig(num_texts=4, num_repeats=1),
            collection=CollectionConfig(num_envs=4, num_steps=4),
            ppo=PPOConfig(num_steps=40, num_seeds=2, num_envs=2, rollout_length=2, num_minibatches=2),
            utilisation=UtilisationConfig(
                batch_size=2,
                sequence_length=8,
                vocabulary_size=32,
                num_steps=2,
                decoder=DecoderConfig(width=16, num_heads=2, num_layers=1),
            ),
        ),
        "every part at a tiny size, to see that it works",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/benchmark.py --preset smoke",
    "./run_manual.sh local tasks/benchmark.py --parts kernels guides",
    "./run_manual.sh local tasks/benchmark.py --parts training generation --training.decoder.width 256",
    "./run_manual.sh local tasks/benchmark.py --parts collection --collection.num-envs 4096",
)
