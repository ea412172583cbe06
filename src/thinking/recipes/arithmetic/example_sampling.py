"""Which examples a step of training draws."""

from collections.abc import Sequence

from thinking.errors import UserError
from thinking.learning.curriculum import IndexSampler, curriculum, level_sampler, prioritized_sampler, uniform_sampler
from thinking.recipes.groups import CurriculumConfig


def make_sampler(
    config: CurriculumConfig, starts: Sequence[int], *, batch_size: int, flag: str, prioritized: bool = False
) -> IndexSampler:
    """A sampler of the indices of examples.

    Args:
        config: with a curriculum, indices are drawn of the sources that it has unlocked.
        starts: [L + 1], the first example of each source, and how many examples there are.
        batch_size: how many indices a step draws.
        flag: where the count comes from.
        prioritized: without a curriculum, whether examples are drawn by what is left to be learned of each; else each
            is drawn once in an epoch.

    Raises:
        UserError: without a curriculum, the count is greater than the number of examples.
    """
    if config.enabled:
        return level_sampler(curriculum(len(starts) - 1, threshold=config.threshold), starts)
    if batch_size > starts[-1]:
        raise UserError(f"{flag} {batch_size}: allowed are at most {starts[-1]}, as many as there are")
    return (prioritized_sampler if prioritized else uniform_sampler)(starts[-1])
