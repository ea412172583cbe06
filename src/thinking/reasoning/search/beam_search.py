"""Beam search: the likeliest paths of all, kept side by side.

Axes: B problems, W beams of each, R = B W rows, A actions.
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
    """The `width` best paths found by extending the best ones, the best first.

    Paths that have ended stay and compete with longer ones by `log_prob / ((5 + length) / 6) ** length_penalty`
    (Wu et al. 2016). With a beam as wide as there are paths the best is the best of all. Where there are fewer paths
    than beams, the rest has log_prob -inf and no actions. States follow their paths, so that each step copies them.

    Args:
        step_fn: the model.
        root: of B problems.
        width: W; `width * max_steps` is the most calls of `step_fn` for a problem.
        max_steps: T.
        length_penalty: 0 compares log-probabilities, 1 nearly their means, which favours the long.
    """
    problems, actions = check_root("beam", root, width=width, max_steps=max_steps)
    if width > actions**max_steps:
        raise ValueError(
            f"beam: width {width}: {actions} actions and {max_steps} steps make {actions**max_steps} paths; "
            "give at most that many"
        )

    def step(time: Array, search_state: SearchState) -> SearchState:
        parent, action, possible = _extend_beams(search_state, problems, width, length_penalty)
        state, outlook, paths = take_rows(search_state[:3], parent)
        paths = paths._replace(log_prob=jnp.where(possible, paths.log_prob, -jnp.inf))
        return take_actions(step_fn, time, SearchState(state, outlook, paths, search_state.num_model_calls), action)

    walk = init_search(root, width, max_steps)
    # At first there is one path, of no action: its copies are impossible until others take their places.
    first = jnp.arange(problems * width) % width == 0
    walk = walk._replace(paths=walk.paths._replace(log_prob=jnp.where(first, 0.0, -jnp.inf)))
    found = to_candidates(run_search(step, walk, max_steps), problems)
    real = jnp.isfinite(found.log_prob)
    return found._replace(
        actions=jnp.where(real[..., None], found.actions, NO_ACTION),
        length=jnp.where(real, found.length, 0),
        done=real & found.done,
        score=_length_normalize(found.log_prob, found.length, length_penalty),
    )


def _extend_beams(
    search_state: SearchState, num_problems: int, width: int, length_penalty: float | Array
) -> tuple[Array, Array, Array]:
    """The rows [R] that are extended, the actions [R] they are extended by, and whether that is possible [R]."""
    paths = search_state.paths
    moving = is_active(paths)
    actions = search_state.step_output.logits.shape[1]
    # An ended path goes on as itself, once.
    as_itself = jnp.where(jnp.arange(actions) == 0, 0.0, -jnp.inf)
    log_prob = jnp.where(moving[:, None], jax.nn.log_softmax(search_state.step_output.logits), as_itself[None])
    score = _length_normalize(paths.log_prob[:, None] + log_prob, (paths.length + moving)[:, None], length_penalty)
    best, chosen = jax.lax.top_k(score.reshape(num_problems, width * actions), width)
    parent = chosen // actions + width * jnp.arange(num_problems)[:, None]
    return parent.reshape(-1), (chosen % actions).reshape(-1), jnp.isfinite(best).reshape(-1)


def _length_normalize(log_prob: Array, length: Array, length_penalty: float | Array) -> Array:
    return log_prob / ((5 + length) / 6) ** length_penalty
