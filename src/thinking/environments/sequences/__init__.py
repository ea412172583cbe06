"""Sequence problems, each of which asks one thing of a network: to track a state, to recall, to select, to nest."""

from thinking.environments.sequences.automaton_words import automaton_words
from thinking.environments.sequences.nested_arithmetic import nested_arithmetic
from thinking.environments.sequences.recall import associative_recall, needle, selective_copying
from thinking.environments.sequences.sequence_family import LabelledSequence, SequenceFamily

__all__ = [
    "LabelledSequence",
    "SequenceFamily",
    "associative_recall",
    "automaton_words",
    "needle",
    "nested_arithmetic",
    "selective_copying",
]
