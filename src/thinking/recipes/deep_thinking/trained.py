"""A trained recursive network as a value: what is exported of a run, and what solves puzzles."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from thinking.experiment.cards import CardTexts
from thinking.networks.recursion import CellInputs, RecursiveNetwork, think
from thinking.recipes.deep_thinking.config import Config
from thinking.recipes.deep_thinking.problem_families import find_network_dims
from thinking.recipes.deep_thinking.training import build_network
from thinking.types import Array, Params

CARD = CardTexts(
    summary="A small recursive network that thinks about a puzzle until it is confident: longer about larger ones.",
    data="Puzzles that the program makes itself, of the kind and size of `puzzle` in `config.json`.",
    limits="It knows one kind of puzzle. Mazes have no loops. Of puzzles much larger than those of its training it "
    "solves fewer, and its confidence can be wrong.",
    usage="import jax\n\nfrom thinking.environments.puzzles import mazes, sample_puzzles\n\n"
    "puzzles = sample_puzzles(mazes(), jax.random.key(1), 2, 9)\n"
    "solved = model.solve(puzzles.features, puzzles.neighbors)\n"
    "print((solved.answer == puzzles.targets).all(axis=1), solved.num_steps)",
)
"""What the model card says."""


class SolvedPuzzles(NamedTuple):
    """Answers to B puzzles of N cells.

    Attributes:
        answer: [B, N] int32, the answer at each cell.
        num_steps: [B] int32, steps of thought until the network was confident.
    """

    answer: np.ndarray
    num_steps: np.ndarray


class PuzzleThinker(NamedTuple):
    """A trained network that thinks about puzzles.

    Attributes:
        config: of its training.
        model: the network's pure functions.
        params: its parameters.
    """

    config: Config
    model: RecursiveNetwork
    params: Params

    def solve(self, features: Array, neighbors: Array, max_steps: int | None = None) -> SolvedPuzzles:
        """Think about puzzles until confident of each.

        Args:
            features: [B, N, F], as those of `thinking.environments.puzzles`.
            neighbors: [B, R, N, K] int32.
            max_steps: most steps of thought; those of the config by default.
        """
        steps = self.config.eval.max_steps if max_steps is None else max_steps
        # The network knows its confidence after as many steps as in training.
        solve = jax.jit(
            functools.partial(think, self.model, max_steps=steps, check_every=self.config.thinking.grad_steps)
        )
        thought = solve(self.params, CellInputs(features, neighbors))
        return SolvedPuzzles(np.asarray(thought.output.answer), np.asarray(thought.num_steps))


def select(config: Config) -> Config:
    """The config of the one network that is exported: `recursive`, or else the first, of the first seed."""
    name = "recursive" if "recursive" in config.networks else config.networks[0]
    return dataclasses.replace(config, networks=(name,), seeds=1)


def describe_params(config: Config) -> Params:
    """Shapes and types of the parameters."""
    network = build_network(config, find_network_dims(config), config.networks[0])
    return jax.eval_shape(network.init, jax.random.key(0))


def read_params(config: Config, folder: Path) -> Params:
    """The averaged parameters of a finished run, which evaluation uses.

    Raises:
        RunError: the checkpoint is missing, damaged, or does not fit.
    """
    from thinking.experiment.checkpoint import read_part  # Orbax takes a second to import

    config = select(config)
    stage = f"{config.networks[0]}-{config.seed}"
    return read_part(folder / "checkpoints" / stage, describe_params(config), ".ema_params")


def build(config: Config, params: Params) -> PuzzleThinker:
    """The trained network."""
    return PuzzleThinker(config, build_network(config, find_network_dims(config), config.networks[0]), params)
