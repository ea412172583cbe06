"""Automata whose state after n symbols takes n steps to find, as far as anyone knows a way to write it down.

The words of a group that is not solvable (A5, S5) are complete for NC1 (Barrington 1989), beyond what a transformer
of fixed depth can say of words of any length (Merrill & Sabharwal 2023). Those of S3, of modular sums and of parity
are easier: a solvable group, and two commutative ones.

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
    """A machine that reads symbols.

    Attributes:
        name: as it is asked for.
        table: [S, X] int32, the state that a symbol leads to from each state.
        initial_state: the state before the first symbol.
        state_names: what each state is called, S names.
        symbol_names: what each symbol is called, X names.
    """

    name: str
    table: np.ndarray
    initial_state: int
    state_names: tuple[str, ...]
    symbol_names: tuple[str, ...]


def permutation_group(name: str, num_points: int, *, even: bool = False) -> Automaton:
    """The words of a permutation group: the state is the product of the elements that were read.

    Args:
        name: of the group.
        num_points: that are permuted.
        even: whether only even permutations are elements, the alternating group.
    """
    elements = [move for move in itertools.permutations(range(num_points)) if not even or is_even(move)]
    named = tuple(format_cycles(move) for move in elements)
    return Automaton(name, _table(elements, elements), elements.index(tuple(range(num_points))), named, named)


def modular_sums(modulus: int) -> Automaton:
    """Sums of numbers below a modulus."""
    numbers = np.arange(modulus, dtype=np.int32)
    named = tuple(map(str, range(modulus)))
    return Automaton(f"modular:{modulus}", (numbers[:, None] + numbers[None]) % modulus, 0, named, named)


def digit_sums(num_digits: int) -> Automaton:
    """The sum of two numbers of as many digits, modulo the power of ten above them, read as people add on paper.

    A symbol is a digit of each number, the last ones first; the state is what those that were read come to, and how
    many they are. What comes after the first digits is not read.
    """
    modulus = 10**num_digits
    # The sum of two numbers of `place` digits is below 2 * 10**place, or where all are read, below the modulus.
    totals = [range(min(2 * 10**place - 1, modulus)) for place in range(num_digits + 1)]
    states = [(place, total) for place, there in enumerate(totals) for total in there]
    pairs = list(itertools.product(range(10), repeat=2))
    index = {state: i for i, state in enumerate(states)}

    def after(place: int, total: int, pair: tuple[int, ...]) -> int:
        if place == num_digits:
            return index[place, total]
        return index[place + 1, (total + sum(pair) * 10**place) % modulus]

    table = np.int32([[after(*state, pair) for pair in pairs] for state in states])
    named = tuple(f"{total} of {place}" for place, total in states)
    return Automaton(f"digits:{num_digits}", table, 0, named, tuple(f"{a}+{b}" for a, b in pairs))


def parity() -> Automaton:
    """Whether the number of ones among bits is odd."""
    return Automaton("parity", np.int32([[0, 1], [1, 0]]), 0, ("even", "odd"), ("0", "1"))


def reachability(num_nodes: int) -> Automaton:
    """Which node is reached from node 0 by as many hops as there are symbols.

    A symbol is one layer of a layered graph: an edge out of each node, to any node of the next layer.
    """
    layers = list(itertools.product(range(num_nodes), repeat=num_nodes))
    symbols = tuple(" ".join(f"{begin}>{end}" for begin, end in enumerate(layer)) for layer in layers)
    return Automaton("graph", np.int32(layers).T.copy(), 0, tuple(map(str, range(num_nodes))), symbols)


def list_operations(num_items: int) -> Automaton:
    """What a list of letters is after operations: to keep, turn round, rotate either way, or swap the ends."""
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
    states = tuple("".join("abcdefgh"[item] for item in made) for made in lists)
    return Automaton("list", _table(lists, list(operations.values())), 0, states, tuple(operations))


AUTOMATA: dict[str, Callable[[], Automaton]] = {
    "s3": lambda: permutation_group("s3", 3),
    "a5": lambda: permutation_group("a5", 5, even=True),
    "s5": lambda: permutation_group("s5", 5),
    "parity": parity,
    "graph": lambda: reachability(4),
    "list": lambda: list_operations(4),
}
"""Automata by name."""
SIZED_AUTOMATA: dict[str, Callable[[int], Automaton]] = {"modular": modular_sums, "digits": digit_sums}
"""`modular:M` sums numbers below M, and `digits:D` adds two numbers of D digits."""


@functools.lru_cache
def make_automaton(name: str) -> Automaton:
    """The automaton of a name.

    Raises:
        ValueError: there is none of that name.
    """
    kind, size = parse_name(name)
    return AUTOMATA[kind]() if size is None else SIZED_AUTOMATA[kind](size)


def is_even(permutation: Permutation) -> bool:
    """Whether a permutation is a product of an even number of swaps."""
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 0


def format_cycles(permutation: Permutation) -> str:
    """A permutation of points from 1 in the notation of cycles; `e` for the one that moves nothing."""
    text, seen = "", set()
    for begin in range(len(permutation)):
        cycle, point = [], begin
        while point not in seen:
            seen.add(point)
            cycle.append(str(point + 1))
            point = permutation[point]
        if len(cycle) > 1:
            text += f"({''.join(cycle)})"
    return text or "e"


def _table(states: Sequence[Permutation], moves: Sequence[Permutation]) -> np.ndarray:
    """[S, X] int32: places of a state are taken in the order that a move names."""
    index = {state: i for i, state in enumerate(states)}
    return np.int32([[index[tuple(state[place] for place in move)] for move in moves] for state in states])
