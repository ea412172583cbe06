"""Policy initialisation: supervised training on worked problems."""

import functools
from collections.abc import Callable

import optax

from thinking.errors import UserError, name_flags
from thinking.learning.curriculum import IndexSampler
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.fine_tuning import make_fine_tuning_step
from thinking.recipes.arithmetic.config import DataConfig, ModelConfig, SFTOptimizerConfig, Style
from thinking.recipes.arithmetic.datasets import TrainingSet, make_training_set
from thinking.recipes.arithmetic.digit_positions import count_digit_positions, sample_coordinates

WARMUP_STEPS = 100
"""Steps up to the highest learning rate; a tenth of the schedule, if that is shorter."""


def sample_examples(config: DataConfig, style: Style, seed: int) -> TrainingSet:
    """Worked problems, packed into rows.

    Raises:
        UserError: one of them is longer than a row.
    """
    with name_flags(row_length="--data.row-length"):
        return make_training_set(
            config.sources,
            style,
            num_problems=config.num_problems,
            row_length=config.row_length,
            seed=seed,
            verbal_fraction=config.verbal_fraction,
            reverse_digits=config.reverse_digits,
            error_fraction=config.error_fraction,
        )


def make_optimizer(config: SFTOptimizerConfig) -> optax.GradientTransformation:
    """AdamW, whose learning rate rises linearly and falls as a cosine."""
    steps = config.schedule_steps
    schedule = warmup_cosine(config.learning_rate, steps, min(WARMUP_STEPS, steps // 10), config.final_fraction)
    return adamw(schedule, weight_decay=config.weight_decay)


def make_training_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    examples: TrainingSet,
    sampler: IndexSampler,
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
        by_place = {
            "coordinate_fn": functools.partial(sample_coordinates, max_position=config.num_digit_positions),
            "attend_across_texts": True,
        }
        if (most := count_digit_positions(examples.packed_rows)) > config.num_digit_positions:
            flag = f"--model.num-digit-positions {config.num_digit_positions}"
            raise UserError(f"{flag}: a row has {most} digit positions; give at least so many")
    levels = len(examples.starts) - 1
    return make_fine_tuning_step(
        decoder, optimizer, examples.packed_rows, sampler, batch_size=batch_size, num_levels=levels, **by_place
    )
