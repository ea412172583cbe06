"""Search problems small enough to enumerate: trees of three actions, given as tables."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thinking.reasoning.search.interface import StepOutput

NUM_ACTIONS, DEPTH = 3, 6
NUM_NODES = sum(NUM_ACTIONS**level for level in range(DEPTH + 1))


class Trees(NamedTuple):
    """Tables of all nodes of P trees; the children of node n are 3 n + 1 to 3 n + 3."""

    logits: np.ndarray
    value: np.ndarray
    reward: np.ndarray
    done: np.ndarray


class TreeState(NamedTuple):
    """The current nodes of a batch."""

    problem: jnp.ndarray
    node: jnp.ndarray


class Path(NamedTuple):
    """A path from the root of a tree."""

    actions: tuple[int, ...]
    log_prob: float
    reward: float
    value: float
    done: bool
    nodes: tuple[int, ...]


@functools.cache
def random_trees(forbidden_fraction: float = 0.0) -> Trees:
    """Three trees in which many paths end early. The root of the third is done."""
    rng = np.random.default_rng(7)
    logits = 2 * rng.normal(size=(3, NUM_NODES, NUM_ACTIONS)).astype(np.float32)
    # Action 1 is always allowed.
    logits = np.where((rng.random(logits.shape) < forbidden_fraction) & (np.arange(NUM_ACTIONS) != 1), -np.inf, logits)
    value, reward = rng.normal(size=(2, 3, NUM_NODES)).astype(np.float32)
    done = rng.random((3, NUM_NODES)) < 0.15
    done[:, 0] = [False, False, True]
    done[:, -(NUM_ACTIONS**DEPTH) :] = True
    return Trees(logits.astype(np.float32), value, reward, done)


def get_step_output(trees: Trees, state: TreeState) -> StepOutput:
    return StepOutput(*(jnp.asarray(table)[state.problem, state.node] for table in trees), extra=state.node)


def make_step_fn(trees: Trees):
    def step_fn(state: TreeState, action):
        # Below a done node there are no nodes, so the output there must not matter.
        state = state._replace(node=jnp.minimum(NUM_ACTIONS * state.node + 1 + action, NUM_NODES - 1))
        return state, get_step_output(trees, state)

    return step_fn


def make_root(trees: Trees, problems=None):
    problems = jnp.arange(len(trees.value)) if problems is None else jnp.asarray(problems)
    state = TreeState(problems, jnp.zeros_like(problems))
    return state, get_step_output(trees, state)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.sum(np.exp(logits)))


def follow_path(trees: Trees, problem: int, actions) -> Path:
    node, log_prob, reward, nodes = 0, 0.0, 0.0, []
    for action in actions:
        assert not trees.done[problem, node], "nothing follows a done node"
        log_prob += log_softmax(trees.logits[problem, node])[action]
        node = NUM_ACTIONS * node + 1 + action
        reward += trees.reward[problem, node]
        nodes.append(node)
    value, done = trees.value[problem, node], trees.done[problem, node]
    return Path(tuple(actions), log_prob, reward, value, bool(done), tuple(nodes))


def list_paths(trees: Trees, problem: int, max_steps: int, prefix=()) -> list[Path]:
    path_so_far = follow_path(trees, problem, prefix)
    if path_so_far.done or len(prefix) == max_steps:
        return [path_so_far]
    return [path for action in range(NUM_ACTIONS) for path in list_paths(trees, problem, max_steps, (*prefix, action))]


def check_candidates(trees: Trees, candidates, problems) -> None:
    """Check that every candidate is a path of its tree with equal log-probability, reward and value."""
    for row, problem in enumerate(problems):
        for index in range(candidates.length.shape[1]):
            if not np.isfinite(candidates.log_prob[row, index]):
                assert candidates.length[row, index] == 0
                continue
            actions, length = np.asarray(candidates.actions[row, index]), int(candidates.length[row, index])
            path = follow_path(trees, problem, actions[:length].tolist())
            assert (actions[length:] == -1).all()
            np.testing.assert_allclose(candidates.log_prob[row, index], path.log_prob, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(candidates.reward[row, index], path.reward, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(candidates.value[row, index], path.value)
            assert bool(candidates.done[row, index]) == path.done
            np.testing.assert_array_equal(candidates.extras[row, index], [*path.nodes, *[0] * (len(actions) - length)])
