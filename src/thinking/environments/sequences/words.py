"""State tracking: the state of an automaton after each symbol of a word.

Axes: T symbols.
"""

import jax
import jax.numpy as jnp

from thinking.environments.automata import Automaton
from thinking.environments.sequences.sequence import Sequence, SequenceFamily
from thinking.types import Array


def automaton_words(automaton: Automaton) -> SequenceFamily:
    """Words of random symbols; the size is their number, and the label of a symbol is the state after it.

    At a lower level, a row holds several words of so many symbols.
    """
    table = jnp.asarray(automaton.table)
    num_states, num_symbols = table.shape

    def sample(key: Array, size: int, level: Array) -> Sequence:
        symbols = jax.random.randint(key, (size,), 0, num_symbols)
        index = jnp.arange(size, dtype=jnp.int32)
        is_first = index % level == 0

        def advance(state: Array, token: tuple[Array, Array]) -> tuple[Array, Array]:
            symbol, is_first = token
            state = table[jnp.where(is_first, automaton.initial_state, state), symbol]
            return state, state

        _, states = jax.lax.scan(advance, jnp.int32(automaton.initial_state), (symbols, is_first))
        return Sequence(symbols, states, jnp.ones(size), 1 + index // level)

    return SequenceFamily(automaton.name, sample, lambda size: size, max(num_states, num_symbols))
