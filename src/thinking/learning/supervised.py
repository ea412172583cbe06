"""Supervised training of sequence models: the loss of the next token, and an update that may split its batch.

A loss is told in sums rather than means, so that the parts of a batch add up to the whole, however its weight is
spread over them.

Axes: B rows of a batch, T tokens of a row, V words of the vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Metrics, Params


class LossSums(NamedTuple):
    """A loss over some rows; sums over rows add up to sums over more rows.

    Attributes:
        loss: [] float32, the sum of weight times loss.
        weight: [] float32, the sum of weights.
        metrics: of each further metric the sum of weight times metric, [] float32.
    """

    loss: Array
    weight: Array
    metrics: Metrics


LossFn = Callable[[Params, Any, Array], LossSums]
"""`loss(params, batch, key) -> Sums` of a PyTree of arrays [B, ...]; consumes the key."""

UpdateFn = Callable[[TrainState, Any, Array], tuple[TrainState, Metrics]]
"""`update(train_state, batch, key) -> (train_state, metrics)`; consumes the key."""


def next_token_sums(logits: Array, tokens: Array, weights: Array, segments: Array | None = None) -> LossSums:
    """Cross entropy, in nats, of each token given those before it; the metric is `accuracy`.

    A token has the weight that is given for it, unless it begins its row or its segment: nothing predicts it then.
    Tokens of no weight may be any numbers.

    Args:
        logits: [B, T, V], at t of the token at t + 1; of any float type, summed in float32.
        tokens: [B, T] int32.
        weights: [B, T] float32 >= 0, of the token that is predicted, so 0 on a prompt.
        segments: [B, T] int32, which packed sequence a token is part of, 0 for padding; whole rows by default.

    Raises:
        ValueError: if the shapes do not fit.
    """
    _check_shapes(logits, tokens, weights, segments)
    weight = _shift_left(weights).astype(jnp.float32)
    if segments is not None:
        weight = jnp.where((_shift_left(segments) == segments) & (segments > 0), weight, 0.0)
    wanted = jnp.where(weight > 0, _shift_left(tokens), 0)[..., None]
    logits = logits.astype(jnp.float32)
    said = jnp.take_along_axis(logits, wanted, axis=-1)
    losses = jnp.where(weight > 0, jax.nn.logsumexp(logits, axis=-1) - said[..., 0], 0.0)
    # The same as `argmax(logits) == wanted`, which takes several times as long as all the rest on a CPU.
    earlier = jnp.arange(logits.shape[-1])[None, None] < wanted
    predicted = ~jnp.any((logits > said) | ((logits == said) & earlier), axis=-1)
    return LossSums(jnp.sum(weight * losses), jnp.sum(weight), {"accuracy": jnp.sum(weight * predicted)})


def mean_metrics(sums: LossSums) -> Metrics:
    """Metrics of sums: `loss` and all others as means, and `tokens`, the weight; 0 where nothing has weight."""
    each = jax.tree.map(lambda total: total / _divisor(sums.weight), {"loss": sums.loss, **sums.metrics})
    return {**each, "tokens": sums.weight}


def make_supervised_update(
    loss: LossFn, optimizer: optax.GradientTransformation, *, accumulation_steps: int = 1
) -> UpdateFn:
    """One step of the optimizer along the gradient of the mean loss.

    Metrics are those of `mean_metrics`, and `gradient_norm`, before any clipping. A batch without weight has a gradient of
    0; to the optimizer it is a step like others.

    Args:
        loss: what is learned, in sums.
        optimizer: an optax transformation.
        accumulation_steps: parts of a batch that are gone through one after the other, to save memory; must divide the rows.
            But for rounding, and for what the loss draws by its key, the step is that of the whole batch.

    Raises:
        ValueError: if there is no part, and by the update if the parts do not divide the rows.
    """
    if accumulation_steps < 1:
        raise ValueError(
            f"make_supervised_update: accumulation_steps {accumulation_steps} is out of range; give at least 1 part"
        )

    def differentiated(params: Params, part: Any, key: Array) -> tuple[Array, LossSums]:
        sums = loss(params, part, key)
        return sums.loss, sums

    def update(train_state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Metrics]:
        def add(total: Params, drawn: tuple[Any, Array]) -> tuple[Params, LossSums]:
            gradients, sums = jax.grad(differentiated, has_aux=True)(train_state.params, *drawn)
            return jax.tree.map(jnp.add, total, gradients), sums

        parts = _split_batch(batch, accumulation_steps), jax.random.split(key, accumulation_steps)
        total, sums = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, train_state.params), parts)
        sums = jax.tree.map(lambda each: jnp.sum(each, axis=0), sums)
        gradients = jax.tree.map(lambda leaf: leaf / _divisor(sums.weight).astype(leaf.dtype), total)
        metrics = {**mean_metrics(sums), "gradient_norm": optax.tree.norm(gradients)}
        return apply_gradients(train_state, optimizer, gradients), metrics

    return update


def _shift_left(x: Array) -> Array:
    """[B, T] what stands one token later, 0 at the end. The logits, which are large, are thus not cut and copied."""
    return jnp.pad(x[:, 1:], ((0, 0), (0, 1)))


def _divisor(weight: Array) -> Array:
    return jnp.where(weight > 0, weight, 1.0)


def _split_batch(batch: Any, num_parts: int) -> Any:
    """The batch's leaves [B, ...] as [number, B / number, ...]."""

    def split(leaf: Array) -> Array:
        rows = leaf.shape[0]
        if rows % num_parts:
            raise ValueError(
                f"make_supervised_update: accumulation_steps {num_parts} does not divide {rows} rows; take a divisor"
            )
        return leaf.reshape(num_parts, rows // num_parts, *leaf.shape[1:])

    return jax.tree.map(split, batch)


def _check_shapes(logits: Array, tokens: Array, weights: Array, segments: Array | None) -> None:
    if logits.ndim != 3:
        raise ValueError(f"next_token_sums: logits have shape {logits.shape}; give [B, T, V]")
    wanted = logits.shape[:2]
    for name, given in {"tokens": tokens, "weights": weights, "segments": segments}.items():
        if given is not None and given.shape != wanted:
            raise ValueError(f"next_token_sums: {name} have shape {given.shape}; give {wanted}, as the logits have")
