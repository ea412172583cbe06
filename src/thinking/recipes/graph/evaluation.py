"""Judging plans on a graph: a plan counts only if every hop is an edge and it ends at the goal.

Axes: P pairs, B pairs planned in one call, H hops allowed.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax.tree_util import Partial

from thinking.batching import full_batches
from thinking.environments.graph import Graph, is_edge, random_step, step
from thinking.guide import Guide, GuideState, Plan
from thinking.guide.plan import roll
from thinking.guide.react import pursue
from thinking.types import Array

Planner = Partial
"""`planner(start [B], goal [B]) -> Plan`; a PyTree that carries what it knows, so that jitted functions may take it."""


class Pairs(NamedTuple):
    """All ordered pairs of nodes with a path between them, a node and itself included.

    Attributes:
        start: [P] int32.
        goal: [P] int32.
        optimum: [P] int32, hops of a shortest path.
        unreachable: how many ordered pairs have no path.
        seconds: that networkx took to find all shortest paths.
    """

    start: np.ndarray
    goal: np.ndarray
    optimum: np.ndarray
    unreachable: int
    seconds: float


class Evaluation(NamedTuple):
    """How a planner did.

    Attributes:
        solved: [P] bool.
        hops: [P] int32, meaningful where solved.
        seconds: for planning all pairs, compilation apart.
    """

    solved: np.ndarray
    hops: np.ndarray
    seconds: float


def reachable_pairs(graph: nx.DiGraph) -> Pairs:
    """Every pair that has a path, with the optimum found by networkx."""
    number = {node: index for index, node in enumerate(graph)}
    begin = time.perf_counter()
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    seconds = time.perf_counter() - begin
    rows = [(number[start], number[goal], hops) for start, ends in lengths.items() for goal, hops in ends.items()]
    start, goal, optimum = np.array(rows, np.int32).T
    return Pairs(start, goal, optimum, len(graph) ** 2 - len(rows), seconds)


@jax.jit
def valid_plans(graph: Graph, plan: Plan) -> Array:
    """[B] bool, whether a plan arrived and every hop of it is an edge."""

    def check(hop: Array, valid: Array) -> Array:
        return valid & (is_edge(graph, plan.states[:, hop], plan.states[:, hop + 1]) | (hop >= plan.hops))

    # Only as many hops are looked at as the longest plan has.
    return jax.lax.fori_loop(0, jnp.max(plan.hops), check, plan.arrived)


def evaluate(graph: Graph, planner: Planner, pairs: Pairs, batch: int = 2**15) -> Evaluation:
    """Plan all pairs, `batch` at a time, and check every plan.

    The last batch is filled up with other pairs, so that one compilation serves all.
    """
    count = pairs.start.size
    batch = min(batch, count)
    filled = full_batches(count, batch)
    inputs = [(jnp.asarray(pairs.start[part]), jnp.asarray(pairs.goal[part])) for part in filled]
    jax.block_until_ready(_planned(planner, *inputs[0]))  # compiles
    seconds, judged = 0.0, []
    for part in inputs:
        begin = time.perf_counter()
        plan = jax.block_until_ready(_planned(planner, *part))
        seconds += time.perf_counter() - begin
        judged.append(jax.device_get((valid_plans(graph, plan), plan.hops)))
    solved, hops = (np.concatenate(column)[:count] for column in zip(*judged, strict=True))
    return Evaluation(solved, hops, seconds * count / filled.size)


@jax.jit
def _planned(planner: Planner, start: Array, goal: Array) -> Plan:
    return planner(start, goal)


def figures(evaluation: Evaluation, pairs: Pairs) -> dict[str, int | float | None]:
    """The figures of a row of results; a ratio is None where no pair of two nodes was solved."""
    ratios = length_ratios(evaluation, pairs)
    return {
        "pairs": int(pairs.start.size),
        "solved": int(evaluation.solved.sum()),
        "solved_fraction": float(evaluation.solved.mean()),
        "mean_length_ratio": float(ratios.mean()) if ratios.size else None,
        "plans_per_second": pairs.start.size / evaluation.seconds,
    }


def length_ratios(evaluation: Evaluation, pairs: Pairs) -> np.ndarray:
    """Planned over optimal hops, for the solved pairs of two different nodes."""
    counted = evaluation.solved & (pairs.start != pairs.goal)
    return evaluation.hops[counted] / pairs.optimum[counted]


def hardest_solved(evaluation: Evaluation, pairs: Pairs) -> tuple[Array, Array] | None:
    """The solved pair of the longest shortest path, as start [1] and goal [1]; None where nothing was solved."""
    if not evaluation.solved.any():
        return None
    index = int(np.argmax(np.where(evaluation.solved, pairs.optimum, -1)))
    return jnp.asarray(pairs.start[index : index + 1]), jnp.asarray(pairs.goal[index : index + 1])


def spot_check(graph: Graph, planner: Planner, pairs: Pairs, count: int = 128) -> Array:
    """Share of so many pairs, spread over all, that a planner solves; traceable, so that training may watch it."""
    chosen = np.linspace(0, pairs.start.size - 1, count).astype(int)
    plan = planner(jnp.asarray(pairs.start[chosen]), jnp.asarray(pairs.goal[chosen]))
    return jnp.mean(valid_plans(graph, plan))


def optimum_figures(pairs: Pairs) -> dict[str, int | float]:
    """The figures of the shortest paths themselves."""
    count = int(pairs.start.size)
    shortest = {"solved": count, "solved_fraction": 1.0, "mean_length_ratio": 1.0}
    return {"pairs": count, **shortest, "plans_per_second": count / pairs.seconds}


def thinker(guide: Guide, state: GuideState, max_hops: int) -> Planner:
    """The guide as a planner that does not look."""
    return Partial(lambda state, start, goal: guide.think(state, start, goal, max_hops=max_hops), state)


def reactor(guide: Guide, state: GuideState, max_hops: int, graph: Graph) -> Planner:
    """The guide as a planner that looks where it is before every hop."""

    def plan(state: GuideState, graph: Graph, start: Array, goal: Array) -> Plan:
        return pursue(
            lambda memory, goal: guide.react(state, memory, goal),
            guide.remember(start.shape[0]),
            start,
            goal,
            observe=lambda node: node,
            step=lambda node, value: step(graph, node, value),
            at_goal=lambda node: node == goal,
            max_hops=max_hops,
        )

    return Partial(plan, state, graph)


def random_planner(graph: Graph, key: Array, max_hops: int) -> Planner:
    """The planner to beat: takes random edges until it happens upon the goal. Consumes the key."""

    def plan(graph: Graph, key: Array, start: Array, goal: Array) -> Plan:
        def advance(key: Array, node: Array, alive: Array) -> tuple[Array, Array, tuple[Array, ...]]:
            key, step_key = jax.random.split(key)
            return key, random_step(graph, step_key, node), (goal,)

        return roll(advance, key, start, lambda node: node == goal, max_hops)

    return Partial(plan, graph, key)


def describe(graph: Graph, names: list[str], plan: Plan) -> list[dict[str, str]]:
    """The first plan of a batch hop by hop, with what each layer pursued; names in place of numbers.

    Returns:
        One mapping for each hop: `hop`, `from`, `to`, `edge`, then the sub-goals from the layer below the top down.
    """
    path = np.asarray(plan.states[0])
    rows = []
    for hop in range(int(plan.hops[0])):
        known = bool(is_edge(graph, plan.states[:1, hop], plan.states[:1, hop + 1])[0])
        pursued = {
            f"sub-goal of layer {layer + 1}": names[int(targets[0, hop])]
            for layer, targets in reversed(list(enumerate(plan.targets[:-1])))
        }
        step = {"hop": str(hop + 1), "from": names[path[hop]], "to": names[path[hop + 1]]}
        rows.append(step | {"edge": "yes" if known else "NO"} | pursued)
    return rows
