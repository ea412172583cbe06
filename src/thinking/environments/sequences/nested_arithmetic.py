"""Nested arithmetic modulo 5 in postfix notation, as `3 1 + 2 *` for (3 + 1) * 2.

The label of each token is the number on top of the stack after it. So a network must keep a stack, whose depth grows
with the expression. A start token, whose label is 0, comes first.

Axes: T tokens.
"""

import jax
import jax.numpy as jnp

from thinking.environments.sequences.sequence_family import LabelledSequence, SequenceFamily
from thinking.types import Array

MODULUS = 5
OPERATORS = "+-*"
_START = MODULUS + len(OPERATORS)


def nested_arithmetic() -> SequenceFamily:
    """Random expressions of `max_size` numbers.

    Tokens 0 to 4 are numbers, 5 to 7 operators, and 8 starts the row.
    """
    return SequenceFamily("nested_arithmetic", _sample, lambda max_size: 2 * max_size, _START + 1)


def _sample(key: Array, max_size: int, size: Array) -> LabelledSequence:
    del size
    order_key, number_key, operator_key = jax.random.split(key, 3)
    num_tokens = 2 * max_size - 1
    is_number = jax.random.permutation(order_key, jnp.arange(num_tokens) < max_size)
    # Cycle lemma: exactly one rotation is a valid expression, the one that starts after the last minimum of the prefix
    # sums (Dvoretzky & Motzkin 1947).
    prefix_sums = jnp.cumsum(jnp.where(is_number, 1, -1))
    last_minimum = num_tokens - 1 - jnp.argmin(prefix_sums[::-1])
    is_number = jnp.roll(is_number, -(last_minimum + 1))
    numbers = jax.random.randint(number_key, (num_tokens,), 0, MODULUS)
    operators = jax.random.randint(operator_key, (num_tokens,), MODULUS, _START)
    tokens = jnp.where(is_number, numbers, operators).astype(jnp.int32)

    def advance(state: tuple[Array, Array], token: Array) -> tuple[tuple[Array, Array], Array]:
        stack, depth = state
        first, second = stack[depth - 2], stack[depth - 1]
        results = jnp.stack([first + second, first - second, first * second]) % MODULUS
        is_operator = token >= MODULUS
        top = jnp.where(is_operator, results[jnp.maximum(token - MODULUS, 0)], token)
        depth = depth + jnp.where(is_operator, -1, 1)
        return (stack.at[depth - 1].set(top), depth), top

    _, targets = jax.lax.scan(advance, (jnp.zeros(max_size + 1, jnp.int32), jnp.int32(0)), tokens)
    tokens = jnp.pad(tokens, (1, 0), constant_values=_START)
    targets = jnp.pad(targets.astype(jnp.int32), (1, 0))
    return LabelledSequence(tokens, targets, jnp.ones(len(tokens)), jnp.ones_like(tokens))
