"""Training of language models with thoughts before text."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from thinking.errors import UserError, name_flags
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.reasoning.thoughts.text_thought_training import (
    ThoughtTrainingOptions,
    make_thought_training_step,
    normalize_gains_by_group,
    select_best_of_group,
)
from thinking.reasoning.thoughts.text_thoughts import ThoughtPolicy, ThoughtVocabulary, make_thought_policy
from thinking.recipes.lm_think.config import Config
from thinking.text.corpus import Corpus, load_corpus
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Params

REFERENCE = "reference"
"""The model that all others start from."""
CHUNK = 20
"""Steps per chunk."""


def load_text(config: Config) -> Corpus:
    """The text.

    Raises:
        UserError: if it cannot be read, or is shorter than a window.
    """
    settings, window = config.text, config.window
    with name_flags(source="--text.source"):
        text = load_corpus(settings.source, settings.num_characters, settings.bpe_tokens)
    if min(len(text.train), len(text.held_out)) < window.context_length + window.target_length:
        raise UserError(
            f"--text.source {settings.source}: it is too short for --window.context-length {window.context_length}; "
            "give a longer text"
        )
    return text


@functools.lru_cache
def build_decoder(config: Config) -> tuple[Decoder, ThoughtVocabulary]:
    """The decoder and vocabulary of all kinds."""
    vocabulary = ThoughtVocabulary(len(load_text(config).token_bytes), config.thought.num_tokens)
    model = decoder(
        vocab_size=vocabulary.vocab_size,
        context_length=config.window.context_length + config.thought.length + 1 + config.window.target_length,
        block=BlockConfig(width=config.model.width, num_heads=config.model.num_heads, gated=True),
        num_layers=config.model.num_layers,
    )
    return model, vocabulary


def build_thought_policy(config: Config, kind: str) -> ThoughtPolicy:
    """The thought policy of a kind in evaluation; the reference has no thoughts."""
    return make_thought_policy("none" if kind == REFERENCE else kind, *build_decoder(config), config.thought.length)


def build_training_policy(config: Config, kind: str) -> ThoughtPolicy:
    """The thought policy of a kind in training.

    The reference is trained with random filler for thoughts, and without. Otherwise the models that start from it would
    spend their training on adapting to thoughts, which would favour the one without.
    """
    return make_thought_policy(
        "random_filler" if kind == REFERENCE else kind, *build_decoder(config), config.thought.length
    )


def build_thought_training(config: Config, kind: str) -> ThoughtTrainingOptions:
    """Training settings of a kind."""
    sizes = {
        "context_length": config.window.context_length,
        "continuation_length": config.window.target_length,
        "batch_size": config.training.batch_size,
    }
    if kind == "reinforced":
        group, entropy_weight = config.rl.num_generations, config.rl.entropy_weight
        return ThoughtTrainingOptions(
            **sizes, advantage_fn=normalize_gains_by_group, num_generations=group, entropy_weight=entropy_weight
        )
    if kind == "expert_iteration":
        return ThoughtTrainingOptions(
            **sizes, advantage_fn=select_best_of_group, num_generations=config.rl.num_generations
        )
    return ThoughtTrainingOptions(**sizes)


def train_model(config: Config, run: Run, kind: str, seed: int, reference_params: Params | None) -> TrainResult:
    """Train a model from the reference's parameters; the reference itself where these are None."""
    settings = config.training
    steps = settings.num_steps if reference_params is not None else settings.reference_steps
    optimizer = adamw(warmup_cosine(config.optimizer.learning_rate, steps, min(100, steps // 10)))
    # The reference draws other windows than the models that start from it, which share theirs.
    init_key, *keys = jax.random.split(jax.random.key(seed), 3)

    def init() -> RunnerState:
        params: Any = jax.jit(build_decoder(config)[0].init)(init_key) if reference_params is None else reference_params
        key, reference = keys[reference_params is not None], () if reference_params is None else reference_params
        return RunnerState(init_train_state(params, optimizer), key, reference=reference)

    step = make_thought_training_step(
        build_training_policy(config, kind),
        build_thought_policy(config, REFERENCE),
        optimizer,
        jnp.asarray(load_text(config).train),
        build_thought_training(config, kind),
    )
    return train(run, f"{kind}-{seed}", init=init, step=step, num_steps=steps, chunk_size=CHUNK, progress_metric="loss")
