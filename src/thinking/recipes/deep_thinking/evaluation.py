"""Evaluation over thinking steps and sizes.

Axes: T steps of thought, B puzzles, N cells.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.learning.deep_supervision import CellBatch
from thinking.networks.recursion import RecursiveNetwork, think_several_times
from thinking.recipes.deep_thinking.config import Config, NetworkName
from thinking.recipes.deep_thinking.problem_families import Problem
from thinking.recipes.deep_thinking.training import build_network, compute_depth
from thinking.types import Array, Params

_CHUNK = 32


class StepCurves(NamedTuple):
    """What was answered after each step. After the last step no answer changes any more, or the budget is spent.

    Attributes:
        is_solved: [T, B] bool, whether all cells are right.
        is_confident: [T, B] bool, whether the network gives this a probability above one half; looked at after each
            `check_every` steps, as in training.
    """

    is_solved: np.ndarray
    is_confident: np.ndarray

    @property
    def halting_step(self) -> np.ndarray:
        """[B] the number of steps until the network is confident, or all."""
        num_steps = len(self.is_confident)
        first = np.argmax(self.is_confident, axis=0) + 1
        return np.where(self.is_confident.any(axis=0), first, num_steps)

    @property
    def solved_at_halt(self) -> np.ndarray:
        """[B] whether the answer is right where the network halts."""
        return np.take_along_axis(self.is_solved, self.halting_step[None] - 1, axis=0)[0]


class _ChunkFlags(NamedTuple):
    """What happened in each step of a chunk: [chunk, B] bool."""

    is_solved: Array
    is_confident: Array
    has_changed: Array


@functools.partial(jax.jit, static_argnums=0)
def _think_on(network: RecursiveNetwork, params: Params, latent: Array, batch: CellBatch) -> tuple[Array, _ChunkFlags]:
    def advance(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], _ChunkFlags]:
        latent, answer = carry
        latent = network.step(params, latent, batch.inputs)
        output = network.predict(params, latent)
        flags = _ChunkFlags(
            is_solved=jnp.all(output.answer == batch.targets, axis=1),
            is_confident=output.log_prob_correct > jnp.log(0.5),
            has_changed=jnp.any(output.answer != answer, axis=1),
        )
        return (latent, output.answer), flags

    (latent, _), flags = jax.lax.scan(advance, (latent, network.predict(params, latent).answer), length=_CHUNK)
    return latent, flags


def compute_step_curves(
    network: RecursiveNetwork, params: Params, batch: CellBatch, *, max_steps: int, check_every: int
) -> StepCurves:
    """Think up to `max_steps` steps, in chunks of 32, until no answer changes for a chunk."""
    latent, chunks = network.init_latent(params, batch.inputs), []
    while len(chunks) * _CHUNK < max_steps:
        latent, flags = _think_on(network, params, latent, batch)
        chunks.append(jax.device_get(flags))
        if not chunks[-1].has_changed.any():
            break
    steps = jax.tree.map(lambda *arrays: np.concatenate(arrays)[:max_steps], *chunks)
    is_looked_at = np.arange(1, len(steps.is_solved) + 1) % check_every == 0
    return StepCurves(steps.is_solved, steps.is_confident & is_looked_at[:, None])


def compute_rollout_accuracy(
    config: Config, network: RecursiveNetwork, params: list[Params], batch: CellBatch, key: Array
) -> float:
    """The share of puzzles solved by the most confident of several rollouts, a mean over seeds; consumes the key."""
    solve = functools.partial(
        think_several_times,
        network,
        num_rollouts=config.eval.num_rollouts,
        noise=config.eval.rollout_noise,
        max_steps=config.eval.max_steps,
        check_every=config.thinking.grad_steps,
    )
    solve = jax.jit(solve)
    answers = [solve(each, key, batch.inputs).output.answer for each in params]
    return float(np.mean([np.all(answer == batch.targets, axis=1) for answer in jax.device_get(answers)]))


def trace_probabilities(network: RecursiveNetwork, params: Params, batch: CellBatch, num_steps: int) -> np.ndarray:
    """[T + 1, N] the probability of answer 1 at each cell of the first puzzle, before and after each step."""
    first = jax.tree.map(lambda leaf: leaf[:1], batch.inputs)

    def advance(latent: Array, _: None) -> tuple[Array, Array]:
        probability = jax.nn.softmax(network.predict(params, latent).logits)[0, :, 1]
        return network.step(params, latent, first), probability

    start = network.init_latent(params, first)
    return np.asarray(jax.jit(lambda latent: jax.lax.scan(advance, latent, length=num_steps + 1)[1])(start))


def compute_all_curves(
    config: Config, problem: Problem, name: NetworkName, params: list[Params], tests: Mapping[int, CellBatch]
) -> dict[int, list[StepCurves]]:
    """What the networks of all seeds answered, by size. A feed-forward network takes one step."""
    network = build_network(config, problem, name)
    max_steps, check_every = (1, 1) if name == "feed_forward" else (config.eval.max_steps, config.thinking.grad_steps)
    return {
        size: [
            compute_step_curves(network, each, test, max_steps=max_steps, check_every=check_every) for each in params
        ]
        for size, test in tests.items()
    }


def make_row(
    config: Config,
    problem: Problem,
    name: NetworkName,
    size: int,
    curves: list[StepCurves],
    params: list[Params],
    test: CellBatch,
) -> dict[str, Any]:
    """A row of the table: means and standard deviations over seeds, as shares of the puzzles.

    `solved` is what is right once no answer changes, or the budget is spent. The step is chosen without access to the
    solution. A feed-forward network has no rollouts, as it takes one step.
    """
    depth = compute_depth(config)
    solved = [curve.is_solved[-1].mean() for curve in curves]
    at_depth = [curve.is_solved[min(depth, len(curve.is_solved)) - 1].mean() for curve in curves]
    row = {
        "network": name,
        "size": size,
        "solved": float(np.mean(solved)),
        "solved_std": float(np.std(solved)),
        "solved_at_training_depth": float(np.mean(at_depth)),
        "solved_at_halt": float(np.mean([curve.solved_at_halt.mean() for curve in curves])),
        "mean_halting_step": float(np.mean([curve.halting_step.mean() for curve in curves])),
    }
    if config.eval.num_rollouts > 1 and name != "feed_forward":
        network, key = build_network(config, problem, name), jax.random.key(config.seed)
        row["solved_by_rollouts"] = compute_rollout_accuracy(config, network, params, test, key)
    return row
