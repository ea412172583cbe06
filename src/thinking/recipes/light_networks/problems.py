"""The problems, by name, and their sizes in training."""

from thinking.environments.automata import make_automaton
from thinking.environments.sequences import (
    SequenceFamily,
    associative_recall,
    automaton_words,
    needle,
    nested_arithmetic,
    selective_copying,
)
from thinking.recipes.light_networks.config import Config, ProblemName


def make_problem(config: Config, name: ProblemName) -> tuple[SequenceFamily, int]:
    """The problem, and its size in training."""
    sizes = config.sizes
    match name:
        case "associative_recall":
            return associative_recall(sizes.num_pairs * max(config.eval.factors)), sizes.num_pairs
        case "selective_copying":
            return selective_copying(), sizes.num_blanks
        case "nested_arithmetic":
            return nested_arithmetic(), sizes.num_numbers
        case "needle":
            return needle(), sizes.haystack
    return automaton_words(make_automaton(name)), sizes.word
