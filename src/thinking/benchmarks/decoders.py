"""The decoder of the benchmarks, and its training steps.

Axes: B rows, T tokens of a row, L steps.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from thinking.learning.optimizers import adamw
from thinking.learning.supervised import LossSums, make_supervised_update, next_token_sums
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.positions import learned
from thinking.recipes.groups import DecoderConfig
from thinking.train_state import TrainState, init_train_state
from thinking.types import Metrics, Params

VOCABULARY_SIZE, PROMPT_LENGTH = 256, 32


def make_example_decoder(
    config: DecoderConfig,
    context_length: int,
    vocabulary_size: int = VOCABULARY_SIZE,
    value_head: bool = False,
    mixers: Sequence[str] = ("attention",),
) -> Decoder:
    """A decoder; `thinking.benchmarks.baselines` can rebuild one of attention without a value head in PyTorch."""
    return decoder(
        vocab_size=vocabulary_size,
        context_length=context_length,
        block=BlockConfig(config.width, config.num_heads, position=learned(context_length)),
        num_layers=config.num_layers,
        mixers=mixers,
        value_head=value_head,
    )


def make_training_steps(
    model: Decoder, shape: tuple[int, int, int], *, vocabulary_size: int, num_microbatches: int = 1
) -> tuple[Callable[[TrainState], tuple[TrainState, Metrics]], TrainState]:
    """Training steps with AdamW over random tokens.

    Args:
        model: the decoder.
        shape: [L, B, T] of the tokens.
        vocabulary_size: of the tokens.
        num_microbatches: parts of a batch whose gradients are accumulated.

    Returns:
        A jitted scan over all steps, and its initial state.
    """
    optimizer = adamw(1e-3, weight_decay=0.01, max_gradient_norm=1e9)

    def loss(params: Params, batch: jax.Array, key: jax.Array) -> LossSums:
        del key
        return next_token_sums(model.apply(params, batch).logits, batch, jnp.ones(batch.shape))

    update = make_supervised_update(loss, optimizer, accumulation_steps=num_microbatches)
    batches = jax.random.randint(jax.random.key(1), shape, 0, vocabulary_size)

    @jax.jit
    def train_steps(state: TrainState) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda state, batch: update(state, batch, jax.random.key(2)), state, batches)

    params = jax.jit(model.init)(jax.random.key(0))
    return train_steps, init_train_state(params, optimizer)
