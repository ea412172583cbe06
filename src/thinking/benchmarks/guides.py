"""Plans and training steps per second of whole guides, and what saving costs."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path as Folder
from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking import kernels
from thinking.environments import graph, graph_plans
from thinking.experiment import Run
from thinking.experiment.device import best_seconds
from thinking.experiment.training import train
from thinking.guide import Guide, Path, abstraction, guide
from thinking.recipes.graph import planners

Row = dict[str, Any]
GUIDES = {"table": 1024, "transformer": 20}
"""Kernels of the guides that are measured, and walks in a training step of each."""


def example_guide(name: str, *, nodes: int, width: int, slots: int) -> Guide:
    """A guide of three layers, as in the graph task."""
    place = kernels.Discrete(nodes)
    spaces = {"input": place, "value": place, "target": place}
    if name == "table":
        layer = kernels.table(**spaces)
    else:
        layer = kernels.transformer(**spaces, optimizer=optax.adam(1e-2), width=width // 2, slots=slots)
    return guide(layers=[layer] * 3, abstraction=abstraction.skip_step(2))


def measure_guides(guides: Mapping[str, int], *, nodes: int, width: int, slots: int, steps: int) -> list[Row]:
    """Training steps per second, and plans per second for all pairs in one batch.

    Args:
        guides: as `GUIDES`.
        nodes: of the graph.
        width: twice that of the transformers.
        slots: of the transformers.
        steps: training steps timed together.
    """
    drawn = graph.random_graph(nodes, 0.2, 0)
    world, pairs = graph.to_device(drawn), graph_plans.reachable_pairs(drawn)
    rows = []
    for name, walks in guides.items():
        made = example_guide(name, nodes=nodes, width=width, slots=slots)
        state = jax.jit(made.init)(jax.random.key(0))

        def step(state: Any, key: jax.Array, made: Guide = made, walks: int = walks) -> Any:
            return made.observe(state, Path(*graph.random_walks(world, key, walks, 8)))

        many = jax.jit(lambda state, step=step: jax.lax.scan(step, state, jax.random.split(jax.random.key(1), steps)))
        seconds = best_seconds(many, state) / steps
        state, _ = many(state)
        row = {"measured": f"guide of 3 {name} layers", "rows": walks * 28, "training_steps_per_second": 1 / seconds}
        for mode, planner in (
            ("react", planners.react_planner(made, state, 64, world)),
            ("think", planners.think_planner(made, state, 64)),
        ):
            ends = jnp.asarray(pairs.start), jnp.asarray(pairs.goal)
            took = best_seconds(jax.jit(lambda *ends, planner=planner: planner(*ends)), *ends)
            row[f"{mode}_plans_per_second"] = pairs.start.size / took
        rows.append(row)
    return rows


def measure_checkpoints(run: Run, *, nodes: int, width: int, slots: int, steps: int) -> Row:
    """How much of its time training waits for saves, over so many steps."""
    world = graph.to_device(graph.random_graph(nodes, 0.2, 0))
    made = example_guide("transformer", nodes=nodes, width=width, slots=slots)
    key = jax.random.key(run.config.seed)

    def step(state: Any, index: jax.Array) -> Any:
        return made.observe(state, Path(*graph.random_walks(world, jax.random.fold_in(key, index), 20, 8)))

    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        fresh = dataclasses.replace(run, folder=Folder(folder), mirrors=())
        begun = {"init": lambda: jax.jit(made.init)(key), "step": step}
        trained = train(fresh, "checkpoints", **begun, steps=steps, chunk=20, watch="loss/0")
    return {
        "checkpoint_seconds": trained.checkpoint_seconds,
        "training_seconds": trained.seconds,
        "checkpoint_share_of_training": trained.checkpoint_seconds / trained.seconds,
    }
