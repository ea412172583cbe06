"""State tracking: the state of an automaton after each symbol of a word.

Axes: T tokens.
"""

import jax
import jax.numpy as jnp

from thinking.environments.automata import Automaton
from thinking.environments.sequences.sequence_family import LabelledSequence, SequenceFamily
from thinking.types import Array


def automaton_words(automaton: Automaton) -> SequenceFamily:
    """Words of random symbols; the size is their number, and the label of a symbol is the state after it.

    Token 0 starts each word, and its label is the initial state. Without it, attention with relative positions could
    not tell a symbol from two equal ones. Symbol s is token s + 1. A row packs several words of `size` symbols
    each; the last may be cut off.
    """
    table = jnp.asarray(automaton.table)
    num_states, num_symbols = table.shape

    def sample(key: Array, max_size: int, size: Array) -> LabelledSequence:
        index = jnp.arange(max_size + 1, dtype=jnp.int32)
        is_start = index % (size + 1) == 0
        symbols = jax.random.randint(key, index.shape, 0, num_symbols)

        def advance(state: Array, token: tuple[Array, Array]) -> tuple[Array, Array]:
            symbol, is_start = token
            state = jnp.where(is_start, automaton.initial_state, table[state, symbol])
            return state, state

        _, states = jax.lax.scan(advance, jnp.int32(automaton.initial_state), (symbols, is_start))
        tokens = jnp.where(is_start, 0, symbols + 1)
        return LabelledSequence(tokens, states, jnp.ones(max_size + 1), 1 + index // (size + 1))

    return SequenceFamily(automaton.name, sample, lambda max_size: max_size + 1, max(num_states, num_symbols + 1))
