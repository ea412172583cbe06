"""Sequential revision: trying again with the last attempt in view.

Axes: B problems, N rounds, T steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thinking.reasoning.search.candidates import Rank, best_of, by_log_prob, ranked
from thinking.reasoning.search.interface import NO_ACTION, Advance, Candidates, Root, check_budgets
from thinking.types import Array

Start = Callable[[Array, Array, Array], tuple[Advance, Root]]
"""`start(actions [B, T], length [B], round []) -> (advance, root)`, given the attempt before: -1 and 0 in round 0."""


def revise(
    start: Start,
    key: Array,
    *,
    problems: int,
    rounds: int,
    max_steps: int,
    temperature: float | Array = 1.0,
    rank: Rank = by_log_prob,
) -> Candidates:
    """Attempts one after another, each sampled from a root that shows the one before (Snell et al. 2024).

    All attempts are candidates, and the highest-ranked is the answer, whether it is the last or not.

    Args:
        start: the model of a round and its root, as `over_tokens` makes them of prompts that hold the attempt before;
            of one shape in all rounds. What it costs is not in `spent`.
        key: is consumed.
        problems: B.
        rounds: N; `rounds * max_steps` is the most calls of `advance` for a problem.
        max_steps: T, of one attempt.
        temperature: by which logits are divided before sampling, more than 0.
        rank: which attempt is the best.
    """
    check_budgets("revise", problems=problems, rounds=rounds, max_steps=max_steps)

    def attempt(before: tuple[Array, Array], turn: tuple[Array, Array]) -> tuple[tuple[Array, Array], Candidates]:
        number, key = turn
        advance, root = start(*before, number)
        found = best_of(advance, root, key, paths=1, max_steps=max_steps, temperature=temperature)
        rows = found.length.shape[0]
        if rows != problems:
            raise ValueError(f"revise: start gives {rows} rows for {problems} problems; give one for each")
        return (found.actions[:, 0], found.length[:, 0]), found

    none = jnp.full((problems, max_steps), NO_ACTION, jnp.int32), jnp.zeros(problems, jnp.int32)
    found = jax.lax.scan(attempt, none, (jnp.arange(rounds), jax.random.split(key, rounds)))[1]
    together = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), found)
    attempts = jax.tree.map(lambda leaf: leaf[:, :, 0], together._replace(best=None, spent=None))
    return ranked(attempts._replace(spent=jnp.sum(together.spent, axis=1)), rank)
