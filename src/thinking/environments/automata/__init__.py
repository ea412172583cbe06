"""Problems of known serial depth: words of symbols, each of which moves an automaton on by one state."""

from thinking.environments.automata.automaton import AUTOMATA, Automaton, automaton
from thinking.environments.automata.words import Words, draw_words

__all__ = ["AUTOMATA", "Automaton", "Words", "automaton", "draw_words"]
