"""Policy initialisation: supervised training on worked problems."""

import functools
from collections.abc import Callable

import optax

from thinking.errors import UserError, name_flags
from thinking.learning.curriculum import Syllabus
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.fine_tuning import supervised_step
from thinking.recipes.arithmetic.config import DataConfig, ModelConfig, SftOptimizerConfig, Style
from thinking.recipes.arithmetic.datasets import Lessons, lessons
from thinking.recipes.arithmetic.digit_positions import most_places, practised_places

WARMUP_STEPS = 100
"""Steps up to the highest learning rate; a tenth of the schedule, if that is shorter."""


def draw_examples(config: DataConfig, style: Style, seed: int) -> Lessons:
    """Worked problems, packed into rows.

    Raises:
        UserError: one of them is longer than a row.
    """
    with name_flags(length="--data.row-length"):
        return lessons(
            config.sources,
            style,
            count=config.num_problems,
            length=config.row_length,
            seed=seed,
            speech=config.verbal_fraction,
            least_first=config.reverse_digits,
            slip=config.error_fraction,
        )


def make_optimizer(config: SftOptimizerConfig) -> optax.GradientTransformation:
    """AdamW, whose learning rate rises linearly and falls as a cosine."""
    steps = config.schedule_steps
    schedule = warmup_cosine(config.learning_rate, steps, min(WARMUP_STEPS, steps // 10), config.final_fraction)
    return adamw(schedule, weight_decay=config.weight_decay)


def make_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    examples: Lessons,
    sampler: Syllabus,
    config: ModelConfig,
    batch_size: int,
) -> Callable:
    """A step of supervised training, as `experiment.training.train` takes it.

    With positions by place, the texts of a row see each other and their places are drawn at random.

    Raises:
        UserError: the texts of a row have more digit positions together than may be drawn.
    """
    by_place = {}
    if config.positions == "place":
        by_place = {"places": functools.partial(practised_places, highest=config.num_digit_positions), "mixed": True}
        if (most := most_places(examples.packed)) > config.num_digit_positions:
            flag = f"--model.num-digit-positions {config.num_digit_positions}"
            raise UserError(f"{flag}: a row has {most} digit positions; give at least so many")
    levels = len(examples.starts) - 1
    return supervised_step(decoder, optimizer, examples.packed, sampler, batch=batch_size, levels=levels, **by_place)
