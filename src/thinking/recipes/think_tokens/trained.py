"""A trained model that thinks as a value: what is exported of a run, and what answers words."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from thinking.environments.automata import make_automaton
from thinking.environments.automata.automaton import Automaton
from thinking.experiment.cards import CardTexts
from thinking.reasoning.thoughts import ThinkingModel
from thinking.recipes.think_tokens.config import Config
from thinking.recipes.think_tokens.model import build_thinking_model
from thinking.recipes.think_tokens.training import make_stage_name
from thinking.types import Params

_MAX_LENGTH = 8192
"""Maximum symbols of a word."""

CARD = CardTexts(
    summary="A small transformer that multiplies elements of a group, or runs another automaton, with thinking tokens "
    "that nobody showed it.",
    data="Random words, made anew at every step, with the final state of the automaton as the answer. No intermediate "
    "state was shown. The automaton is `problem.name` in `config.json`; elements of permutation groups are named by "
    "their cycles, as `(123)`, and the identity is `e`.",
    limits="It knows one automaton. Words longer than `problem.length` were not trained, and answers to them are often "
    "wrong. What its tokens stand for differs from seed to seed.",
    usage="word = [model.automaton.symbol_names[1]] * 3\nprint(word, model.answer(word))",
)
"""What the model card says."""


class ThoughtfulAnswer(NamedTuple):
    """An answer.

    Attributes:
        state: name of the state that the model answers with.
        thoughts: numbers of its thinking tokens, in order; what they stand for nobody said.
        true_state: name of the state that the automaton is in after the word.
    """

    state: str
    thoughts: list[int]
    true_state: str


class Thinker(NamedTuple):
    """A trained model that thinks.

    Attributes:
        config: of its training.
        model: its pure functions.
        params: its parameters.
    """

    config: Config
    model: ThinkingModel
    params: Params

    @property
    def automaton(self) -> Automaton:
        """The automaton whose final state is the answer; its symbols are the letters of words."""
        return make_automaton(self.config.problem.name)

    def answer(self, word: Sequence[str]) -> ThoughtfulAnswer:
        """Think about a word, as `["(123)", "(12)(34)"]`.

        Raises:
            ValueError: the word is empty or too long, or has a symbol that the automaton does not know.
        """
        machine = self.automaton
        if not 1 <= len(word) <= _MAX_LENGTH:
            raise ValueError(f"a word of {len(word)} symbols: allowed are 1 to {_MAX_LENGTH}")
        if unknown := [symbol for symbol in word if symbol not in machine.symbol_names]:
            some = ", ".join(machine.symbol_names[:6])
            raise ValueError(f"{unknown[0]}: no symbol of {machine.name}, which has {some} and others")
        symbols = [machine.symbol_names.index(symbol) for symbol in word]
        state = machine.initial_state
        for symbol in symbols:
            state = int(machine.table[state, symbol])
        # Padded to a power of two, so that few programs are compiled.
        padded = np.zeros((1, 1 << max(2, (len(symbols) - 1).bit_length())), np.int32)
        padded[0, : len(symbols)] = symbols
        output = jax.jit(self.model.think)(self.params, padded, np.int32([len(symbols)]))
        answer = int(np.argmax(np.asarray(output.answer_logits)[0]))
        thoughts = np.asarray(output.thoughts)[0][np.asarray(output.thought_mask)[0]]
        return ThoughtfulAnswer(machine.state_names[answer], thoughts.tolist(), machine.state_names[state])


def select(config: Config) -> Config:
    """The config of the one model that is exported, of the first seed: discrete thoughts if there are.

    Its kind is the first of `thoughts`. The others stay, as some settings ask for them.
    """
    kinds = sorted(config.thoughts, key=lambda kind: kind != "discrete")
    return dataclasses.replace(config, thoughts=tuple(kinds), seeds=1)


def describe_params(config: Config) -> Params:
    """Shapes and types of the parameters."""
    return jax.eval_shape(build_thinking_model(config, config.thoughts[0]).init, jax.random.key(0))


def read_params(config: Config, folder: Path) -> Params:
    """The parameters of a finished run.

    Raises:
        RunError: the checkpoint is missing, damaged, or does not fit.
    """
    from thinking.experiment.checkpoint import read_part  # Orbax takes a second to import

    config = select(config)
    stage = make_stage_name(config.thoughts[0], config.seed)
    return read_part(folder / "checkpoints" / stage, describe_params(config), ".train_state.params")


def build(config: Config, params: Params) -> Thinker:
    """The trained model."""
    return Thinker(config, build_thinking_model(config, config.thoughts[0]), params)
