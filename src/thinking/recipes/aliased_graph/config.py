"""Settings of planning where two nodes look alike. Free of JAX."""

import dataclasses

from thinking.errors import UserError
from thinking.experiment import Preset, group, invalid, option
from thinking.recipes.graph.config import RandomGraphConfig
from thinking.recipes.groups import SeedsConfig


@dataclasses.dataclass(frozen=True)
class AliasedGraphConfig(RandomGraphConfig):
    """A random directed graph in which every observation but those of goals has two nodes."""

    num_nodes: int = option(32, "nodes that look like one other; a quarter as many goals are added")

    def validate(self) -> None:
        """Raises UserError if one node would look like no other."""
        if self.num_nodes % 2:
            raise invalid("num_nodes", "an even number", take=self.num_nodes - 1)


@dataclasses.dataclass(frozen=True)
class WalksConfig:
    """Random walks, which are all that a guide learns from."""

    num_walks: int = option(500, "walks that the guide of a world sees, once for each tag", minimum=1, maximum=10**9)
    num_states: int = option(64, "states of a walk", minimum=2, maximum=1024)
    batch_size: int = option(25, "walks in a training step", minimum=1, maximum=2**20)
    random_fraction: float = option(
        0.25, "fraction of actions drawn from all observations, most of which lead nowhere", minimum=0, maximum=1
    )


@dataclasses.dataclass(frozen=True)
class GuideConfig:
    """A guide of one table."""

    num_tags: int = option(8, "tags: how often an observation was met since the goal was set", minimum=1, maximum=256)
    horizon: int = option(32, "steps to the farthest goal that is learned", minimum=1, maximum=1024)
    discount: float = option(0.9, "factor on a goal's score for each hop to it", above=0, below=1)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Reacting from every node to every goal."""

    max_hops: tuple[int, ...] = option(
        (64, 8), "hops that the guide may take; each number has rows of its own", minimum=1, maximum=4096
    )

    def validate(self) -> None:
        """Raises UserError if no number is given, or one twice."""
        if not self.max_hops or len(set(self.max_hops)) < len(self.max_hops):
            given = " ".join(map(str, self.max_hops)) or "without a value"
            raise UserError(f"--max-hops {given}: give at least one number, each once; take 64 8")


@dataclasses.dataclass(frozen=True)
class Config(SeedsConfig):
    """Compare guides with tags, with false tags and without tags, where two nodes look alike."""

    seeds: int = option(5, "worlds, of seeds from --seed on; all are trained at once", minimum=2, maximum=1024)
    graph: AliasedGraphConfig = group(AliasedGraphConfig, "the worlds")
    walks: WalksConfig = group(WalksConfig, "random walks, the only experience")
    guide: GuideConfig = group(GuideConfig, "a guide of one table")
    eval: EvalConfig = group(EvalConfig, "reacting from every node to every goal", affects_weights=False)


PRESETS = {
    "default": Preset(Config(), "32 nodes and 8 goals, 5 worlds; one minute on two cores"),
    "smoke": Preset(
        Config(graph=AliasedGraphConfig(num_nodes=8, edge_probability=0.3), walks=WalksConfig(num_walks=200)),
        "8 nodes and 2 goals, to see that everything runs",
    ),
}
EXAMPLES = (
    "python tasks/graph_aliased.py --preset smoke --artifacts artifacts/smoke",
    "python tasks/graph_aliased.py --eval.max-hops 64 16 8",
    "python tasks/graph_aliased.py --seeds 10 --graph.num-nodes 64 --artifacts artifacts/64",
)
