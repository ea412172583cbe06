"""Settings of deep thinking. Free of JAX."""

import dataclasses
from typing import Literal, get_args

from thinking.errors import UserError
from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.groups import CosineConfig, SeedsConfig, TrainingConfig, check_names

PuzzleName = Literal["mazes", "prefix_sums", "reachability", "sudoku"]
NetworkName = Literal["recursive", "no_recall", "fixed_depth", "feed_forward"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)
SUDOKU_SIZES = (4, 6, 9)


@dataclasses.dataclass(frozen=True)
class PuzzleConfig:
    """The puzzles to train on."""

    name: PuzzleName = option("mazes", "mazes, prefix sums of bits, nodes that can be reached in a graph, or Sudoku")
    size: int = option(9, "cells of a maze's side, bits, nodes, or 4, 6 or 9 of a Sudoku", minimum=2, maximum=256)
    num_puzzles: int = option(
        1000, "Sudokus, which symmetries multiply; the others are made anew at every step", minimum=1, maximum=10**5
    )

    def validate(self) -> None:
        """Raises UserError for a size that Sudoku does not have."""
        if self.name == "sudoku" and self.size not in SUDOKU_SIZES:
            raise field_error("size", f"one of {', '.join(map(str, SUDOKU_SIZES))} of Sudokus", suggestion=6)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of a network."""

    width: int = option(48, "dimensions of each cell's latent state", minimum=2, maximum=4096)
    feed_forward: int = option(96, "inner width of the perceptron", minimum=1, maximum=16384)
    attends: bool = option(False, "a cell attends to all cells, in place of summing those beside it")


@dataclasses.dataclass(frozen=True)
class ThinkingConfig:
    """How the recursive networks think in training."""

    grad_steps: int = option(
        8, "steps of thought of an update, through which the gradient flows", minimum=1, maximum=4096
    )
    num_updates: int = option(
        4, "updates that each puzzle stays for; its latent state is carried over", minimum=1, maximum=4096
    )
    progressive: bool = option(
        False, "begin each update with new puzzles and a random number of steps without gradient"
    )
    noise: float = option(0.0, "standard deviation added to latent states before each update", minimum=0, maximum=10)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on new puzzles, from training sizes to larger ones."""

    sizes: tuple[int, ...] = option((9, 25, 49), "sizes of the puzzles", minimum=2, maximum=4096)
    num_puzzles: int = option(32, "puzzles of each size", minimum=1, maximum=10**5)
    max_steps: int = option(1600, "most steps of thought; all stop once nothing changes", minimum=1, maximum=10**6)
    rollout_noise: float = option(
        1.0, "standard deviation of a rollout's random start, in each number of a latent state", above=0, maximum=100
    )
    num_rollouts: int = option(
        1,
        "times that each puzzle is thought about from a random state; confidence chooses among them",
        minimum=1,
        maximum=1024,
    )

    def validate(self) -> None:
        """Raises UserError unless at least one size is given, and each once."""
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            given = " ".join(map(str, self.sizes)) or "without a value"
            raise UserError(f"--eval.sizes {given}: give at least one size, each once; take 9 25")


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Train small recursive networks on small puzzles, and let them think longer about larger ones."""

    seeds: int = option(3, "networks of each kind, with seeds --seed, --seed + 1, ...", minimum=1, maximum=1024)
    networks: tuple[NetworkName, ...] = option(NETWORKS, "networks to compare", affects_weights=False)
    puzzle: PuzzleConfig = group(PuzzleConfig, "the puzzles to train on")
    model: ModelConfig = group(ModelConfig, "sizes of all networks")
    thinking: ThinkingConfig = group(ThinkingConfig, "how the recursive networks think in training")
    training: TrainingConfig = group(TrainingConfig, "length of training")
    optimizer: CosineConfig = group(CosineConfig, "AdamW with warmup and cosine decay")
    eval: EvalConfig = group(EvalConfig, "evaluation on new puzzles of several sizes", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for networks named twice, batches that do not fit, and Sudokus of several sizes."""
        super().validate()
        check_names(self.networks, "--networks", NETWORKS)
        thinking, batch = self.thinking, self.training.batch_size
        if not thinking.progressive and batch % thinking.num_updates:
            raise UserError(
                f"--training.batch-size {batch}: allowed are multiples of --thinking.num-updates "
                f"{thinking.num_updates}, as each update replaces equally many puzzles; "
                f"take {-(-batch // thinking.num_updates) * thinking.num_updates}"
            )
        if self.puzzle.name == "sudoku" and self.eval.sizes != (self.puzzle.size,):
            raise UserError(
                f"--eval.sizes {' '.join(map(str, self.eval.sizes))}: a network of Sudokus has one size; "
                f"take --eval.sizes {self.puzzle.size}"
            )


_BRIEF = TrainingConfig(num_steps=2000, batch_size=32)
_OPTIMIZER = CosineConfig(learning_rate=0.002, final_fraction=0.1)
DEFAULT = Config(training=_BRIEF, optimizer=_OPTIMIZER)
PRESETS = {
    "default": Preset(DEFAULT, "mazes of 9 x 9 cells, evaluated up to 49 x 49; 3 seeds of 4 networks"),
    "prefix_sums": Preset(
        dataclasses.replace(
            DEFAULT,
            puzzle=PuzzleConfig("prefix_sums", 32),
            eval=EvalConfig((32, 64, 128, 512), num_puzzles=100, max_steps=1024),
        ),
        "prefix sums of 32 bits, evaluated up to 512",
    ),
    "reachability": Preset(
        dataclasses.replace(
            DEFAULT,
            puzzle=PuzzleConfig("reachability", 16),
            eval=EvalConfig((16, 64, 256), num_puzzles=100, max_steps=256),
        ),
        "nodes that can be reached in graphs of 16 nodes, evaluated up to 256",
    ),
    "sudoku": Preset(
        dataclasses.replace(
            DEFAULT,
            networks=("recursive", "fixed_depth"),
            puzzle=PuzzleConfig("sudoku", 6),
            eval=EvalConfig((6,), num_puzzles=500, max_steps=256),
        ),
        "Sudokus of 6 x 6 cells, from 1,000 puzzles",
    ),
    "quick": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            networks=("recursive",),
            puzzle=PuzzleConfig(size=5),
            training=TrainingConfig(800, 32),
            eval=EvalConfig((5, 7), 50, 64),
        ),
        "mazes of 5 x 5 cells, evaluated up to 7 x 7, by one network; less than a minute on two cores",
    ),
    "smoke": Preset(
        dataclasses.replace(
            DEFAULT,
            seeds=1,
            puzzle=PuzzleConfig(size=4),
            model=ModelConfig(16, 16),
            training=TrainingConfig(100, 8),
            eval=EvalConfig((4, 5), 8, 32),
        ),
        "mazes of 4 x 4 cells, to see that everything runs",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/deep_thinking.py --preset smoke --artifacts artifacts/smoke",
    "./run_manual.sh local tasks/deep_thinking.py --networks recursive --seeds 1",
    "./run_manual.sh local tasks/deep_thinking.py --preset sudoku --artifacts artifacts/sudoku",
)
