"""The kernels that the contract is tested with, each compiled once, and batches for them."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Context, Discrete, Kernel, Transition, score_access

ROWS = 6  # of every batch, so that each kernel is compiled for one shape


@dataclass(frozen=True)
class Case:
    """A kernel under test, and whether it is exact."""

    name: str
    kernel: Kernel
    exact: bool

    @functools.cached_property
    def fit(self):
        return jit(self.kernel.fit)

    @functools.cached_property
    def infer(self):
        return jit(self.kernel.infer)

    @functools.cached_property
    def layers(self):
        """Two fresh states, stacked, and bound to a device as restored ones are, or else each would be compiled for."""
        states = jit(jax.vmap(self.kernel.init))(jax.random.split(jax.random.key(0)))
        return jax.device_put(states, jax.devices()[0])

    @functools.cached_property
    def fresh(self):
        return layer(self.layers, 0)

    @functools.cached_property
    def fitted(self):
        """A state that has learned two batches."""
        state = self.fresh
        for seed in (100, 101):
            state, _ = self.fit(state, random_batch(self.kernel, seed))
        return state


def exact(name, **options):
    return Case(name, kernels.table(input=Discrete(3), target=Discrete(2), **options), True)


def linear(name, **options):
    return Case(name, kernels.linear(optimizer=optax.adam(0.05, eps=1e-3), num_cells=16, num_slots=8, **options), False)


def transformer(name, **options):
    sizes = {"width": 8, "num_heads": 2, "num_slots": 8}
    return Case(name, kernels.transformer(optimizer=optax.adam(0.02, eps=1e-3), **sizes, **options), False)


INDICES = {"input": Discrete(3), "value": Discrete(4), "target": Discrete(2)}
VECTORS = {"input": Box(2), "value": Box(3), "target": Box(1)}
MIXED = {"input": Discrete(3), "value": Box(2), "target": Box(3)}
EXACT = [
    exact("table, indices", value=Discrete(4)),
    exact("table, vectors, context 3", value=Box(3), context_length=3),
    exact("hashed table, indices, context 3", value=Discrete(4), context_length=3, capacity=40),
    exact("hashed table, vectors", value=Box(3), capacity=5),
]
GRADIENT = [
    linear("linear, indices, value access", **INDICES),
    linear("linear, vectors, value access, context 3", **VECTORS, context_length=3),
    linear("linear, mixed, score access, context 3", **MIXED, context_length=3, learning=score_access()),
    transformer("transformer, indices, score access", **INDICES, learning=score_access()),
    transformer("transformer, vectors, value access, context 3", **VECTORS, context_length=3),
]
ALL = [*EXACT, *GRADIENT]


def context(items, lengths):
    return Context(jnp.asarray(items), jnp.asarray(lengths, jnp.int32))


def transition(items, lengths, target, value, score, mask=None):
    """A batch from anything that NumPy reads."""
    mask = np.ones(len(score)) if mask is None else mask
    score, mask = jnp.asarray(score, jnp.float32), jnp.asarray(mask, jnp.float32)
    return Transition(context(items, lengths), jnp.asarray(target), jnp.asarray(value), score, mask)


def draw(random, space, *shape):
    """Legal members of a space."""
    if isinstance(space, Discrete):
        return random.integers(0, space.size, shape, dtype=np.int32)
    return random.normal(size=(*shape, space.dims)).astype(np.float32)


def garbage(space, *shape):
    """What no kernel may ever read: indices outside the space, or vectors of NaN."""
    if isinstance(space, Discrete):
        return np.resize(np.asarray([10_000, -7, space.size], np.int32), shape)
    return np.full((*shape, space.dims), np.nan, np.float32)


def random_batch(kernel, seed):
    random = np.random.default_rng(seed)
    spaces, length = kernel.spaces, kernel.context_length
    return transition(
        draw(random, spaces.input, ROWS, length),
        random.integers(1, length + 1, ROWS),
        draw(random, spaces.target, ROWS),
        draw(random, spaces.value, ROWS),
        random.integers(0, 9, ROWS) / 8,
    )


def any_state(kernel):
    """Random parameters and an optimizer that remembers nothing: `init` takes longer to compile."""
    random = np.random.default_rng(0)
    state = jax.eval_shape(kernel.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.float32(random.normal(size=leaf.shape)), state.train_state.params)
    return state._replace(train_state=state.train_state._replace(params=params), key=jax.random.key(0))


def rows(tree, index):
    """The rows of a batch at an index array."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(index)], tree)


@functools.partial(jit, static_argnums=1)
def layer(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def plain(tree):
    """The leaves as NumPy arrays, a typed key as its words."""

    def read(leaf):
        typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if typed else leaf)

    return [read(leaf) for leaf in jax.tree.leaves(tree)]


def assert_identical(one, other):
    """Same structure and types, and the same bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for a, b in zip(plain(one), plain(other), strict=True):
        assert a.tobytes() == b.tobytes()


def assert_equal(case, one, other):
    """The same, to the last bit where the kernel is exact and to rounding where it is not."""
    if case.exact:
        return assert_identical(one, other)
    for a, b in zip(plain(one), plain(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
