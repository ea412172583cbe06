"""Settings of the comparison of light networks. Free of JAX."""

import dataclasses
from typing import Literal, get_args

from thinking.errors import UserError
from thinking.experiment import Preset, group, option
from thinking.recipes.groups import SeedsConfig, TrainingConfig, WidthConfig, check_names

ProblemName = Literal[
    "parity",
    "s3",
    "a5",
    "s5",
    "associative_recall",
    "selective_copying",
    "nested_arithmetic",
    "needle",
]
PROBLEMS: tuple[ProblemName, ...] = get_args(ProblemName)
MIXER_NAMES = ("attention", "gru", "linear_recurrence", "delta", "memory")


@dataclasses.dataclass(frozen=True)
class SizesConfig:
    """Sizes of the problems in training."""

    word: int = option(16, "symbols of a word of parity, s3, a5 and s5", minimum=2, maximum=4096)
    num_pairs: int = option(16, "pairs of keys and values to recall", minimum=1, maximum=4096)
    num_blanks: int = option(48, "blanks among which 8 symbols are hidden", minimum=1, maximum=65536)
    num_numbers: int = option(8, "numbers of a nested expression", minimum=1, maximum=4096)
    haystack: int = option(64, "symbols among which one is marked", minimum=1, maximum=65536)


@dataclasses.dataclass(frozen=True)
class ModelConfig(WidthConfig):
    """Sizes of all networks; their feed-forward widths are chosen so that they have equally many parameters."""

    num_layers: int = option(2, "blocks", minimum=1, maximum=64)
    state_noise: float = option(
        0.0,
        "standard deviation of noise on the state of a gru in training; it grows with the words",
        minimum=0,
        maximum=100,
    )
    delta_steps: int = option(2, "reflections of a token in the delta rule", minimum=1, maximum=16)
    num_slots: int = option(16, "slots of each head of a memory", minimum=1, maximum=4096)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer."""

    learning_rates: tuple[float, ...] = option(
        (0.002,),
        "highest learning rates; of several, the one that does best with another seed is used",
        above=0,
        maximum=10,
    )

    ema_decay: float = option(
        0.0, "decay of the moving average of the weights that is evaluated; 0: the last weights", minimum=0, below=1
    )

    def validate(self) -> None:
        """Raises UserError without a rate."""
        if not self.learning_rates:
            raise UserError("--optimizer.learning-rates without a value: give at least one; take 0.001 0.003")


@dataclasses.dataclass(frozen=True)
class CurriculumConfig:
    """Words grow from 2 symbols; the other problems have no levels."""

    threshold: float = option(0.95, "accuracy at the last symbol that unlocks words twice as long", above=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on new rows of the trained size and larger."""

    # They affect weights, as recall has keys for the largest size.
    factors: tuple[int, ...] = option((1, 2, 4, 8), "sizes, as multiples of the trained one", minimum=1, maximum=1024)
    num_rows: int = option(512, "rows of each size", minimum=1, maximum=2**20, affects_weights=False)

    def validate(self) -> None:
        """Raises UserError unless the first factor is 1, and each is given once."""
        if not self.factors or self.factors[0] != 1 or len(set(self.factors)) < len(self.factors):
            given = " ".join(map(str, self.factors)) or "without a value"
            raise UserError(f"--eval.factors {given}: begin with 1, and give each once; take 1 2 4 8")


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Train recurrences, memory, attention and hybrids on problems that each test one ability."""

    seeds: int = option(3, "networks of each kind, with seeds --seed, --seed + 1, ...", minimum=1, maximum=1024)
    problems: tuple[ProblemName, ...] = option(PROBLEMS, "problems to train on", affects_weights=False)
    networks: tuple[str, ...] = option(
        (*MIXER_NAMES, "gru+attention"),
        # The list affects weights: every network is widened to the number of parameters of the largest.
        f"networks to compare: a mixer ({', '.join(MIXER_NAMES)}), or several with + between, layer by layer",
    )
    sizes: SizesConfig = group(SizesConfig, "sizes of the problems in training")
    model: ModelConfig = group(ModelConfig, "sizes of all networks")
    training: TrainingConfig = group(TrainingConfig, "length of training")
    optimizer: OptimizerConfig = group(OptimizerConfig, "AdamW with warmup and cosine decay")
    curriculum: CurriculumConfig = group(CurriculumConfig, "how words grow")
    eval: EvalConfig = group(EvalConfig, "evaluation on new rows of several sizes")

    def validate(self) -> None:
        """Raises UserError for names that are unknown or given twice, and for hybrids with too many mixers."""
        super().validate()
        check_names(self.problems, "--problems", PROBLEMS)
        check_names(self.networks, "--networks", MIXER_NAMES)
        for network in self.networks:
            mixers = network.split("+")
            if unknown := [mixer for mixer in mixers if mixer not in MIXER_NAMES]:
                raise UserError(
                    f"--networks {network}: {unknown[0]!r} is no mixer; take {', '.join(MIXER_NAMES)}, with + between"
                )
            if len(mixers) > self.model.num_layers:
                raise UserError(
                    f"--networks {network}: {len(mixers)} mixers need as many layers; "
                    f"take --model.num-layers {len(mixers)}"
                )


DEFAULT = Config(training=TrainingConfig(num_steps=2000, batch_size=32))
PRESETS = {
    "default": Preset(DEFAULT, "eight problems, six networks, three seeds: some hours on two cores"),
    "a5": Preset(
        dataclasses.replace(
            DEFAULT,
            problems=("a5",),
            model=ModelConfig(width=128, num_layers=1, state_noise=0.25),
            training=TrainingConfig(num_steps=40_000, batch_size=64),
            optimizer=OptimizerConfig(ema_decay=0.998),
            networks=MIXER_NAMES,
            eval=EvalConfig((1, 4, 16)),
        ),
        "products in A5, trained on 16 elements and evaluated up to 256",
    ),
    "recall": Preset(
        dataclasses.replace(
            DEFAULT,
            problems=("associative_recall",),
            sizes=SizesConfig(num_pairs=64),
            training=TrainingConfig(num_steps=2000, batch_size=16),
            optimizer=OptimizerConfig((0.003,)),
            eval=EvalConfig((1, 2)),
        ),
        "recall of 64 pairs",
    ),
    "quick": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            problems=("parity",),
            networks=("attention", "gru"),
            model=ModelConfig(width=32),
            training=TrainingConfig(num_steps=600, batch_size=64),
        ),
        "parity by a recurrence and by attention, in longer words too; less than a minute on two cores",
    ),
    "smoke": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            problems=("parity", "associative_recall"),
            networks=("attention", "gru"),
            sizes=SizesConfig(8, 4, 8, 4, 8),
            model=ModelConfig(16, 2),
            training=TrainingConfig(60, 32),
            eval=EvalConfig((1, 2), 64),
        ),
        "two problems and two networks, to see that everything runs",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/light_networks.py --preset smoke --artifacts artifacts/smoke",
    "./run_manual.sh local tasks/light_networks.py --problems parity s3 --networks gru attention --seeds 1",
    "./run_manual.sh local tasks/light_networks.py --preset a5 --artifacts artifacts/a5",
)
