"""A text to be written, letter by letter, by a policy that is told only how right it was.

The longer an episode, the more of the target it asks for: level l ends after l + 1 letters, each with its own place.
What is right is told letter by letter (the process), or as one number when all is written (the outcome).

Axes: L levels, as many as the target has letters, B texts, N tokens of the longest, one more for the end.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import returns_to_go
from thinking.reasoning.post_training.advantages import (
    AdvantageFn,
    broadcast_to_tokens,
    completion_mask,
    make_policy_batch,
)
from thinking.reasoning.post_training.training_step import Prompts
from thinking.recipes.text_generation.config import LETTERS
from thinking.text.vocabulary import BEGIN, END, Vocabulary
from thinking.types import Array

VOCABULARY = Vocabulary(tuple(LETTERS))


def make_prompts(target: str) -> Prompts:
    """What is asked, a level in each row: always to begin.

    The columns [L, N] int32 are `wanted`, the letters, 0 behind the last, and `forced`, the end behind that one, -1
    elsewhere.
    """
    count = len(target)
    letters = np.array([*VOCABULARY.encode(target), 0], np.int32)
    place, level = np.arange(count + 1)[None], np.arange(count)[:, None]
    columns = {"wanted": np.where(place <= level, letters[None], 0), "forced": np.where(place == level + 1, END, -1)}
    columns = {name: jnp.asarray(column, jnp.int32) for name, column in columns.items()}
    return Prompts(jnp.full((count, 1), BEGIN, jnp.int32), jnp.ones(count, jnp.int32), columns)


def correct_letters(completions: Completions, targets: Array) -> Array:
    """[B, N] float32, 1 for each letter that was written and is the one that is wanted [B, N] at its place."""
    return ((completions.tokens == targets) & (targets > 0)) * completion_mask(completions)


def letter_reward(prompts: Array, completions: Completions, *, wanted: Array, **columns: Any) -> Array:
    """[B] the share of right letters among those that are wanted.

    Args:
        prompts: not read.
        completions: what was written.
        wanted: [B, N] int32.
        **columns: not read.
    """
    return jnp.sum(correct_letters(completions, wanted), axis=1) / jnp.sum(wanted > 0, axis=1)


def outcome_reward(prompts: Array, completions: Completions, *, wanted: Array, **columns: Any) -> Array:
    """[B] 1 for the very text that is wanted, else 0: what is mastered, as most of a long text is right before its end.

    Args:
        prompts: not read.
        completions: what was written.
        wanted: [B, N] int32.
        **columns: not read.
    """
    return (jnp.sum(correct_letters(completions, wanted), axis=1) == jnp.sum(wanted > 0, axis=1)).astype(jnp.float32)


def text_advantages(completions: Completions, rewards: Array, *, wanted: Array, **columns: Array) -> PolicyBatch:
    """Every letter is worth what the whole text earned: for `reinforce`."""
    mask = completion_mask(completions) * (wanted > 0)
    worth = broadcast_to_tokens(rewards, mask)
    return make_policy_batch(completions, worth, worth, mask)


def letter_advantages(discount: float) -> AdvantageFn:
    """Every letter earns at once whether it is right, and is worth what is earned from it on: for `reinforce`.

    Args:
        discount: what a reward counts for one letter earlier, 0 to 1.
    """

    def advantage_fn(completions: Completions, rewards: Array, *, wanted: Array, **columns: Array) -> PolicyBatch:
        mask = completion_mask(completions) * (wanted > 0)
        worth = returns_to_go(correct_letters(completions, wanted), discount) * mask
        return make_policy_batch(completions, worth, worth, mask)

    return advantage_fn
