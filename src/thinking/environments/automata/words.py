"""Random words for automata, sampled on the device as a pure function of a key.

Axes: B words, N maximum length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.automata.automaton import Automaton
from thinking.types import Array


class WordBatch(NamedTuple):
    """Words and the states that they lead to.

    Attributes:
        symbols: [B, N] int32; those beyond a word's length are padding.
        lengths: [B] int32, from 1 to N.
        states: [B, N] int32, the state after each symbol.
    """

    symbols: Array
    lengths: Array
    states: Array

    @property
    def final_states(self) -> Array:
        """[B] int32, the state after each word."""
        return jnp.take_along_axis(self.states, self.lengths[:, None] - 1, axis=1)[:, 0]


def sample_words(machine: Automaton, key: Array, lengths: Array, max_length: int) -> WordBatch:
    """Words of uniformly random symbols.

    Args:
        machine: the automaton.
        key: consumed.
        lengths: [B] int32, from 1 to `max_length`.
        max_length: N.
    """
    symbols = jax.random.randint(key, (len(lengths), max_length), 0, machine.table.shape[1], jnp.int32)
    return WordBatch(symbols, lengths, run_automaton(machine, symbols))


def run_automaton(machine: Automaton, symbols: Array) -> Array:
    """[B, N] int32, the state after each of the symbols [B, N]."""
    table = jnp.asarray(machine.table)

    def step(state: Array, symbol: Array) -> tuple[Array, Array]:
        state = table[state, symbol]
        return state, state

    start = jnp.full(len(symbols), machine.initial_state, jnp.int32)
    return jax.lax.scan(step, start, symbols.T)[1].T
