"""A maze that one draws, and a network that thinks it through step by step.

Axes: N cells, row by row; T steps of thought.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from thinking.environments.puzzles import grid_neighbors, mazes
from thinking.errors import UserError
from thinking.networks.recursion import CellInputs
from thinking.recipes.deep_thinking.trained import PuzzleThinker
from thinking.types import Array

SIZES = (5, 9, 15, 25)
STEPS_PER_SIDE = 32
"""Steps of thought for each cell of a side."""
MAX_FRAMES = 120
"""States of an answer: those of every k-th step."""
_Cell = Annotated[int, Field(ge=0, lt=SIZES[-1] ** 2)]
_Pair = Annotated[list[_Cell], Field(min_length=2, max_length=2)]


class MazeRequest(TypedDict):
    """A maze: cells beside each other without a wall between, its start and its end. None draws one from the seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    size: Literal[5, 9, 15, 25]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    openings: Annotated[list[_Pair], Field(max_length=2 * SIZES[-1] * (SIZES[-1] - 1))] | None
    ends: _Pair | None


SCHEMA = MazeRequest
"""The schema of a request."""


class MazeSolver(NamedTuple):
    """A network that solves mazes.

    Attributes:
        size: of the mazes of its training.
        check_every: steps between two looks at its confidence.
        think: `think(features [N, 2], neighbors [1, N, 4], num_steps) -> (percent [T, N] uint8, is_confident [T])`:
            how likely each cell is on the path, and whether the network is confident, after each step.
    """

    size: int
    check_every: int
    think: Callable[[Array, Array, int], tuple[Array, Array]]


def open_model(thinker: PuzzleThinker) -> MazeSolver:
    """Prepare a network.

    Raises:
        UserError: it solves other puzzles.
    """
    puzzle = thinker.config.puzzle
    if puzzle.name != "mazes":
        raise UserError(f"--puzzle.name {puzzle.name}: the playground has mazes alone")
    model, params = thinker.model, thinker.params

    @functools.partial(jax.jit, static_argnums=2)
    def think(features: Array, neighbors: Array, num_steps: int) -> tuple[Array, Array]:
        inputs = CellInputs(features[None], neighbors[None])

        def advance(latent: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            latent = model.step(params, latent, inputs)
            output = model.predict(params, latent)
            percent = jnp.round(100 * jax.nn.softmax(output.logits)[0, :, 1]).astype(jnp.uint8)
            return latent, (percent, output.log_prob_correct[0] > jnp.log(0.5))

        return jax.lax.scan(advance, model.init_latent(params, inputs), length=num_steps)[1]

    return MazeSolver(puzzle.size, thinker.config.thinking.grad_steps, think)


def describe(solver: MazeSolver) -> dict[str, Any]:
    """The sizes to choose from, and that of training."""
    return {"sizes": SIZES, "trained_size": solver.size}


def answer(solver: MazeSolver, request: MazeRequest) -> dict[str, Any]:
    """The maze, what the network thought of it, and whether that is right.

    Raises:
        UserError: cells are outside, not beside each other, or the ends are one cell.
    """
    size = request["size"]
    graph, ends = _draw_maze(size, request["seed"]) if request["openings"] is None else _read_maze(request)
    beside = grid_neighbors(size, size)
    is_open = [[graph.has_edge(cell, other) for other in others] for cell, others in enumerate(beside.tolist())]
    features = np.eye(size * size, dtype=np.float32)[ends].T
    percent, is_confident = solver.think(features, np.where(is_open, beside, -1)[None], STEPS_PER_SIDE * size)
    looked_at = np.asarray(is_confident)[solver.check_every - 1 :: solver.check_every]
    sure_after = int((np.argmax(looked_at) + 1) * solver.check_every) if looked_at.any() else None
    num_steps = sure_after or len(percent)
    states = np.asarray(percent[:num_steps])
    stride = -(-num_steps // MAX_FRAMES)
    steps = [*range(0, num_steps - 1, stride), num_steps - 1]
    return {
        "openings": sorted(sorted(edge) for edge in graph.edges),
        "ends": ends,
        "steps": [step + 1 for step in steps],
        "frames": states[steps].tolist(),
        "sure_after": sure_after,
        "has_loops": graph.number_of_edges() > len(graph) - nx.number_connected_components(graph),
        "shortest": nx.shortest_path_length(graph, *ends) if nx.has_path(graph, *ends) else None,
        "right": _is_shortest_path(graph, ends, np.flatnonzero(states[-1] > 50).tolist()),
    }


def _draw_maze(size: int, seed: int) -> tuple[nx.Graph, list[int]]:
    puzzle = jax.jit(mazes().sample, static_argnums=1)(jax.random.key(seed), size)
    neighbors = np.asarray(puzzle.neighbors[0]).tolist()
    graph = _make_graph(
        size, [[cell, other] for cell, others in enumerate(neighbors) for other in others if other >= 0]
    )
    start, end = (int(np.argmax(puzzle.features[:, column])) for column in range(2))
    return graph, [start, end]


def _read_maze(request: MazeRequest) -> tuple[nx.Graph, list[int]]:
    size, openings, ends = request["size"], request["openings"] or [], request["ends"]
    if ends is None or ends[0] == ends[1]:
        raise UserError("ends: give two different cells, the start and the end")
    if outside := [cell for cell in itertools.chain(ends, *openings) if cell >= size * size]:
        raise UserError(f"cell {outside[0]}: allowed are 0 to {size * size - 1}")
    beside = grid_neighbors(size, size)
    if apart := [pair for pair in openings if pair[1] not in beside[pair[0]]]:
        raise UserError(f"openings: {apart[0]} are not beside each other; give cells that are")
    return _make_graph(size, openings), ends


def _make_graph(size: int, openings: list[list[int]]) -> nx.Graph:
    graph = nx.empty_graph(size * size)
    graph.add_edges_from(openings)
    return graph


def _is_shortest_path(graph: nx.Graph, ends: list[int], cells: list[int]) -> bool | None:
    """Whether these cells are those of a shortest path; None if there is no path."""
    if not nx.has_path(graph, *ends):
        return None
    marked = graph.subgraph(cells)
    is_joined = all(end in marked for end in ends) and nx.has_path(marked, *ends)
    return is_joined and len(cells) == nx.shortest_path_length(graph, *ends) + 1
