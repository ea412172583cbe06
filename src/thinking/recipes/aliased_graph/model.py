"""The conditions that are compared: a guide (hierarchical planner) of one table with different tags.

A tag is an integer appended to an observation: how often it was observed since the goal was set.

Axes: K tags, B rows, T items of a row.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking import kernels
from thinking.guide import Guide, guide, monte_carlo
from thinking.guide.abstraction import skip_step
from thinking.guide.tagging import Tagging, random_tags, tagged_space, visits
from thinking.recipes.aliased_graph.config import Config
from thinking.types import Array

MakeTagging = Callable[[Array, Array], Tagging | None]
"""`make_tagging(frequencies [K], key) -> Tagging`, given the frequencies of true tags; None for no tags."""


class Condition(NamedTuple):
    """A condition of the comparison.

    Attributes:
        make_tagging: of the guide's memories.
        num_tags: K.
        context_length: observations of a context.
    """

    make_tagging: MakeTagging
    num_tags: int
    context_length: int = 1


def make_conditions(num_tags: int) -> dict[str, Condition]:
    """All conditions by name; true tags first, as others use the tag frequencies of the plans made with them."""
    even = jnp.full(num_tags, 1 / num_tags)
    return {
        "tags": Condition(lambda frequencies, key: visits(num_tags), num_tags),
        "tags 0, 1, 2 or more": Condition(lambda frequencies, key: visits(3, cyclic=False), 3),
        "tags zeroed": Condition(lambda frequencies, key: random_tags(jnp.eye(num_tags)[0], key), num_tags),
        "tags random": Condition(random_tags, num_tags),
        "tags drawn evenly": Condition(lambda frequencies, key: random_tags(even, key), num_tags),
        "no tags, context 2": Condition(lambda frequencies, key: None, 1, context_length=2),
    }


def make_guide(config: Config, condition: Condition, tagging: Tagging | None, num_observations: int) -> Guide:
    """The guide of a condition: one table over the last observations and their tags."""
    observed = kernels.Discrete(num_observations)
    layer = kernels.table(
        input=tagged_space(observed, tagging),
        value=observed,
        target=observed,
        context_length=condition.context_length,
    )
    return guide(
        layers=[layer],
        abstraction=skip_step(2),  # unused, as there are no higher layers
        scoring=monte_carlo(config.guide.discount),
        horizon=config.guide.horizon,
        tagging=tagging,
        memory=None if tagging is None else max(config.eval.max_hops),
    )


def compute_tag_frequencies(num_tags: int, observations: Array, counts: Array) -> Array:
    """Frequencies of the true tags of observations.

    Args:
        num_tags: K.
        observations: [B, T] int32.
        counts: [B, T] bool, which observations count.

    Returns:
        [K] float32, which sum to 1.
    """
    tags = jax.vmap(visits(num_tags).tag)(observations, jnp.ones_like(observations, bool))
    number = jnp.bincount(jnp.where(counts, tags, num_tags).ravel(), length=num_tags + 1)[:num_tags]
    return number / jnp.sum(number)
