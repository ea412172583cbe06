"""Whole episodes, and the bounded store of those worth learning from.

Axes: N places of the store, E episodes, T the most steps of an episode, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.learning.returns import state_values
from thinking.types import Array


class Episodes(NamedTuple):
    """Whole episodes.

    Attributes:
        states: [E, T + 1, O] what was seen, the last state included; what lies beyond the end means nothing.
        actions: [E, T, ...].
        rewards: [E, T] float32; 0 beyond the end.
        length: [E] int32, steps made; 0 for no episode.
        terminated: [E] bool; an episode that did not terminate was truncated.
    """

    states: Array
    actions: Array
    rewards: Array
    length: Array
    terminated: Array

    @property
    def returns(self) -> Array:
        """[E] float32, sums of rewards; -inf for no episode."""
        return jnp.where(self.length > 0, jnp.sum(self.rewards, axis=1), -jnp.inf)

    @property
    def valid(self) -> Array:
        """[E, T] bool, which steps were made."""
        return jnp.arange(self.rewards.shape[1])[None] < self.length[:, None]

    def values(self, discount: float, reward_range: tuple[float, float]) -> Array:
        """[E, T] in [0, 1], the state values that were lived; see `state_values`."""
        low, high = reward_range
        gained = (self.rewards - low) / (high - low)
        return state_values(gained, self.valid, self.terminated, discount, (0.0 - low) / (high - low))


class Retention(NamedTuple):
    """What a store keeps.

    Attributes:
        num_best: the episodes of the highest return always stay, so many.
        num_bins: the range of what episodes are worth is cut into so many bands of equal width; each has the same share
            of the other places, for the lowest in it. So low returns stay teachable too, to the lowest of all.
        by_return: whether the best stay; else the newest do, whatever they were worth, and there are no bands.
    """

    num_best: int
    num_bins: int
    by_return: bool = True


def init_buffer(like: Episodes, capacity: int) -> Episodes:
    """A store of N places that holds nothing, for episodes like these (arrays or their shapes)."""
    return jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape[1:]), leaf.dtype), like)


BinKey = Callable[[Episodes], Array]
"""`worth(episodes) -> [E]`: on which scale bands of return are equally wide."""


def insert(buffer: Episodes, episodes: Episodes, retention: Retention, bin_key: BinKey) -> Episodes:
    """The store after new episodes: sorted by return, the best first, of equals the newest first."""
    places = buffer.length.shape[0]
    both = jax.tree.map(lambda fresh, old: jnp.concatenate([fresh, old]), episodes, buffer)
    real = both.length > 0
    if not retention.by_return:
        order = jnp.argsort(~real, stable=True)
        return jax.tree.map(lambda leaf: leaf[order[:places]], both)
    order = jnp.argsort(-both.returns, stable=True)
    both, real = jax.tree.map(lambda leaf: leaf[order], (both, real))
    place = jnp.arange(real.shape[0])
    share = (places - retention.num_best) // max(retention.num_bins, 1)
    stays = (place < retention.num_best) | (_rank_in_bin(bin_key(both), real, retention.num_bins) < share)
    # What does not stay fills the places that are left.
    order = jnp.argsort(jnp.where(real, ~stays, 2), stable=True)[:places]
    return jax.tree.map(lambda leaf: leaf[jnp.sort(order)], both)


def _rank_in_bin(keys: Array, is_valid: Array, num_bins: int) -> Array:
    """How many worse episodes are in the same band, for episodes sorted from the best down."""
    lowest = jnp.min(keys, where=is_valid, initial=jnp.inf)
    width = jnp.max(keys, where=is_valid, initial=-jnp.inf) - lowest
    band = jnp.clip((keys - lowest) / jnp.where(width > 0, width, 1) * num_bins, 0, max(num_bins - 1, 0)).astype(int)
    place = jnp.arange(keys.shape[0])
    return jnp.sum((band[:, None] == band[None]) & is_valid[None] & (place[None] > place[:, None]), axis=1)


def sample_steps(
    buffer: Episodes, key: Array, batch_size: int, num_best: int, best_fraction: float
) -> tuple[Array, Array]:
    """Places to learn from: an episode and a step of it, [rows] int32 each. Consumes the key.

    A share of the rows is drawn from the best episodes, every step as likely; the rest from all, every episode as
    likely, so that short ones are not drowned by long ones.
    """
    best_key, any_key, step_key = jax.random.split(key, 3)
    of_best = round(batch_size * best_fraction)
    weights = jnp.where(jnp.arange(buffer.length.shape[0]) < num_best, buffer.length, 0)
    chosen = jax.random.categorical(best_key, jnp.log(weights.astype(jnp.float32)), shape=(of_best,))
    others = jax.random.categorical(
        any_key, jnp.log((buffer.length > 0).astype(jnp.float32)), shape=(batch_size - of_best,)
    )
    episode = jnp.concatenate([chosen, others])
    return episode, jax.random.randint(step_key, (batch_size,), 0, jnp.maximum(buffer.length[episode], 1))
