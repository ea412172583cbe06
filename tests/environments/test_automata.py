"""Automata against the groups and sums that they stand for, worked out another way."""

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
def runner(name):
    return jax.jit(functools.partial(run_automaton, make_automaton(name)))


def states_after(name, symbols):
    """The states of an automaton after each of at most nine symbols."""
    word = np.zeros((1, 9), np.int32)  # of one shape, for which it is compiled once
    word[0, : len(symbols)] = symbols
    return runner(name)(word)[0].tolist()[: len(symbols)]


@functools.cache
def drawn(name):
    """Words of 1, 3 and 4 symbols, and what they come to."""

    def draw(key):
        words = sample_words(make_automaton(name), key, jnp.int32([1, 3, 4]), 4)
        return words, words.final_states

    return jax.jit(draw)


def matrix(name: str) -> np.ndarray:
    """[P, P], the permutation matrix of an element in the notation of cycles, of up to 5 points."""
    made = np.eye(5, dtype=int)
    for cycle in name.strip("()e").split(")("):
        for begin, end in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            made[int(begin) - 1] = np.eye(5, dtype=int)[int(end) - 1]
    return made


@pytest.mark.parametrize(("name", "order"), GROUPS.items())
def test_groups_multiply_as_their_permutation_matrices_do(name, order):
    group = make_automaton(name)
    assert group.table.shape == (order, order)
    assert group.state_names[group.initial_state] == "e"
    matrices = np.array([matrix(element) for element in group.state_names])
    products = matrices[None] @ matrices[:, None]
    assert (products == matrices[group.table]).all()


def test_only_even_elements_alternate_and_the_group_is_not_solvable():
    group = make_automaton("a5")
    inverse = (group.table == group.initial_state).argmax(axis=1)
    commutators = group.table[group.table, group.table[inverse][:, inverse]]
    assert len(np.unique(commutators)) == 60  # it is its own commutator group
    assert not is_even((1, 0, 2))
    assert is_even((1, 2, 0))


@given(st.permutations(range(5)))
@QUICK
def test_the_notation_of_cycles_tells_elements_apart(move):
    assert matrix(format_cycles(tuple(move))).argmax(axis=1).tolist() == list(move)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9))
@QUICK
def test_sums_and_parity_are_those_of_numbers(numbers):
    assert states_after("modular:7", numbers) == [sum(numbers[: i + 1]) % 7 for i in range(len(numbers))]
    bits = [number % 2 for number in numbers]
    assert states_after("parity", bits) == [sum(bits[: i + 1]) % 2 for i in range(len(bits))]


@given(st.integers(0, 999), st.integers(0, 999))
@QUICK
def test_digits_are_added_from_the_last_one_on(first, second):
    machine = make_automaton("digits:3")
    spelled = [f"{first // 10**place % 10}+{second // 10**place % 10}" for place in range(3)]
    word = [machine.symbol_names.index(symbol) for symbol in [*spelled, "9+9"]]
    told = [machine.state_names[state] for state in states_after("digits:3", word)]
    partial = [first % 10 + second % 10, first % 100 + second % 100, (first + second) % 1000]
    expected = [f"{total} of {place}" for place, total in enumerate(partial, start=1)]
    assert told == [*expected, expected[-1]]


def test_hops_follow_the_edges_that_a_symbol_names():
    graph = make_automaton("graph")
    for symbol in range(0, len(graph.symbol_names), 37):
        edges = dict(edge.split(">") for edge in graph.symbol_names[symbol].split())
        assert [graph.state_names[state] for state in graph.table[:, symbol]] == [
            edges[node] for node in graph.state_names
        ]


def test_list_operations_do_what_they_are_called():
    machine = make_automaton("list")
    done = dict(zip(machine.symbol_names, machine.table[machine.initial_state], strict=True))
    told = {name: machine.state_names[state] for name, state in done.items()}
    assert told == {
        "keep": "abcd",
        "reverse": "dcba",
        "left": "bcda",
        "right": "dabc",
        "swap": "dbca",
        "first": "bacd",
    }


@given(st.sampled_from([*AUTOMATA, "modular:5", "digits:2"]), st.integers(0, 2**31 - 1))
@QUICK
def test_a_word_leads_from_state_to_state_and_its_answer_is_the_last(name, seed):
    machine: Automaton = make_automaton(name)
    words, answers = jax.device_get(drawn(name)(jax.random.key(seed)))
    for symbols, states, length, answer in zip(words.symbols, words.states, words.lengths, answers, strict=True):
        state = machine.initial_state
        for symbol, after in zip(symbols, states, strict=True):
            state = machine.table[state, symbol]
            assert state == after
        assert answer == states[length - 1]


def test_names_are_those_of_automata():
    assert tuple(AUTOMATA) == NAMES
    assert [parse_name(name) for name in ("s3", "modular:12")] == [("s3", None), ("modular", 12)]


@pytest.mark.parametrize("name", ["a6", "modular", "modular:1", "modular:9999", "modular:x", "digits:4"])
def test_what_is_no_problem_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=rf"^name {name}: no such problem; give one of s3, a5") as error:
        make_automaton(name)
    assert "\n" not in str(error.value)
