"""All of it together: a decoder is taught from packed rows until it writes what it was taught, by a mixed pattern."""

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
from thinking.text.packing import batch_rows, pack
from thinking.train_state import init_train_state

WORDS, LENGTH, MARK, STEPS = 6, 3, 6, 250
TEXTS = [np.unravel_index(number, (WORDS,) * LENGTH) for number in range(WORDS**LENGTH)]
ORDER = np.random.default_rng(0).permutation(len(TEXTS))
TAUGHT, HELD_OUT = (np.asarray(TEXTS, np.int32)[part] for part in (ORDER[:-40], ORDER[-40:]))


def test_a_decoder_learns_to_copy_what_it_never_saw():
    """Three words, a mark, the same three words again; only these are learned. Chance copies 1 in 216."""
    packed = pack([[*text, MARK, *text] for text in TAUGHT], 16, [[0.0] * 4 + [1.0] * 3] * len(TAUGHT))
    rows = jax.tree.map(jnp.asarray, packed)
    pattern = Window(3) | Global(1) | TopK(2, 4)
    model = decoder(
        vocab_size=WORDS + 1, context_length=16, block=BlockConfig(32, 2, gated=True), num_layers=2, pattern=pattern
    )

    def loss(params, batch, key):
        logits = model.apply(params, batch.tokens, segments=batch.segments, key=key).logits
        return next_token_sums(logits, batch.tokens, batch.weights, batch.segments)

    optimizer = adamw(warmup_cosine(1e-2, STEPS, 20))
    update = make_supervised_update(loss, optimizer, accumulation_steps=2)

    @jax.jit
    def learn(params):
        def step(train_state, index):
            chosen = batch_rows(jax.random.key(1), index, len(packed.tokens), 32)
            return update(train_state, jax.tree.map(lambda leaf: leaf[chosen], rows), jax.random.key(2))

        return jax.lax.scan(step, init_train_state(params, optimizer), jnp.arange(STEPS))

    train_state, metrics = learn(jax.jit(model.init)(jax.random.key(0)))
    assert jnp.mean(metrics["mean_token_accuracy"][-10:]) > 0.98
    prompts = np.pad(HELD_OUT, ((0, 0), (0, 1)), constant_values=MARK)
    write = jax.jit(functools.partial(generate, model, max_new_tokens=LENGTH, sampling=Sampling(temperature=0.0)))
    generated = write(train_state.params, jax.random.key(3), prompts)
    assert np.mean(np.all(generated.tokens == HELD_OUT, axis=1)) >= 0.9
