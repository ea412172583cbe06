"""Greedy search, best-of-N sampling and majority vote.

Axes: B problems, N candidates of each, R = B N rows, A actions, T steps, K tokens of an answer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinking.generation.sampling import fold_in_rows, split_by_row
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
"""`score_fn(candidates) -> score [B, N]`, higher is better: a field, or a trained verifier (Cobbe et al. 2021)."""


def rank_candidates(candidates: Candidates, score_fn: ScoreFn) -> Candidates:
    """Candidates with these scores; `best` is the first of the highest."""
    score = jnp.where(jnp.isfinite(candidates.log_prob), score_fn(candidates), -jnp.inf)
    return candidates._replace(score=score, best=jnp.argmax(score, axis=1).astype(jnp.int32))


def best_path(candidates: Candidates) -> tuple[Array, Array]:
    """Actions [B, T], -1 past the end, and length [B] of the best candidate."""
    problems = jnp.arange(candidates.best.shape[0])
    return candidates.actions[problems, candidates.best], candidates.length[problems, candidates.best]


def greedy(step_fn: StepFn, root: RootOutput, *, max_steps: int) -> Candidates:
    """The action of highest probability at every step, the lower of equals: one candidate, `N = 1`.

    Args:
        step_fn: the model.
        root: of B problems.
        max_steps: T; a problem takes at most as many calls of `step_fn`.

    Raises:
        ValueError: for a root that does not fit, or fewer than one step.
    """
    num_problems, _ = check_root("greedy", root, max_steps=max_steps)

    def step(step_index: Array, search_state: SearchState) -> SearchState:
        return take_actions(
            step_fn, step_index, search_state, jnp.argmax(search_state.step_output.logits, axis=1).astype(jnp.int32)
        )

    return to_candidates(run_search(step, init_search(root, 1, max_steps), max_steps), num_problems)


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
    """Independent samples and the best of them.

    For self-consistency (Wang et al. 2022), extract the answers from the actions and use `majority_vote`.

    Args:
        step_fn: the model.
        root: of B problems.
        key: consumed; one, or [B]. A problem depends on its own key only, and a sample on its index.
        num_samples: N; a problem takes at most `num_samples * max_steps` calls of `step_fn`.
        max_steps: T.
        temperature: sampling temperature, above 0. Log-probabilities are those at temperature 1.
        score_fn: how candidates are ranked; by log-probability by default.

    Raises:
        ValueError: for a root that does not fit, a budget below 1, or a temperature that is not above 0.
    """
    num_problems, _ = check_root("best_of_n", root, num_samples=num_samples, max_steps=max_steps)
    check_temperature("best_of_n", temperature)
    keys = split_samples(split_by_row(key, num_problems), num_samples)
    search_state = sample_actions(
        step_fn, init_search(root, num_samples, max_steps), keys, temperature=temperature, max_steps=max_steps
    )
    return rank_candidates(to_candidates(search_state, num_problems), score_fn)


def split_samples(keys: Array, num_samples: int) -> Array:
    """[B N] keys of the samples of problems with keys [B]; the first of them do not depend on how many there are."""
    return fold_in_rows(jnp.repeat(keys, num_samples), jnp.tile(jnp.arange(num_samples), len(keys)))


def sample_actions(
    step_fn: StepFn,
    search_state: SearchState,
    keys: Array,
    *,
    temperature: float | Array,
    max_steps: int,
    stop_actions: tuple[int, ...] = (),
) -> SearchState:
    """Extend paths by sampling. Consumes the keys [R]; a row depends on its own key only."""

    def step(step_index: Array, search_state: SearchState) -> SearchState:
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step_index)
        action = jax.vmap(jax.random.categorical)(step_keys, search_state.step_output.logits / temperature)
        return take_actions(step_fn, step_index, search_state, action.astype(jnp.int32), stop_actions)

    return run_search(step, search_state, max_steps)


def majority_vote(answers: Array, valid: Array, log_weight: Array | None = None) -> Array:
    """[B] int32, the first candidate with the most frequent answer: self-consistency (Wang et al. 2022).

    Ties go to the larger total weight, then to the earlier candidate. Without a valid answer it is candidate 0.

    Args:
        answers: [B, N, K] int32, padded in the same way everywhere.
        valid: [B, N] bool, which candidates have an answer.
        log_weight: [B, N] float32, such as log-probabilities; equal by default. Weights are summed as logarithms, since
            the probabilities of long texts underflow.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if answers.ndim != 3 or answers.shape[:2] != valid.shape or 0 in valid.shape:
        raise ValueError(
            f"majority_vote: answers {answers.shape} and valid {valid.shape} do not agree; "
            "give [problems, candidates, tokens] and [problems, candidates], at least one of each"
        )
    if log_weight is None:
        log_weight = jnp.zeros(valid.shape, jnp.float32)
    if log_weight.shape != valid.shape:
        raise ValueError(f"majority_vote: log_weight has shape {log_weight.shape}; give {valid.shape}")
    agree = jnp.all(answers[:, :, None] == answers[:, None], axis=-1) & valid[:, :, None] & valid[:, None]
    votes = jnp.sum(agree, axis=-1)
    is_most_frequent = votes == jnp.max(votes, axis=1, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(agree, log_weight[:, None], -jnp.inf), axis=-1)
    max_total = jnp.max(total, axis=1, keepdims=True, where=is_most_frequent, initial=-jnp.inf)
    return jnp.argmax(is_most_frequent & (total == max_total), axis=1).astype(jnp.int32)
