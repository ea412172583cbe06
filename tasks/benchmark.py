"""What this machine does: the device, each kernel, plans and training steps per second, and what saving costs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from thinking.errors import UserError
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    import jax

    from thinking.guide import Guide
    from thinking.kernels import Kernel, Transition

Row = dict[str, Any]
GUIDES = {"table": 1024, "transformer": 20}  # walks in a training step


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Measure this machine. With --kills: kill training again and again, and compare the weights in the end."""

    rows: int = option(1024, "rows of a fit and of an infer", identity=False)
    width: int = option(128, "dimensions of the transformer", identity=False)
    slots: int = option(32, "hypotheses per question of the transformer and the linear memory", identity=False)
    nodes: int = option(32, "nodes of the graph to plan on", identity=False)
    steps: int = option(20, "fits and infers timed together", identity=False)
    train_steps: int = option(600, "training steps over which the cost of checkpoints is measured", identity=False)
    kills: int = option(
        0, "kill training by SIGKILL so often, at random instants, instead of measuring", identity=False
    )

    def validate(self) -> None:
        """Raises UserError for sizes that nothing can have."""
        for name in ("rows", "slots", "nodes", "steps", "train_steps", "kills"):
            value, least = getattr(self, name), {"nodes": 2, "kills": 0}.get(name, 1)
            if value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: allowed is a whole number from {least}")
        if self.width < 8 or self.width % 8:
            raise UserError(f"--width {self.width}: allowed is a multiple of 8")


PRESETS = {
    "default": Config(),
    "smoke": Config(rows=32, width=16, slots=4, nodes=8, steps=2, train_steps=10),
}


def run(config: Config, run: Run) -> None:
    """Measure, print and write."""
    if config.kills:
        return kill_again_and_again(config, run)

    from thinking.experiment.device import matmul_gflops, memory_gbps
    from thinking.experiment.results import write_results

    gflops, bandwidth = matmul_gflops(), memory_gbps()
    run.log(f"float32 matrix product: {gflops:.0f} GFLOP/s; memory: {bandwidth:.1f} GB/s")
    rows, states = measure_kernels(config, gflops)
    rows += measure_guides(config)
    cost = measure_checkpoints(config, run)
    run.log(f"checkpoints take {cost['checkpoint_share_of_training']:.2%} of training time")
    again = matmul_gflops()  # a neighbour may have come or gone meanwhile
    write_results(run, rows, states, matmul_gflops=gflops, matmul_gflops_after=again, memory_gbps=bandwidth, **cost)


def measure_kernels(config: Config, gflops: float) -> tuple[list[Row], dict[str, Any]]:
    """Milliseconds of a fit and an infer of each kernel, and for matrices the floor that their arithmetic sets."""
    import jax
    import optax

    from thinking import kernels

    place = kernels.Discrete(config.nodes)
    spaces = {"input": place, "value": place, "target": place}
    gradient = {**spaces, "optimizer": optax.adam(1e-3), "slots": config.slots}
    compared = {
        "table": kernels.table(**spaces),
        "table, hashed": kernels.table(**spaces, context_length=2, capacity=config.nodes**2),
        "linear": kernels.linear(**gradient),
        "transformer": kernels.transformer(**gradient, width=config.width),
        "transformer, context 4": kernels.transformer(**gradient, width=config.width, context_length=4),
    }
    rows, states = [], {}
    for name, kernel in compared.items():
        states[name] = state = jax.jit(kernel.init)(jax.random.key(0))
        row = {"measured": name, "rows": config.rows, **time_kernel(kernel, state, config)}
        if name == "transformer":
            used = matrix_weights(state.params)
            row["floor_ms"] = 6 * used * config.rows / gflops / 1e6
            row["fit_over_floor"] = row["fit_ms"] / row["floor_ms"]
            row["fit_ms_at_300_gflops"] = row["fit_ms"] * gflops / 300
        rows.append(row)
    return rows, states


def matrix_weights(params: Any) -> int:
    """How many weights are multiplied with; rows of embeddings are only looked up."""
    import jax

    leaves = jax.tree.leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if leaf.ndim == 2 and "embedding" not in jax.tree_util.keystr(path))


def time_kernel(kernel: Kernel, state: Any, config: Config) -> Row:
    """Milliseconds of one fit and one infer, from many in one jitted scan."""
    import jax
    import jax.numpy as jnp

    from thinking.experiment.device import best_seconds

    batches = random_batches(kernel, config)

    @jax.jit
    def fit(state: Any) -> Any:
        return jax.lax.scan(kernel.fit, state, batches)

    @jax.jit
    def infer(state: Any) -> jax.Array:
        def ask(total: jax.Array, batch: Transition) -> tuple[jax.Array, None]:
            answer = kernel.infer(state, batch.context, batch.target)
            return total + jnp.sum(answer.value) + jnp.sum(jnp.isfinite(answer.score)), None

        return jax.lax.scan(ask, jnp.zeros(()), batches)[0]

    scale = 1e3 / config.steps
    return {"fit_ms": best_seconds(fit, state) * scale, "infer_ms": best_seconds(infer, state) * scale}


def random_batches(kernel: Kernel, config: Config) -> Transition:
    """Random lessons, [steps, rows, ...]."""
    import jax
    import jax.numpy as jnp

    from thinking.kernels import Context, Transition

    shape = config.steps, config.rows
    keys = jax.random.split(jax.random.key(1), 5)
    draw = [jax.random.randint(key, shape, 0, config.nodes) for key in keys[:2]]
    items = jax.random.randint(keys[2], (*shape, kernel.context_length), 0, config.nodes)
    length = jax.random.randint(keys[3], shape, 1, kernel.context_length + 1)
    return Transition(Context(items, length), *draw, jax.random.uniform(keys[4], shape), jnp.ones(shape))


def example_guide(config: Config, name: str) -> Guide:
    """A guide of three layers, as in the graph task."""
    import optax

    from thinking import kernels
    from thinking.guide import abstraction, guide

    place = kernels.Discrete(config.nodes)
    spaces = {"input": place, "value": place, "target": place}
    if name == "table":
        layer = kernels.table(**spaces)
    else:
        layer = kernels.transformer(**spaces, optimizer=optax.adam(1e-2), width=config.width // 2, slots=config.slots)
    return guide(layers=[layer] * 3, abstraction=abstraction.skip_step(2))


def measure_guides(config: Config) -> list[Row]:
    """Training steps per second, and plans per second for all pairs in one batch."""
    import jax
    import jax.numpy as jnp

    from thinking.environments import graph, planning
    from thinking.experiment.device import best_seconds
    from thinking.guide import Path

    drawn = graph.random_graph(config.nodes, 0.2, 0)
    world, pairs = graph.to_device(drawn), planning.reachable_pairs(drawn)
    rows = []
    for name, walks in GUIDES.items():
        guide = example_guide(config, name)
        state = jax.jit(guide.init)(jax.random.key(0))

        def step(state: Any, key: jax.Array, guide: Guide = guide, walks: int = walks) -> Any:
            return guide.observe(state, Path(*graph.random_walks(world, key, walks, 8)))

        many = jax.jit(
            lambda state, step=step: jax.lax.scan(step, state, jax.random.split(jax.random.key(1), config.steps))
        )
        seconds = best_seconds(many, state) / config.steps
        state, _ = many(state)
        row = {"measured": f"guide of 3 {name} layers", "rows": walks * 28, "training_steps_per_second": 1 / seconds}
        for mode, planner in (
            ("react", planning.reactor(guide, state, 64, world)),
            ("think", planning.thinker(guide, state, 64)),
        ):
            ends = jnp.asarray(pairs.start), jnp.asarray(pairs.goal)
            took = best_seconds(jax.jit(lambda *ends, planner=planner: planner(*ends)), *ends)
            row[f"{mode}_plans_per_second"] = pairs.start.size / took
        rows.append(row)
    return rows


def measure_checkpoints(config: Config, run: Run) -> Row:
    """How much of its time training waits for saves."""
    import tempfile
    from pathlib import Path as Folder

    import jax

    from thinking.environments import graph
    from thinking.experiment.training import train
    from thinking.guide import Path

    world = graph.to_device(graph.random_graph(config.nodes, 0.2, 0))
    guide = example_guide(config, "transformer")
    key = jax.random.key(config.seed)

    def step(state: Any, index: jax.Array) -> Any:
        return guide.observe(state, Path(*graph.random_walks(world, jax.random.fold_in(key, index), 20, 8)))

    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        fresh = dataclasses.replace(run, folder=Folder(folder), mirrors=())
        begun = {"init": lambda: jax.jit(guide.init)(key), "step": step}
        trained = train(fresh, "checkpoints", **begun, steps=config.train_steps, chunk=20, watch="loss/0")
    return {
        "checkpoint_seconds": trained.checkpoint_seconds,
        "training_seconds": trained.seconds,
        "checkpoint_share_of_training": trained.checkpoint_seconds / trained.seconds,
    }


def kill_again_and_again(config: Config, run: Run) -> None:
    """Train on a graph, killed at random instants, until so many kills are survived; compare with a run left alone."""
    import sys
    import tempfile
    from pathlib import Path as Folder

    from thinking.experiment.results import write_results
    from thinking.experiment.robustness import final_digest, run_killed, run_undisturbed

    task = Folder(__file__).with_name("simple.py")
    flags = ["--sets", "table", "linear", "skip_transformer", "--steps", str(config.train_steps), "--max-hops", "16"]
    rows, survived = [], 0
    with tempfile.TemporaryDirectory(dir=run.folder) as folder:

        def command(name: str) -> list[str]:
            return [sys.executable, str(task), *flags, "--artifacts", f"{folder}/{name}"]

        seconds = run_undisturbed(command("undisturbed"))
        right = final_digest(Folder(folder, "undisturbed", "simple"))
        while survived < config.kills:
            name = f"run {len(rows) + 1}"
            killed = run_killed(command(name), seconds, config.kills - survived, config.seed + survived)
            survived += killed
            same = final_digest(Folder(folder, name, "simple")) == right
            rows.append({"run": name, "kills": killed, "bit_identical": same})
            run.log(f"{name}: killed {killed} times, final weights {'bit-identical' if same else 'DIFFERENT'}")
    write_results(run, rows, {}, kills=survived, undisturbed_seconds=seconds)


if __name__ == "__main__":
    main("benchmark", run, PRESETS)
