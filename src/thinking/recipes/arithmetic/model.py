"""The decoder, and how long its answers may be."""

from thinking.errors import UserError
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.positions import orthogonal, rotary
from thinking.recipes.arithmetic.config import CONTEXT_LENGTH, ModelConfig
from thinking.recipes.arithmetic.datasets import EvaluationSet
from thinking.recipes.arithmetic.rows import VOCABULARY


def build_decoder(config: ModelConfig) -> Decoder:
    """A decoder with a value head, the same for every style."""
    position = orthogonal() if config.positions == "place" else rotary()
    return decoder(
        vocab_size=len(VOCABULARY),
        context_length=CONTEXT_LENGTH,
        block=BlockConfig(width=config.width, num_heads=config.num_heads, gated=config.gated, position=position),
        num_layers=config.num_layers,
        value_head=True,
    )


def compute_max_new_tokens(decoder: Decoder, evaluation_set: EvaluationSet, flag: str) -> int:
    """Tokens that an answer may have: as many as the longest worked one, and a few for one that goes astray.

    Args:
        decoder: limits what question and answer may have together.
        evaluation_set: that are asked.
        flag: where the problems come from.

    Raises:
        UserError: question and answer do not fit.
    """
    budget, longest = -(-(evaluation_set.max_completion_length + 4) // 16) * 16, evaluation_set.prompts.tokens.shape[1]
    if (total := longest + budget) > (most := decoder.context_length):
        raise UserError(f"{flag}: problems of {total} tokens: allowed are {most}; give fewer digits")
    return budget
