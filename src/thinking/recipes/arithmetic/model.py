"""The decoder, and the maximum length of its completions."""

import functools

from thinking.errors import UserError
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.positions import orthogonal, rotary
from thinking.recipes.arithmetic.config import CONTEXT_LENGTH, ModelConfig
from thinking.recipes.arithmetic.datasets import EvaluationSet
from thinking.recipes.arithmetic.rows import VOCABULARY


@functools.lru_cache(maxsize=8)
def build_decoder(config: ModelConfig) -> Decoder:
    """A decoder with a value head, the same for every style."""
    position = orthogonal() if config.positions == "digit" else rotary()
    return decoder(
        vocab_size=len(VOCABULARY),
        context_length=CONTEXT_LENGTH,
        block=BlockConfig(width=config.width, num_heads=config.num_heads, gated=config.gated, position=position),
        num_layers=config.num_layers,
        value_head=True,
    )


def compute_max_new_tokens(decoder: Decoder, evaluation_set: EvaluationSet, flag: str) -> int:
    """Maximum tokens of a completion: the longest worked one plus at least 4, rounded up to a multiple of 16.

    Args:
        decoder: limits prompt and completion together.
        evaluation_set: the problems.
        flag: the flag that names the problems.

    Raises:
        UserError: if prompt and completion exceed the context length.
    """
    budget, max_prompt_length = (
        -(-(evaluation_set.max_completion_length + 4) // 16) * 16,
        evaluation_set.prompts.tokens.shape[1],
    )
    if (total := max_prompt_length + budget) > (limit := decoder.context_length):
        raise UserError(f"{flag}: problems of {total} tokens: allowed are {limit}; give fewer digits")
    return budget
