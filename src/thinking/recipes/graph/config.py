"""Settings of planning on a graph. Free of JAX.

A guide is a hierarchical goal-conditioned planner.
"""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from thinking.experiment import Preset, RunConfig, group, option
from thinking.recipes.groups import DecoderConfig, OptimizerConfig, check_names

GuideName = Literal["table", "linear", "skip_transformer", "entropy_transformer"]
GUIDES: tuple[GuideName, ...] = get_args(GuideName)
Access = Literal["value", "score"]


@dataclasses.dataclass(frozen=True)
class RandomGraphConfig:
    """A random directed graph."""

    num_nodes: int = option(32, "nodes of the random graph", minimum=2, maximum=2**16)
    edge_probability: float = option(0.2, "probability of each directed edge of the random graph", above=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class GraphConfig(RandomGraphConfig):
    """A random directed graph, or one from a file."""

    path: Path | None = option(None, "read the graph from this edge list, .gml or .graphml instead")
    undirected: bool = option(False, "edges of the edge list have no direction; .gml and .graphml say it themselves")


@dataclasses.dataclass(frozen=True)
class WalksConfig:
    """Random walks, the only training data."""

    num_states: int | None = option(
        None, "states of a walk; None: 3 more than the longest shortest path, 8 to 64", minimum=2, maximum=1024
    )


@dataclasses.dataclass(frozen=True)
class GuideConfig:
    """Settings that all guides share."""

    num_layers: int = option(3, "layers of each guide", minimum=1, maximum=64)
    skip_step: int = option(2, "every n-th state of a walk is a sub-goal for the layer above", minimum=1, maximum=1024)
    entropy_statistic: Literal["counted", "learned"] = option(
        "counted", "visiting statistic by which entropy_transformer chooses sub-goals"
    )
    discount: float = option(0.8, "factor on a goal's score for each hop to it", above=0, below=1)
    context_length: int = option(1, "states that the guides recall, the present one included", minimum=1, maximum=1024)


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The guide of tables."""

    num_walks: int | None = option(
        None, "walks it learns from; None: 4 for each pair of nodes, at least 100,000", minimum=1, maximum=10**9
    )


@dataclasses.dataclass(frozen=True)
class LinearConfig:
    """The guide of linear memories."""

    num_cells: int = option(512, "memory cells", minimum=1, maximum=2**20)
    num_slots: int = option(16, "hypotheses per query (context and target)", minimum=1, maximum=4096)
    access: Access = option(
        "score", "slot that a training example updates: of the nearest value, or of its score's level"
    )
    optimizer: OptimizerConfig = group(
        OptimizerConfig(learning_rate=0.1), "Adam, whose learning rate falls to 0 along a cosine"
    )


@dataclasses.dataclass(frozen=True)
class TransformerConfig(DecoderConfig):
    """The guides of transformers."""

    num_layers: int = option(1, "transformer blocks in each layer of the guide", minimum=1, maximum=128)
    num_slots: int = option(32, "hypotheses per query (context and target)", minimum=1, maximum=4096)
    access: Access = option(
        "value", "slot that a training example updates: of the nearest value, or of its score's level"
    )
    optimizer: OptimizerConfig = group(
        OptimizerConfig(learning_rate=0.01), "Adam, whose learning rate falls to 0 along a cosine"
    )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Gradient training of the linear and transformer guides."""

    num_steps: int = option(1000, "training steps", minimum=1, maximum=10**9)
    batch_size: int = option(
        560, "training examples in each step, for each layer: as many whole walks as fit", minimum=1, maximum=2**20
    )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Planning between all pairs of nodes."""

    max_hops: int | None = option(
        None, "hops that a plan may take; None: 64, or twice the longest shortest path", minimum=1, maximum=2**16
    )


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Train hierarchical guides to plan on a graph, from random walks alone."""

    guides: tuple[GuideName, ...] = option(GUIDES, "guides to train", affects_weights=False)
    plan: tuple[str, str] | None = option(
        None, "FROM TO: print the plans of the trained guides between two nodes, and end", affects_weights=False
    )
    graph: GraphConfig = group(GraphConfig, "the directed graph to plan on: a random one, or one from a file")
    walks: WalksConfig = group(WalksConfig, "random walks on the graph, the only training data")
    guide: GuideConfig = group(GuideConfig, "settings that all guides share")
    table: TableConfig = group(TableConfig, "the guide whose layers are exact tables (guide table)")
    linear: LinearConfig = group(LinearConfig, "the guide whose layers are linear associative memories (guide linear)")
    transformer: TransformerConfig = group(
        TransformerConfig, "the guides whose layers are transformers (skip_transformer and entropy_transformer)"
    )
    training: TrainingConfig = group(TrainingConfig, "gradient training of the linear and transformer guides")
    eval: EvalConfig = group(EvalConfig, "evaluation: plans between all pairs of nodes", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError unless at least one guide is named, and each once."""
        check_names(self.guides, "--guides", GUIDES)


PRESETS = {
    "default": Preset(Config(), "32 nodes, all four guides; two minutes on two cores"),
    "quick": Preset(
        Config(
            guides=("table", "skip_transformer"),
            graph=GraphConfig(num_nodes=16),
            training=TrainingConfig(num_steps=300),
        ),
        "16 nodes and two guides; less than a minute on two cores",
    ),
    "smoke": Preset(
        Config(
            graph=GraphConfig(num_nodes=8, edge_probability=0.3),
            table=TableConfig(num_walks=200),
            transformer=TransformerConfig(width=16),
            training=TrainingConfig(num_steps=20, batch_size=64),
        ),
        "8 nodes and 20 steps, to see that everything runs",
    ),
}
EXAMPLES = (
    "./run_manual.sh local tasks/simple.py --preset smoke",
    "./run_manual.sh local tasks/simple.py --plan 1 29",
    "./run_manual.sh local tasks/simple.py --graph.path my.graphml --guides table linear",
    "./run_manual.sh local tasks/simple.py --graph.num-nodes 64 --graph.edge-probability 0.1",
)
