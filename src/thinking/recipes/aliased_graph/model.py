"""The conditions that are compared: one guide with true tags, without, with random ones, with more context.

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
"""`make_tagging(frequencies [K], key) -> Tagging`, where true tags are that frequent; None for no tags."""


class Condition(NamedTuple):
    """One thing compared.

    Attributes:
        make_tagging: how memories are tagged.
        num_tags: K.
        context_length: items of a context.
    """

    make_tagging: MakeTagging
    num_tags: int
    context_length: int = 1


def make_conditions(num_tags: int) -> dict[str, Condition]:
    """All conditions by name; that of true tags comes first, as others depend on how it acts."""
    even = jnp.full(num_tags, 1 / num_tags)
    return {
        "tags": Condition(lambda frequencies, key: visits(num_tags), num_tags),
        "tags 0, 1, 2 or more": Condition(lambda frequencies, key: visits(3, cyclic=False), 3),
        "tags zeroed": Condition(lambda frequencies, key: random_tags(jnp.eye(num_tags)[0], key), num_tags),
        "tags shuffled": Condition(random_tags, num_tags),
        "tags drawn evenly": Condition(lambda frequencies, key: random_tags(even, key), num_tags),
        "no tags, context 2": Condition(lambda frequencies, key: None, 1, context_length=2),
    }


def make_guide(config: Config, condition: Condition, tagging: Tagging | None, num_observations: int) -> Guide:
    """The guide of a condition: one table, whose context is what was observed last, and its tag."""
    observed = kernels.Discrete(num_observations)
    layer = kernels.table(
        input=tagged_space(observed, tagging),
        value=observed,
        target=observed,
        context_length=condition.context_length,
    )
    return guide(
        layers=[layer],
        abstraction=skip_step(2),  # chooses sub-goals of higher layers, of which there are none
        scoring=monte_carlo(config.guide.discount),
        horizon=config.guide.horizon,
        tagging=tagging,
        memory=None if tagging is None else max(config.eval.max_hops),
    )


def compute_tag_frequencies(num_tags: int, observations: Array, counts: Array) -> Array:
    """How frequent each true tag is among observations.

    Args:
        num_tags: K.
        observations: [B, T] int32.
        counts: [B, T] bool, which of them count.

    Returns:
        [K] float32, with the sum 1.
    """
    tags = jax.vmap(visits(num_tags).tag)(observations, jnp.ones_like(observations, bool))
    number = jnp.bincount(jnp.where(counts, tags, num_tags).ravel(), length=num_tags + 1)[:num_tags]
    return number / jnp.sum(number)
