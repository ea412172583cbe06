"""A curriculum: levels open one after another, as measured success passes a threshold; pure functions over a PyTree.

Axes: L levels, N attempts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.text.packing import batch_rows
from thinking.types import Array


class CurriculumState(NamedTuple):
    """How far a learner has come; part of what a run saves.

    Attributes:
        success: [L] float32, the sum of measured success, fading; over `weight` it is the estimate.
        weight: [L] float32 in [0, 1], how much of the memory is filled.
        num_attempts: [L] float32, all that were ever measured.
        unlocked: [L] bool, which levels may be drawn; the first always, none closes again.
    """

    success: Array
    weight: Array
    num_attempts: Array
    unlocked: Array


class Curriculum(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init() -> Progress`, with the first level open.
        update: `observe(progress, level [N] int32, success [N], mask [N]) -> Progress`: success is in [0, 1], the mean
            of as many attempts as the mask says; those of mask 0 change nothing.
        sample: `draw(progress, key, count) -> [count] int32`, open levels; consumes the key.
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
) -> Curriculum:
    """A ladder of levels.

    The level above an open one opens once the success estimate of that one reaches the threshold. Levels are drawn
    in proportion to `review_weight` and what is still to be learned, `1 - success`.

    Args:
        num_levels: L.
        threshold: in (0, 1].
        decay_attempts: attempts after which what was measured counts less by a factor of e.
        min_attempts: attempts before an estimate opens anything.
        review_weight: weight of a level that is mastered, more than 0; one with no success yet has 1 more.

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
        none = jnp.zeros(num_levels, jnp.float32)
        return CurriculumState(none, none, none, jnp.arange(num_levels) == 0)

    def observe(progress: CurriculumState, level: Array, success: Array, mask: Array) -> CurriculumState:
        if not level.shape == success.shape == mask.shape:
            raise ValueError(
                f"curriculum: level {level.shape}, success {success.shape} and mask {mask.shape}; give all [attempts]"
            )
        met = jnp.zeros(num_levels, jnp.float32).at[level].add(mask)
        total = jnp.zeros(num_levels, jnp.float32).at[level].add(jnp.where(mask > 0, success * mask, 0.0))
        # Attempts of one call count alike.
        kept = jnp.exp(-met / decay_attempts)
        mean = total / jnp.maximum(met, 1)
        after = CurriculumState(
            success=kept * progress.success + (1 - kept) * mean,
            weight=kept * progress.weight + (1 - kept),
            num_attempts=progress.num_attempts + met,
            unlocked=progress.unlocked,
        )
        passed = after.unlocked & (after.num_attempts >= min_attempts) & (estimate_success(after) >= threshold)
        return after._replace(unlocked=after.unlocked | jnp.roll(passed, 1).at[0].set(True))

    def draw(progress: CurriculumState, key: Array, count: int) -> Array:
        weight = jnp.where(progress.unlocked, review_weight + 1 - estimate_success(progress), 0.0)
        return jax.random.categorical(key, jnp.log(weight), shape=(count,)).astype(jnp.int32)

    return Curriculum(init, observe, draw)


def estimate_success(state: CurriculumState) -> Array:
    """[L] float32, the measured success of each level; 0 where nothing was measured."""
    return state.success / jnp.maximum(state.weight, jnp.finfo(jnp.float32).tiny)


def sample_rows(key: Array, level: Array, starts: Array) -> Array:
    """[N] int32, a row for each level drawn, of rows that are ordered by level.

    Args:
        key: consumed.
        level: [N] int32.
        starts: [L + 1] int32, the first row of each level, and how many rows there are; none is empty.
    """
    first, end = starts[level], starts[level + 1]
    return jax.random.randint(key, level.shape, first, end, jnp.int32)


class IndexSampler(NamedTuple):
    """Which rows a step learns from; pure functions, all jit.

    Attributes:
        init: `init() -> progress`, a PyTree.
        sample: `draw(progress, key, step, count) -> (rows [count] int32, level [count] int32)`; the key never changes.
        update: as a curriculum's.
        num_unlocked: `opened(progress) -> [] float32`, how many levels may be drawn.
    """

    init: Callable[[], Any]
    sample: Callable[[Any, Array, Array, int], tuple[Array, Array]]
    update: Callable[[Any, Array, Array, Array], Any]
    num_unlocked: Callable[[Any], Array]


def uniform_sampler(num_rows: int) -> IndexSampler:
    """Every row once in each epoch, whatever is measured."""

    def draw(progress: tuple, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        del progress
        return batch_rows(key, step, num_rows, count), jnp.zeros(count, jnp.int32)

    def observe(progress: tuple, level: Array, success: Array, mask: Array) -> tuple:
        del level, success, mask
        return progress

    return IndexSampler(lambda: (), draw, observe, lambda progress: jnp.ones(()))


def prioritized_sampler(num_rows: int, *, ema_decay: float = 0.5, review_weight: float = 0.1) -> IndexSampler:
    """Rows drawn by what is left to be learned of each, told from its own measured success, none twice in a draw.

    Prioritized level replay (Jiang et al. 2021) with every row as a level. A row weighs `review + 1 - success`. Success
    begins at 0, so what was never drawn comes before what was solved.

    Args:
        num_rows: how many there are.
        ema_decay: share of the old estimate that is kept each time that a row is drawn, 0 to below 1.
        review_weight: weight of a row that is mastered, more than 0.

    Raises:
        ValueError: if an argument is out of range; by `draw`, if more rows are asked for than there are.
    """
    if num_rows < 1:
        raise ValueError(f"prioritized_sampler: {num_rows} rows; give at least 1")
    if not 0 <= ema_decay < 1 or review_weight <= 0:
        raise ValueError(
            f"prioritized_sampler: ema_decay {ema_decay}, review_weight {review_weight}: "
            "give 0 to below 1, and more than 0"
        )

    def draw(success: Array, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        if count > num_rows:
            raise ValueError(f"prioritized_sampler: {count} of {num_rows} rows; give at most as many as there are")
        # The largest of log weights with Gumbel noise are a draw without replacement (Efraimidis & Spirakis 2006).
        noise = jax.random.gumbel(jax.random.fold_in(key, step), (num_rows,))
        drawn = jax.lax.top_k(jnp.log(review_weight + 1 - success) + noise, count)[1].astype(jnp.int32)
        return drawn, drawn

    def observe(success: Array, level: Array, measured: Array, mask: Array) -> Array:
        met = jnp.zeros(num_rows, jnp.float32).at[level].add(mask)
        total = jnp.zeros(num_rows, jnp.float32).at[level].add(jnp.where(mask > 0, measured * mask, 0.0))
        mean = total / jnp.maximum(met, jnp.finfo(jnp.float32).tiny)
        return jnp.where(met > 0, ema_decay * success + (1 - ema_decay) * mean, success)

    return IndexSampler(lambda: jnp.zeros(num_rows, jnp.float32), draw, observe, lambda success: jnp.ones(()))


def level_sampler(level_curriculum: Curriculum, starts: Sequence[int]) -> IndexSampler:
    """Rows of the levels that a curriculum draws.

    Args:
        level_curriculum: of L levels.
        starts: [L + 1], the first row of each level, and how many rows there are; none is empty.

    Raises:
        ValueError: if a level is empty.
    """
    first = np.asarray(starts, np.int32)
    if not (np.diff(first) > 0).all():
        raise ValueError(
            f"level_sampler: level {int(np.argmin(np.diff(first) > 0))} has no rows; give each at least one"
        )

    def draw(progress: CurriculumState, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        level_key, row_key = jax.random.split(jax.random.fold_in(key, step))
        level = level_curriculum.sample(progress, level_key, count)
        return sample_rows(row_key, level, jnp.asarray(first)), level

    def opened(progress: CurriculumState) -> Array:
        return jnp.sum(progress.unlocked, dtype=jnp.float32)

    return IndexSampler(level_curriculum.init, draw, level_curriculum.update, opened)
