"""Training of the guides of all environments at once, by vmap; walks are a function of seed and step.

Axes: S environments, K tags.
"""

import re

import jax
import jax.numpy as jnp

from thinking.environments.aliased_graph import AliasedGraph, sample_aliased_walks
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.guide import GuideState, Trajectories
from thinking.recipes.aliased_graph.config import Config
from thinking.recipes.aliased_graph.model import Condition, compute_tag_frequencies, make_guide
from thinking.types import Array, Metrics

SAMPLE_SIZE = 100
"""Walks from which tag frequencies are estimated."""


def compute_walk_frequencies(config: Config, envs: AliasedGraph, key: Array) -> Array:
    """[S, K] frequencies of the true tags on walks drawn by the key."""
    walks = config.walks
    observations = jax.vmap(
        lambda env: sample_aliased_walks(env, key, SAMPLE_SIZE, walks.num_states, walks.random_fraction)[0]
    )(envs)
    return jax.vmap(lambda rows: compute_tag_frequencies(config.guide.num_tags, rows, jnp.ones_like(rows, bool)))(
        observations
    )


def train_condition(
    config: Config, run: Run, name: str, condition: Condition, envs: AliasedGraph, frequencies: Array, key: Array
) -> TrainResult:
    """Train the guides of a condition, one pass over the walks for each tag, as a tag depends on lower ones.

    Args:
        config, run: settings, and where checkpoints and metrics go.
        name, condition: the condition.
        envs: the environments, [S, ...].
        frequencies: [S, K], of true tags on walks.
        key: of the walks, the initial state and random tags; the same for all conditions.

    Returns:
        The result; its state is a `GuideState` [S, ...].
    """
    walks, batch_size = config.walks, config.training.batch_size
    num_batches = -(-walks.num_walks // batch_size)

    def observe(state: GuideState, env: AliasedGraph, frequencies: Array, index: Array) -> tuple[GuideState, Metrics]:
        tagging = condition.make_tagging(frequencies, key)
        walk_key = jax.random.fold_in(key, index % num_batches)
        observations, length = sample_aliased_walks(env, walk_key, batch_size, walks.num_states, walks.random_fraction)
        weight = None
        if tagging is not None:
            tags = jax.vmap(tagging.tag)(observations, jnp.ones_like(observations, bool))
            weight = (tags <= index // num_batches).astype(jnp.float32)
        guide = make_guide(config, condition, tagging, env.num_observations)
        return guide.observe(state, Trajectories(observations, length, weight=weight))

    def step(state: GuideState, index: Array) -> tuple[GuideState, Metrics]:
        state, metrics = jax.vmap(observe, in_axes=(0, 0, 0, None))(state, envs, frequencies, index)
        return state, {"layer_0/num_written": jnp.mean(metrics["layer_0/num_written"])}

    def init_one(env: AliasedGraph, frequencies: Array) -> GuideState:
        tagging = condition.make_tagging(frequencies, key)
        return make_guide(config, condition, tagging, env.num_observations).init(key)

    return train(
        run,
        re.sub("[^a-z0-9]+", "_", name),
        init=lambda: jax.jit(jax.vmap(init_one))(envs, frequencies),
        step=step,
        num_steps=num_batches * condition.num_tags,
        chunk_size=num_batches,
        progress_metric="layer_0/num_written",
    )
