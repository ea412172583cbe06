"""The guides that are compared, each with the same kernel in all layers.

A guide is a hierarchical goal-conditioned planner. A kernel is the learner of one of its layers: pure functions, as an
optax transformation is a pair.
"""

import optax

from thinking import kernels
from thinking.guide import Guide, abstraction, guide, monte_carlo
from thinking.guide.abstraction import Abstraction
from thinking.kernels import Kernel
from thinking.recipes.graph.config import Config, GuideName, OptimizerConfig

_ACCESS = {"value": kernels.value_access, "score": kernels.score_access}


def make_guide(config: Config, name: GuideName, num_nodes: int) -> Guide:
    """The guide of a name, for a graph with `num_nodes` nodes."""
    nodes = kernels.Discrete(num_nodes)
    return guide(
        layers=[_make_kernel(config, name, nodes)] * config.guide.num_layers,
        abstraction=_make_abstraction(config, name, nodes),
        scoring=monte_carlo(config.guide.discount),
    )


def _make_kernel(config: Config, name: GuideName, nodes: kernels.Discrete) -> Kernel:
    spaces = {"input": nodes, "value": nodes, "target": nodes, "context_length": config.guide.context_length}
    if name == "table":
        return kernels.table(**spaces)
    if name == "linear":
        return kernels.linear(
            **spaces,
            optimizer=_adam(config.linear.optimizer, config.training.num_steps),
            num_cells=config.linear.num_cells,
            num_slots=config.linear.num_slots,
            learning=_ACCESS[config.linear.access](),
        )
    return kernels.transformer(
        **spaces,
        optimizer=_adam(config.transformer.optimizer, config.training.num_steps),
        width=config.transformer.width,
        num_heads=config.transformer.num_heads,
        num_blocks=config.transformer.num_layers,
        num_slots=config.transformer.num_slots,
        learning=_ACCESS[config.transformer.access](),
    )


def _make_abstraction(config: Config, name: GuideName, nodes: kernels.Discrete) -> Abstraction:
    if name != "entropy_transformer":
        return abstraction.skip_step(config.guide.skip_step)
    if config.guide.entropy_statistic == "counted":
        return abstraction.visit_counts(nodes)
    return abstraction.visit_density(nodes, optax.adam(1e-2))


def _adam(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps))
