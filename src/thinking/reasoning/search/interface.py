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

from thinking.trees import take, where_rows
from thinking.types import Array, State

NO_ACTION = -1


class Outlook(NamedTuple):
    """What a model says of a state.

    Attributes:
        logits: [R, A] float32, unnormalised log-probabilities of the next action; -inf forbids one. Of a state that has
            not ended at least one is finite.
        value: [R] float32, what the state is worth.
        reward: [R] float32, of the step that led here.
        ended: [R] bool, nothing follows.
        note: a PyTree of arrays [R, ...], kept for every step of a candidate; nothing if there is nothing to keep.
    """

    logits: Array
    value: Array
    reward: Array
    ended: Array
    note: Any = ()


Advance = Callable[[State, Array], tuple[State, Outlook]]
"""`advance(state, action [R] int32) -> (state, outlook)`, for any number of rows."""

Root = tuple[State, Outlook]
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
        ended: [B, N] bool, otherwise the budget ended it.
        notes: a PyTree of arrays [B, N, T, ...], the outlooks' notes; zeros after the end.
        best: [B] int32, which candidate is the answer.
        spent: [B] int32, how often `advance` was called for the problem, up to the end of each path.
    """

    actions: Array
    length: Array
    log_prob: Array
    score: Array
    value: Array
    reward: Array
    ended: Array
    notes: Any
    best: Array
    spent: Array


class Paths(NamedTuple):
    """Candidates in the making, as rows: the attributes are those of `Candidates`, with R for [B, N]."""

    actions: Array
    length: Array
    log_prob: Array
    value: Array
    reward: Array
    ended: Array
    notes: Any


class Walk(NamedTuple):
    """A search in the making.

    Attributes:
        state: leaves [R, ...]; of ended rows it means nothing.
        outlook: arrays [R, ...]; likewise.
        paths: how the rows came here.
        spent: [R] int32, how often `advance` was called for this place among the rows.
    """

    state: State
    outlook: Outlook
    paths: Paths
    spent: Array


def begin(root: Root, copies: int, max_steps: int) -> Walk:
    """As many walks from each problem's root, side by side, with room for so many steps."""
    rows = root[1].value.shape[0] * copies
    state, outlook = take(root, jnp.repeat(jnp.arange(rows // copies), copies))
    paths = Paths(
        actions=jnp.full((rows, max_steps), NO_ACTION, jnp.int32),
        length=jnp.zeros(rows, jnp.int32),
        log_prob=jnp.zeros(rows, jnp.float32),
        value=outlook.value,
        reward=jnp.zeros(rows, jnp.float32),
        ended=outlook.ended,
        notes=jax.tree.map(lambda x: jnp.zeros((rows, max_steps, *x.shape[1:]), x.dtype), outlook.note),
    )
    return Walk(state, outlook, paths, jnp.zeros(rows, jnp.int32))


def move(advance: Advance, time: Array, walk: Walk, action: Array, stop: tuple[int, ...] = ()) -> Walk:
    """Every row that goes on takes its action [R]; one of the actions in `stop` ends its path."""
    paths = walk.paths
    moving = going_on(paths)
    state, outlook = advance(walk.state, action)
    check_outlook("advance's answer", outlook, walk.outlook.logits.shape)
    if jax.tree.structure(outlook.note) != jax.tree.structure(paths.notes):
        raise ValueError("advance's answer: its note is not built as the root's is; give the root one like it")
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(walk.outlook.logits), action[:, None], axis=1)[:, 0]

    def write(buffer: Array, new: Array) -> Array:
        return buffer.at[:, time].set(where_rows(moving, new, buffer[:, time]))

    paths = Paths(
        actions=write(paths.actions, action),
        length=paths.length + moving,
        log_prob=jnp.where(moving, paths.log_prob + log_prob, paths.log_prob),
        value=jnp.where(moving, outlook.value, paths.value),
        reward=jnp.where(moving, paths.reward + outlook.reward, paths.reward),
        ended=jnp.where(moving, outlook.ended | jnp.isin(action, jnp.array(stop, jnp.int32)), paths.ended),
        notes=jax.tree.map(write, paths.notes, outlook.note),
    )
    return Walk(state, outlook, paths, walk.spent + (moving & jnp.isfinite(paths.log_prob)))


def going_on(paths: Paths) -> Array:
    """[R] bool, the paths that have not ended and are possible."""
    return ~paths.ended & jnp.isfinite(paths.log_prob)


def unroll(step: Callable[[Array, Walk], Walk], walk: Walk, max_steps: int) -> Walk:
    """Calls `step(time, walk)` until all paths have ended or the steps are used up."""

    def going(carry: tuple[Array, Walk]) -> Array:
        return (carry[0] < max_steps) & jnp.any(going_on(carry[1].paths))

    def following(carry: tuple[Array, Walk]) -> tuple[Array, Walk]:
        return carry[0] + 1, step(*carry)

    return jax.lax.while_loop(going, following, (jnp.zeros((), jnp.int32), walk))[1]


def candidates_of(walk: Walk, problems: int) -> Candidates:
    """The walk's paths by problem, not yet ranked: the score is the log-probability and the first is the best."""

    def by_problem(leaf: Array) -> Array:
        return leaf.reshape(problems, -1, *leaf.shape[1:])

    paths = jax.tree.map(by_problem, walk.paths)
    return Candidates(
        **paths._asdict(),
        score=paths.log_prob,
        best=jnp.zeros(problems, jnp.int32),
        spent=jnp.sum(by_problem(walk.spent), axis=1),
    )


def check_budgets(search: str, **budgets: int) -> None:
    """Raises ValueError unless each is at least 1."""
    for name, budget in budgets.items():
        if budget < 1:
            raise ValueError(f"{search}: {name} {budget}: with less than 1 there is nothing to search; give at least 1")


def check_root(search: str, root: Root, **budgets: int) -> tuple[int, int]:
    """(B, A) of a root; raises ValueError unless its shapes agree and every budget is at least 1."""
    check_budgets(search, **budgets)
    state, outlook = root
    shape = outlook.logits.shape
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{search}: the root's logits are of shape {shape}; give [problems, actions], at least 1 each")
    check_outlook(f"{search}: the root", outlook, shape)
    for leaf in jax.tree.leaves((state, outlook.note)):
        if jnp.shape(leaf)[:1] != shape[:1]:
            raise ValueError(
                f"{search}: the root's outlook has {shape[0]} problems, but its state or note has a leaf of shape "
                f"{jnp.shape(leaf)}; give every leaf the problems as its leading axis"
            )
    return shape


def check_outlook(whose: str, outlook: Outlook, shape: tuple[int, int]) -> None:
    """Raises ValueError unless the outlook is one of [R, A] rows and actions."""
    wanted = {"logits": shape, "value": shape[:1], "reward": shape[:1], "ended": shape[:1]}
    for name, needed in wanted.items():
        given = getattr(outlook, name).shape
        if given != needed:
            raise ValueError(f"{whose}: {name} has shape {given}, but these rows and actions need {needed}")
    if outlook.ended.dtype != bool:
        raise ValueError(f"{whose}: ended is {outlook.ended.dtype}, but says yes or no; give bool")


def check_temperature(search: str, temperature: float | Array) -> None:
    """Raises ValueError if it is a number by which logits cannot be divided."""
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(f"{search}: temperature {temperature}: sampling needs more than 0; greedy takes the likeliest")
