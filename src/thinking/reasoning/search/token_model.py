"""A decoder as what searches ask: the prompts are read once and shared, and each path remembers its own tokens alone.

Axes: B problems, P tokens of the longest prompt, R rows (the candidates of a problem side by side).
"""

from collections.abc import Sequence

import jax.numpy as jnp

from thinking.generation.prompts import check_tokens, read_prompts
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
    """Search among the tokens that a decoder may write: an action is a token, a state is a cache.

    A state holds the keys and values of what a path wrote, at most `max_new_tokens`: this is what a tree keeps for every
    node. The prompts' are shared. A pattern that goes by content needs them in one piece: there each state holds both.

    Args:
        decoder: a decoder; its value head says what a state is worth.
        params: its parameters.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1, how many tokens of each row are its prompt.
        max_new_tokens: the most that a path may come to; it has ended then.
        stop_tokens: a path that writes one of these has ended.

    Returns:
        `(step_fn, root)` for any search. Nothing is rewarded: reward and end belong to the task, which may wrap
        `step_fn`.

    Raises:
        ValueError: for prompts that are empty or too long, and stop tokens outside the vocabulary.
    """
    if max_new_tokens < 1:
        raise ValueError(f"make_token_model: max_new_tokens {max_new_tokens} is out of range; give at least 1")
    check_tokens("stop_tokens", stop_tokens, 0, decoder.vocab_size)
    whole = any(isinstance(part, TopK) for part in pattern_parts(decoder.pattern))
    capacity = prompts.shape[1] + (max_new_tokens if whole else 0)
    read, logits, value = read_prompts(
        decoder, params, prompts, lengths, capacity=capacity, max_new_tokens=max_new_tokens
    )
    trunk, state = (None, read) if whole else (read, decoder.init_cache(len(prompts), max_new_tokens))
    room = state.length + max_new_tokens

    def step_fn(state: Cache, action: Array) -> tuple[Cache, StepOutput]:
        reading, state = decoder.extend(params, state, action[:, None], prefix_cache=trunk)
        ended = state.length >= jnp.repeat(room, len(action) // len(room))
        for stop in stop_tokens:
            ended = ended | (action == stop)
        return state, StepOutput(reading.logits[:, 0], reading.value[:, 0], jnp.zeros(action.shape), ended)

    nothing = jnp.zeros(len(prompts))
    return step_fn, (state, StepOutput(logits, value, nothing, nothing.astype(bool)))
