"""A decoder as a model for searches, with one shared prefix cache of the prompts.

Axes: B problems, P tokens of the longest prompt, R rows (candidates of a problem are adjacent).
"""

from collections.abc import Sequence

import jax.numpy as jnp

from thinking.generation.prompts import check_tokens, prefill_prompts
from thinking.networks.attention.patterns import TopK, pattern_parts
from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.interface import RootOutput, StepFn, StepOutput
from thinking.types import Array, Params


def make_token_model(
    decoder: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    *,
    max_new_tokens: int,
    stop_tokens: Sequence[int] = (),
) -> tuple[StepFn, RootOutput]:
    """A search model over tokens: an action is a token, a state is a cache of at most `max_new_tokens` tokens.

    The prompts' keys and values are a shared prefix cache. Content-based attention patterns (top-k) need one cache of
    both, so there each state holds the prompt as well.

    Args:
        decoder: a decoder; its value head gives the state values.
        params: its parameters.
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, prompt lengths, from 1.
        max_new_tokens: paths are done at this number of tokens.
        stop_tokens: paths are done after one of these.

    Returns:
        `(step_fn, root)` for any search. Rewards are 0; a task may wrap `step_fn` to add its own.

    Raises:
        ValueError: for prompts that are empty or too long, and stop tokens outside the vocabulary.
    """
    if max_new_tokens < 1:
        raise ValueError(f"make_token_model: max_new_tokens {max_new_tokens} is out of range; give at least 1")
    check_tokens("stop_tokens", stop_tokens, 0, decoder.vocab_size)
    is_content_based = any(isinstance(part, TopK) for part in pattern_parts(decoder.pattern))
    capacity = prompts.shape[1] + (max_new_tokens if is_content_based else 0)
    prompt_cache, logits, value = prefill_prompts(
        decoder, params, prompts, lengths, capacity=capacity, max_new_tokens=max_new_tokens
    )
    prefix_cache, state = (
        (None, prompt_cache) if is_content_based else (prompt_cache, decoder.init_cache(len(prompts), max_new_tokens))
    )
    max_length = state.length + max_new_tokens

    def step_fn(state: Cache, action: Array) -> tuple[Cache, StepOutput]:
        output, state = decoder.extend(params, state, action[:, None], prefix_cache=prefix_cache)
        done = state.length >= jnp.repeat(max_length, len(action) // len(max_length))
        for stop_token in stop_tokens:
            done = done | (action == stop_token)
        return state, StepOutput(output.logits[:, 0], output.value[:, 0], jnp.zeros(action.shape), done)

    zeros = jnp.zeros(len(prompts))
    return step_fn, (state, StepOutput(logits, value, zeros, zeros.astype(bool)))
