"""Thoughts are dropped once the answer stands: what follows is written from the questions and answers alone.

Axes: B rows, P tokens of the longest prompt, N of the longest completion, V words of the vocabulary.
"""

from thinking.generation.completions import Completions, joined
from thinking.generation.prompts import read_prompts
from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder
from thinking.text.vocabulary import without_thoughts
from thinking.types import Array, Params


def forget_thoughts(
    model: Decoder, params: Params, prompts: Array, lengths: Array, completions: Completions, *, answer: int, new: int
) -> tuple[Cache, Array, Array]:
    """A cache of what was asked and answered, without what was thought in between; jits.

    What a token holds in the cache depends on all that it saw, so what is left is read again, which is short.

    Args:
        model: a decoder.
        params: its parameters.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1, tokens of each prompt.
        completions: what was written.
        answer: the most tokens of a completion that are kept; further ones are cut off.
        new: tokens that are to follow.

    Returns:
        The cache, with room for `new` tokens, and logits [B, V] and value [B] of what follows.
    """
    whole = joined(prompts, lengths, completions.tokens)
    tokens, left = without_thoughts(whole, lengths + completions.length)
    kept = min(prompts.shape[1] + answer, whole.shape[1])
    return read_prompts(model, params, tokens[:, :kept], left.clip(max=kept), capacity=kept + new, new=new)
