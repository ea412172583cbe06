"""What a search is told of a model, and what it answers. Searches know no model.

A model is a pure function over batched states, `advance(state, action) -> (state, outlook)`. A state is any PyTree
whose leaves have the rows as their leading axis: a KV cache, a buffer of tokens, a world. A search starts from
`(state, outlook)` of B problems, may call `advance` with more rows than that (all candidates at once), and answers with
`Candidates`.

Once a row has ended nothing about it changes any more: `advance` may still be called on it, and its answer is ignored.

Axes: B problems, N candidates for each, R rows (the candidates of a problem side by side), A actions, T steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.trees import select_rows, take_rows
from thinking.types import Array, State

NO_ACTION = -1


class StepOutput(NamedTuple):
    """What a model says of a state.

    Attributes:
        logits: [R, A] float32, unnormalised log-probabilities of the next action; -inf forbids one. Of a state that has
            not ended at least one is finite.
        value: [R] float32, what the state is worth.
        reward: [R] float32, of the step that led here.
        done: [R] bool, nothing follows.
        extra: a PyTree of arrays [R, ...], kept for every step of a candidate; nothing if there is nothing to keep.
    """

    logits: Array
    value: Array
    reward: Array
    done: Array
    extra: Any = ()


StepFn = Callable[[State, Array], tuple[State, StepOutput]]
"""`advance(state, action [R] int32) -> (state, outlook)`, for any number of rows."""

RootOutput = tuple[State, StepOutput]
"""Where a search starts; the outlook has a note of the shape that those to come will have."""


class Candidates(NamedTuple):
    """What a search found.

    Attributes:
        actions: [B, N, T] int32, -1 after the end.
        length: [B, N] int32, how many actions there are.
        log_prob: [B, N] float32, of all actions under the model, in nats; -inf where there was no candidate.
        score: [B, N] float32, what the candidates were ranked by, higher is better.
        value: [B, N] float32, of the last state.
        reward: [B, N] float32, the sum.
        done: [B, N] bool, otherwise the budget ended it.
        extras: a PyTree of arrays [B, N, T, ...], the outlooks' notes; zeros after the end.
        best: [B] int32, which candidate is the answer.
        num_model_calls: [B] int32, how often `advance` was called for the problem, up to the end of each path.
    """

    actions: Array
    length: Array
    log_prob: Array
    score: Array
    value: Array
    reward: Array
    done: Array
    extras: Any
    best: Array
    num_model_calls: Array


class Paths(NamedTuple):
    """Candidates in the making, as rows: the attributes are those of `Candidates`, with R for [B, N]."""

    actions: Array
    length: Array
    log_prob: Array
    value: Array
    reward: Array
    done: Array
    extras: Any


class SearchState(NamedTuple):
    """A search in the making.

    Attributes:
        state: leaves [R, ...]; of ended rows it means nothing.
        step_output: arrays [R, ...]; likewise.
        paths: how the rows came here.
        num_model_calls: [R] int32, how often `advance` was called for this place among the rows.
    """

    state: State
    step_output: StepOutput
    paths: Paths
    num_model_calls: Array


def init_search(root: RootOutput, num_copies: int, max_steps: int) -> SearchState:
    """As many walks from each problem's root, side by side, with room for so many steps."""
    rows = root[1].value.shape[0] * num_copies
    state, outlook = take_rows(root, jnp.repeat(jnp.arange(rows // num_copies), num_copies))
    paths = Paths(
        actions=jnp.full((rows, max_steps), NO_ACTION, jnp.int32),
        length=jnp.zeros(rows, jnp.int32),
        log_prob=jnp.zeros(rows, jnp.float32),
        value=outlook.value,
        reward=jnp.zeros(rows, jnp.float32),
        done=outlook.done,
        extras=jax.tree.map(lambda x: jnp.zeros((rows, max_steps, *x.shape[1:]), x.dtype), outlook.extra),
    )
    return SearchState(state, outlook, paths, jnp.zeros(rows, jnp.int32))


def take_actions(
    step_fn: StepFn, time: Array, search_state: SearchState, action: Array, stop_actions: tuple[int, ...] = ()
) -> SearchState:
    """Every row that goes on takes its action [R]; one of the actions in `stop_actions` ends its path."""
    paths = search_state.paths
    moving = is_active(paths)
    state, outlook = step_fn(search_state.state, action)
    check_step_output("the output of step_fn", outlook, search_state.step_output.logits.shape)
    if jax.tree.structure(outlook.extra) != jax.tree.structure(paths.extras):
        raise ValueError("the output of step_fn: its extra is not built as the root's is; give the root one like it")
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(search_state.step_output.logits), action[:, None], axis=1)[:, 0]

    def write(buffer: Array, new: Array) -> Array:
        return buffer.at[:, time].set(select_rows(moving, new, buffer[:, time]))

    paths = Paths(
        actions=write(paths.actions, action),
        length=paths.length + moving,
        log_prob=jnp.where(moving, paths.log_prob + log_prob, paths.log_prob),
        value=jnp.where(moving, outlook.value, paths.value),
        reward=jnp.where(moving, paths.reward + outlook.reward, paths.reward),
        done=jnp.where(moving, outlook.done | jnp.isin(action, jnp.array(stop_actions, jnp.int32)), paths.done),
        extras=jax.tree.map(write, paths.extras, outlook.extra),
    )
    return SearchState(state, outlook, paths, search_state.num_model_calls + (moving & jnp.isfinite(paths.log_prob)))


def is_active(paths: Paths) -> Array:
    """[R] bool, the paths that have not ended and are possible."""
    return ~paths.done & jnp.isfinite(paths.log_prob)


def run_search(
    step: Callable[[Array, SearchState], SearchState], search_state: SearchState, max_steps: int
) -> SearchState:
    """Calls `step(time, search_state)` until all paths have ended or the steps are used up."""

    def going(carry: tuple[Array, SearchState]) -> Array:
        return (carry[0] < max_steps) & jnp.any(is_active(carry[1].paths))

    def following(carry: tuple[Array, SearchState]) -> tuple[Array, SearchState]:
        return carry[0] + 1, step(*carry)

    return jax.lax.while_loop(going, following, (jnp.zeros((), jnp.int32), search_state))[1]


def to_candidates(search_state: SearchState, num_problems: int) -> Candidates:
    """The walk's paths by problem, not yet ranked: the score is the log-probability and the first is the best."""

    def by_problem(leaf: Array) -> Array:
        return leaf.reshape(num_problems, -1, *leaf.shape[1:])

    paths = jax.tree.map(by_problem, search_state.paths)
    return Candidates(
        **paths._asdict(),
        score=paths.log_prob,
        best=jnp.zeros(num_problems, jnp.int32),
        num_model_calls=jnp.sum(by_problem(search_state.num_model_calls), axis=1),
    )


def check_budgets(search: str, **budgets: int) -> None:
    """Raises ValueError unless each is at least 1."""
    for name, budget in budgets.items():
        if budget < 1:
            raise ValueError(f"{search}: {name} {budget}: with less than 1 there is nothing to search; give at least 1")


def check_root(search: str, root: RootOutput, **budgets: int) -> tuple[int, int]:
    """(B, A) of a root; raises ValueError unless its shapes agree and every budget is at least 1."""
    check_budgets(search, **budgets)
    state, outlook = root
    shape = outlook.logits.shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{search}: the root's logits are of shape {shape}; give [problems, actions], at least 1 each")
    check_step_output(f"{search}: the root", outlook, shape)
    for leaf in jax.tree.leaves((state, outlook.extra)):
        if jnp.shape(leaf)[:1] != shape[:1]:
            raise ValueError(
                f"{search}: the root's step output has {shape[0]} problems, but its state or extra has a leaf of shape "
                f"{jnp.shape(leaf)}; give every leaf the problems as its leading axis"
            )
    return shape


def check_step_output(source: str, step_output: StepOutput, shape: tuple[int, int]) -> None:
    """Raises ValueError unless the outlook is one of [R, A] rows and actions."""
    wanted = {"logits": shape, "value": shape[:1], "reward": shape[:1], "done": shape[:1]}
    for name, needed in wanted.items():
        given = getattr(step_output, name).shape
        if given != needed:
            raise ValueError(f"{source}: {name} has shape {given}, but these rows and actions need {needed}")
    if step_output.done.dtype != bool:
        raise ValueError(f"{source}: done is {step_output.done.dtype}; give bool")


def check_temperature(search: str, temperature: float | Array) -> None:
    """Raises ValueError if it is a number by which logits cannot be divided."""
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(f"{search}: temperature {temperature}: sampling needs more than 0; greedy takes the likeliest")
