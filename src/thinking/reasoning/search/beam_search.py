"""Beam search.

Axes: B problems, W beams of each, R = B W rows, A actions, T steps.
"""

import jax
import jax.numpy as jnp

from thinking.reasoning.search.interface import (
    NO_ACTION,
    Candidates,
    RootOutput,
    SearchState,
    StepFn,
    check_root,
    init_search,
    is_active,
    run_search,
    take_actions,
    to_candidates,
)
from thinking.trees import take_rows
from thinking.types import Array


def beam(
    step_fn: StepFn, root: RootOutput, *, width: int, max_steps: int, length_penalty: float | Array = 0.0
) -> Candidates:
    """The `width` best paths of a beam search, by descending score `log_prob / ((5 + length) / 6) ** length_penalty`.

    Finished paths keep competing with longer ones (Wu et al. 2016). A beam as wide as the number of paths is
    exhaustive. Beams without a path have log_prob -inf and no actions. Each step copies the states of its beams.

    Args:
        step_fn: the model.
        root: of B problems.
        width: W; a problem takes at most `width * max_steps` calls of `step_fn`.
        max_steps: T.
        length_penalty: 0 compares log-probabilities, 1 roughly their means, which favours long paths.

    Raises:
        ValueError: for a bad root, a budget below 1, or a width above the number of paths.
    """
    num_problems, num_actions = check_root("beam", root, width=width, max_steps=max_steps)
    if width > num_actions**max_steps:
        raise ValueError(
            f"beam: width {width}: {num_actions} actions and {max_steps} steps make {num_actions**max_steps} paths; "
            "give at most that many"
        )

    def step(step_index: Array, search_state: SearchState) -> SearchState:
        parent, action, is_valid = _extend_beams(search_state, num_problems, width, length_penalty)
        state, step_output, paths = take_rows(search_state[:3], parent)
        paths = paths._replace(log_prob=jnp.where(is_valid, paths.log_prob, -jnp.inf))
        return take_actions(
            step_fn, step_index, SearchState(state, step_output, paths, search_state.num_model_calls), action
        )

    search_state = init_search(root, width, max_steps)
    # Only one copy of the root is a valid path at first.
    first = jnp.arange(num_problems * width) % width == 0
    search_state = search_state._replace(paths=search_state.paths._replace(log_prob=jnp.where(first, 0.0, -jnp.inf)))
    candidates = to_candidates(run_search(step, search_state, max_steps), num_problems)
    is_valid = jnp.isfinite(candidates.log_prob)
    return candidates._replace(
        actions=jnp.where(is_valid[..., None], candidates.actions, NO_ACTION),
        length=jnp.where(is_valid, candidates.length, 0),
        done=is_valid & candidates.done,
        score=_length_normalize(candidates.log_prob, candidates.length, length_penalty),
    )


def _extend_beams(
    search_state: SearchState, num_problems: int, width: int, length_penalty: float | Array
) -> tuple[Array, Array, Array]:
    """Parent rows, actions, and whether each extension is valid: [R] each."""
    paths = search_state.paths
    active = is_active(paths)
    num_actions = search_state.step_output.logits.shape[1]
    # A finished path has one extension: itself.
    unchanged = jnp.where(jnp.arange(num_actions) == 0, 0.0, -jnp.inf)
    log_prob = jnp.where(active[:, None], jax.nn.log_softmax(search_state.step_output.logits), unchanged[None])
    score = _length_normalize(paths.log_prob[:, None] + log_prob, (paths.length + active)[:, None], length_penalty)
    best_scores, indices = jax.lax.top_k(score.reshape(num_problems, width * num_actions), width)
    parent = indices // num_actions + width * jnp.arange(num_problems)[:, None]
    return parent.reshape(-1), (indices % num_actions).reshape(-1), jnp.isfinite(best_scores).reshape(-1)


def _length_normalize(log_prob: Array, length: Array, length_penalty: float | Array) -> Array:
    return log_prob / ((5 + length) / 6) ** length_penalty
