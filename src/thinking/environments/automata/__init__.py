"""Problems of known serial depth: words of symbols, each a transition of an automaton."""

from thinking.environments.automata.automaton import AUTOMATA, Automaton, make_automaton
from thinking.environments.automata.words import WordBatch, sample_words

__all__ = ["AUTOMATA", "Automaton", "WordBatch", "make_automaton", "sample_words"]
