"""A replay buffer of whole episodes.

Axes: N episodes of capacity, E episodes, T maximum steps of an episode, O dimensions of an observation.
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
        states: [E, T + 1, O] observations, the final one included; undefined past the end.
        actions: [E, T, ...].
        rewards: [E, T] float32; 0 past the end.
        length: [E] int32, number of steps; 0 for an empty slot.
        terminated: [E] bool; otherwise the episode was truncated.
    """

    states: Array
    actions: Array
    rewards: Array
    length: Array
    terminated: Array

    @property
    def returns(self) -> Array:
        """[E] float32, undiscounted returns; -inf for empty slots."""
        return jnp.where(self.length > 0, jnp.sum(self.rewards, axis=1), -jnp.inf)

    @property
    def valid(self) -> Array:
        """[E, T] bool, mask of steps."""
        return jnp.arange(self.rewards.shape[1])[None] < self.length[:, None]

    def values(self, discount: float, reward_range: tuple[float, float]) -> Array:
        """[E, T] in [0, 1], `state_values` of rewards scaled from `reward_range` to [0, 1]."""
        low, high = reward_range
        scaled = (self.rewards - low) / (high - low)
        return state_values(scaled, self.valid, self.terminated, discount, (0.0 - low) / (high - low))


class Retention(NamedTuple):
    """Which episodes a buffer keeps.

    Attributes:
        num_best: number of episodes of highest return that are always kept.
        num_bins: bins of equal width over the range of `bin_key`. Each has the same share of the other slots and keeps
            its lowest episodes, so that low returns stay in the training data.
        by_return: True for the rule above, False to keep the newest episodes only.
    """

    num_best: int
    num_bins: int
    by_return: bool = True


def init_buffer(like: Episodes, capacity: int) -> Episodes:
    """An empty buffer of `capacity` episodes shaped like `like` (arrays or their shapes)."""
    return jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape[1:]), leaf.dtype), like)


BinKey = Callable[[Episodes], Array]
"""`bin_key(episodes) -> [E]`: the scale on which return bins have equal width."""


def insert(buffer: Episodes, episodes: Episodes, retention: Retention, bin_key: BinKey) -> Episodes:
    """The buffer with new episodes, by descending return, newer first among equals; by age if not `by_return`.

    Returns as many episodes as the buffer holds. Of the surplus, drops those that the retention does not keep, the
    lowest returns first, or the oldest if not `by_return`. T and O must equal those of the buffer.
    """
    capacity = buffer.length.shape[0]
    both = jax.tree.map(lambda fresh, old: jnp.concatenate([fresh, old]), episodes, buffer)
    is_valid = both.length > 0
    if not retention.by_return:
        order = jnp.argsort(~is_valid, stable=True)
        return jax.tree.map(lambda leaf: leaf[order[:capacity]], both)
    order = jnp.argsort(-both.returns, stable=True)
    both, is_valid = jax.tree.map(lambda leaf: leaf[order], (both, is_valid))
    rank = jnp.arange(is_valid.shape[0])
    share = (capacity - retention.num_best) // max(retention.num_bins, 1)
    is_kept = (rank < retention.num_best) | (_rank_in_bin(bin_key(both), is_valid, retention.num_bins) < share)
    # Episodes that no rule keeps fill the remaining slots.
    order = jnp.argsort(jnp.where(is_valid, ~is_kept, 2), stable=True)[:capacity]
    return jax.tree.map(lambda leaf: leaf[jnp.sort(order)], both)


def _rank_in_bin(keys: Array, is_valid: Array, num_bins: int) -> Array:
    """[E] number of worse episodes in the same bin, for episodes by descending return."""
    lowest = jnp.min(keys, where=is_valid, initial=jnp.inf)
    width = jnp.max(keys, where=is_valid, initial=-jnp.inf) - lowest
    bins = jnp.clip((keys - lowest) / jnp.where(width > 0, width, 1) * num_bins, 0, max(num_bins - 1, 0)).astype(int)
    rank = jnp.arange(keys.shape[0])
    return jnp.sum((bins[:, None] == bins[None]) & is_valid[None] & (rank[None] > rank[:, None]), axis=1)


def sample_steps(
    buffer: Episodes, key: Array, batch_size: int, num_best: int, best_fraction: float
) -> tuple[Array, Array]:
    """Indices (episode, step) of training examples, [batch_size] int32 each. Consumes the key.

    A fraction `best_fraction` is uniform over the steps of the best `num_best` episodes. The rest is uniform over
    episodes, so that short ones are not underrepresented.
    """
    best_key, any_key, step_key = jax.random.split(key, 3)
    num_from_best = round(batch_size * best_fraction)
    weights = jnp.where(jnp.arange(buffer.length.shape[0]) < num_best, buffer.length, 0)
    from_best = jax.random.categorical(best_key, jnp.log(weights.astype(jnp.float32)), shape=(num_from_best,))
    from_all = jax.random.categorical(
        any_key, jnp.log((buffer.length > 0).astype(jnp.float32)), shape=(batch_size - num_from_best,)
    )
    episode = jnp.concatenate([from_best, from_all])
    return episode, jax.random.randint(step_key, (batch_size,), 0, jnp.maximum(buffer.length[episode], 1))
