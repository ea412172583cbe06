"""Hindsight relabelling: the training examples of each layer from observed trajectories.

Any state that a trajectory reached may be its goal (hindsight experience replay, Andrychowicz et al. 2017). For a state
t and a later goal j, layer l learns: from t, pursuing j, the next value is the next pivot of level l, or j if that is
nearer, so a sub-goal never lengthens a trajectory. The score decreases with the distance of j.

A top layer may pursue a value in place of a state: the return from t on (upside-down reinforcement learning,
Schmidhuber 2019). It learns: from t, pursuing that return, the next value is the next pivot.

Axes: W trajectories, T states of a trajectory, R examples (pairs t < j), L layers, C items of a context.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.guide.abstraction import Abstraction, last_pivot, next_pivot, owner_mask, pivot_levels, training_mask
from thinking.guide.hippocampus import is_same
from thinking.kernels.contract import Context, Transition
from thinking.types import Array


class Trajectories(NamedTuple):
    """Observed trajectories, each from the time its goal was set.

    Attributes:
        states: [W, T, ...] int32 or float32.
        length: [W] int32, number of valid states, 0 to T.
        actions: [W, T, ...] the action after each state, or None where an action names the next state.
        weight: [W, T] float32 >= 0, sample weight of each state, or None for 1.
        rewards: [W, T] float32 in [0, 1], of the step after each state, or None without rewards.
        values: [W, T] float32 in [0, 1], the return from each state on, which the top layer then pursues; or None where
            it pursues states.
    """

    states: Array
    length: Array
    actions: Array | None = None
    weight: Array | None = None
    rewards: Array | None = None
    values: Array | None = None

    @property
    def valid(self) -> Array:
        """[W, T] bool, which states are valid."""
        return jnp.arange(self.states.shape[1])[None] < self.length[:, None]


class Pairs(NamedTuple):
    """Pairs of states and goals.

    Attributes:
        t: [R] int, index of the state on the trajectory.
        j: [R] int, index of the goal; the trajectory's end for value targets.
        is_value_target: whether the target is the value of t rather than the state j.
    """

    t: Array
    j: Array
    is_value_target: bool = False


def make_goal_pairs(num_states: int, horizon: int | None) -> tuple[np.ndarray, np.ndarray]:
    """All pairs t < j <= t + horizon of a trajectory of so many states: two [R] arrays."""
    t, j = np.triu_indices(num_states, 1)
    in_horizon = j - t <= (num_states if horizon is None else horizon)
    return t[in_horizon], j[in_horizon]


def select_pairs(trajectory: Trajectories, layer: int, num_layers: int, horizon: int | None) -> Pairs:
    """The pairs of one trajectory (without the axis W) that train one layer."""
    states = trajectory.states.shape[0]
    if trajectory.values is not None and layer == num_layers - 1:
        t = jnp.arange(states - 1)
        return Pairs(t, jnp.broadcast_to(trajectory.length - 1, t.shape), is_value_target=True)
    return Pairs(*make_goal_pairs(states, horizon))


def make_examples(
    trajectory: Trajectories, context_items: Array, levels: Array, layer: int, context_length: int, pairs: Pairs
) -> Transition:
    """The training examples of one trajectory (without the axis W) for one layer, not yet scored.

    Args:
        trajectory: states [T, ...], length [], actions [T, ...] or None.
        context_items: [T, ...] the states as layer inputs, tagged or not.
        levels: [L, T] bool, the pivots of each level.
        layer: index of the layer, 0 is the lowest.
        context_length: C.
        pairs: of `select_pairs`.

    Returns:
        R rows of score 1; mask 0 where a pair is not on the trajectory, not for this layer, or trivial (equal states).
    """
    states, (t, j, is_value_target) = trajectory.states, pairs
    pivots = levels[layer]
    owner = jnp.argmax(owner_mask(pivots), axis=0)  # the pivot that represents each state
    sub_goal = jnp.minimum(next_pivot(pivots)[owner][t], j)
    is_used = (t < j) & (j < trajectory.length)
    if not is_value_target:
        is_used &= ~is_same(states[t], states[j])
    if layer + 1 < levels.shape[0]:
        above = levels[layer + 1]
        is_used &= training_mask(above)[j, t] | (j <= next_pivot(above)[t])
    if layer == 0 and trajectory.actions is not None:
        value = trajectory.actions[t]
    else:
        value = states[sub_goal]
        is_used &= ~is_same(states[t], value)
    context, target = make_queries(trajectory, context_items, levels, layer, context_length, pairs)
    weight = jnp.float32(1) if trajectory.weight is None else trajectory.weight[t]
    return Transition(context, target, value, jnp.ones(t.shape, jnp.float32), jnp.where(is_used, weight, 0.0))


def count_examples(abstraction: Abstraction, num_layers: int, num_states: int) -> int:
    """The number of training examples that all layers together get from one trajectory of distinct states.

    Args:
        abstraction: how pivots are chosen, without a state.
        num_layers: L; the top layer pursues values.
        num_states: T.
    """
    return int(_count_used(abstraction, num_layers, num_states))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _count_used(abstraction: Abstraction, num_layers: int, num_states: int) -> Array:
    index, valid = jnp.arange(num_states), jnp.ones(num_states, bool)
    trajectory = Trajectories(index, jnp.int32(num_states), actions=index, values=jnp.zeros(num_states))
    levels = pivot_levels(abstraction, (), index, valid, num_layers - 1)
    masks = [
        make_examples(trajectory, index, levels, layer, 1, select_pairs(trajectory, layer, num_layers, None)).mask
        for layer in range(num_layers)
    ]
    return sum(jnp.sum(mask > 0) for mask in masks)


def make_queries(
    trajectory: Trajectories, context_items: Array, levels: Array, layer: int, context_length: int, pairs: Pairs
) -> tuple[Context, Array]:
    """The contexts and targets of R pairs; arguments as of `make_examples`.

    The context of a pair (t, j) has at most 1 + (t + j) mod C items, so that all lengths are trained.
    """
    t, j, is_value_target = pairs
    target = trajectory.values[t][:, None] if is_value_target else trajectory.states[j]
    return _make_contexts(context_items, levels[layer], t, 1 + (t + j) % context_length, context_length), target


def _make_contexts(items: Array, pivots: Array, t: Array, max_lengths: Array, context_length: int) -> Context:
    """The context at t: on a pivot the pivots before it, as in `think`; otherwise the states, as in `react`.

    Contexts are cut to `max_lengths` [R]. Short ones are needed: planning begins with the current state alone.
    """
    before = last_pivot(pivots)
    on_pivot = pivots[t]
    indices = [jnp.asarray(t)]
    for back in range(1, context_length):
        current = indices[-1]
        earlier = jnp.where(on_pivot, before[current], current - 1)
        indices.append(jnp.where((current < 0) | (back >= max_lengths), -1, earlier))
    index = jnp.stack(indices[::-1], axis=1)
    return Context(items[jnp.maximum(index, 0)], jnp.sum(index >= 0, axis=1))


def flatten_examples(batch: Transition) -> Transition:
    """Examples [W, R, ...] of many trajectories as one batch [W * R, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
