"""Plans and training steps per second of guides (hierarchical planners), and the cost of checkpoints."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking import kernels
from thinking.benchmarks.config import GuidesConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.environments import graph, graph_plans
from thinking.experiment import Run
from thinking.experiment.device import measure_best_seconds
from thinking.experiment.training_loop import train
from thinking.files import make_temporary_folder
from thinking.guide import Guide, Trajectories, abstraction, guide
from thinking.recipes.graph import planners

GUIDES = {"table": 1024, "transformer": 20}
"""Kernels (the learners of layers) of the guides, and walks per training step of each."""


def make_example_guide(name: str, config: GuidesConfig) -> Guide:
    """A guide of three layers, as in the graph task."""
    nodes = kernels.Discrete(config.num_nodes)
    spaces = {"input": nodes, "value": nodes, "target": nodes}
    if name == "table":
        layer = kernels.table(**spaces)
    else:
        layer = kernels.transformer(
            **spaces,
            optimizer=optax.adam(1e-2),
            width=config.transformer.width,
            num_heads=config.transformer.num_heads,
            num_slots=config.num_slots,
        )
    return guide(layers=[layer] * 3, abstraction=abstraction.skip_step(2))


def measure_guides(config: GuidesConfig, setup: Setup) -> Measurement:
    """Training steps and plans per second, and the fraction of training time that checkpoints take."""
    rows, figures = measure_planning(config), measure_checkpoints(config, setup.run)
    setup.run.log(f"checkpoints take {figures['checkpoint_share_of_training']:.2%} of training time")
    return Measurement(rows, figures)


def measure_planning(config: GuidesConfig) -> list[Row]:
    """Training steps per second, and plans per second for all pairs in one batch, of each of `GUIDES`."""
    nodes, steps = config.num_nodes, config.num_steps
    random_graph = graph.make_random_graph(nodes, 0.2, 0)
    device_graph, pairs = graph.to_device(random_graph), graph_plans.find_reachable_pairs(random_graph)
    rows = []
    for name, walks in GUIDES.items():
        example_guide = make_example_guide(name, config)
        state = jax.jit(example_guide.init)(jax.random.key(0))

        def step(state: Any, key: jax.Array, example_guide: Guide = example_guide, walks: int = walks) -> Any:
            return example_guide.observe(state, Trajectories(*graph.sample_walks(device_graph, key, walks, 8)))

        train_steps = jax.jit(
            lambda state, step=step: jax.lax.scan(step, state, jax.random.split(jax.random.key(1), steps))
        )
        seconds = measure_best_seconds(train_steps, state) / steps
        state, _ = train_steps(state)
        row = {"benchmark": f"guide of 3 {name} layers", "rows": walks * 28, "training_steps_per_second": 1 / seconds}
        for mode, planner in (
            ("react", planners.react_planner(example_guide, state, 64, device_graph)),
            ("think", planners.think_planner(example_guide, state, 64)),
        ):
            endpoints = jnp.asarray(pairs.start), jnp.asarray(pairs.goal)
            plan_seconds = measure_best_seconds(
                jax.jit(lambda *endpoints, planner=planner: planner(*endpoints)), *endpoints
            )
            row[f"{mode}_plans_per_second"] = pairs.start.size / plan_seconds
        rows.append(row)
    return rows


def measure_checkpoints(config: GuidesConfig, run: Run) -> Row:
    """The fraction of training time that waits for checkpoints."""
    device_graph = graph.to_device(graph.make_random_graph(config.num_nodes, 0.2, 0))
    example_guide = make_example_guide("transformer", config)
    key = jax.random.key(run.config.seed)

    def step(state: Any, index: jax.Array) -> Any:
        return example_guide.observe(
            state, Trajectories(*graph.sample_walks(device_graph, jax.random.fold_in(key, index), 20, 8))
        )

    with make_temporary_folder(run.folder) as folder:
        inner_run = dataclasses.replace(run, folder=folder, metric_writers=())
        functions = {"init": lambda: jax.jit(example_guide.init)(key), "step": step}
        train_result = train(
            inner_run,
            "checkpoints",
            **functions,
            num_steps=config.checkpoint_steps,
            chunk_size=20,
            progress_metric="layer_0/loss",
        )
    return {
        "checkpoint_seconds": train_result.checkpoint_seconds,
        "training_seconds": train_result.seconds,
        "checkpoint_share_of_training": train_result.checkpoint_seconds / train_result.seconds,
    }
