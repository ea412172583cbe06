"""Recursion in depth: one small network applied again and again to a latent state, with the input in view.

The weights are the same at every step, so a trained network can think longer than in training, about larger inputs
(Schwarzschild et al. 2021, Bansal et al. 2022). A confidence head says at each cell whether the answer there is
correct.

Axes: B rows, N cells, D width, F features, R relations, K neighbors of a relation, C answers of a cell.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.attention.sparse import attention
from thinking.networks.blocks import Block, BlockConfig, linear_layer
from thinking.networks.pure import make_pure
from thinking.types import Array, Params


class CellInputs(NamedTuple):
    """What a network is given.

    Attributes:
        features: [B, N, F] float32.
        neighbors: [B, R, N, K] int32, cells that each cell sees, by relation; -1 for none.
    """

    features: Array
    neighbors: Array


class RecursiveOutput(NamedTuple):
    """The answer after some steps.

    Attributes:
        logits: [B, N, C] float32, of the answer at each cell.
        confidence: [B, N] float32, logit of the probability that the answer is correct.
    """

    logits: Array
    confidence: Array

    @property
    def answer(self) -> Array:
        """[B, N] int32, the likeliest answer of each cell."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    @property
    def log_prob_correct(self) -> Array:
        """[B] float32, log-probability that all cells are correct, as if they were independent."""
        return jnp.sum(jax.nn.log_sigmoid(self.confidence), axis=-1)


class RecursiveNetwork(NamedTuple):
    """A recursive network's pure functions.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        init_latent: `init_latent(params, inputs) -> [B, N, D]`, the latent state before the first step.
        step: `step(params, latent, inputs) -> latent`, one step of thought.
        predict: `predict(params, latent) -> RecursiveOutput`.
    """

    init: Callable[[Array], Params]
    init_latent: Callable[[Params, CellInputs], Array]
    step: Callable[[Params, Array, CellInputs], Array]
    predict: Callable[[Params, Array], RecursiveOutput]


def recursive_network(
    *,
    num_features: int,
    num_relations: int,
    num_classes: int,
    block: BlockConfig,
    attends: bool = False,
    num_blocks: int = 1,
    recall: bool = True,
) -> RecursiveNetwork:
    """A recursive network over cells.

    Args:
        num_features: F.
        num_relations: R.
        num_classes: C.
        block: its width D, and the widths within. Only blocks that attend use heads and positions.
        attends: whether each cell attends to all cells; otherwise it sees the sum of its neighbors, by relation.
        num_blocks: different blocks of a step, applied one after another.
        recall: whether each block sees the features; otherwise the first latent state alone depends on them.

    Raises:
        ValueError: if a number is below 1.
    """
    sizes = {"num_features": num_features, "num_relations": num_relations, "num_classes": num_classes}
    for name, size in {**sizes, "num_blocks": num_blocks}.items():
        if size < 1:
            raise ValueError(f"recursive_network: {name} {size} is out of range; give at least 1")

    def build(key: Array) -> _Network:
        return _Network(num_features, num_relations, num_classes, block, attends, num_blocks, recall, nnx.Rngs(key))

    init, network = make_pure(build)
    return RecursiveNetwork(
        init,
        lambda params, inputs: network(params).init_latent(inputs),
        lambda params, latent, inputs: network(params)(latent, inputs),
        lambda params, latent: network(params).predict(latent),
    )


class HaltedOutput(NamedTuple):
    """The output of each row at the step where it halted.

    Attributes:
        output: of B rows.
        num_steps: [B] int32, steps until each row halted.
    """

    output: RecursiveOutput
    num_steps: Array


def think(
    network: RecursiveNetwork,
    params: Params,
    inputs: CellInputs,
    *,
    max_steps: int,
    min_confidence: float = 0.5,
    check_every: int = 1,
    latent: Array | None = None,
) -> HaltedOutput:
    """Think until the network is confident, row by row.

    Args:
        network: the network.
        params: its parameters.
        inputs: of B rows.
        max_steps: a row that never becomes confident halts after so many steps.
        min_confidence: a row halts once the probability that all its cells are correct exceeds this; 1 never halts.
        check_every: interval, in steps, at which halting is checked. A network whose answers were trained every 8 steps
            knows its confidence there, and not between.
        latent: [B, N, D], where to begin; the network's initial state by default.
    """
    start = network.init_latent(params, inputs) if latent is None else latent
    num_rows = len(start)

    def is_thinking(state: tuple[Array, Array, Array, Array]) -> Array:
        return jnp.any(~state[1]) & (state[3] < max_steps)

    def advance(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        latent, has_halted, num_steps, index = state
        latent = jnp.where(has_halted[:, None, None], latent, network.step(params, latent, inputs))
        num_steps = jnp.where(has_halted, num_steps, index + 1)
        is_confident = jnp.exp(network.predict(params, latent).log_prob_correct) > min_confidence
        is_confident &= (index + 1) % check_every == 0
        return latent, has_halted | is_confident, num_steps, index + 1

    state = start, jnp.zeros(num_rows, bool), jnp.zeros(num_rows, jnp.int32), jnp.int32(0)
    latent, _, num_steps, _ = jax.lax.while_loop(is_thinking, advance, state)
    return HaltedOutput(network.predict(params, latent), num_steps)


def think_several_times(
    network: RecursiveNetwork,
    params: Params,
    key: Array,
    inputs: CellInputs,
    *,
    num_rollouts: int,
    noise: float,
    max_steps: int,
    min_confidence: float = 0.5,
    check_every: int = 1,
) -> HaltedOutput:
    """Think from several random latent states, and keep the rollout of the highest confidence in each row.

    Args:
        network: the network, trained with as much noise on its latent states.
        params: its parameters.
        key: of the noise; consumed.
        inputs: of B rows.
        num_rollouts: for each row.
        noise: standard deviation of what is added to each number of the first latent state.
        max_steps, min_confidence, check_every: as in `think`.

    Returns:
        The kept outputs; `num_steps` [B] are those of all rollouts together.
    """
    start = network.init_latent(params, inputs)

    def think_once(key: Array) -> HaltedOutput:
        latent = start + noise * jax.random.normal(key, start.shape)
        return think(
            network,
            params,
            inputs,
            max_steps=max_steps,
            min_confidence=min_confidence,
            check_every=check_every,
            latent=latent,
        )

    rollouts = jax.lax.map(think_once, jax.random.split(key, num_rollouts))
    best = jnp.argmax(jax.vmap(lambda output: output.log_prob_correct)(rollouts.output), axis=0)
    kept = jax.tree.map(lambda leaf: leaf[best, jnp.arange(len(best))], rollouts.output)
    return HaltedOutput(kept, jnp.sum(rollouts.num_steps, axis=0))


def sum_neighbors(x_BxNxD: Array, neighbors_BxRxNxK: Array) -> Array:
    """[B, N, R D], at each cell the sum over its neighbors, by relation."""
    rows, cells = x_BxNxD.shape[:2]
    padded = jnp.pad(x_BxNxD, ((0, 0), (0, 1), (0, 0)))  # -1 is the last cell, which is 0
    gathered = jax.vmap(lambda x, index: x[index])(padded, neighbors_BxRxNxK)
    return jnp.sum(gathered, axis=3).swapaxes(1, 2).reshape(rows, cells, -1)


class _LocalBlock(nnx.Module):
    """A perceptron of a cell, the sums of its neighbors, and its features; residual, then normalized."""

    def __init__(self, num_inputs: int, num_relations: int, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width, inner = config.width, config.feed_forward_width
        self.up_proj = linear_layer((1 + num_relations) * width + num_inputs, inner, config, rngs, bias=True)
        self.down_proj = linear_layer(inner, width, config, rngs)
        self.norm = nnx.RMSNorm(width, dtype=config.dtype, rngs=rngs)

    def __call__(self, latent: Array, features: Array | None, neighbors: Array) -> Array:
        seen = [latent, sum_neighbors(latent, neighbors)] + ([] if features is None else [features])
        change = self.down_proj(jax.nn.relu(self.up_proj(jnp.concatenate(seen, axis=-1))))
        # Normalized after the sum, so that the state stays bounded over any number of steps.
        return self.norm(latent + change)


class _AttentionBlock(nnx.Module):
    """A transformer block over all cells, with the features added to its input; normalized."""

    def __init__(self, num_inputs: int, config: BlockConfig, rngs: nnx.Rngs) -> None:
        self.input_proj = linear_layer(num_inputs, config.width, config, rngs) if num_inputs else None
        self.block = Block(config, rngs)
        self.norm = nnx.RMSNorm(config.width, dtype=config.dtype, rngs=rngs)

    def __call__(self, latent: Array, features: Array | None, neighbors: Array) -> Array:
        del neighbors
        if features is not None:
            latent = latent + self.input_proj(features)
        positions = jnp.arange(latent.shape[1], dtype=jnp.int32)[None]
        output, _ = self.block(latent, positions, lambda q, k, v: (attention(q, k, v, causal=False), None))
        return self.norm(output)


class _Network(nnx.Module):
    """The parameters, and the functions of `RecursiveNetwork`."""

    def __init__(
        self,
        num_features: int,
        num_relations: int,
        num_classes: int,
        config: BlockConfig,
        attends: bool,
        num_blocks: int,
        recall: bool,
        rngs: nnx.Rngs,
    ) -> None:
        self.recall, num_inputs = recall, num_features if recall else 0
        self.initial_latent = nnx.Param(jax.random.normal(rngs.params(), (config.width,)))
        self.feature_proj = None if recall else linear_layer(num_features, config.width, config, rngs)
        self.blocks = nnx.List(
            [
                _AttentionBlock(num_inputs, config, rngs)
                if attends
                else _LocalBlock(num_inputs, num_relations, config, rngs)
                for _ in range(num_blocks)
            ]
        )
        self.answer_head = linear_layer(config.width, num_classes, config, rngs, bias=True)
        self.confidence_head = linear_layer(config.width, 1, config, rngs, bias=True)

    def init_latent(self, inputs: CellInputs) -> Array:
        shape = *inputs.features.shape[:2], self.initial_latent.shape[0]
        latent = jnp.broadcast_to(self.initial_latent[...], shape)
        return latent if self.feature_proj is None else latent + self.feature_proj(inputs.features)

    def __call__(self, latent: Array, inputs: CellInputs) -> Array:
        for block in self.blocks:
            latent = block(latent, inputs.features if self.recall else None, inputs.neighbors)
        return latent

    def predict(self, latent: Array) -> RecursiveOutput:
        logits, confidence = self.answer_head(latent), self.confidence_head(latent)[..., 0]
        return RecursiveOutput(logits.astype(jnp.float32), confidence.astype(jnp.float32))
