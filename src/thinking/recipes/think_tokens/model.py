"""The models that a config describes."""

import functools

from thinking.environments.automata import automaton
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import Thinker, thinker
from thinking.recipes.think_tokens.config import Config, Kind


@functools.lru_cache
def build_thinker(config: Config, kind: Kind) -> Thinker:
    """The model of a kind of thoughts; all kinds have the same weights."""
    thought, model = config.thought, config.model
    states, symbols = automaton(config.problem.name).table.shape
    return thinker(
        kind=kind,
        symbols=symbols,
        answers=states,
        block=BlockConfig(width=model.width, heads=model.num_heads, gated=True),
        layers=model.num_layers,
        choice=thought.gradient if thought.gradient in ("straight_through", "gumbel") else "drawn",
        kinds=states if thought.convert_from_none else thought.num_tokens,
        thought_width=thought.token_width,
        ends=thought.end_thought,
        blind=thought.blind,
        split=thought.split,
    )
