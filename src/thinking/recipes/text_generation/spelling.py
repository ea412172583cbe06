"""The task of spelling a target: prompts, rewards and advantages.

Level l of the curriculum asks for the first l + 1 letters. Rewards are per letter (process) or per text (outcome).

Axes: L levels, one per letter of the target, B texts, N tokens of a text: L letters and the end.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from thinking.generation.completions import Completions
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import returns_to_go
from thinking.learning.statistics import clear_masked
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
    """One prompt per level, each the begin token alone.

    The columns [L, N] int32 are `targets`, the target letters padded with 0, and `forced`, the end token behind the
    last letter and -1 elsewhere.
    """
    num_levels = len(target)
    letters = np.array([*VOCABULARY.encode(target), 0], np.int32)
    position, level = np.arange(num_levels + 1)[None], np.arange(num_levels)[:, None]
    columns = {
        "targets": np.where(position <= level, letters[None], 0),
        "forced": np.where(position == level + 1, END, -1),
    }
    columns = {name: jnp.asarray(column, jnp.int32) for name, column in columns.items()}
    return Prompts(jnp.full((num_levels, 1), BEGIN, jnp.int32), jnp.ones(num_levels, jnp.int32), columns)


def correct_letters(completions: Completions, targets: Array) -> Array:
    """[B, N] float32, 1 for each generated letter that equals its target [B, N]."""
    return ((completions.tokens == targets) & (targets > 0)) * completion_mask(completions)


def letter_reward(prompts: Array, completions: Completions, *, targets: Array, **columns: Any) -> Array:
    """[B] fraction of the `targets` [B, N] int32 that are correct."""
    return jnp.sum(correct_letters(completions, targets), axis=1) / jnp.sum(targets > 0, axis=1)


def outcome_reward(prompts: Array, completions: Completions, *, targets: Array, **columns: Any) -> Array:
    """[B] 1 if all `targets` [B, N] int32 are correct, else 0; decides when levels are unlocked."""
    return (jnp.sum(correct_letters(completions, targets), axis=1) == jnp.sum(targets > 0, axis=1)).astype(jnp.float32)


def text_advantages(completions: Completions, rewards: Array, *, targets: Array, **columns: Array) -> PolicyBatch:
    """The advantage of every letter is the reward of its text; for `reinforce`."""
    mask = completion_mask(completions) * (targets > 0)
    advantages = broadcast_to_tokens(rewards, mask)
    return make_policy_batch(completions, advantages, advantages, mask)


def letter_advantages(discount: float) -> AdvantageFn:
    """The advantage of a letter is its discounted return, a reward of 1 per correct letter; for `reinforce`."""

    def advantage_fn(completions: Completions, rewards: Array, *, targets: Array, **columns: Array) -> PolicyBatch:
        mask = completion_mask(completions) * (targets > 0)
        advantages = clear_masked(returns_to_go(correct_letters(completions, targets), discount), mask)
        return make_policy_batch(completions, advantages, advantages, mask)

    return advantage_fn
