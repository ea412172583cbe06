"""A trained guide as a value: what is exported of a run, and what plans."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.errors import UserError
from thinking.experiment.cards import CardTexts
from thinking.guide import Guide, GuideState, Plan
from thinking.recipes.graph.config import Config
from thinking.recipes.graph.model import make_guide
from thinking.train_state import drop_training

MAX_HOPS = 64
"""Most hops of a plan, unless another number is given."""

CARD = CardTexts(
    summary="A guide, a hierarchical planner, that plans between the nodes of one random directed graph.",
    data="Random walks on that graph, which `graph` and `seed` in `config.json` determine. Nothing else: no plan was "
    "shown, and no shortest path.",
    limits="It knows this one graph. It plans without looking, so a plan may take an edge that is none.",
    usage="print(model.plan(0, model.config.graph.num_nodes - 1))",
)
"""What the model card says."""


class GraphGuide(NamedTuple):
    """A trained guide.

    Attributes:
        config: of its training.
        model: the guide's pure functions.
        params: its state, without what training alone needs.
    """

    config: Config
    model: Guide
    params: GuideState

    def think(self, start: int, goal: int, max_hops: int = MAX_HOPS) -> Plan:
        """The open-loop plan between two nodes, a batch of one.

        Raises:
            ValueError: there is no such node.
        """
        for node in (start, goal):
            if not 0 <= node < self.config.graph.num_nodes:
                raise ValueError(f"node {node}: allowed are 0 to {self.config.graph.num_nodes - 1}")
        plan = jax.jit(self.model.think, static_argnames="max_hops")
        return plan(self.params, jnp.array([start]), jnp.array([goal]), max_hops=max_hops)

    def plan(self, start: int, goal: int) -> list[int]:
        """The nodes of the open-loop plan between two nodes, both included; it ends elsewhere if the guide fails.

        Raises:
            ValueError: there is no such node.
        """
        plan = self.think(start, goal)
        return np.asarray(plan.states)[0, : int(plan.hops[0]) + 1].tolist()


def select(config: Config) -> Config:
    """The config of the one guide that is exported: `skip_transformer`, or else the first.

    Raises:
        UserError: the graph is read from a file, which an export does not hold.
    """
    if config.graph.path is not None:
        raise UserError(
            f"--graph.path {config.graph.path}: only guides of random graphs can be exported and loaded; leave it out"
        )
    name = "skip_transformer" if "skip_transformer" in config.guides else config.guides[0]
    return dataclasses.replace(config, guides=(name,), plan=None)


def describe_params(config: Config) -> GuideState:
    """Shapes and types of the guide's state."""
    guide = _make_guide(config)
    # Planning looks at no abstraction.
    return drop_training(jax.eval_shape(guide.init, jax.random.key(0)))._replace(abstraction=())


def read_params(config: Config, folder: Path) -> GuideState:
    """The guide's state of a finished run.

    Raises:
        RunError: the checkpoint is missing, damaged, or does not fit.
    """
    from thinking.experiment.checkpoint import read_part  # Orbax takes a second to import

    config = select(config)
    return read_part(folder / "checkpoints" / config.guides[0], describe_params(config))


def build(config: Config, params: GuideState) -> GraphGuide:
    """The trained guide."""
    return GraphGuide(config, _make_guide(config), params)


@functools.lru_cache(maxsize=4)
def _make_guide(config: Config) -> Guide:
    return make_guide(config, config.guides[0], config.graph.num_nodes)
