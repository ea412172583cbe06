"""The kernels under test, each compiled once, and random batches for them."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Context, Discrete, Kernel, Transition, score_access
from thinking.networks import mixers

ROWS = 6  # of every batch, so that each kernel compiles for one shape


@dataclass(frozen=True)
class Case:
    """A kernel under test, and whether it is exact."""

    name: str
    kernel: Kernel
    is_exact: bool

    @functools.cached_property
    def fit(self):
        return jit(self.kernel.fit)

    @functools.cached_property
    def infer(self):
        return jit(self.kernel.infer)

    @functools.cached_property
    def stacked_states(self):
        """Two initial states, stacked, and put on a device as restored states are, so that JAX compiles once."""
        states = jit(jax.vmap(self.kernel.init))(jax.random.split(jax.random.key(0)))
        return jax.device_put(states, jax.devices()[0])

    @functools.cached_property
    def initial_state(self):
        return select_layer(self.stacked_states, 0)

    @functools.cached_property
    def fitted_state(self):
        """The state after two batches."""
        state = self.initial_state
        for seed in (100, 101):
            state, _ = self.fit(state, random_batch(self.kernel, seed))
        return state


def table_case(name, **options):
    return Case(name, kernels.table(input=Discrete(3), target=Discrete(2), **options), True)


def linear_case(name, **options):
    return Case(name, kernels.linear(optimizer=optax.adam(0.05, eps=1e-3), num_cells=16, num_slots=8, **options), False)


def transformer_case(name, **options):
    sizes = {"width": 8, "num_heads": 2, "num_slots": 8}
    return Case(name, kernels.transformer(optimizer=optax.adam(0.02, eps=1e-3), **sizes, **options), False)


def recurrent_case(name, **options):
    sizes = {"width": 8, "num_heads": 2, "num_slots": 8}
    return Case(name, kernels.recurrent(optimizer=optax.adam(0.02, eps=1e-3), **sizes, **options), False)


INDICES = {"input": Discrete(3), "value": Discrete(4), "target": Discrete(2)}
VECTORS = {"input": Box(2), "value": Box(3), "target": Box(1)}
MIXED = {"input": Discrete(3), "value": Box(2), "target": Box(3)}
EXACT = [
    table_case("table, indices", value=Discrete(4)),
    table_case("table, vectors, context 3", value=Box(3), context_length=3),
    table_case("hashed table, indices, context 3", value=Discrete(4), context_length=3, capacity=40),
    table_case("hashed table, vectors", value=Box(3), capacity=5),
]
GRADIENT = [
    linear_case("linear, indices, value access", **INDICES),
    linear_case("linear, vectors, value access, context 3", **VECTORS, context_length=3),
    linear_case("linear, mixed, score access, context 3", **MIXED, context_length=3, learning=score_access()),
    transformer_case("transformer, indices, score access", **INDICES, learning=score_access()),
    transformer_case("transformer, vectors, value access, context 3", **VECTORS, context_length=3),
    recurrent_case("recurrent, mixed, value access, context 3", **MIXED, context_length=3, mixer=mixers.memory(2)),
]
ALL = [*EXACT, *GRADIENT]


def make_context(items, lengths):
    return Context(jnp.asarray(items), jnp.asarray(lengths, jnp.int32))


def make_transition(items, lengths, target, value, score, mask=None):
    """A batch of array-likes."""
    mask = np.ones(len(score)) if mask is None else mask
    score, mask = jnp.asarray(score, jnp.float32), jnp.asarray(mask, jnp.float32)
    return Transition(make_context(items, lengths), jnp.asarray(target), jnp.asarray(value), score, mask)


def draw_values(rng, space, *shape):
    """Random values of a space."""
    if isinstance(space, Discrete):
        return rng.integers(0, space.size, shape, dtype=np.int32)
    return rng.normal(size=(*shape, space.dims)).astype(np.float32)


def invalid_values(space, *shape):
    """Values that no kernel may read: indices outside the space, or vectors of NaN."""
    if isinstance(space, Discrete):
        return np.resize(np.asarray([10_000, -7, space.size], np.int32), shape)
    return np.full((*shape, space.dims), np.nan, np.float32)


def random_batch(kernel, seed):
    rng = np.random.default_rng(seed)
    spaces, length = kernel.spaces, kernel.context_length
    return make_transition(
        draw_values(rng, spaces.input, ROWS, length),
        rng.integers(1, length + 1, ROWS),
        draw_values(rng, spaces.target, ROWS),
        draw_values(rng, spaces.value, ROWS),
        rng.integers(0, 9, ROWS) / 8,
    )


def random_state(kernel):
    """Random parameters, without `init`, which takes longer to compile; the optimizer state must be empty."""
    rng = np.random.default_rng(0)
    state = jax.eval_shape(kernel.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), state.train_state.params)
    return state._replace(train_state=state.train_state._replace(params=params), key=jax.random.key(0))


def select_rows(tree, index):
    """The rows of a batch at an index array."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(index)], tree)


@functools.partial(jit, static_argnums=1)
def select_layer(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def to_numpy_leaves(tree):
    """The leaves as NumPy arrays; keys as their data."""

    def to_numpy(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [to_numpy(leaf) for leaf in jax.tree.leaves(tree)]


def assert_identical(left, right):
    """Same structure and types, and the same bits."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for a, b in zip(to_numpy_leaves(left), to_numpy_leaves(right), strict=True):
        assert a.tobytes() == b.tobytes()


def assert_equal(case, left, right):
    """Bitwise equal if the kernel is exact, otherwise equal up to rounding."""
    if case.is_exact:
        return assert_identical(left, right)
    for a, b in zip(to_numpy_leaves(left), to_numpy_leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
