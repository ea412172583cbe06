"""What tags buy where two nodes look alike: one guide with true tags, without, with random ones, with more context.

Axes: S worlds (one a seed, all at once by vmap), P pairs of a start and a goal, K tags.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking import kernels
from thinking.environments.aliased_graph import Aliased, aliased_walks, aliased_world, optimal_hops
from thinking.experiment.folder import Run
from thinking.experiment.results import write_results
from thinking.experiment.training import Trained, train
from thinking.guide import Guide, GuideState, Path, Plan, guide, monte_carlo
from thinking.guide.abstraction import skip_step
from thinking.guide.react import pursue
from thinking.guide.tagging import Tagging, drawn, tagged_space, visits
from thinking.types import Array

Choose = Callable[[Array, Array], Tagging | None]
"""`choose(frequencies [K], key) -> Tagging`, for a world in which true tags are that frequent; None for no tags."""

SEEDS = 5
TAGS = 8
BATCH = 25  # walks in a step
WALK_STATES = 64
HORIZON = 32  # hops to the farthest goal that a lesson is about
REFUSED = 0.25  # how often a walk's action is named among all observations
HOPS = (64, 8)  # that the guide may take: many, and so few that wandering about does not help


class Condition(NamedTuple):
    """One thing compared.

    Attributes:
        choose: the tagging.
        tags: K.
        context_length: C.
    """

    choose: Choose
    tags: int = TAGS
    context_length: int = 1


CONDITIONS = {
    "tags": Condition(lambda frequencies, key: visits(TAGS)),
    "tags 0, 1, 2 or more": Condition(lambda frequencies, key: visits(3, cyclic=False), tags=3),
    "tags zeroed": Condition(lambda frequencies, key: drawn(jnp.eye(TAGS)[0], key)),
    "tags shuffled": Condition(drawn),
    "tags drawn evenly": Condition(lambda frequencies, key: drawn(jnp.full(TAGS, 1 / TAGS), key)),
    "no tags, context 2": Condition(lambda frequencies, key: None, tags=1, context_length=2),
}


def study(run: Run, nodes: int, edge_probability: float, seed: int, walks: int) -> None:
    """Train and compare all conditions, and write the results.

    Args:
        run: the run.
        nodes: that look like one other; a quarter as many goals are added.
        edge_probability: of the random graphs.
        seed: of the first world.
        walks: that the guides of each world see, once for each tag.
    """
    worlds = [aliased_world(nodes // 2, max(1, nodes // 4), edge_probability, seed + i) for i in range(SEEDS)]
    optimum = np.stack([optimal_hops(world) for world in worlds])  # [S, N, G]
    world = jax.tree.map(lambda *leaves: jnp.stack(leaves), *worlds)
    key = jax.random.key(seed)
    walked = jax.vmap(lambda world: aliased_walks(world, key, 100, WALK_STATES, REFUSED)[0])(world)
    # Shuffled tags are as frequent as true ones, in training and in acting.
    lived = jax.vmap(lambda seen: _frequencies(seen, jnp.ones_like(seen, bool)))(walked)
    acted = lived
    rows, states = [], {}
    for name, condition in CONDITIONS.items():
        trained = _teach(run, name, condition, world, lived, key, -(-walks // BATCH))
        states[name] = trained.state
        for hops in HOPS:
            plans = _act(condition, trained.state, world, acted, jax.random.fold_in(key, 1), hops)
            rows.append({"set": name, "mode": "react", "max_hops": hops, **_figures(plans, optimum)})
            if name == "tags" and hops == HOPS[0]:
                acted = jax.vmap(_acted)(world, plans)
        run.log(f"{name}: {rows[-len(HOPS)]['solved_fraction']:.1%} solved")
    write_results(run, rows, states, seeds=SEEDS, walks=walks)


def _guide(condition: Condition, world: Aliased, frequencies: Array, key: Array) -> tuple[Guide, Tagging | None]:
    tagging = condition.choose(frequencies, key)
    shown = kernels.Discrete(world.observations)
    layer = kernels.table(
        input=tagged_space(shown, tagging), value=shown, target=shown, context_length=condition.context_length
    )
    memory = None if tagging is None else HOPS[0]
    return guide(
        layers=[layer],
        abstraction=skip_step(2),
        scoring=monte_carlo(0.9),
        horizon=HORIZON,
        tagging=tagging,
        memory=memory,
    ), tagging


def _teach(
    run: Run, name: str, condition: Condition, worlds: Aliased, lived: Array, key: Array, batches: int
) -> Trained:
    """Teach the guides of all worlds: the same walks once for each tag, as a tag builds on what lower ones answer."""

    def observe(state: GuideState, world: Aliased, frequencies: Array, index: Array) -> tuple[GuideState, dict]:
        pupil, tagging = _guide(condition, world, frequencies, key)
        walk_key = jax.random.fold_in(key, index % batches)
        seen, length = aliased_walks(world, walk_key, BATCH, WALK_STATES, REFUSED)
        weight = None
        if tagging is not None:
            tags = jax.vmap(tagging.tag)(seen, jnp.ones_like(seen, bool))
            weight = (tags <= index // batches).astype(jnp.float32)
        return pupil.observe(state, Path(seen, length, weight=weight))

    def step(state: GuideState, index: Array) -> tuple[GuideState, dict[str, Array]]:
        state, metrics = jax.vmap(observe, in_axes=(0, 0, 0, None))(state, worlds, lived, index)
        return state, {"written": jnp.mean(metrics["written/0"])}

    def init() -> GuideState:
        return jax.jit(jax.vmap(lambda world, p: _guide(condition, world, p, key)[0].init(key)))(worlds, lived)

    stage = re.sub("[^a-z0-9]+", "_", name)
    return train(run, stage, init=init, step=step, steps=batches * condition.tags, chunk=batches, watch="written")


def _act(condition: Condition, states: GuideState, worlds: Aliased, acted: Array, key: Array, hops: int) -> Plan:
    """React from every node to every goal in every world: a plan with axes [S, N * G, ...]."""

    def solve(state: GuideState, world: Aliased, frequencies: Array) -> Plan:
        pupil, _ = _guide(condition, world, frequencies, key)
        start = jnp.repeat(jnp.arange(world.shows.shape[0]), world.goals.shape[0])
        goal = jnp.tile(world.goals, world.shows.shape[0])
        return pursue(
            lambda memory, target: pupil.react(state, memory, target),
            pupil.remember(start.shape[0]),
            start,
            world.shows[goal],
            observe=lambda node: world.shows[node],
            step=lambda node, action: world.leads[node, action],
            at_goal=lambda node: node == goal,
            max_hops=hops,
        )

    return jax.jit(jax.vmap(solve))(states, worlds, acted)


def _frequencies(seen: Array, counts: Array) -> Array:
    """[K] how frequent each true tag is among observations [B, T] that count."""
    tags = jax.vmap(visits(TAGS).tag)(seen, jnp.ones_like(seen, bool))
    number = jnp.bincount(jnp.where(counts, tags, TAGS).ravel(), length=TAGS + 1)[:TAGS]
    return number / jnp.sum(number)


def _acted(world: Aliased, plan: Plan) -> Array:
    """[K] how frequent each true tag is where the guide acts."""
    seen = world.shows[plan.states[:, :-1]]
    return _frequencies(seen, jnp.arange(seen.shape[1])[None] < plan.hops[:, None])


def _figures(plans: Plan, optimum: np.ndarray) -> dict[str, int | float]:
    """Figures over all worlds; `optimum` [S, N, G]. The world sees to it that a hop is an edge or a refused move."""
    best = optimum.reshape(len(optimum), -1)
    counted = np.isfinite(best) & (best > 0)
    solved = np.asarray(plans.arrived) & counted
    fractions = solved.sum(1) / counted.sum(1)
    hops = np.asarray(plans.hops)
    return {
        "pairs": int(counted.sum()),
        "solved": int(solved.sum()),
        "solved_fraction": float(fractions.mean()),
        "solved_fraction_std": float(fractions.std(ddof=1)),
        "mean_length_ratio": float((hops[solved] / best[solved]).mean()),
    }
