"""End to end: a decoder with a mixed attention pattern is trained on packed rows until it copies held-out texts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.completions import generate
from thinking.generation.sampling import Sampling
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.learning.supervised import make_supervised_update, next_token_sums
from thinking.networks.attention.patterns import Global, TopK, Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.text.packing import pack, sample_row_indices
from thinking.train_state import init_train_state

NUM_WORDS, LENGTH, SEPARATOR, STEPS = 6, 3, 6, 250
TEXTS = [np.unravel_index(number, (NUM_WORDS,) * LENGTH) for number in range(NUM_WORDS**LENGTH)]
ORDER = np.random.default_rng(0).permutation(len(TEXTS))
TRAIN_TEXTS, TEST_TEXTS = (np.asarray(TEXTS, np.int32)[part] for part in (ORDER[:-40], ORDER[-40:]))


def test_decoder_learns_to_copy_held_out_texts():
    """Three words, a separator, the same three words, which alone have weight. Chance copies 1 in 216."""
    packed = pack([[*text, SEPARATOR, *text] for text in TRAIN_TEXTS], 16, [[0.0] * 4 + [1.0] * 3] * len(TRAIN_TEXTS))
    rows = jax.tree.map(jnp.asarray, packed)
    pattern = Window(3) | Global(1) | TopK(2, 4)
    model = decoder(
        vocab_size=NUM_WORDS + 1, context_length=16, block=BlockConfig(32, 2, gated=True), num_layers=2, pattern=pattern
    )

    def loss(params, batch, key):
        logits = model.apply(params, batch.tokens, segments=batch.segments, key=key).logits
        return next_token_sums(logits, batch.tokens, batch.weights, batch.segments)

    optimizer = adamw(warmup_cosine(1e-2, STEPS, 20))
    update = make_supervised_update(loss, optimizer, accumulation_steps=2)

    @jax.jit
    def run_training(params):
        def step(train_state, index):
            indices = sample_row_indices(jax.random.key(1), index, len(packed.tokens), 32)
            return update(train_state, jax.tree.map(lambda leaf: leaf[indices], rows), jax.random.key(2))

        return jax.lax.scan(step, init_train_state(params, optimizer), jnp.arange(STEPS))

    train_state, metrics = run_training(jax.jit(model.init)(jax.random.key(0)))
    assert jnp.mean(metrics["mean_token_accuracy"][-10:]) > 0.98
    prompts = np.pad(TEST_TEXTS, ((0, 0), (0, 1)), constant_values=SEPARATOR)
    generate_greedily = jax.jit(
        functools.partial(generate, model, max_new_tokens=LENGTH, sampling=Sampling(temperature=0.0))
    )
    generated = generate_greedily(train_state.params, jax.random.key(3), prompts)
    assert np.mean(np.all(generated.tokens == TEST_TEXTS, axis=1)) >= 0.9
