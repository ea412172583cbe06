"""Training of the guides of all worlds at once, by vmap; the walks of a step are a function of seed and step alone.

Axes: S worlds, K tags.
"""

import re

import jax
import jax.numpy as jnp

from thinking.environments.aliased_graph import AliasedGraph, sample_aliased_walks
from thinking.experiment import Run
from thinking.experiment.training import TrainResult, train
from thinking.guide import GuideState, Path
from thinking.recipes.aliased_graph.config import Config
from thinking.recipes.aliased_graph.model import Condition, compute_tag_frequencies, make_guide
from thinking.types import Array, Metrics

SAMPLE_SIZE = 100
"""Walks from which the frequencies of tags are taken."""


def compute_walk_frequencies(config: Config, worlds: AliasedGraph, key: Array) -> Array:
    """[S, K] how frequent each true tag is on walks, which the key draws."""
    walks = config.walks
    observations = jax.vmap(
        lambda world: sample_aliased_walks(world, key, SAMPLE_SIZE, walks.num_states, walks.random_fraction)[0]
    )(worlds)
    return jax.vmap(lambda rows: compute_tag_frequencies(config.guide.num_tags, rows, jnp.ones_like(rows, bool)))(
        observations
    )


def train_condition(
    config: Config, run: Run, name: str, condition: Condition, worlds: AliasedGraph, frequencies: Array, key: Array
) -> TrainResult:
    """Train the guides of a condition on the same walks once for each tag, as a tag builds on what lower ones answer.

    Args:
        config: says on how many walks.
        run: takes the checkpoints and metrics.
        name: of the condition.
        condition: what is trained.
        worlds: all worlds, with a leading axis S.
        frequencies: [S, K], of true tags on walks.
        key: of the walks, the first state and random tags; each condition is given the same.

    Returns:
        What came of it; its state is a `GuideState` with a leading axis S.
    """
    walks, batch_size = config.walks, config.training.batch_size
    num_batches = -(-walks.num_walks // batch_size)

    def observe(state: GuideState, world: AliasedGraph, frequencies: Array, index: Array) -> tuple[GuideState, Metrics]:
        tagging = condition.make_tagging(frequencies, key)
        walk_key = jax.random.fold_in(key, index % num_batches)
        observations, length = sample_aliased_walks(
            world, walk_key, batch_size, walks.num_states, walks.random_fraction
        )
        weight = None
        if tagging is not None:
            tags = jax.vmap(tagging.tag)(observations, jnp.ones_like(observations, bool))
            weight = (tags <= index // num_batches).astype(jnp.float32)
        guide = make_guide(config, condition, tagging, world.num_observations)
        return guide.observe(state, Path(observations, length, weight=weight))

    def step(state: GuideState, index: Array) -> tuple[GuideState, Metrics]:
        state, metrics = jax.vmap(observe, in_axes=(0, 0, 0, None))(state, worlds, frequencies, index)
        return state, {"written": jnp.mean(metrics["written/0"])}

    def init_one(world: AliasedGraph, frequencies: Array) -> GuideState:
        tagging = condition.make_tagging(frequencies, key)
        return make_guide(config, condition, tagging, world.num_observations).init(key)

    return train(
        run,
        re.sub("[^a-z0-9]+", "_", name),
        init=lambda: jax.jit(jax.vmap(init_one))(worlds, frequencies),
        step=step,
        num_steps=num_batches * condition.num_tags,
        chunk_size=num_batches,
        progress_metric="written",
    )
