"""Curricula, whose levels unlock as success passes a threshold, and samplers of training rows; pure functions.

Axes: L levels, N attempts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.text.packing import sample_row_indices
from thinking.types import Array


class CurriculumState(NamedTuple):
    """Success statistics by level; part of a run's checkpoint.

    Attributes:
        success: [L] float32, EMA of success without bias correction; `success / weight` is the estimate.
        weight: [L] float32 in [0, 1], total weight of the EMA.
        num_attempts: [L] float32, number of measured attempts.
        unlocked: [L] bool, levels that may be sampled; the first always is, and none is locked again.
    """

    success: Array
    weight: Array
    num_attempts: Array
    unlocked: Array


class Curriculum(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init() -> CurriculumState`, with the first level unlocked.
        update: `update(state, level [N] int32, success [N], mask [N]) -> CurriculumState`. Success is in
            [0, 1]; `mask` is the number of attempts of which it is the mean, possibly fractional; rows with 0 are
            ignored. Raises ValueError if the shapes differ.
        sample: `sample(state, key, count) -> [count] int32`, unlocked levels; consumes the key.
    """

    init: Callable[[], CurriculumState]
    update: Callable[[CurriculumState, Array, Array, Array], CurriculumState]
    sample: Callable[[CurriculumState, Array, int], Array]


def curriculum(
    num_levels: int,
    *,
    threshold: float = 0.9,
    decay_attempts: float = 256.0,
    min_attempts: int = 256,
    review_weight: float = 0.1,
    locked: bool = True,
) -> Curriculum:
    """Levels that unlock in order.

    A level unlocks the next one once its success estimate reaches the threshold. Unlocked levels are sampled in
    proportion to `review_weight + 1 - success`.

    Args:
        num_levels: L.
        threshold: success estimate, in (0, 1].
        decay_attempts: time constant of the success EMA, in attempts.
        min_attempts: attempts at a level before it may unlock the next one.
        review_weight: sampling weight of a level whose success is 1, more than 0.
        locked: whether all levels but the first start locked.

    Raises:
        ValueError: if an argument is out of range.
    """
    if num_levels < 1:
        raise ValueError(f"curriculum: num_levels {num_levels} is out of range; give at least 1")
    if not 0 < threshold <= 1:
        raise ValueError(f"curriculum: threshold {threshold} is out of range; give more than 0 and at most 1")
    for name, value in (
        ("decay_attempts", decay_attempts),
        ("min_attempts", min_attempts),
        ("review_weight", review_weight),
    ):
        if value <= 0:
            raise ValueError(f"curriculum: {name} {value} is out of range; give more than 0")

    def init() -> CurriculumState:
        zeros = jnp.zeros(num_levels, jnp.float32)
        return CurriculumState(zeros, zeros, zeros, (jnp.arange(num_levels) == 0) | (not locked))

    def update(state: CurriculumState, level: Array, success: Array, mask: Array) -> CurriculumState:
        if not level.shape == success.shape == mask.shape:
            raise ValueError(
                f"curriculum: level {level.shape}, success {success.shape} and mask {mask.shape}; give all [attempts]"
            )
        num_new = jnp.zeros(num_levels, jnp.float32).at[level].add(mask)
        total = jnp.zeros(num_levels, jnp.float32).at[level].add(jnp.where(mask > 0, success * mask, 0.0))
        # All attempts of one call have the same weight.
        decay = jnp.exp(-num_new / decay_attempts)
        mean = total / jnp.where(num_new > 0, num_new, 1)
        new_state = CurriculumState(
            success=decay * state.success + (1 - decay) * mean,
            weight=decay * state.weight + (1 - decay),
            num_attempts=state.num_attempts + num_new,
            unlocked=state.unlocked,
        )
        passed = (
            new_state.unlocked & (new_state.num_attempts >= min_attempts) & (estimate_success(new_state) >= threshold)
        )
        return new_state._replace(unlocked=new_state.unlocked | jnp.roll(passed, 1).at[0].set(True))

    def sample(state: CurriculumState, key: Array, count: int) -> Array:
        weight = jnp.where(state.unlocked, review_weight + 1 - estimate_success(state), 0.0)
        return jax.random.categorical(key, jnp.log(weight), shape=(count,)).astype(jnp.int32)

    return Curriculum(init, update, sample)


def estimate_success(state: CurriculumState) -> Array:
    """[L] float32, estimated success by level; 0 without attempts."""
    return state.success / jnp.maximum(state.weight, jnp.finfo(jnp.float32).tiny)


def sample_rows(key: Array, level: Array, starts: Array) -> Array:
    """[N] int32, a random row of each level, where rows are ordered by level.

    Args:
        key: consumed.
        level: [N] int32.
        starts: [L + 1] int32, first row of each level, then the number of rows; no level may be empty.
    """
    first, end = starts[level], starts[level + 1]
    return jax.random.randint(key, level.shape, first, end, jnp.int32)


class IndexSampler(NamedTuple):
    """Which training rows a step uses; pure functions, all jit.

    Attributes:
        init: `init() -> state`, a PyTree.
        sample: `sample(state, key, step, count) -> (rows [count] int32, level [count] int32)`; one key for all steps.
        update: as `Curriculum.update`.
        num_unlocked: `num_unlocked(state) -> [] float32`, number of unlocked levels.
    """

    init: Callable[[], Any]
    sample: Callable[[Any, Array, Array, int], tuple[Array, Array]]
    update: Callable[[Any, Array, Array, Array], Any]
    num_unlocked: Callable[[Any], Array]


def uniform_sampler(num_rows: int) -> IndexSampler:
    """Every row once an epoch; success is ignored."""

    def sample(state: tuple, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        del state
        return sample_row_indices(key, step, num_rows, count), jnp.zeros(count, jnp.int32)

    def update(state: tuple, level: Array, success: Array, mask: Array) -> tuple:
        del level, success, mask
        return state

    return IndexSampler(lambda: (), sample, update, lambda state: jnp.ones(()))


def prioritized_sampler(num_rows: int, *, ema_decay: float = 0.5, review_weight: float = 0.1) -> IndexSampler:
    """Rows sampled without replacement in proportion to `review_weight + 1 - success`.

    Prioritized level replay (Jiang et al. 2021) with each row as a level. Success starts at 0, so new rows have the
    highest priority.

    Args:
        num_rows: number of rows.
        ema_decay: EMA decay of a row's success at each of its updates, 0 to below 1.
        review_weight: weight of a row whose success is 1, more than 0.

    Raises:
        ValueError: if an argument is out of range; by `sample`, if `count` exceeds `num_rows`.
    """
    if num_rows < 1:
        raise ValueError(f"prioritized_sampler: {num_rows} rows; give at least 1")
    if not 0 <= ema_decay < 1 or review_weight <= 0:
        raise ValueError(
            f"prioritized_sampler: ema_decay {ema_decay}, review_weight {review_weight}: "
            "give 0 to below 1, and more than 0"
        )

    def sample(success: Array, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        if count > num_rows:
            raise ValueError(f"prioritized_sampler: {count} of {num_rows} rows; give at most as many as there are")
        # Gumbel top-k samples without replacement (Efraimidis & Spirakis 2006).
        noise = jax.random.gumbel(jax.random.fold_in(key, step), (num_rows,))
        rows = jax.lax.top_k(jnp.log(review_weight + 1 - success) + noise, count)[1].astype(jnp.int32)
        return rows, rows

    def update(success: Array, level: Array, new_success: Array, mask: Array) -> Array:
        num_new = jnp.zeros(num_rows, jnp.float32).at[level].add(mask)
        total = jnp.zeros(num_rows, jnp.float32).at[level].add(jnp.where(mask > 0, new_success * mask, 0.0))
        mean = total / jnp.where(num_new > 0, num_new, 1)
        return jnp.where(num_new > 0, ema_decay * success + (1 - ema_decay) * mean, success)

    return IndexSampler(lambda: jnp.zeros(num_rows, jnp.float32), sample, update, lambda success: jnp.ones(()))


def level_sampler(level_curriculum: Curriculum, starts: Sequence[int]) -> IndexSampler:
    """Random rows of the levels that a curriculum samples.

    Args:
        level_curriculum: curriculum of L levels.
        starts: [L + 1], first row of each level, then the number of rows.

    Raises:
        ValueError: if a level is empty.
    """
    row_starts = np.asarray(starts, np.int32)
    if not (np.diff(row_starts) > 0).all():
        raise ValueError(
            f"level_sampler: level {int(np.argmin(np.diff(row_starts) > 0))} has no rows; give each at least one"
        )

    def sample(state: CurriculumState, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        level_key, row_key = jax.random.split(jax.random.fold_in(key, step))
        level = level_curriculum.sample(state, level_key, count)
        return sample_rows(row_key, level, jnp.asarray(row_starts)), level

    def num_unlocked(state: CurriculumState) -> Array:
        return jnp.sum(state.unlocked, dtype=jnp.float32)

    return IndexSampler(level_curriculum.init, sample, level_curriculum.update, num_unlocked)
