"""Planning on a graph: a hierarchical guide learns to find its way from random walks alone.

Four guides (a table, a linear memory, and two transformers that differ in what they take for a sub-goal) watch random
walks on a directed graph. Then they plan between all pairs of nodes that have a path, looking at every step (react) and
not looking at all (think), and are compared with a random planner and with the optimum.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    import jax
    from networkx import DiGraph

    from thinking.environments.graph import Graph
    from thinking.experiment.training import Trained
    from thinking.guide import Guide, GuideState
    from thinking.recipes.graph.evaluation import Pairs, Planner

SetName = Literal["table", "linear", "skip_transformer", "entropy_transformer"]
SETS: tuple[SetName, ...] = ("table", "linear", "skip_transformer", "entropy_transformer")
LOOK_EVERY = 20  # steps between two looks at how a guide plans


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach hierarchical guides to plan on a graph, from random walks alone."""

    nodes: int = option(32, "nodes of the random graph")
    edge_probability: float = option(0.2, "probability of each directed edge of the random graph")
    graph: Path | None = option(None, "read the graph from this edge list, .gml or .graphml instead")
    plan: tuple[str, str] | None = option(None, "FROM TO: print how the trained guides go, and end", identity=False)
    aliased: bool = option(False, "instead: what tags buy where two nodes look alike (five seeds at once)")
    sets: tuple[SetName, ...] = option(SETS, "the guides to train", identity=False)
    layers: int = option(3, "layers of each guide")
    skip_step: int = option(2, "every so many states is a sub-goal for the layer above")
    entropy: Literal["counted", "learned"] = option("counted", "visiting statistic of the entropy set")
    discount: float = option(0.8, "what one more hop leaves of a goal's score, 0 to 1")
    walk_states: int | None = option(None, "states of a walk; None: 3 more than the longest shortest path, 8 to 64")
    max_hops: int | None = option(
        None, "hops a plan may take; None: 64, or twice the longest shortest path", identity=False
    )
    table_walks: int | None = option(None, "walks the table sees; None: 4 for each pair of nodes, at least 100,000")
    steps: int = option(1000, "training steps of the linear and transformer sets")
    rows: int = option(560, "lessons in each step, for each layer of the linear and transformer sets")
    access: Literal["value", "score"] = option("value", "which slot of the transformers a lesson trains")
    learning_rate: float = option(0.01, "of the transformers, falling to 0 as a cosine")
    width: int = option(64, "dimensions of the transformers")
    heads: int = option(4, "attention heads of the transformers")
    blocks: int = option(1, "blocks of the transformers")
    slots: int = option(32, "hypotheses per question of the transformers")
    context_length: int = option(1, "states that the guides recall, the present one included")
    linear_access: Literal["value", "score"] = option("score", "which slot of the linear memory a lesson trains")
    linear_learning_rate: float = option(0.1, "of the linear memory, falling to 0 as a cosine")
    linear_cells: int = option(512, "cells of the linear memory")
    linear_slots: int = option(16, "hypotheses per question of the linear memory")

    def validate(self) -> None:
        """Raises UserError for values that no graph or guide can have."""
        for name in (
            "nodes",
            "layers",
            "skip_step",
            "steps",
            "rows",
            "width",
            "heads",
            "blocks",
            "slots",
            "context_length",
            "linear_cells",
            "linear_slots",
            "walk_states",
            "max_hops",
            "table_walks",
        ):
            value = getattr(self, name)
            least = 2 if name in ("nodes", "walk_states") else 1
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: allowed is a whole number from {least}")
        if not 0 < self.edge_probability <= 1:
            raise UserError(f"--edge-probability {self.edge_probability}: allowed is above 0, up to 1; take 0.2")
        if not 0 < self.discount < 1:
            raise UserError(f"--discount {self.discount}: allowed is above 0 and below 1; take 0.8")
        for name in ("learning_rate", "linear_learning_rate"):
            if getattr(self, name) <= 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: allowed is a number above 0")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if not self.sets:
            raise UserError(f"--sets: name at least one of {', '.join(SETS)}")


PRESETS = {
    "default": Config(),
    "smoke": Config(nodes=8, edge_probability=0.3, steps=20, rows=64, width=16, table_walks=200),
}


def run(config: Config, run: Run) -> None:
    """Train the sets, plan between all pairs, and write what came of it."""
    if config.aliased:
        from thinking.recipes.aliased_graph.study import study

        return study(run, config.nodes, config.edge_probability, config.seed, config.table_walks or 500)

    import jax

    from thinking.environments.graph import named_graph, number_of, to_device
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.graph import evaluation as planning
    from thinking.recipes.graph import plan_plots

    with name_flags(path="--graph", nodes="--nodes", edge_probability="--edge-probability", name="--plan"):
        graph = named_graph(config.graph, config.nodes, config.edge_probability, config.seed)
        ends = [number_of(graph, name) for name in config.plan or ()]
    world, pairs = to_device(graph), planning.reachable_pairs(graph)
    longest = int(pairs.optimum.max())
    max_hops = config.max_hops or max(64, 2 * longest)
    walk_states = config.walk_states or min(max(longest + 3, 8), 64)
    guides = {name: build(config, name, len(graph)) for name in config.sets}
    trained = {name: teach(config, run, name, guides[name], world, pairs, walk_states) for name in config.sets}
    thinkers = {name: planning.thinker(guides[name], trained[name].state, max_hops) for name in config.sets}
    if ends:
        return tell(run, graph, world, thinkers, ends)

    planners = {("random", "react"): planning.random_planner(world, jax.random.key(config.seed), max_hops)}
    for name in config.sets:
        planners[name, "react"] = planning.reactor(guides[name], trained[name].state, max_hops, world)
        planners[name, "think"] = thinkers[name]
    evaluations = {key: planning.evaluate(world, planner, pairs) for key, planner in planners.items()}

    plots.learning_curves(run, ["solved", "value_loss/0", "score_loss/0"])
    plan_plots.draw_length_ratios(run.plots / "length_ratios.png", evaluations, pairs)
    show = next(name for name in ("skip_transformer", *config.sets) if name in config.sets)
    if (hardest := planning.hardest_solved(evaluations[show, "think"], pairs)) is not None:
        plan = thinkers[show](*hardest)
        plan_plots.draw_plan(run.plots / "plan.png", graph, plan, f"{show}, think")
        plan_plots.animate_plan(run.plots / "plan.gif", graph, plan, f"{show}, think")

    rows = [
        {"set": name, "mode": mode, **planning.figures(evaluation, pairs)}
        for (name, mode), evaluation in evaluations.items()
    ]
    rows.append({"set": "optimum", "mode": "networkx", **planning.optimum_figures(pairs)})
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in trained.items()},
        train_seconds=sum(stage.seconds for stage in trained.values()),
        compile_seconds=sum(stage.compile_seconds for stage in trained.values()),
        train_seconds_of_sets={name: stage.seconds for name, stage in trained.items()},
        nodes=len(graph),
        edges=graph.number_of_edges(),
        unreachable_pairs=pairs.unreachable,
        longest_shortest_path_hops=longest,
        walk_states=walk_states,
        max_hops=max_hops,
    )


def build(config: Config, name: SetName, nodes: int) -> Guide:
    """The guide of a set: the same kernel in all layers."""
    import optax

    from thinking import kernels
    from thinking.guide import abstraction, guide, monte_carlo

    place = kernels.Discrete(nodes)
    spaces = {"input": place, "value": place, "target": place, "context_length": config.context_length}

    def adam(learning_rate: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(learning_rate, config.steps))

    access = {"value": kernels.value_access, "score": kernels.score_access}
    if name == "table":
        kernel = kernels.table(**spaces)
    elif name == "linear":
        kernel = kernels.linear(
            **spaces,
            optimizer=adam(config.linear_learning_rate),
            cells=config.linear_cells,
            slots=config.linear_slots,
            learning=access[config.linear_access](),
        )
    else:
        kernel = kernels.transformer(
            **spaces,
            optimizer=adam(config.learning_rate),
            width=config.width,
            heads=config.heads,
            blocks=config.blocks,
            slots=config.slots,
            learning=access[config.access](),
        )
    pivots = abstraction.skip_step(config.skip_step)
    if name == "entropy_transformer":
        counted = config.entropy == "counted"
        pivots = abstraction.counted_entropy(place) if counted else abstraction.learned_entropy(place, optax.adam(1e-2))
    return guide(layers=[kernel] * config.layers, abstraction=pivots, scoring=monte_carlo(config.discount))


def teach(
    config: Config, run: Run, name: SetName, guide: Guide, world: Graph, pairs: Pairs, walk_states: int
) -> Trained:
    """Let a guide watch random walks; those of a step are a function of the seed and the step alone.

    The state is the guide's, and the share of some pairs that it solved when it was last looked at, which is shown.
    """
    import jax
    import jax.numpy as jnp

    from thinking.environments.graph import random_walks
    from thinking.experiment.training import train
    from thinking.guide import Path
    from thinking.guide.hindsight import lesson_pairs
    from thinking.recipes.graph.evaluation import spot_check, thinker

    nodes = world.degree.shape[0]
    if name == "table":
        walks = 4096
        steps = -(-(config.table_walks or max(100_000, 4 * nodes**2)) // walks)
    else:
        walks = max(1, config.rows // len(lesson_pairs(walk_states, None)[0]))
        steps = config.steps
    key = jax.random.key(config.seed)

    def look(state: GuideState) -> jax.Array:
        return spot_check(world, thinker(guide, state, 2 * walk_states), pairs)

    def step(state: tuple[GuideState, jax.Array], index: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        known, solved = state
        lived = random_walks(world, jax.random.fold_in(key, index), walks, walk_states)
        known, metrics = guide.observe(known, Path(*lived))
        solved = jax.lax.cond(index % LOOK_EVERY == 0, look, lambda _: solved, known)
        return (known, solved), metrics | {"solved": solved}

    begun = {"init": lambda: (jax.jit(guide.init)(key), jnp.zeros(())), "step": step}
    trained = train(run, name, **begun, steps=steps, chunk=LOOK_EVERY, watch="solved")
    return dataclasses.replace(trained, state=trained.state[0])


def tell(run: Run, graph: DiGraph, world: Graph, thinkers: dict[SetName, Planner], ends: list[int]) -> None:
    """Print how each guide would go, hop by hop."""
    import jax.numpy as jnp

    from thinking.experiment.results import print_rows
    from thinking.recipes.graph import evaluation as planning

    for name, thinker in thinkers.items():
        plan = thinker(*(jnp.array([end]) for end in ends))
        verdict = "arrives" if planning.valid_plans(world, plan)[0] else "does NOT arrive"
        run.log(f"{name}: {verdict} after {int(plan.hops[0])} hops")
        print_rows(planning.describe(world, list(graph), plan))


if __name__ == "__main__":
    main("simple", run, PRESETS)
