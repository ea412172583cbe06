"""Problems small enough to look at every path: trees of three actions, given as tables."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thinking.reasoning.search.interface import StepOutput

ACTIONS, DEPTH = 3, 6
NODES = sum(ACTIONS**level for level in range(DEPTH + 1))


class Trees(NamedTuple):
    """What is known of every node of P trees; the children of node n are 3 n + 1 to 3 n + 3."""

    logits: np.ndarray
    value: np.ndarray
    reward: np.ndarray
    ended: np.ndarray


class Place(NamedTuple):
    """Where rows are."""

    problem: jnp.ndarray
    node: jnp.ndarray


class Path(NamedTuple):
    """One way through a tree."""

    actions: tuple[int, ...]
    log_prob: float
    reward: float
    value: float
    ended: bool
    nodes: tuple[int, ...]


@functools.cache
def random_trees(forbidden: float = 0.0) -> Trees:
    """Three trees of which many paths end early; the third has ended before it began."""
    rng = np.random.default_rng(7)
    logits = 2 * rng.normal(size=(3, NODES, ACTIONS)).astype(np.float32)
    # Action 1 is always allowed.
    logits = np.where((rng.random(logits.shape) < forbidden) & (np.arange(ACTIONS) != 1), -np.inf, logits)
    value, reward = rng.normal(size=(2, 3, NODES)).astype(np.float32)
    ended = rng.random((3, NODES)) < 0.15
    ended[:, 0] = [False, False, True]
    ended[:, -(ACTIONS**DEPTH) :] = True
    return Trees(logits.astype(np.float32), value, reward, ended)


def output_at(trees: Trees, place: Place) -> StepOutput:
    return StepOutput(*(jnp.asarray(table)[place.problem, place.node] for table in trees), extra=place.node)


def make_step_fn(trees: Trees):
    def step_fn(place: Place, action):
        # Below an end there are no nodes: what is said there must not matter.
        place = place._replace(node=jnp.minimum(ACTIONS * place.node + 1 + action, NODES - 1))
        return place, output_at(trees, place)

    return step_fn


def make_root(trees: Trees, problems=None):
    problems = jnp.arange(len(trees.value)) if problems is None else jnp.asarray(problems)
    place = Place(problems, jnp.zeros_like(problems))
    return place, output_at(trees, place)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.sum(np.exp(logits)))


def follow(trees: Trees, problem: int, actions) -> Path:
    node, log_prob, reward, nodes = 0, 0.0, 0.0, []
    for action in actions:
        assert not trees.ended[problem, node], "nothing follows an end"
        log_prob += log_softmax(trees.logits[problem, node])[action]
        node = ACTIONS * node + 1 + action
        reward += trees.reward[problem, node]
        nodes.append(node)
    value, ended = trees.value[problem, node], trees.ended[problem, node]
    return Path(tuple(actions), log_prob, reward, value, bool(ended), tuple(nodes))


def all_paths(trees: Trees, problem: int, max_steps: int, prefix=()) -> list[Path]:
    path_so_far = follow(trees, problem, prefix)
    if path_so_far.ended or len(prefix) == max_steps:
        return [path_so_far]
    return [path for action in range(ACTIONS) for path in all_paths(trees, problem, max_steps, (*prefix, action))]


def check_against(trees: Trees, candidates, problems) -> None:
    """Every candidate is a path of its tree, and everything said of it is so."""
    for b, problem in enumerate(problems):
        for n in range(candidates.length.shape[1]):
            if not np.isfinite(candidates.log_prob[b, n]):
                assert candidates.length[b, n] == 0
                continue
            actions, length = np.asarray(candidates.actions[b, n]), int(candidates.length[b, n])
            path = follow(trees, problem, actions[:length].tolist())
            assert (actions[length:] == -1).all()
            np.testing.assert_allclose(candidates.log_prob[b, n], path.log_prob, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(candidates.reward[b, n], path.reward, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(candidates.value[b, n], path.value)
            assert bool(candidates.done[b, n]) == path.ended
            np.testing.assert_array_equal(candidates.extras[b, n], [*path.nodes, *[0] * (len(actions) - length)])
