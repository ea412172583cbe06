"""The problems, by name, and their sizes in training."""

from typing import Literal, NamedTuple

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


class Problem(NamedTuple):
    """A problem to train on.

    Attributes:
        family: its rows.
        size: in training.
        levels: of the rows in training: `full` size; `growing` from 2 on; or `mixed`, a random power of two each, as
            in Arora et al. (2024).
    """

    family: SequenceFamily
    size: int
    levels: Literal["full", "growing", "mixed"] = "full"


def make_problem(config: Config, name: ProblemName) -> Problem:
    """The problem by its name."""
    sizes = config.sizes
    match name:
        case "associative_recall":
            return Problem(associative_recall(sizes.num_pairs * max(config.eval.factors)), sizes.num_pairs, "mixed")
        case "selective_copying":
            return Problem(selective_copying(), sizes.num_blanks)
        case "nested_arithmetic":
            return Problem(nested_arithmetic(), sizes.num_numbers)
        case "needle":
            return Problem(needle(), sizes.haystack)
    return Problem(automaton_words(make_automaton(name)), sizes.word, "growing")
