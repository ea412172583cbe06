"""What a decoder costs: a training step, a token that is written, and a search.

Axes: B rows, T tokens of a row, N new tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking.experiment.device import best_seconds
from thinking.generation.completions import generate
from thinking.learning.optimizers import adamw
from thinking.learning.supervised import Sums, next_token_sums, supervised
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.positions import learned
from thinking.reasoning.search.mcts import tree_search
from thinking.reasoning.search.token_model import over_tokens
from thinking.train_state import TrainState, init_train_state
from thinking.types import Params

Row = dict[str, Any]
VOCABULARY, PROMPT = 256, 32

BFLOAT16_PEAKS = {
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H200": 989,
    "NVIDIA L4": 121,
}
"""TFLOP/s of dense bfloat16 products that the makers of cards name, by `device_kind`."""


def example_decoder(
    width: int, layers: int, context_length: int, vocabulary: int = VOCABULARY, value_head: bool = False
) -> Decoder:
    """A decoder of 4 heads whose twin in PyTorch `thinking.benchmarks.rivals` builds; like it, without a value head."""
    return decoder(
        vocabulary=vocabulary,
        context_length=context_length,
        block=BlockConfig(width, 4, position=learned(context_length)),
        layers=layers,
        value_head=value_head,
    )


def parameters(params: Params) -> int:
    """How many there are."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def measure_training(*, width: int, layers: int, rows: int, tokens: int, steps: int, parts: int, gflops: float) -> Row:
    """Milliseconds of a training step with AdamW, float32, and the floor that its matrix products set.

    Gradients are accumulated over parts of the batch: what is held of a part stays in a CPU's caches.

    Args:
        width: D.
        layers: of the decoder.
        rows: B.
        tokens: T.
        steps: in one jitted scan.
        parts: of the batch.
        gflops: what the machine reaches in a matrix product.
    """
    model = example_decoder(width, layers, tokens)
    many, train_state = _training(model, VOCABULARY, rows, tokens, steps, parts)
    whole, _ = _training(model, VOCABULARY, rows, tokens, steps, 1)
    seconds, at_once = (best_seconds(function, train_state) / steps for function in (many, whole))
    matrices = layers * 12 * width**2 + VOCABULARY * width
    floor = (6 * matrices + layers * 12 * tokens * width) * rows * tokens / gflops / 1e9
    return {
        "measured": "training step",
        "rows": rows,
        "tokens": tokens,
        "parameters": parameters(train_state.params),
        "parts": parts,
        "ms": seconds * 1e3,
        "ms_at_once": at_once * 1e3,
        "floor_ms": floor * 1e3,
        "over_floor": seconds / floor,
    }


def measure_utilisation(
    *, width: int, layers: int, heads: int, vocabulary: int, rows: int, tokens: int, steps: int
) -> Row:
    """How much of a card's arithmetic a training step in bfloat16 uses: GPT-2 small has 768, 12, 12 and 50,257.

    Operations are counted as 6 for each parameter and token and 12 D T for each layer and token (Chowdhery et al. 2022,
    appendix B), whatever is really computed.

    Args:
        width: D.
        layers: of the decoder.
        heads: of its attention.
        vocabulary: of its tokens.
        rows: B.
        tokens: T.
        steps: in one jitted scan.
    """
    block = BlockConfig(width, heads, dtype=jnp.bfloat16)
    model = decoder(vocabulary=vocabulary, context_length=tokens, block=block, layers=layers)
    many, train_state = _training(model, vocabulary, rows, tokens, steps, 1)
    seconds = best_seconds(many, train_state) / steps
    size = parameters(train_state.params)
    rate = (6 * size + 12 * layers * width * tokens) * rows * tokens / seconds / 1e12
    kind = jax.devices()[0].device_kind
    return {
        "measured": f"training step in bfloat16 on {kind}",
        "rows": rows,
        "tokens": tokens,
        "parameters": size,
        "ms": seconds * 1e3,
        "tokens_per_second": rows * tokens / seconds,
        "model_tflops": rate,
        "model_flops_utilisation": rate / BFLOAT16_PEAKS[kind] if kind in BFLOAT16_PEAKS else None,
    }


def _training(
    model: Decoder, vocabulary: int, rows: int, tokens: int, steps: int, parts: int
) -> tuple[Any, TrainState]:
    """A jitted scan of training steps with AdamW, and where it starts."""
    optimizer = adamw(1e-3, weight_decay=0.01, clip=1e9)

    def loss(params: Params, batch: jax.Array, key: jax.Array) -> Sums:
        del key
        return next_token_sums(model.apply(params, batch).logits, batch, jnp.ones(batch.shape))

    update = supervised(loss, optimizer, accumulate=parts)
    batches = jax.random.randint(jax.random.key(1), (steps, rows, tokens), 0, vocabulary)

    @jax.jit
    def many(state: TrainState) -> Any:
        return jax.lax.scan(lambda state, batch: update(state, batch, jax.random.key(2)), state, batches)

    return many, init_train_state(jax.jit(model.init)(jax.random.key(0)), optimizer)


def measure_generation(*, width: int, layers: int, rows: int, new: int) -> Row:
    """Tokens written per second over a cache, and by reading all again for every token, in one static shape.

    Args:
        width: D.
        layers: of the decoder.
        rows: B.
        new: N.
    """
    model = example_decoder(width, layers, PROMPT + new)
    params = jax.jit(model.init)(jax.random.key(0))
    prompts = jax.random.randint(jax.random.key(1), (rows, PROMPT), 0, VOCABULARY)
    write = jax.jit(lambda params, prompts: generate(model, params, jax.random.key(2), prompts, max_new_tokens=new))
    cached = best_seconds(write, params, prompts)
    whole = jnp.pad(prompts, ((0, 0), (0, new)))
    again = best_seconds(jax.jit(lambda params, tokens: model.apply(params, tokens).logits), params, whole)
    # Were each token written by a program of its own length, reading would take this much on average.
    lengths = np.linspace(PROMPT, PROMPT + new, 5).astype(int)
    grown = np.mean(
        [
            best_seconds(jax.jit(lambda params, tokens: model.apply(params, tokens).logits), params, whole[:, :length])
            for length in lengths
        ]
    )
    return {
        "measured": "generation",
        "rows": rows,
        "tokens": new,
        "tokens_per_second": rows * new / cached,
        "times_faster_than_without_cache": again * new / cached,
        "times_faster_than_growing_without_cache": grown * new / cached,
    }


def measure_search(
    *, width: int, layers: int, vocabulary: int, rows: int, prefix: int, simulations: int, depth: int
) -> Row:
    """Gumbel search over tokens, and as many bare calls of the network, one after the other.

    Args:
        width: D.
        layers: of the decoder.
        vocabulary: V, the actions of the tree.
        rows: B.
        prefix: tokens of each prompt.
        simulations: of the tree.
        depth: of the tree, at most; what a node remembers grows with it.
    """
    model = example_decoder(width, layers, prefix + depth, vocabulary, value_head=True)
    params = jax.jit(model.init)(jax.random.key(0))
    prompts = jax.random.randint(jax.random.key(1), (rows, prefix), 0, vocabulary)
    lengths = jnp.full(rows, prefix, jnp.int32)

    def bare(params: Params) -> jax.Array:
        advance, (state, outlook) = over_tokens(model, params, prompts, lengths, max_tokens=depth)

        def call(carry: Any, _: None) -> tuple[Any, None]:
            state, outlook = carry
            grown, outlook = advance(state, jnp.argmax(outlook.logits, axis=1).astype(jnp.int32))
            # As in a tree, which goes on from a remembered state: none of them is longer than the depth.
            return (grown._replace(length=grown.length % depth), outlook), None

        return jax.lax.scan(call, (state, outlook), None, length=simulations)[0][1].logits

    def search(params: Params) -> jax.Array:
        advance, root = over_tokens(model, params, prompts, lengths, max_tokens=depth)
        found = tree_search(advance, root, jax.random.key(2), simulations=simulations, max_depth=depth)
        return found.policy

    def reading(params: Params) -> jax.Array:
        return over_tokens(model, params, prompts, lengths, max_tokens=depth)[1][1].logits

    prompt, calls, tree = (best_seconds(jax.jit(function), params) for function in (reading, bare, search))
    return {
        "measured": "search, Gumbel",
        "rows": rows,
        "tokens": prefix,
        "actions": vocabulary,
        "simulations": simulations,
        "ms": tree * 1e3,
        "reading_the_prompts_ms": prompt * 1e3,
        "bare_calls_ms": calls * 1e3,
        "over_bare_calls": tree / calls,
        "over_bare_calls_without_prompts": (tree - prompt) / (calls - prompt),
    }
