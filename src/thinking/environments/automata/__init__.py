"""Problems of known serial depth: words of symbols, each of which moves an automaton on by one state."""

from thinking.environments.automata.automaton import AUTOMATA, Automaton, make_automaton
from thinking.environments.automata.words import WordBatch, sample_words

__all__ = ["AUTOMATA", "Automaton", "WordBatch", "make_automaton", "sample_words"]
