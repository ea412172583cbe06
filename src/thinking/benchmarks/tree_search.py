"""Cost of Gumbel MCTS over tokens, beside as many bare calls of the network.

Axes: B rows, T tokens of a prompt.
"""

from typing import Any

import jax
import jax.numpy as jnp

from thinking.benchmarks.config import SearchConfig
from thinking.benchmarks.decoders import make_example_decoder
from thinking.benchmarks.measurement import Measurement, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.reasoning.search.mcts import tree_search
from thinking.reasoning.search.token_model import make_token_model
from thinking.types import Params


def measure_search(config: SearchConfig, setup: Setup) -> Measurement:
    """Milliseconds of a search, and of its network calls alone."""
    del setup
    rows, tokens, depth, simulations = (
        config.batch_size, config.prompt_length, config.max_depth, config.num_simulations
    )  # fmt: skip
    model = make_example_decoder(config.decoder, tokens + depth, config.vocabulary_size, value_head=True)
    params = jax.jit(model.init)(jax.random.key(0))
    prompts = jax.random.randint(jax.random.key(1), (rows, tokens), 0, config.vocabulary_size)
    lengths = jnp.full(rows, tokens, jnp.int32)

    def call_network(params: Params) -> jax.Array:
        step_fn, (state, step_output) = make_token_model(model, params, prompts, lengths, max_new_tokens=depth)

        def call(carry: Any, _: None) -> tuple[Any, None]:
            state, step_output = carry
            next_state, step_output = step_fn(state, jnp.argmax(step_output.logits, axis=1).astype(jnp.int32))
            # As in a tree, no state is longer than the depth.
            return (next_state._replace(length=next_state.length % depth), step_output), None

        return jax.lax.scan(call, (state, step_output), None, length=simulations)[0][1].logits

    def search(params: Params) -> jax.Array:
        step_fn, root = make_token_model(model, params, prompts, lengths, max_new_tokens=depth)
        search_output = tree_search(step_fn, root, jax.random.key(2), num_simulations=simulations, max_depth=depth)
        return search_output.action_weights

    def prefill_prompts(params: Params) -> jax.Array:
        return make_token_model(model, params, prompts, lengths, max_new_tokens=depth)[1][1].logits

    prompt, calls, tree = (
        measure_best_seconds(jax.jit(function), params) for function in (prefill_prompts, call_network, search)
    )
    row = {
        "benchmark": "search, Gumbel",
        "rows": rows,
        "tokens": tokens,
        "actions": config.vocabulary_size,
        "simulations": simulations,
        "ms": tree * 1e3,
        "prefill_ms": prompt * 1e3,
        "network_calls_ms": calls * 1e3,
        "over_network_calls": tree / calls,
        "over_network_calls_without_prefill": (tree - prompt) / (calls - prompt),
    }
    return Measurement([row])
