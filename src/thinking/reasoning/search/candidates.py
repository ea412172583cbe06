"""Whole paths side by side: the likeliest step by step, the best of several samples, and the vote among answers.

Axes: B problems, N candidates for each, R rows (the candidates of a problem side by side), A actions, T steps, K tokens
of an answer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinking.reasoning.search.interface import (
    Candidates,
    RootOutput,
    SearchState,
    StepFn,
    check_root,
    check_temperature,
    init_search,
    run_search,
    take_actions,
    to_candidates,
)
from thinking.types import Array

ScoreFn = Callable[[Candidates], Array]
"""`rank(candidates) -> score [B, N]`, higher is better: a field such as the value, or what a trained verifier says
(Cobbe et al. 2021)."""


def rank_candidates(candidates: Candidates, score_fn: ScoreFn) -> Candidates:
    """The same candidates, of which the highest-ranked is the best, the earlier of equals."""
    score = jnp.where(jnp.isfinite(candidates.log_prob), score_fn(candidates), -jnp.inf)
    return candidates._replace(score=score, best=jnp.argmax(score, axis=1).astype(jnp.int32))


def best_path(candidates: Candidates) -> tuple[Array, Array]:
    """Actions [B, T], -1 after the end, and length [B] of the best."""
    problems = jnp.arange(candidates.best.shape[0])
    return candidates.actions[problems, candidates.best], candidates.length[problems, candidates.best]


def greedy(step_fn: StepFn, root: RootOutput, *, max_steps: int) -> Candidates:
    """The likeliest action at every step, the lower of equals: one candidate, `N = 1`.

    Args:
        step_fn: the model.
        root: of B problems.
        max_steps: T, and the most calls of `step_fn` for a problem.
    """
    problems, _ = check_root("greedy", root, max_steps=max_steps)

    def step(time: Array, walk: SearchState) -> SearchState:
        return take_actions(step_fn, time, walk, jnp.argmax(walk.step_output.logits, axis=1).astype(jnp.int32))

    return to_candidates(run_search(step, init_search(root, 1, max_steps), max_steps), problems)


def best_of_n(
    step_fn: StepFn,
    root: RootOutput,
    key: Array,
    *,
    num_samples: int,
    max_steps: int,
    temperature: float | Array = 1.0,
    score_fn: ScoreFn = lambda candidates: candidates.log_prob,
) -> Candidates:
    """Several sampled paths, and the best of them.

    For self-consistency (Wang et al. 2022) cut the answers out of the actions, and let `majority_vote` choose.

    Args:
        step_fn: the model.
        root: of B problems.
        key: is consumed.
        num_samples: N; `paths * max_steps` is the most calls of `step_fn` for a problem.
        max_steps: T.
        temperature: by which logits are divided before sampling, more than 0. Log-probabilities are the model's own.
        score_fn: which path is the best; by default the likeliest.
    """
    problems, _ = check_root("best_of_n", root, num_samples=num_samples, max_steps=max_steps)
    check_temperature("best_of_n", temperature)
    keys = jax.random.split(key, problems * num_samples)
    walk = sample_actions(
        step_fn, init_search(root, num_samples, max_steps), keys, temperature=temperature, max_steps=max_steps
    )
    return rank_candidates(to_candidates(walk, problems), score_fn)


def sample_actions(
    step_fn: StepFn,
    search_state: SearchState,
    keys: Array,
    *,
    temperature: float | Array,
    max_steps: int,
    stop_actions: tuple[int, ...] = (),
) -> SearchState:
    """Goes on by chance; keys [R] are consumed, and what a row draws depends on its own key alone."""

    def step(time: Array, walk: SearchState) -> SearchState:
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
        action = jax.vmap(jax.random.categorical)(now, walk.step_output.logits / temperature)
        return take_actions(step_fn, time, walk, action.astype(jnp.int32), stop_actions)

    return run_search(step, search_state, max_steps)


def majority_vote(answers: Array, valid: Array, weight: Array | None = None) -> Array:
    """[B] int32, the first candidate with the commonest answer: self-consistency (Wang et al. 2022).

    Of answers that are equally common, the one whose candidates weigh more together wins, then the earlier. Where
    nothing is valid it is the first candidate.

    Args:
        answers: [B, N, K] int32, cut out of the actions and padded, always in the same way.
        valid: [B, N] bool, which candidates have an answer.
        weight: [B, N] float32; if not given, all weigh the same.
    """
    if answers.ndim != 3 or answers.shape[:2] != valid.shape or 0 in valid.shape:
        raise ValueError(
            f"majority_vote: answers {answers.shape} and valid {valid.shape} do not agree; "
            "give [problems, candidates, tokens] and [problems, candidates], at least one of each"
        )
    if weight is None:
        weight = jnp.ones(valid.shape, jnp.float32)
    if weight.shape != valid.shape:
        raise ValueError(f"majority_vote: weight has shape {weight.shape}; give each candidate one, {valid.shape}")
    agree = jnp.all(answers[:, :, None] == answers[:, None], axis=-1) & valid[:, :, None] & valid[:, None]
    votes = jnp.sum(agree, axis=-1)
    commonest = votes == jnp.max(votes, axis=1, keepdims=True)
    together = jnp.sum(jnp.where(agree, weight[:, None], 0.0), axis=-1)
    heaviest = jnp.max(together, axis=1, keepdims=True, where=commonest, initial=-jnp.inf)
    return jnp.argmax(commonest & (together == heaviest), axis=1).astype(jnp.int32)
