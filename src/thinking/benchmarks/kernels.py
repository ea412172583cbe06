"""What a fit and an infer of each kernel cost, and what their arithmetic would cost at the least."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking import kernels
from thinking.benchmarks.config import KernelsConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.kernels import Context, Kernel, Transition


def measure_kernels(config: KernelsConfig, setup: Setup) -> Measurement:
    """Milliseconds of a fit and an infer of each kernel, the learner of a guide's layer.

    For matrices also the lower bound that their arithmetic sets.
    """
    rows, nodes, gflops = config.batch_size, config.num_nodes, setup.gflops
    space = kernels.Discrete(nodes)
    spaces = {"input": space, "value": space, "target": space}
    gradient = {**spaces, "optimizer": optax.adam(1e-3), "num_slots": config.num_slots}
    transformer = {**gradient, "width": config.transformer.width, "num_heads": config.transformer.num_heads}
    compared = {
        "table": kernels.table(**spaces),
        "table, hashed": kernels.table(**spaces, context_length=2, capacity=nodes**2),
        "linear": kernels.linear(**gradient),
        "transformer": kernels.transformer(**transformer),
        "transformer, context 4": kernels.transformer(**transformer, context_length=4),
    }
    results, states = [], {}
    for name, kernel in compared.items():
        states[name] = state = jax.jit(kernel.init)(jax.random.key(0))
        row = {"benchmark": name, "rows": rows, **_measure_seconds(kernel, state, rows, nodes, config.num_steps)}
        if name == "transformer":
            num_weights = count_matrix_weights(state.train_state.params)
            row["flops_bound_ms"] = 6 * num_weights * rows / gflops / 1e6
            row["fit_over_flops_bound"] = row["fit_ms"] / row["flops_bound_ms"]
            row["fit_ms_at_300_gflops"] = row["fit_ms"] * gflops / 300
        results.append(row)
    return Measurement(results, states=states)


def count_matrix_weights(params: Any) -> int:
    """Weights of matrix products; embeddings are excluded, as they are only looked up."""
    leaves = jax.tree.leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if leaf.ndim == 2 and "embedding" not in jax.tree_util.keystr(path))


def _measure_seconds(kernel: Kernel, state: Any, rows: int, nodes: int, steps: int) -> Row:
    """Milliseconds of one fit and one infer, from many in one jitted scan."""
    batches = _random_batches(kernel, rows, nodes, steps)

    @jax.jit
    def fit(state: Any) -> Any:
        return jax.lax.scan(kernel.fit, state, batches)

    @jax.jit
    def infer(state: Any) -> jax.Array:
        def ask(total: jax.Array, batch: Transition) -> tuple[jax.Array, None]:
            answer = kernel.infer(state, batch.context, batch.target)
            return total + jnp.sum(answer.value) + jnp.sum(jnp.isfinite(answer.score)), None

        return jax.lax.scan(ask, jnp.zeros(()), batches)[0]

    scale = 1e3 / steps
    return {"fit_ms": measure_best_seconds(fit, state) * scale, "infer_ms": measure_best_seconds(infer, state) * scale}


def _random_batches(kernel: Kernel, rows: int, nodes: int, steps: int) -> Transition:
    """Random transitions, [steps, rows, ...]."""
    shape = steps, rows
    keys = jax.random.split(jax.random.key(1), 5)
    draw = [jax.random.randint(key, shape, 0, nodes) for key in keys[:2]]
    items = jax.random.randint(keys[2], (*shape, kernel.context_length), 0, nodes)
    length = jax.random.randint(keys[3], shape, 1, kernel.context_length + 1)
    return Transition(Context(items, length), *draw, jax.random.uniform(keys[4], shape), jnp.ones(shape))
