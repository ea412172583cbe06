"""Evaluation of planners on a graph: a pair is solved if every hop is an edge and the plan ends at the goal.

Axes: P pairs, B pairs per batch.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import batch_indices
from thinking.environments.graph import Graph, is_edge
from thinking.environments.graph_plans import NodePairs, is_valid_plan
from thinking.guide import Plan
from thinking.recipes.graph.planners import Planner
from thinking.types import Array


class Evaluation(NamedTuple):
    """The results of a planner.

    Attributes:
        solved: [P] bool.
        hops: [P] int32, valid where solved.
        seconds: for planning all pairs, without compilation.
    """

    solved: np.ndarray
    hops: np.ndarray
    seconds: float


def evaluate(graph: Graph, planner: Planner, pairs: NodePairs, batch_size: int = 2**15) -> Evaluation:
    """Plan all pairs, `batch_size` at a time, and verify every plan.

    The last batch is filled up with other pairs, so that one compilation serves all.
    """
    count = pairs.start.size
    batch_size = min(batch_size, count)
    batches = batch_indices(count, batch_size)
    inputs = [(jnp.asarray(pairs.start[part]), jnp.asarray(pairs.goal[part])) for part in batches]
    jax.block_until_ready(run_planner(planner, *inputs[0]))  # compiles
    seconds, columns = 0.0, []
    for part in inputs:
        begin = time.perf_counter()
        plan = jax.block_until_ready(run_planner(planner, *part))
        seconds += time.perf_counter() - begin
        valid = is_valid_plan(graph, plan.states, plan.hops, plan.arrived)
        columns.append(jax.device_get((valid, plan.hops)))
    solved, hops = (np.concatenate(column)[:count] for column in zip(*columns, strict=True))
    return Evaluation(solved, hops, seconds * count / batches.size)


@jax.jit
def run_planner(planner: Planner, start: Array, goal: Array) -> Plan:
    """The plans of a planner from `start` [B] to `goal` [B], as one compiled program."""
    return planner(start, goal)


def compute_metrics(evaluation: Evaluation, pairs: NodePairs) -> dict[str, int | float | None]:
    """Metrics of a row of results; a ratio is None where no pair was solved."""
    ratios = compute_length_ratios(evaluation, pairs)
    return {
        "num_pairs": int(pairs.start.size),
        "num_solved": int(evaluation.solved.sum()),
        "solved_fraction": float(evaluation.solved.mean()),
        "mean_length_ratio": float(ratios.mean()) if ratios.size else None,
        "plans_per_second": pairs.start.size / evaluation.seconds,
    }


def compute_length_ratios(evaluation: Evaluation, pairs: NodePairs) -> np.ndarray:
    """Planned over optimal hops, for solved pairs."""
    return evaluation.hops[evaluation.solved] / pairs.optimal_hops[evaluation.solved]


def find_hardest_solved(evaluation: Evaluation, pairs: NodePairs) -> tuple[Array, Array] | None:
    """The solved pair with the longest shortest path, as start [1] and goal [1]; None if nothing was solved."""
    if not evaluation.solved.any():
        return None
    index = int(np.argmax(np.where(evaluation.solved, pairs.optimal_hops, -1)))
    return jnp.asarray(pairs.start[index : index + 1]), jnp.asarray(pairs.goal[index : index + 1])


def spot_check(graph: Graph, planner: Planner, pairs: NodePairs, count: int = 128) -> Array:
    """Fraction of `count` evenly spaced pairs that a planner solves; a traceable scalar."""
    chosen = np.linspace(0, pairs.start.size - 1, count).astype(int)
    plan = planner(jnp.asarray(pairs.start[chosen]), jnp.asarray(pairs.goal[chosen]))
    return jnp.mean(is_valid_plan(graph, plan.states, plan.hops, plan.arrived))


def compute_optimum_metrics(pairs: NodePairs) -> dict[str, int | float]:
    """Metrics of the shortest paths themselves."""
    count = int(pairs.start.size)
    shortest = {"num_solved": count, "solved_fraction": 1.0, "mean_length_ratio": 1.0}
    return {"num_pairs": count, **shortest, "plans_per_second": count / pairs.seconds}


def describe(graph: Graph, names: list[str], plan: Plan) -> list[dict[str, str]]:
    """The first plan of a batch hop by hop, with the sub-goal of each layer; nodes by name.

    Returns:
        One mapping for each hop: `hop`, `from`, `to`, `edge`, then the sub-goals from the layer below the top down.
    """
    states = np.asarray(plan.states[0])
    rows = []
    for hop in range(int(plan.hops[0])):
        has_edge = bool(is_edge(graph, plan.states[:1, hop], plan.states[:1, hop + 1])[0])
        sub_goals = {
            f"sub-goal of layer {layer + 1}": names[int(targets[0, hop])]
            for layer, targets in reversed(list(enumerate(plan.targets[:-1])))
        }
        row = {"hop": str(hop + 1), "from": names[states[hop]], "to": names[states[hop + 1]]}
        rows.append(row | {"edge": "yes" if has_edge else "NO"} | sub_goals)
    return rows
