"""Settings of planning with aliased observations. Free of JAX.

A guide is a hierarchical goal-conditioned planner.
"""

import dataclasses

from thinking.errors import UserError
from thinking.experiment import Preset, field_error, group, option
from thinking.recipes.graph.config import RandomGraphConfig
from thinking.recipes.groups import SeedsConfig


@dataclasses.dataclass(frozen=True)
class AliasedGraphConfig(RandomGraphConfig):
    """A random directed graph in which two nodes share each observation, except at goals."""

    num_nodes: int = option(32, "nodes, each of which looks like one other; a quarter as many goal nodes are added")

    def validate(self) -> None:
        """Raises UserError for an odd number of nodes."""
        if self.num_nodes % 2:
            raise field_error("num_nodes", "an even number", suggestion=self.num_nodes - 1)


@dataclasses.dataclass(frozen=True)
class WalksConfig:
    """Random walks, the only training data."""

    num_walks: int = option(
        500, "walks that each guide learns from, one pass for each tag value", minimum=1, maximum=10**9
    )
    num_states: int = option(64, "states of a walk", minimum=2, maximum=1024)
    random_fraction: float = option(
        0.25, "fraction of actions drawn from all observations, most of which lead nowhere", minimum=0, maximum=1
    )


@dataclasses.dataclass(frozen=True)
class GuideConfig:
    """A guide of one table."""

    num_tags: int = option(
        8,
        "different tags; a tag counts how often an observation was met since the goal was set",
        minimum=1,
        maximum=256,
    )
    horizon: int = option(32, "steps to the farthest goal that is learned", minimum=1, maximum=1024)
    discount: float = option(0.9, "factor on a goal's score for each hop to it", above=0, below=1)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Training on all walks, one pass for each tag value."""

    batch_size: int = option(25, "walks in a training step", minimum=1, maximum=2**20)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Closed-loop planning from every node to every goal."""

    max_hops: tuple[int, ...] = option(
        (64, 8), "hops that the guide may take; each budget is evaluated by itself", minimum=1, maximum=4096
    )

    def validate(self) -> None:
        """Raises UserError unless at least one number is given, and each once."""
        if not self.max_hops or len(set(self.max_hops)) < len(self.max_hops):
            given = " ".join(map(str, self.max_hops)) or "without a value"
            raise UserError(f"--max-hops {given}: give at least one number, each once; take 64 8")


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Compare guides with tags, with random tags and without tags, where two nodes look alike."""

    seeds: int = option(
        5,
        "random graphs, one for each of the seeds --seed, --seed + 1, ...; all are trained at once",
        minimum=2,
        maximum=1024,
    )
    graph: AliasedGraphConfig = group(
        AliasedGraphConfig, "the random graphs, in which pairs of nodes share an observation"
    )
    walks: WalksConfig = group(WalksConfig, "random walks on the graphs, the only training data")
    guide: GuideConfig = group(GuideConfig, "the guide: one layer, an exact table")
    training: TrainingConfig = group(TrainingConfig, "training of each guide on all of its walks")
    eval: EvalConfig = group(EvalConfig, "evaluation: reacting from every node to every goal", affects_weights=False)


PRESETS = {
    "default": Preset(Config(), "5 graphs of 32 nodes and 8 goals; one minute on two cores"),
    "quick": Preset(
        Config(
            seeds=2,
            graph=AliasedGraphConfig(num_nodes=16),
            walks=WalksConfig(num_walks=200),
            guide=GuideConfig(num_tags=4),
            eval=EvalConfig((8,)),
        ),
        "2 graphs of 16 nodes and 4 goals; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(graph=AliasedGraphConfig(num_nodes=8, edge_probability=0.3), walks=WalksConfig(num_walks=200)),
        "8 nodes and 2 goals, to see that everything runs",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/graph_aliased.py --preset smoke",
    "./run_manual.sh local tasks/graph_aliased.py --eval.max-hops 64 16 8",
    "./run_manual.sh local tasks/graph_aliased.py --seeds 10 --graph.num-nodes 64",
)
