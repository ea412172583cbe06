"""Training of a guide on random walks; the walks are a function of seed and step."""

import jax
import jax.numpy as jnp

from thinking.environments.graph import Graph, sample_walks
from thinking.environments.graph_plans import NodePairs
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.guide import Guide, GuideState, Trajectories
from thinking.guide.hindsight import make_goal_pairs
from thinking.recipes.graph.config import Config, GuideName
from thinking.recipes.graph.evaluation import spot_check
from thinking.recipes.graph.planners import think_planner
from thinking.types import Array, Measured, Metrics

EVAL_INTERVAL = 20
"""Training steps between two evaluations; the last step is evaluated too."""
TABLE_BATCH_SIZE = 4096
"""Walks per step of the tables."""


def train_guide(
    config: Config, run: Run, name: GuideName, guide: Guide, graph: Graph, pairs: NodePairs, num_states: int
) -> TrainResult:
    """Train one of the guides that are compared, or restore it.

    Args:
        config, run: settings, and where checkpoints and metrics go.
        name, guide: the guide, and its name.
        graph: the graph.
        pairs: pairs of nodes, some of which are planned for the metric `eval/solved_fraction`.
        num_states: states of a walk.

    Returns:
        The result; its state is the `GuideState`.
    """
    key = jax.random.key(config.seed)
    num_walks, steps = _training_sizes(config, name, graph.degree.shape[0], num_states)

    def solved_fraction(state: GuideState) -> Array:
        return spot_check(graph, think_planner(guide, state, 2 * num_states), pairs)

    def step(state: GuideState, index: Array) -> tuple[GuideState, Metrics]:
        walks = sample_walks(graph, jax.random.fold_in(key, index), num_walks, num_states)
        state, metrics = guide.observe(state, Trajectories(*walks))
        is_due = (index % EVAL_INTERVAL == EVAL_INTERVAL - 1) | (index == steps - 1)
        solved = jax.lax.cond(is_due, solved_fraction, lambda _: jnp.zeros(()), state)
        return state, metrics | {"eval/solved_fraction": Measured(solved, is_due)}

    return train(
        run,
        name,
        init=lambda: jax.jit(guide.init)(key),
        step=step,
        num_steps=steps,
        chunk_size=EVAL_INTERVAL,
        progress_metric="eval/solved_fraction",
    )


def _training_sizes(config: Config, name: GuideName, num_nodes: int, num_states: int) -> tuple[int, int]:
    """Walks per step, and number of steps."""
    if name == "table":
        num_walks = config.table.num_walks or max(100_000, 4 * num_nodes**2)
        return TABLE_BATCH_SIZE, -(-num_walks // TABLE_BATCH_SIZE)
    examples_per_walk = len(make_goal_pairs(num_states, None)[0])
    return max(1, config.training.batch_size // examples_per_walk), config.training.num_steps
