"""The models of a config."""

import functools

from thinking.environments.automata import make_automaton
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import ThinkingModel, thinking_model
from thinking.recipes.think_tokens.config import Config, Kind


@functools.lru_cache
def build_thinking_model(config: Config, kind: Kind) -> ThinkingModel:
    """The model of a kind of thoughts; all kinds have the same parameters."""
    thought, model = config.thought, config.model
    states, symbols = make_automaton(config.problem.name).table.shape
    return thinking_model(
        kind=kind,
        num_symbols=symbols,
        num_answers=states,
        block=BlockConfig(width=model.width, num_heads=model.num_heads, gated=True),
        num_layers=model.num_layers,
        gradient=thought.gradient if thought.gradient in ("straight_through", "gumbel") else "sampled",
        num_thought_tokens=states if thought.convert_from_none else thought.num_tokens,
        thought_width=thought.token_width,
        end_thought=thought.end_thought,
        hide_word=thought.hide_word,
        separate_blocks=thought.separate_blocks,
    )
