"""Supervised fine-tuning on worked problems."""

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
"""Warm-up steps; at most a tenth of the schedule."""


def sample_examples(config: DataConfig, style: Style, seed: int) -> TrainingSet:
    """Worked problems, packed into rows.

    Raises:
        UserError: if a problem is longer than a row.
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
    """AdamW with linear warm-up and cosine decay."""
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
    """A step of supervised training for `experiment.training_loop.train`.

    With digit positions, attention crosses the texts of a row and their places are random.

    Raises:
        UserError: if a row has more digit positions than `num_digit_positions`.
    """
    position_options = {}
    if config.positions == "digit":
        position_options = {
            "coordinate_fn": functools.partial(sample_coordinates, max_position=config.num_digit_positions),
            "attend_across_texts": True,
        }
        if (max_place := count_digit_positions(examples.packed_rows)) > config.num_digit_positions:
            flag = f"--model.num-digit-positions {config.num_digit_positions}"
            raise UserError(f"{flag}: a row has {max_place} digit positions; give at least so many")
    levels = len(examples.starts) - 1
    return make_fine_tuning_step(
        decoder, optimizer, examples.packed_rows, sampler, batch_size=batch_size, num_levels=levels, **position_options
    )
