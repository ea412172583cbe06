"""Teaching language models to think before real text."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from thinking.errors import UserError, name_flags
from thinking.experiment import Run
from thinking.experiment.training import Trained, train
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.reasoning.thoughts.before_text import Manner, Words, manner
from thinking.reasoning.thoughts.before_text_training import Practice, by_best, by_group, thinking_step
from thinking.recipes.lm_think.config import Config
from thinking.text.corpus import Corpus, corpus
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Params

REFERENCE = "reference"
"""The model that all others go on from."""
CHUNK = 20
"""Steps between two looks at the metrics."""


def load_text(config: Config) -> Corpus:
    """The text that is read.

    Raises:
        UserError: it cannot be read, or holds no window.
    """
    settings, window = config.text, config.window
    with name_flags(source="--text.source"):
        text = corpus(settings.source, settings.num_characters, settings.bpe_tokens)
    if min(len(text.train), len(text.held_out)) < window.context_length + window.target_length:
        raise UserError(
            f"--text.source {settings.source}: it is too short for --window.context-length {window.context_length}; "
            "give a longer text"
        )
    return text


@functools.lru_cache
def build_decoder(config: Config) -> tuple[Decoder, Words]:
    """The decoder, which is the same for all kinds, and its words."""
    words = Words(len(load_text(config).sizes), config.thought.num_tokens)
    model = decoder(
        vocabulary=words.total,
        context_length=config.window.context_length + config.thought.length + 1 + config.window.target_length,
        block=BlockConfig(width=config.model.width, heads=config.model.num_heads, gated=True),
        layers=config.model.num_layers,
    )
    return model, words


def build_manner(config: Config, kind: str) -> Manner:
    """How a model of a kind thinks; the reference does not."""
    return manner("plain" if kind == REFERENCE else kind, *build_decoder(config), config.thought.length)


def build_training_manner(config: Config, kind: str) -> Manner:
    """How a model of a kind thinks while it learns.

    The reference learns to read on behind thoughts that say nothing, and without any. Models that go on from it would
    else spend their training on getting used to thoughts, and the one that does not think would win by that alone.
    """
    return manner("idle" if kind == REFERENCE else kind, *build_decoder(config), config.thought.length)


def build_practice(config: Config, kind: str) -> Practice:
    """What a kind learns from."""
    sizes = {
        "context": config.window.context_length,
        "ahead": config.window.target_length,
        "batch": config.training.batch_size,
    }
    if kind == "judged":
        group, entropy_weight = config.rl.num_generations, config.rl.entropy_weight
        return Practice(**sizes, credit=by_group, group=group, entropy_weight=entropy_weight)
    if kind == "supervised":
        return Practice(**sizes, credit=by_best, group=config.rl.num_generations)
    return Practice(**sizes)


def train_model(config: Config, run: Run, kind: str, seed: int, reference: Params | None) -> Trained:
    """Train a model from the reference's parameters, or the reference from nothing."""
    settings = config.training
    steps = settings.num_steps if reference is not None else settings.reference_steps
    optimizer = adamw(warmup_cosine(settings.optimizer.learning_rate, steps, min(100, steps // 10)))
    # The reference and those who go on from it read different windows, these among each other the same.
    init_key, *keys = jax.random.split(jax.random.key(seed), 3)

    def init() -> RunnerState:
        params: Any = jax.jit(build_decoder(config)[0].init)(init_key) if reference is None else reference
        key, compared = keys[reference is not None], () if reference is None else reference
        return RunnerState(init_train_state(params, optimizer), key, reference=compared)

    step = thinking_step(
        build_training_manner(config, kind),
        build_manner(config, REFERENCE),
        optimizer,
        jnp.asarray(load_text(config).train),
        build_practice(config, kind),
    )
    return train(run, f"{kind}-{seed}", init=init, step=step, steps=steps, chunk=CHUNK, watch="loss")
