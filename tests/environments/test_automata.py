"""Automata against independent computations of their groups and sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments.automata import AUTOMATA, Automaton, make_automaton, sample_words
from thinking.environments.automata.automaton import format_cycles, is_even
from thinking.environments.automata.words import run_automaton
from thinking.environments.automaton_names import NAMES, parse_name

QUICK = settings(max_examples=25, deadline=None)
GROUPS = {"s3": 6, "a5": 60, "s5": 120}


@functools.cache
def make_runner(name):
    return jax.jit(functools.partial(run_automaton, make_automaton(name)))


def states_after(name, symbols):
    """The states of an automaton after each of at most nine symbols."""
    word = np.zeros((1, 9), np.int32)  # one shape for all words, so that JAX compiles once
    word[0, : len(symbols)] = symbols
    return make_runner(name)(word)[0].tolist()[: len(symbols)]


@functools.cache
def make_sampler(name):
    """Jitted sampling of words of 1, 3 and 4 symbols and their final states."""

    def sample(key):
        words = sample_words(make_automaton(name), key, jnp.int32([1, 3, 4]), 4)
        return words, words.final_states

    return jax.jit(sample)


def permutation_matrix(name: str) -> np.ndarray:
    """[5, 5], the permutation matrix of an element in cycle notation."""
    matrix = np.eye(5, dtype=int)
    for cycle in name.strip("()e").split(")("):
        for start, end in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            matrix[int(start) - 1] = np.eye(5, dtype=int)[int(end) - 1]
    return matrix


@pytest.mark.parametrize(("name", "order"), GROUPS.items())
def test_group_tables_match_permutation_matrices(name, order):
    group = make_automaton(name)
    assert group.table.shape == (order, order)
    assert group.state_names[group.initial_state] == "e"
    matrices = np.array([permutation_matrix(element) for element in group.state_names])
    products = matrices[None] @ matrices[:, None]
    assert (products == matrices[group.table]).all()


def test_a5_is_perfect_and_is_even_gives_the_parity():
    group = make_automaton("a5")
    inverse = (group.table == group.initial_state).argmax(axis=1)
    commutators = group.table[group.table, group.table[inverse][:, inverse]]
    assert len(np.unique(commutators)) == 60  # the group is its own commutator subgroup
    assert not is_even((1, 0, 2))
    assert is_even((1, 2, 0))


@given(st.permutations(range(5)))
@QUICK
def test_format_cycles_is_invertible(permutation):
    assert permutation_matrix(format_cycles(tuple(permutation))).argmax(axis=1).tolist() == list(permutation)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9))
@QUICK
def test_modular_sums_and_parity_match_python(numbers):
    assert states_after("modular:7", numbers) == [sum(numbers[: i + 1]) % 7 for i in range(len(numbers))]
    bits = [number % 2 for number in numbers]
    assert states_after("parity", bits) == [sum(bits[: i + 1]) % 2 for i in range(len(bits))]


@given(st.integers(0, 999), st.integers(0, 999))
@QUICK
def test_digits_are_added_from_the_least_significant(first, second):
    automaton = make_automaton("digits:3")
    symbols = [f"{first // 10**digit_position % 10}+{second // 10**digit_position % 10}" for digit_position in range(3)]
    word = [automaton.symbol_names.index(symbol) for symbol in [*symbols, "9+9"]]
    actual = [automaton.state_names[state] for state in states_after("digits:3", word)]
    partial = [first % 10 + second % 10, first % 100 + second % 100, (first + second) % 1000]
    expected = [f"{total} of {digit_position}" for digit_position, total in enumerate(partial, start=1)]
    assert actual == [*expected, expected[-1]]


def test_graph_symbols_follow_the_edges_they_name():
    graph = make_automaton("graph")
    for symbol in range(0, len(graph.symbol_names), 37):
        edges = dict(edge.split(">") for edge in graph.symbol_names[symbol].split())
        assert [graph.state_names[state] for state in graph.table[:, symbol]] == [
            edges[node] for node in graph.state_names
        ]


def test_the_list_automaton_permutes_the_list():
    automaton = make_automaton("list")
    next_states = dict(zip(automaton.symbol_names, automaton.table[automaton.initial_state], strict=True))
    lists = {name: automaton.state_names[state] for name, state in next_states.items()}
    assert lists == {
        "keep": "abcd",
        "reverse": "dcba",
        "left": "bcda",
        "right": "dabc",
        "swap": "dbca",
        "first": "bacd",
    }


@given(st.sampled_from([*AUTOMATA, "modular:5", "digits:2"]), st.integers(0, 2**31 - 1))
@QUICK
def test_words_follow_the_table_and_end_in_the_final_state(name, seed):
    automaton: Automaton = make_automaton(name)
    words, answers = jax.device_get(make_sampler(name)(jax.random.key(seed)))
    for symbols, states, length, answer in zip(words.symbols, words.states, words.lengths, answers, strict=True):
        state = automaton.initial_state
        for symbol, next_state in zip(symbols, states, strict=True):
            state = automaton.table[state, symbol]
            assert state == next_state
        assert answer == states[length - 1]


def test_names_are_the_keys_of_automata():
    assert tuple(AUTOMATA) == NAMES
    assert [parse_name(name) for name in ("s3", "modular:12")] == [("s3", None), ("modular", 12)]


@pytest.mark.parametrize("name", ["a6", "modular", "modular:1", "modular:9999", "modular:x", "digits:4"])
def test_unknown_names_are_rejected_in_one_line(name):
    with pytest.raises(ValueError, match=rf"^name {name}: not an automaton; give one of s3, a5") as error:
        make_automaton(name)
    assert "\n" not in str(error.value)
