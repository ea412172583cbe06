"""A check of a kernel against the contract, on random examples of its spaces.

Axes: B rows of a batch, C items of a context.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking.kernels.contract import Context, Hypothesis, Kernel, Transition
from thinking.trees import digest
from thinking.types import Array, Discrete, Space

_NUM_ROWS = 6
_SPOILED = (1, 3, 5)


def check_kernel(kernel: Kernel, *, seed: int = 0) -> None:
    """Check that a kernel keeps the rules of `kernels.contract`.

    Not checked: what it learns, and whether a row of weight 2 counts as two rows.

    `fit` and `infer` can be jitted. `fit` is a pure function, keeps the shapes and types of the state, and never reads
    rows of weight 0, illegal rows and padding. `infer` gives elements of the space of values with float32 scores, -inf
    for an illegal query, never reads padding, and answers each query by itself.

    Args:
        kernel: the kernel.
        seed: of the random examples.

    Raises:
        ValueError: with the first rule that is broken.
    """
    batch = _draw_batch(kernel, np.random.default_rng(seed))
    empty = jax.jit(kernel.init)(jax.random.key(seed))
    state = _check_fit(kernel, empty, batch)
    _check_infer(kernel, state, batch)


def _check_fit(kernel: Kernel, empty: Any, batch: Transition) -> Any:
    """The state after two batches, if `fit` keeps its rules."""
    fit = jax.jit(kernel.fit)
    result = fit(empty, batch)
    _require(isinstance(result, tuple) and len(result) == 2, "fit gives something else than (state, metrics)")
    state, metrics = result
    _require(isinstance(metrics, dict), "fit gives metrics that are no dict of scalars")
    _check_types(empty, state)
    _require(all(jnp.ndim(leaf) == 0 for leaf in metrics.values()), "fit gives a metric that is no scalar")
    _require(_are_equal(fit(empty, batch), (state, metrics)), "fit is not pure: equal inputs gave different results")

    nothing = _spoil(kernel, batch, range(_NUM_ROWS))._replace(mask=jnp.zeros(_NUM_ROWS))
    _require(_are_equal(fit(state, nothing)[0], state), "fit changes the state by rows of weight 0")
    weights = batch.mask.at[jnp.array(_SPOILED)].set(0.0)
    expected, spoiled = fit(state, batch._replace(mask=weights)), _spoil(kernel, batch, _SPOILED)
    _require(_are_equal(fit(state, spoiled._replace(mask=weights)), expected), "fit reads rows of weight 0")
    _require(
        _are_equal(fit(state, spoiled), expected),
        "fit reads illegal rows, outside the spaces or of NaN; take checked_kernel",
    )
    padded = batch._replace(context=_spoil_padding(kernel, batch.context))
    _require(_are_equal(fit(state, padded), fit(state, batch)), "fit reads the padding of contexts")
    return expected[0]


def _check_infer(kernel: Kernel, state: Any, batch: Transition) -> None:
    infer, space = jax.jit(kernel.infer), kernel.spaces.value
    hypothesis = infer(state, batch.context, batch.target)
    _require(isinstance(hypothesis, Hypothesis), "infer gives something else than a Hypothesis")
    expected = ((_NUM_ROWS, *space.shape), space.dtype, (_NUM_ROWS,), jnp.float32)
    found = (hypothesis.value.shape, hypothesis.value.dtype, hypothesis.score.shape, hypothesis.score.dtype)
    _require(found == expected, f"infer gives value and score of {found}, and the spaces ask for {expected}")
    _require(bool(jnp.all(_is_member(space, hypothesis.value))), "infer gives a value outside its space")
    _require(
        bool(jnp.all((hypothesis.score == -jnp.inf) | ((hypothesis.score >= 0) & (hypothesis.score <= 1)))),
        "infer gives a score that is neither in [0, 1] nor -inf",
    )
    flipped = infer(state, *jax.tree.map(lambda leaf: leaf[::-1], (batch.context, batch.target)))
    is_close = jax.tree.map(lambda a, b: jnp.allclose(a, b[::-1], rtol=1e-3, atol=1e-4), hypothesis, flipped)
    _require(all(is_close), "infer's answers depend on the order of the queries")
    padded = infer(state, _spoil_padding(kernel, batch.context), batch.target)
    _require(_are_equal(padded, hypothesis), "infer reads the padding of contexts")
    spoiled = _spoil(kernel, batch, _SPOILED)
    answer = infer(state, spoiled.context, spoiled.target)
    illegal = jnp.isin(jnp.arange(_NUM_ROWS), jnp.array(_SPOILED))
    _require(bool(jnp.all(answer.score[illegal] == -jnp.inf)), "infer gives an illegal query a score above -inf")
    legal = jax.tree.map(lambda leaf: leaf[~illegal], (answer, hypothesis))
    _require(_are_equal(*legal), "infer lets an illegal query change the answers of others")


def _draw_batch(kernel: Kernel, rng: np.random.Generator) -> Transition:
    """Rows of random examples, with contexts of all lengths."""
    spaces, length = kernel.spaces, kernel.context_length
    lengths = jnp.asarray(rng.integers(1, length + 1, _NUM_ROWS), jnp.int32)
    return Transition(
        Context(_draw(rng, spaces.input, _NUM_ROWS, length), lengths),
        _draw(rng, spaces.target, _NUM_ROWS),
        _draw(rng, spaces.value, _NUM_ROWS),
        jnp.asarray(rng.uniform(0.1, 0.9, _NUM_ROWS), jnp.float32),
        jnp.ones(_NUM_ROWS),
    )


def _draw(rng: np.random.Generator, space: Space, *shape: int) -> Array:
    if isinstance(space, Discrete):
        return jnp.asarray(rng.integers(0, space.size, shape), jnp.int32)
    return jnp.asarray(rng.normal(size=(*shape, space.dims)), jnp.float32)


def _spoil(kernel: Kernel, batch: Transition, rows: Any) -> Transition:
    """The batch with illegal values in some rows: indices out of range, vectors and scores of NaN."""
    spaces, index = kernel.spaces, jnp.array(list(rows))

    def spoil(leaf: Array, space: Space) -> Array:
        return leaf.at[index].set(_make_illegal(space))

    return batch._replace(
        context=batch.context._replace(items=spoil(batch.context.items, spaces.input)),
        target=spoil(batch.target, spaces.target),
        value=spoil(batch.value, spaces.value),
        score=batch.score.at[index].set(jnp.nan),
    )


def _spoil_padding(kernel: Kernel, context: Context) -> Context:
    valid = context.valid.reshape(*context.valid.shape, *(1,) * (context.items.ndim - 2))
    return context._replace(items=jnp.where(valid, context.items, _make_illegal(kernel.spaces.input)))


def _make_illegal(space: Space) -> Array:
    return jnp.int32(space.size + 7) if isinstance(space, Discrete) else jnp.float32(jnp.nan)


def _is_member(space: Space, x: Array) -> Array:
    return (x >= 0) & (x < space.size) if isinstance(space, Discrete) else jnp.isfinite(x)


def _check_types(before: Any, after: Any) -> None:
    """The structure, shapes, types and weak types of the state must stay, or `lax.scan` refuses it."""
    _require(jax.tree.structure(before) == jax.tree.structure(after), "fit changes the structure of the state")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        found = [_describe_type(leaf) for leaf in (old, new)]
        name = jax.tree_util.keystr(path) or "itself"
        _require(found[0] == found[1], f"fit changes a shape or a type of the state: {name} from {' to '.join(found)}")


def _describe_type(leaf: Array) -> str:
    is_weak = getattr(leaf, "weak_type", False)  # typed keys have none
    return f"{leaf.dtype} {list(leaf.shape)}" + ", weakly typed" * is_weak


def _are_equal(tree: Any, other: Any) -> bool:
    """Whether two trees have the same bits."""
    return digest(tree) == digest(other)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"kernel: {rule}")
