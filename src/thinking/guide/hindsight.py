"""Hindsight: what each layer learns from a path that was lived.

Whatever a path reached may be taken for its goal (hindsight experience replay, Andrychowicz et al. 2017). For a state
t and a goal j later on the path, layer l learns: from t, pursuing j, the next thing is the next pivot of level l (or j
itself, where j is nearer: so a sub-goal never lengthens a path), and that was as good as j was near.

A top layer may pursue a value in place of a state: how good a life was from t on (upside-down reinforcement learning,
Schmidhuber 2019). It learns: from t, to bring about what was lived from there, the next thing is the next pivot.

Axes: T states of a path, R lessons (pairs t < j), L layers, C items of a context.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.guide.abstraction import forward_mask, last_pivot, next_pivot, reverse_mask
from thinking.guide.hippocampus import is_same
from thinking.kernels.contract import Context, Transition
from thinking.types import Array


class Path(NamedTuple):
    """Paths that were lived, each begun when its goal was set.

    Attributes:
        states: [W, T, ...] int32 or float32.
        length: [W] int32, how many of the states are real, 0 to T.
        actions: [W, T, ...] the action after each state, or None where an action names the next state.
        weight: [W, T] float32 >= 0, how much what happened at each state counts, or None where all counts alike.
        rewards: [W, T] float32 in [0, 1], what the step after each state gained, or None where nothing is gained.
        values: [W, T] float32 in [0, 1], how good life was from each state on, which the top layer then pursues; or
            None where it pursues states.
    """

    states: Array
    length: Array
    actions: Array | None = None
    weight: Array | None = None
    rewards: Array | None = None
    values: Array | None = None

    @property
    def valid(self) -> Array:
        """[W, T] bool, which states are real."""
        return jnp.arange(self.states.shape[1])[None] < self.length[:, None]


class Pairs(NamedTuple):
    """Which states learn toward which goals.

    Attributes:
        t: [R] int, where on the path a state stands.
        j: [R] int, where its goal stands; the path's end, for lessons of values.
        is_value_target: whether the goal is the value of t, and not the state j.
    """

    t: Array
    j: Array
    is_value_target: bool = False


def make_goal_pairs(num_states: int, horizon: int | None) -> tuple[np.ndarray, np.ndarray]:
    """All pairs t < j <= t + horizon of a path of so many states: two [R] arrays."""
    t, j = np.triu_indices(num_states, 1)
    near = j - t <= (num_states if horizon is None else horizon)
    return t[near], j[near]


def select_pairs(path: Path, layer: int, num_layers: int, horizon: int | None) -> Pairs:
    """The pairs that one path (without the axis W) teaches one layer."""
    states = path.states.shape[0]
    if path.values is not None and layer == num_layers - 1:
        t = jnp.arange(states - 1)
        return Pairs(t, jnp.broadcast_to(path.length - 1, t.shape), is_value_target=True)
    return Pairs(*make_goal_pairs(states, horizon))


def make_examples(
    path: Path, context_items: Array, levels: Array, layer: int, context_length: int, pairs: Pairs
) -> Transition:
    """The lessons of one path (without the axis W) for one layer, not yet scored.

    Args:
        path: states [T, ...], length [], actions [T, ...] or None.
        context_items: [T, ...] the states as the layers read them, tagged or not.
        levels: [L, T] bool, the pivots of each level.
        layer: which layer, 0 is the lowest.
        context_length: C.
        pairs: of `select_pairs`.

    Returns:
        A transition of R rows of score 1; mask 0 where a pair is not on the path, not for this layer, or says nothing
        (a goal or a sub-goal that is the very state).
    """
    states, (t, j, of_values) = path.states, pairs
    pivots = levels[layer]
    owner = jnp.argmax(reverse_mask(pivots), axis=0)  # the pivot that stands for each state
    following = jnp.minimum(next_pivot(pivots)[owner][t], j)
    taught = (t < j) & (j < path.length)
    if not of_values:
        taught &= ~is_same(states[t], states[j])
    if layer + 1 < levels.shape[0]:
        above = levels[layer + 1]
        taught &= forward_mask(above)[j, t] | (j <= next_pivot(above)[t])
    if layer == 0 and path.actions is not None:
        value = path.actions[t]
    else:
        value = states[following]
        taught &= ~is_same(states[t], value)
    context, target = make_queries(path, context_items, levels, layer, context_length, pairs)
    weight = jnp.float32(1) if path.weight is None else path.weight[t]
    return Transition(context, target, value, jnp.ones(t.shape, jnp.float32), jnp.where(taught, weight, 0.0))


def make_queries(
    path: Path, context_items: Array, levels: Array, layer: int, context_length: int, pairs: Pairs
) -> tuple[Context, Array]:
    """What a layer is asked at each t, pursuing each j: contexts and targets of R rows; arguments as of `lessons`."""
    t, j, of_values = pairs
    target = path.values[t][:, None] if of_values else path.states[j]
    return _make_contexts(context_items, levels[layer], t, 1 + (t + j) % context_length, context_length), target


def _make_contexts(items: Array, pivots: Array, t: Array, max_lengths: Array, context_length: int) -> Context:
    """What the layer recalls at t: on a pivot the pivots before, as in thinking; else the states, as in reacting.

    No context is longer than `max_lengths` [R]. A leg of a plan begins with the present alone, so all lengths are taught.
    """
    before = last_pivot(pivots)
    on_pivot = pivots[t]
    places = [jnp.asarray(t)]
    for back in range(1, context_length):
        here = places[-1]
        earlier = jnp.where(on_pivot, before[here], here - 1)
        places.append(jnp.where((here < 0) | (back >= max_lengths), -1, earlier))
    index = jnp.stack(places[::-1], axis=1)
    return Context(items[jnp.maximum(index, 0)], jnp.sum(index >= 0, axis=1))


def flatten_examples(batch: Transition) -> Transition:
    """Lessons [W, R, ...] of many paths as one batch [W * R, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
