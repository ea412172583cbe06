"""Abstraction: which states of a trajectory are pivots, the sub-goals of the layer above.

Axes: W trajectories, T states of a trajectory.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from thinking.train_state import RunnerState, apply_gradients, init_train_state
from thinking.types import Array, Discrete, Space, State, value_width


class Abstraction(NamedTuple):
    """A way to choose pivots.

    Attributes:
        init: `init(key) -> state`; consumes the key.
        observe: `observe(state, items [W, T, ...], valid [W, T]) -> state` learns from trajectories.
        pivots: `pivots(state, items [T, ...], valid [T]) -> [T] bool`, the pivots of one sequence. The guide adds its
            start and end.
    """

    init: Callable[[Array], State]
    observe: Callable[[State, Array, Array], State]
    pivots: Callable[[State, Array, Array], Array]


def skip_step(step_size: int) -> Abstraction:
    """Every `step_size`-th state is a pivot.

    Raises:
        ValueError: if `step_size` is below 1.
    """
    if step_size < 1:
        raise ValueError(f"skip_step({step_size}): give at least 1")

    def pivots(state: State, items: Array, valid: Array) -> Array:
        return valid & (jnp.arange(items.shape[0]) % step_size == 0)

    return Abstraction(lambda key: (), lambda state, items, valid: state, pivots)


def visit_counts(space: Space) -> Abstraction:
    """Pivots are the local maxima of visit counts, a proxy for the entropy of the next state.

    A state visited more often than its neighbours on the trajectory is a crossroads, where the next state is least
    certain. The abstraction's state is the count of each state, [N] int32.

    Raises:
        ValueError: if the space is not discrete.
    """
    if not isinstance(space, Discrete):
        raise ValueError(f"visit_counts({space}): vectors cannot be counted; use visit_density")

    def observe(counts: Array, items: Array, valid: Array) -> Array:
        return counts.at[items].add(valid.astype(counts.dtype))

    def pivots(counts: Array, items: Array, valid: Array) -> Array:
        return local_maxima(counts[items].astype(jnp.float32), valid)

    return Abstraction(lambda key: jnp.zeros(space.size, jnp.int32), observe, pivots)


def visit_density(space: Space, optimizer: optax.GradientTransformation, width: int = 64) -> Abstraction:
    """Pivots are the local maxima of a learned visit density: `visit_counts` for states of any kind.

    A network with one hidden layer of `width` is trained to tell visited states from uniform samples (over the indices,
    or over the bounding box of the batch). Its output tends to the log-density up to a constant: noise contrastive
    estimation (Gutmann & Hyvarinen 2010). The state is a `RunnerState`, whose key is for the samples.
    """

    def build(key: Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        widths = value_width(space), width, 1
        return nnx.Sequential(nnx.Linear(*widths[:2], rngs=rngs), jax.nn.relu, nnx.Linear(*widths[1:], rngs=rngs))

    structure, _ = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def density_logits(params: State, items: Array) -> Array:
        features = jax.nn.one_hot(items, space.size) if isinstance(space, Discrete) else items
        return nnx.merge(structure, params)(features)[..., 0]

    def sample_uniform(key: Array, items: Array, valid: Array) -> Array:
        if isinstance(space, Discrete):
            return jax.random.randint(key, items.shape, 0, space.size)
        is_valid = valid[..., None]
        low = jnp.min(items, axis=(0, 1), keepdims=True, where=is_valid, initial=jnp.inf)
        high = jnp.max(items, axis=(0, 1), keepdims=True, where=is_valid, initial=-jnp.inf)
        return low + (high - low) * jax.random.uniform(key, items.shape)

    def init(key: Array) -> RunnerState:
        build_key, key = jax.random.split(key)
        return RunnerState(init_train_state(nnx.state(build(build_key)), optimizer), key)

    def observe(state: RunnerState, items: Array, valid: Array) -> RunnerState:
        key, contrast_key = jax.random.split(state.key)
        # Padding may hold anything.
        items = jnp.where(valid.reshape(valid.shape + (1,) * len(space.shape)), items, 0)
        samples = sample_uniform(contrast_key, items, valid)

        def loss(params: State) -> Array:
            visited_logits, sample_logits = density_logits(params, items), density_logits(params, samples)
            losses = jax.nn.softplus(-visited_logits) + jax.nn.softplus(sample_logits)
            return jnp.sum(jnp.where(valid, losses, 0)) / jnp.maximum(jnp.sum(valid), 1)

        gradients = jax.grad(loss)(state.train_state.params)
        return RunnerState(apply_gradients(state.train_state, optimizer, gradients), key)

    def pivots(state: RunnerState, items: Array, valid: Array) -> Array:
        return local_maxima(density_logits(state.train_state.params, items), valid)

    return Abstraction(init, observe, pivots)


def local_maxima(x: Array, valid: Array) -> Array:
    """[T] bool, where x [T] is above its predecessor and falls afterwards; of a plateau the first state alone.

    Invalid states, and those beyond the ends, count as lower than all others.
    """
    x = jnp.where(valid, x, -jnp.inf)
    edge = jnp.full(1, -jnp.inf)
    rises = x > jnp.concatenate([edge, x[:-1]])

    def look_ahead(falls_after: Array, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        here, after = pair
        falls = (after < here) | ((after == here) & falls_after)
        return falls, falls

    _, falls = jax.lax.scan(look_ahead, jnp.array(False), (x, jnp.concatenate([x[1:], edge])), reverse=True)
    return valid & rises & falls


def pivot_levels(abstraction: Abstraction, state: State, items: Array, valid: Array, num_levels: int) -> Array:
    """Pivots of one trajectory on every level; those of a level are chosen among those of the level below.

    Args:
        abstraction: how to choose.
        state: of the abstraction.
        items: [T, ...] the trajectory's states.
        valid: [T] bool, a prefix.
        num_levels: levels above the states themselves.

    Returns:
        [num_levels + 1, T] bool; row 0 is `valid`. Start and end are pivots on all levels.
    """
    length = items.shape[0]
    index = jnp.arange(length)
    end = jnp.sum(valid) - 1
    masks = [valid]
    for _ in range(num_levels):
        below = masks[-1]
        (order,) = jnp.nonzero(below, size=length, fill_value=0)
        chosen = abstraction.pivots(state, items[order], index < jnp.sum(below))
        chosen = jnp.zeros(length, bool).at[order].max(chosen & (index < jnp.sum(below)))
        masks.append(below & (chosen | (index == 0) | (index == end)))
    return jnp.stack(masks)


def next_pivot(pivots: Array) -> Array:
    """[T] int32, index of the first pivot after each state; T if there is none."""
    length = pivots.shape[0]
    ahead = jnp.where(pivots, jnp.arange(length), length)
    first = jax.lax.cummin(ahead, reverse=True)
    return jnp.concatenate([first[1:], jnp.full(1, length)]).astype(jnp.int32)


def last_pivot(pivots: Array) -> Array:
    """[T] int32, index of the last pivot before each state; -1 if there is none."""
    behind = jnp.where(pivots, jnp.arange(pivots.shape[0]), -1)
    return jnp.concatenate([jnp.full(1, -1), jax.lax.cummax(behind)[:-1]]).astype(jnp.int32)


def training_mask(pivots: Array) -> Array:
    """[P, T] bool, which states t learn to reach pivot p: those for which p is one of the next two pivots.

    P runs over all T states; rows of other states are empty.
    """
    length = pivots.shape[0]
    following = next_pivot(pivots)
    second_next = jnp.concatenate([following, jnp.full(1, length)])[
        following
    ]  # the second pivot ahead, or beyond the trajectory
    p, t = jnp.arange(length)[:, None], jnp.arange(length)[None]
    return pivots[:, None] & (t < p) & (p <= second_next[None])


def owner_mask(pivots: Array) -> Array:
    """[P, T] bool, which states t each pivot p represents: itself and those up to the next pivot."""
    length = pivots.shape[0]
    p, t = jnp.arange(length)[:, None], jnp.arange(length)[None]
    return pivots[:, None] & (t >= p) & (t < next_pivot(pivots)[:, None])
