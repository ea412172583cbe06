"""The interface between searches and models.

A model is a pure function `step_fn(state, action) -> (state, step_output)` over a batch of rows. A state is any PyTree
whose leaves have the rows as leading axis: a KV cache, a token buffer, an environment. A search starts from the root
`(state, step_output)` of B problems, may step more rows than that at once, and returns `Candidates`. A finished row may
still be stepped; its output is ignored.

Axes: B problems, N candidates of each, R rows (candidates of a problem are adjacent), A actions, T steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.trees import select_rows, take_rows
from thinking.types import Array, State

NO_ACTION = -1


class StepOutput(NamedTuple):
    """Model output at a state.

    Attributes:
        logits: [R, A] float32 of the next action; -inf forbids one. At least one is finite unless `done`.
        value: [R] float32, state value.
        reward: [R] float32, of the step to this state.
        done: [R] bool.
        extra: a PyTree of arrays [R, ...], recorded at every step of a candidate; () for none.
    """

    logits: Array
    value: Array
    reward: Array
    done: Array
    extra: Any = ()


StepFn = Callable[[State, Array], tuple[State, StepOutput]]
"""`step_fn(state, action [R] int32) -> (state, step_output)`, for any number of rows."""

RootOutput = tuple[State, StepOutput]
"""State and output of the roots; `extra` has the structure and shapes of later steps."""


class Candidates(NamedTuple):
    """The result of a search.

    Attributes:
        actions: [B, N, T] int32, -1 past the end.
        length: [B, N] int32, number of actions.
        log_prob: [B, N] float32, of all actions under the model, in nats; -inf without a candidate.
        score: [B, N] float32, ranking score, higher is better.
        value: [B, N] float32, of the last state.
        reward: [B, N] float32, undiscounted return.
        done: [B, N] bool; False if the step budget ended the path.
        extras: a PyTree of arrays [B, N, T, ...], the steps' `extra`; zeros past the end.
        best: [B] int32, index of the best candidate.
        num_model_calls: [B] int32, calls of `step_fn` for unfinished paths of the problem.
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
    """Partial candidates: attributes of `Candidates`, with R for [B, N]."""

    actions: Array
    length: Array
    log_prob: Array
    value: Array
    reward: Array
    done: Array
    extras: Any


class SearchState(NamedTuple):
    """State of a running search.

    Attributes:
        state: model states, leaves [R, ...]; undefined for finished rows.
        step_output: arrays [R, ...]; undefined for finished rows.
        paths: the paths to these states.
        num_model_calls: [R] int32, calls of `step_fn` for each row.
    """

    state: State
    step_output: StepOutput
    paths: Paths
    num_model_calls: Array


def init_search(root: RootOutput, num_copies: int, max_steps: int) -> SearchState:
    """`num_copies` adjacent rows for each root, with buffers for `max_steps` steps."""
    rows = root[1].value.shape[0] * num_copies
    state, step_output = take_rows(root, jnp.repeat(jnp.arange(rows // num_copies), num_copies))
    paths = Paths(
        actions=jnp.full((rows, max_steps), NO_ACTION, jnp.int32),
        length=jnp.zeros(rows, jnp.int32),
        log_prob=jnp.zeros(rows, jnp.float32),
        value=step_output.value,
        reward=jnp.zeros(rows, jnp.float32),
        done=step_output.done,
        extras=jax.tree.map(lambda x: jnp.zeros((rows, max_steps, *x.shape[1:]), x.dtype), step_output.extra),
    )
    return SearchState(state, step_output, paths, jnp.zeros(rows, jnp.int32))


def take_actions(
    step_fn: StepFn, step_index: Array, search_state: SearchState, action: Array, stop_actions: tuple[int, ...] = ()
) -> SearchState:
    """Step every active row by its action [R]; an action in `stop_actions` finishes its path."""
    paths = search_state.paths
    active = is_active(paths)
    state, step_output = step_fn(search_state.state, action)
    check_step_output("the output of step_fn", step_output, search_state.step_output.logits.shape)
    if jax.tree.structure(step_output.extra) != jax.tree.structure(paths.extras):
        raise ValueError("the output of step_fn: its extra is not built as the root's is; give the root one like it")
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(search_state.step_output.logits), action[:, None], axis=1)[:, 0]

    def write(buffer: Array, new: Array) -> Array:
        return buffer.at[:, step_index].set(select_rows(active, new, buffer[:, step_index]))

    paths = Paths(
        actions=write(paths.actions, action),
        length=paths.length + active,
        log_prob=jnp.where(active, paths.log_prob + log_prob, paths.log_prob),
        value=jnp.where(active, step_output.value, paths.value),
        reward=jnp.where(active, paths.reward + step_output.reward, paths.reward),
        done=jnp.where(active, step_output.done | jnp.isin(action, jnp.array(stop_actions, jnp.int32)), paths.done),
        extras=jax.tree.map(write, paths.extras, step_output.extra),
    )
    return SearchState(
        state, step_output, paths, search_state.num_model_calls + (active & jnp.isfinite(paths.log_prob))
    )


def is_active(paths: Paths) -> Array:
    """[R] bool, paths that are not finished and have a finite log-probability."""
    return ~paths.done & jnp.isfinite(paths.log_prob)


def run_search(
    step: Callable[[Array, SearchState], SearchState], search_state: SearchState, max_steps: int
) -> SearchState:
    """Apply `step(step_index, search_state)` until no path is active, at most `max_steps` times."""

    def is_running(carry: tuple[Array, SearchState]) -> Array:
        return (carry[0] < max_steps) & jnp.any(is_active(carry[1].paths))

    def next_step(carry: tuple[Array, SearchState]) -> tuple[Array, SearchState]:
        return carry[0] + 1, step(*carry)

    return jax.lax.while_loop(is_running, next_step, (jnp.zeros((), jnp.int32), search_state))[1]


def to_candidates(search_state: SearchState, num_problems: int) -> Candidates:
    """The paths by problem, unranked: the score is the log-probability, and `best` is 0."""

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
    """Raise ValueError unless each budget is at least 1."""
    for name, budget in budgets.items():
        if budget < 1:
            raise ValueError(f"{search}: {name} {budget} is out of range; give at least 1")


def check_root(search: str, root: RootOutput, **budgets: int) -> tuple[int, int]:
    """(B, A) of a root; ValueError unless its shapes agree and every budget is at least 1."""
    check_budgets(search, **budgets)
    state, step_output = root
    shape = step_output.logits.shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{search}: the root's logits are of shape {shape}; give [problems, actions], at least 1 each")
    check_step_output(f"{search}: the root", step_output, shape)
    for leaf in jax.tree.leaves((state, step_output.extra)):
        if jnp.shape(leaf)[:1] != shape[:1]:
            raise ValueError(
                f"{search}: the root's step output has {shape[0]} problems, but its state or extra has a leaf of shape "
                f"{jnp.shape(leaf)}; give every leaf the problems as its leading axis"
            )
    return shape


def check_step_output(source: str, step_output: StepOutput, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the shapes are those of `shape` = (R, A)."""
    expected = {"logits": shape, "value": shape[:1], "reward": shape[:1], "done": shape[:1]}
    for name, expected_shape in expected.items():
        array_shape = getattr(step_output, name).shape
        if array_shape != expected_shape:
            raise ValueError(
                f"{source}: {name} has shape {array_shape}, but these rows and actions need {expected_shape}"
            )
    if step_output.done.dtype != bool:
        raise ValueError(f"{source}: done is {step_output.done.dtype}; give bool")


def check_temperature(search: str, temperature: float | Array) -> None:
    """Raise ValueError for a number that is not above 0."""
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(f"{search}: temperature {temperature}: sampling needs more than 0; use greedy")
