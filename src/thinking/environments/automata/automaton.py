"""Automata whose state after n symbols has no known shortcut below n steps, and easier ones.

The word problem of a group that is not solvable (A5, S5) is complete for NC1 (Barrington 1989), which a transformer
of fixed depth cannot express for words of any length (Merrill & Sabharwal 2023). Those of S3 (solvable), modular sums
and parity (commutative) are easier.

Axes: S states, X symbols.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.automaton_names import parse_name

Permutation = tuple[int, ...]


class Automaton(NamedTuple):
    """A finite automaton.

    Attributes:
        name: its name.
        table: [S, X] int32, the next state for each state and symbol.
        initial_state: the state before the first symbol.
        state_names: S names.
        symbol_names: X names.
    """

    name: str
    table: np.ndarray
    initial_state: int
    state_names: tuple[str, ...]
    symbol_names: tuple[str, ...]


def permutation_group(name: str, num_points: int, *, even: bool = False) -> Automaton:
    """The word problem of a permutation group: the state is the product of the elements so far.

    Args:
        name: of the group.
        num_points: number of permuted points.
        even: whether to keep even permutations only (the alternating group).
    """
    elements = [
        permutation for permutation in itertools.permutations(range(num_points)) if not even or is_even(permutation)
    ]
    names = tuple(format_cycles(permutation) for permutation in elements)
    return Automaton(name, _table(elements, elements), elements.index(tuple(range(num_points))), names, names)


def modular_sums(modulus: int) -> Automaton:
    """Sums of numbers below a modulus."""
    numbers = np.arange(modulus, dtype=np.int32)
    names = tuple(map(str, range(modulus)))
    return Automaton(f"modular:{modulus}", (numbers[:, None] + numbers[None]) % modulus, 0, names, names)


def digit_sums(num_digits: int) -> Automaton:
    """The sum of two numbers of `num_digits` digits, modulo 10**num_digits, digit by digit.

    A symbol is a pair of digits, the least significant first. The state is the sum of the digits so far and their
    number. Further symbols are ignored.
    """
    modulus = 10**num_digits
    # Sums of two numbers of `position` digits are below 2 * 10**position, and at the end below the modulus.
    totals = [range(min(2 * 10**position - 1, modulus)) for position in range(num_digits + 1)]
    states = [(position, total) for position, sums in enumerate(totals) for total in sums]
    pairs = list(itertools.product(range(10), repeat=2))
    index = {state: i for i, state in enumerate(states)}

    def after(position: int, total: int, pair: tuple[int, ...]) -> int:
        if position == num_digits:
            return index[position, total]
        return index[position + 1, (total + sum(pair) * 10**position) % modulus]

    table = np.int32([[after(*state, pair) for pair in pairs] for state in states])
    names = tuple(f"{total} of {position}" for position, total in states)
    return Automaton(f"digits:{num_digits}", table, 0, names, tuple(f"{a}+{b}" for a, b in pairs))


def parity() -> Automaton:
    """Whether the number of ones is odd."""
    return Automaton("parity", np.int32([[0, 1], [1, 0]]), 0, ("even", "odd"), ("0", "1"))


def layered_graph(num_nodes: int) -> Automaton:
    """The node reached from node 0 in a layered graph.

    A symbol is one layer: an edge out of each node to any node of the next layer.
    """
    layers = list(itertools.product(range(num_nodes), repeat=num_nodes))
    symbols = tuple(" ".join(f"{start}>{end}" for start, end in enumerate(layer)) for layer in layers)
    return Automaton("graph", np.int32(layers).T.copy(), 0, tuple(map(str, range(num_nodes))), symbols)


def list_permutation_automaton(num_items: int) -> Automaton:
    """The order of a list of letters after operations: keep, reverse, rotate, swap the ends or the first two."""
    order = tuple(range(num_items))
    operations: dict[str, Permutation] = {
        "keep": order,
        "reverse": order[::-1],
        "left": (*order[1:], 0),
        "right": (num_items - 1, *order[:-1]),
        "swap": (num_items - 1, *order[1:-1], 0),
        "first": (1, 0, *order[2:]),
    }
    lists = list(itertools.permutations(order))
    states = tuple("".join("abcdefgh"[item] for item in permutation) for permutation in lists)
    return Automaton("list", _table(lists, list(operations.values())), 0, states, tuple(operations))


AUTOMATA: dict[str, Callable[[], Automaton]] = {
    "s3": lambda: permutation_group("s3", 3),
    "a5": lambda: permutation_group("a5", 5, even=True),
    "s5": lambda: permutation_group("s5", 5),
    "parity": parity,
    "graph": lambda: layered_graph(4),
    "list": lambda: list_permutation_automaton(4),
}
"""Automata without a size, by name."""
SIZED_AUTOMATA: dict[str, Callable[[int], Automaton]] = {"modular": modular_sums, "digits": digit_sums}
"""`modular:M` sums numbers below M, and `digits:D` adds two numbers of D digits."""


@functools.lru_cache
def make_automaton(name: str) -> Automaton:
    """An automaton by name.

    Raises:
        ValueError: for an unknown name.
    """
    kind, size = parse_name(name)
    return AUTOMATA[kind]() if size is None else SIZED_AUTOMATA[kind](size)


def is_even(permutation: Permutation) -> bool:
    """Whether a permutation is a product of an even number of swaps."""
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 0


def format_cycles(permutation: Permutation) -> str:
    """A permutation in cycle notation with points from 1; `e` for the identity."""
    text, visited = "", set()
    for start in range(len(permutation)):
        cycle, point = [], start
        while point not in visited:
            visited.add(point)
            cycle.append(str(point + 1))
            point = permutation[point]
        if len(cycle) > 1:
            text += f"({''.join(cycle)})"
    return text or "e"


def _table(states: Sequence[Permutation], moves: Sequence[Permutation]) -> np.ndarray:
    """[S, X] int32: each move permutes the positions of a state."""
    index = {state: i for i, state in enumerate(states)}
    return np.int32([[index[tuple(state[position] for position in move)] for move in moves] for state in states])
