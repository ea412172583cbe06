"""Accuracy by size, and what a network costs.

Axes: B rows, T tokens.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.sequences import LabelledSequence
from thinking.experiment.training_loop import TrainResult
from thinking.networks.decoder import Decoder
from thinking.recipes.light_networks.config import Config
from thinking.recipes.light_networks.model import build_network
from thinking.recipes.light_networks.problem_families import make_problem
from thinking.trees import count_bytes, count_parameters
from thinking.types import Array, Params

_NUM_GENERATED = 32


def compute_accuracy(network: Decoder, params: Params, rows: LabelledSequence) -> float:
    """The share of right labels: those of weight 1; where all tokens have one, those of the last tokens."""
    weights = rows.weights
    if bool(jnp.all(weights == 1)):
        weights = weights.at[:, :-1].set(0.0)
    return float(_compute_weighted_accuracy(network, params, rows._replace(weights=weights)))


@functools.partial(jax.jit, static_argnums=0)
def _compute_weighted_accuracy(network: Decoder, params: Params, rows: LabelledSequence) -> Array:
    def check_row(row: LabelledSequence) -> Array:
        logits = network.apply(params, row.tokens[None], segments=row.segments[None]).logits[0]
        return jnp.sum(row.weights * (jnp.argmax(logits, axis=-1) == row.targets))

    # A few rows at a time, as long rows need much memory.
    return jnp.sum(jax.lax.map(check_row, rows, batch_size=32)) / jnp.sum(rows.weights)


def count_state_bytes(network: Decoder, num_tokens: int) -> int:
    """Bytes that a row of so many tokens leaves in memory for the next one."""
    return count_bytes(jax.eval_shape(lambda: network.init_cache(1, num_tokens)).layers)


def measure_generation(network: Decoder, params: Params, num_tokens: int, rows: int = 8) -> float:
    """Tokens a second when rows of `num_tokens` tokens go on token by token, after a first, unmeasured time."""
    capacity = min(num_tokens + _NUM_GENERATED, network.context_length)
    prompt = jnp.zeros((rows, max(1, capacity - _NUM_GENERATED)), jnp.int32)

    def generate(params: Params) -> Array:
        _, cache = network.extend(params, network.init_cache(rows, capacity), prompt)

        def advance(carry: tuple, _: None) -> tuple[tuple, None]:
            cache, token = carry
            output, cache = network.extend(params, cache, token)
            return (cache, jnp.argmax(output.logits, axis=-1).astype(jnp.int32)), None

        return jax.lax.scan(advance, (cache, prompt[:, :1]), length=_NUM_GENERATED)[0][1]

    run = jax.jit(generate)
    jax.block_until_ready(run(params))
    start = time.perf_counter()
    jax.block_until_ready(run(params))
    return rows * _NUM_GENERATED / (time.perf_counter() - start)


def make_row(
    config: Config,
    name: str,
    problem: str,
    learning_rate: float,
    results: list[TrainResult],
    tests: Mapping[int, LabelledSequence],
) -> dict[str, Any]:
    """A row of the table: accuracies on tests of each factor, over the seeds of the results, and costs."""
    family, size, _ = make_problem(config, problem)
    network, num_tokens = build_network(config, name, problem), family.count_tokens(size)
    params = [result.state.ema_params for result in results]
    accuracies = np.array([[compute_accuracy(network, each, test) for test in tests.values()] for each in params])
    num_trained = num_tokens * config.training.batch_size * config.training.num_steps * len(results)
    return {
        "problem": problem,
        "network": name,
        **{f"accuracy_at_{factor}x": mean for factor, mean in zip(tests, accuracies.mean(axis=0), strict=True)},
        "std_at_1x": accuracies[:, 0].std(),
        "worst_at_1x": accuracies[:, 0].min(),
        "learning_rate": learning_rate,
        "num_parameters": count_parameters(params[0]),
        "state_bytes": count_state_bytes(network, num_tokens),
        "train_tokens_per_second": num_trained / max(sum(result.seconds for result in results), 1e-9),
        "generated_tokens_per_second": measure_generation(network, params[0], num_tokens),
        **{
            f"by_seed_at_{factor}x": " ".join(f"{x:.4f}" for x in column)
            for factor, column in zip(tests, accuracies.T, strict=True)
        },
    }
