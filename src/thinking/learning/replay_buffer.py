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


class Keeping(NamedTuple):
    """What a store keeps.

    Attributes:
        best: the episodes of the highest return always stay, so many.
        bands: the range of what episodes are worth is cut into so many bands of equal width; each has the same share
            of the other places, for the lowest in it. So low returns stay teachable too, to the lowest of all.
        by_return: whether the best stay; else the newest do, whatever they were worth, and there are no bands.
    """

    best: int
    bands: int
    by_return: bool = True


def empty(like: Episodes, places: int) -> Episodes:
    """A store of N places that holds nothing, for episodes like these (arrays or their shapes)."""
    return jax.tree.map(lambda leaf: jnp.zeros((places, *leaf.shape[1:]), leaf.dtype), like)


Worth = Callable[[Episodes], Array]
"""`worth(episodes) -> [E]`: on which scale bands of return are equally wide."""


def keep(store: Episodes, new: Episodes, keeping: Keeping, worth: Worth) -> Episodes:
    """The store after new episodes: sorted by return, the best first, of equals the newest first."""
    places = store.length.shape[0]
    both = jax.tree.map(lambda fresh, old: jnp.concatenate([fresh, old]), new, store)
    real = both.length > 0
    if not keeping.by_return:
        order = jnp.argsort(~real, stable=True)
        return jax.tree.map(lambda leaf: leaf[order[:places]], both)
    order = jnp.argsort(-both.returns, stable=True)
    both, real = jax.tree.map(lambda leaf: leaf[order], (both, real))
    place = jnp.arange(real.shape[0])
    share = (places - keeping.best) // max(keeping.bands, 1)
    stays = (place < keeping.best) | (_place_in_band(worth(both), real, keeping.bands) < share)
    # What does not stay fills the places that are left.
    order = jnp.argsort(jnp.where(real, ~stays, 2), stable=True)[:places]
    return jax.tree.map(lambda leaf: leaf[jnp.sort(order)], both)


def _place_in_band(worth: Array, real: Array, bands: int) -> Array:
    """How many worse episodes are in the same band, for episodes sorted from the best down."""
    lowest = jnp.min(worth, where=real, initial=jnp.inf)
    width = jnp.max(worth, where=real, initial=-jnp.inf) - lowest
    band = jnp.clip((worth - lowest) / jnp.where(width > 0, width, 1) * bands, 0, max(bands - 1, 0)).astype(int)
    place = jnp.arange(worth.shape[0])
    return jnp.sum((band[:, None] == band[None]) & real[None] & (place[None] > place[:, None]), axis=1)


def draw(store: Episodes, key: Array, rows: int, best: int, best_share: float) -> tuple[Array, Array]:
    """Places to learn from: an episode and a step of it, [rows] int32 each. Consumes the key.

    A share of the rows is drawn from the best episodes, every step as likely; the rest from all, every episode as
    likely, so that short ones are not drowned by long ones.
    """
    best_key, any_key, step_key = jax.random.split(key, 3)
    of_best = round(rows * best_share)
    weights = jnp.where(jnp.arange(store.length.shape[0]) < best, store.length, 0)
    chosen = jax.random.categorical(best_key, jnp.log(weights.astype(jnp.float32)), shape=(of_best,))
    others = jax.random.categorical(any_key, jnp.log((store.length > 0).astype(jnp.float32)), shape=(rows - of_best,))
    episode = jnp.concatenate([chosen, others])
    return episode, jax.random.randint(step_key, (rows,), 0, jnp.maximum(store.length[episode], 1))
