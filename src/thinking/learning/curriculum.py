"""A curriculum: levels open one after another, as measured success passes a threshold; pure functions over a PyTree.

Axes: L levels, N attempts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.text.packing import rows_of_step
from thinking.types import Array


class Progress(NamedTuple):
    """How far a learner has come; part of what a run saves.

    Attributes:
        success: [L] float32, the sum of measured success, fading; over `weight` it is the estimate.
        weight: [L] float32 in [0, 1], how much of the memory is filled.
        attempts: [L] float32, all that were ever measured.
        opened: [L] bool, which levels may be drawn; the first always, none closes again.
    """

    success: Array
    weight: Array
    attempts: Array
    opened: Array


class Curriculum(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init() -> Progress`, with the first level open.
        observe: `observe(progress, level [N] int32, success [N], mask [N]) -> Progress`: success is in [0, 1], the mean
            of as many attempts as the mask says; those of mask 0 change nothing.
        draw: `draw(progress, key, count) -> [count] int32`, open levels; consumes the key.
    """

    init: Callable[[], Progress]
    observe: Callable[[Progress, Array, Array, Array], Progress]
    draw: Callable[[Progress, Array, int], Array]


def curriculum(
    levels: int, *, threshold: float = 0.9, memory: float = 256.0, least: int = 256, review: float = 0.1
) -> Curriculum:
    """A ladder of levels.

    The level above an open one opens once the success estimate of that one reaches the threshold. Levels are drawn
    in proportion to `review` and what is still to be learned, `1 - success`.

    Args:
        levels: L.
        threshold: in (0, 1].
        memory: attempts after which what was measured counts less by a factor of e.
        least: attempts before an estimate opens anything.
        review: weight of a level that is mastered, more than 0; one with no success yet has 1 more.

    Raises:
        ValueError: if an argument is out of range.
    """
    if levels < 1:
        raise ValueError(f"curriculum: {levels} levels; give at least 1")
    if not 0 < threshold <= 1:
        raise ValueError(f"curriculum: threshold {threshold} is out of range; give more than 0 and at most 1")
    for name, value in (("memory", memory), ("least", least), ("review", review)):
        if value <= 0:
            raise ValueError(f"curriculum: {name} {value} is out of range; give more than 0")

    def init() -> Progress:
        none = jnp.zeros(levels, jnp.float32)
        return Progress(none, none, none, jnp.arange(levels) == 0)

    def observe(progress: Progress, level: Array, success: Array, mask: Array) -> Progress:
        if not level.shape == success.shape == mask.shape:
            raise ValueError(
                f"curriculum: level {level.shape}, success {success.shape} and mask {mask.shape}; give all [attempts]"
            )
        met = jnp.zeros(levels, jnp.float32).at[level].add(mask)
        total = jnp.zeros(levels, jnp.float32).at[level].add(jnp.where(mask > 0, success * mask, 0.0))
        # Attempts of one call count alike.
        kept = jnp.exp(-met / memory)
        mean = total / jnp.maximum(met, 1)
        after = Progress(
            success=kept * progress.success + (1 - kept) * mean,
            weight=kept * progress.weight + (1 - kept),
            attempts=progress.attempts + met,
            opened=progress.opened,
        )
        passed = after.opened & (after.attempts >= least) & (estimate(after) >= threshold)
        return after._replace(opened=after.opened | jnp.roll(passed, 1).at[0].set(True))

    def draw(progress: Progress, key: Array, count: int) -> Array:
        weight = jnp.where(progress.opened, review + 1 - estimate(progress), 0.0)
        return jax.random.categorical(key, jnp.log(weight), shape=(count,)).astype(jnp.int32)

    return Curriculum(init, observe, draw)


def estimate(progress: Progress) -> Array:
    """[L] float32, the measured success of each level; 0 where nothing was measured."""
    return progress.success / jnp.maximum(progress.weight, jnp.finfo(jnp.float32).tiny)


def rows_of_levels(key: Array, level: Array, starts: Array) -> Array:
    """[N] int32, a row for each level drawn, of rows that are ordered by level.

    Args:
        key: consumed.
        level: [N] int32.
        starts: [L + 1] int32, the first row of each level, and how many rows there are; none is empty.
    """
    first, end = starts[level], starts[level + 1]
    return jax.random.randint(key, level.shape, first, end, jnp.int32)


class Syllabus(NamedTuple):
    """Which rows a step learns from; pure functions, all jit.

    Attributes:
        init: `init() -> progress`, a PyTree.
        draw: `draw(progress, key, step, count) -> (rows [count] int32, level [count] int32)`; the key never changes.
        observe: as a curriculum's.
        opened: `opened(progress) -> [] float32`, how many levels may be drawn.
    """

    init: Callable[[], Any]
    draw: Callable[[Any, Array, Array, int], tuple[Array, Array]]
    observe: Callable[[Any, Array, Array, Array], Any]
    opened: Callable[[Any], Array]


def evenly(rows: int) -> Syllabus:
    """Every row once in each epoch, whatever is measured."""

    def draw(progress: tuple, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        del progress
        return rows_of_step(key, step, rows, count), jnp.zeros(count, jnp.int32)

    def observe(progress: tuple, level: Array, success: Array, mask: Array) -> tuple:
        del level, success, mask
        return progress

    return Syllabus(lambda: (), draw, observe, lambda progress: jnp.ones(()))


def replay(rows: int, *, memory: float = 0.5, review: float = 0.1) -> Syllabus:
    """Rows drawn by what is left to be learned of each, told from its own measured success, none twice in a draw.

    Prioritized level replay (Jiang et al. 2021) with every row as a level. A row weighs `review + 1 - success`. Success
    begins at 0, so what was never drawn comes before what was solved.

    Args:
        rows: how many there are.
        memory: share of the old estimate that is kept each time that a row is drawn, 0 to below 1.
        review: weight of a row that is mastered, more than 0.

    Raises:
        ValueError: if an argument is out of range; by `draw`, if more rows are asked for than there are.
    """
    if rows < 1:
        raise ValueError(f"replay: {rows} rows; give at least 1")
    if not 0 <= memory < 1 or review <= 0:
        raise ValueError(f"replay: memory {memory}, review {review}: give 0 to below 1, and more than 0")

    def draw(success: Array, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        if count > rows:
            raise ValueError(f"replay: {count} of {rows} rows; give at most as many as there are")
        # The largest of log weights with Gumbel noise are a draw without replacement (Efraimidis & Spirakis 2006).
        noise = jax.random.gumbel(jax.random.fold_in(key, step), (rows,))
        drawn = jax.lax.top_k(jnp.log(review + 1 - success) + noise, count)[1].astype(jnp.int32)
        return drawn, drawn

    def observe(success: Array, level: Array, measured: Array, mask: Array) -> Array:
        met = jnp.zeros(rows, jnp.float32).at[level].add(mask)
        total = jnp.zeros(rows, jnp.float32).at[level].add(jnp.where(mask > 0, measured * mask, 0.0))
        mean = total / jnp.maximum(met, jnp.finfo(jnp.float32).tiny)
        return jnp.where(met > 0, memory * success + (1 - memory) * mean, success)

    return Syllabus(lambda: jnp.zeros(rows, jnp.float32), draw, observe, lambda success: jnp.ones(()))


def by_level(made: Curriculum, starts: Sequence[int]) -> Syllabus:
    """Rows of the levels that a curriculum draws.

    Args:
        made: of L levels.
        starts: [L + 1], the first row of each level, and how many rows there are; none is empty.

    Raises:
        ValueError: if a level is empty.
    """
    first = np.asarray(starts, np.int32)
    if not (np.diff(first) > 0).all():
        raise ValueError(f"by_level: level {int(np.argmin(np.diff(first) > 0))} has no rows; give each at least one")

    def draw(progress: Progress, key: Array, step: Array, count: int) -> tuple[Array, Array]:
        level_key, row_key = jax.random.split(jax.random.fold_in(key, step))
        level = made.draw(progress, level_key, count)
        return rows_of_levels(row_key, level, jnp.asarray(first)), level

    def opened(progress: Progress) -> Array:
        return jnp.sum(progress.opened, dtype=jnp.float32)

    return Syllabus(made.init, draw, made.observe, opened)
