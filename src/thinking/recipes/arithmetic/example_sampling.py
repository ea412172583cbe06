"""Samplers of the training examples of a step."""

from collections.abc import Sequence

from thinking.errors import UserError
from thinking.learning.curriculum import IndexSampler, curriculum, level_sampler, prioritized_sampler, uniform_sampler
from thinking.recipes.groups import CurriculumConfig


def make_sampler(
    config: CurriculumConfig, starts: Sequence[int], *, batch_size: int, flag: str, prioritized: bool = False
) -> IndexSampler:
    """A sampler of the indices of examples.

    Args:
        config: with a curriculum, indices are drawn from unlocked sources.
        starts: [L + 1], the first example of each source, then the number of examples.
        batch_size: indices per step.
        flag: the flag that sets `batch_size`.
        prioritized: without a curriculum, sample by how much is left to learn; else each example once per epoch.

    Raises:
        UserError: if `batch_size` exceeds the number of examples, without a curriculum.
    """
    if config.enabled:
        return level_sampler(curriculum(len(starts) - 1, threshold=config.threshold), starts)
    if batch_size > starts[-1]:
        raise UserError(f"{flag} {batch_size}: allowed are at most {starts[-1]}, as many as there are")
    return (prioritized_sampler if prioritized else uniform_sampler)(starts[-1])
