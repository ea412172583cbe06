"""Supervised training of sequence models: next-token cross entropy, and an update with gradient accumulation.

Losses are sums rather than means, so that the parts of a batch add up to the whole, however its weight is spread.

Axes: B rows of a batch, T tokens of a row, V tokens of the vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Metrics, Params


class LossSums(NamedTuple):
    """Sums over the tokens of some rows.

    Attributes:
        loss: [] float32, sum of weight times loss.
        weight: [] float32, sum of weights.
        metrics: of each metric, the sum of weight times metric, [] float32.
    """

    loss: Array
    weight: Array
    metrics: Metrics


LossFn = Callable[[Params, Any, Array], LossSums]
"""`loss(params, batch, key) -> LossSums` of a PyTree of arrays [B, ...]; consumes the key."""

UpdateFn = Callable[[TrainState, Any, Array], tuple[TrainState, Metrics]]
"""`update(train_state, batch, key) -> (train_state, metrics)`; consumes the key."""


def next_token_sums(logits: Array, tokens: Array, weights: Array, segments: Array | None = None) -> LossSums:
    """Next-token cross entropy in nats, and the metric `mean_token_accuracy`.

    The first token of a row or segment is not predicted and has no weight.

    Args:
        logits: [B, T, V] of any float type, at t of the token at t + 1; summed in float32. Any values where the weight
            is 0.
        tokens: [B, T] int32; any values where the weight is 0.
        weights: [B, T] float32 >= 0, of the predicted token, so 0 on a prompt.
        segments: [B, T] int32, packed sequence of each token, 0 for padding; None: one sequence a row.

    Raises:
        ValueError: if the shapes do not fit.
    """
    _check_shapes(logits, tokens, weights, segments)
    weight = _shift_left(weights).astype(jnp.float32)
    if segments is not None:
        weight = jnp.where((_shift_left(segments) == segments) & (segments > 0), weight, 0.0)
    targets = jnp.where(weight > 0, _shift_left(tokens), 0)[..., None]
    logits = jnp.where(weight[..., None] > 0, logits.astype(jnp.float32), 0.0)
    target_logits = jnp.take_along_axis(logits, targets, axis=-1)
    losses = jax.nn.logsumexp(logits, axis=-1) - target_logits[..., 0]
    # The same as `argmax(logits) == targets`, which is much slower on a CPU.
    is_lower_index = jnp.arange(logits.shape[-1])[None, None] < targets
    is_correct = ~jnp.any((logits > target_logits) | ((logits == target_logits) & is_lower_index), axis=-1)
    return LossSums(jnp.sum(weight * losses), jnp.sum(weight), {"mean_token_accuracy": jnp.sum(weight * is_correct)})


def mean_metrics(sums: LossSums) -> Metrics:
    """Weighted means `loss` and the other metrics, 0 without weight, and `num_tokens`, the total weight."""
    means = jax.tree.map(lambda total: total / _divisor(sums.weight), {"loss": sums.loss, **sums.metrics})
    return {**means, "num_tokens": sums.weight}


def make_supervised_update(
    loss: LossFn, optimizer: optax.GradientTransformation, *, accumulation_steps: int = 1
) -> UpdateFn:
    """One optimizer step on the mean loss.

    Metrics are those of `mean_metrics` and `grad_norm`, before clipping. A batch without weight has gradient 0 and
    is an optimizer step like any other.

    Args:
        loss: loss sums.
        optimizer: an optax transformation.
        accumulation_steps: parts of a batch for gradient accumulation, which saves memory; must divide the rows. The
            step equals that of the whole batch, but for rounding and the keys that the loss consumes.

    Raises:
        ValueError: if it is below 1; by the update, if it does not divide the rows.
    """
    if accumulation_steps < 1:
        raise ValueError(
            f"make_supervised_update: accumulation_steps {accumulation_steps} is out of range; give at least 1 part"
        )

    def loss_with_sums(params: Params, part: Any, key: Array) -> tuple[Array, LossSums]:
        sums = loss(params, part, key)
        return sums.loss, sums

    def update(train_state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Metrics]:
        def add(total: Params, inputs: tuple[Any, Array]) -> tuple[Params, LossSums]:
            gradients, sums = jax.grad(loss_with_sums, has_aux=True)(train_state.params, *inputs)
            return jax.tree.map(jnp.add, total, gradients), sums

        parts = _split_batch(batch, accumulation_steps), jax.random.split(key, accumulation_steps)
        total, sums = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, train_state.params), parts)
        sums = jax.tree.map(lambda each: jnp.sum(each, axis=0), sums)
        gradients = jax.tree.map(lambda leaf: leaf / _divisor(sums.weight).astype(leaf.dtype), total)
        metrics = {**mean_metrics(sums), "grad_norm": optax.tree.norm(gradients)}
        return apply_gradients(train_state, optimizer, gradients), metrics

    return update


def _shift_left(x: Array) -> Array:
    """[B, T] the next token's entry, 0 at the end. Shifting these avoids a sliced copy of the large logits."""
    return jnp.pad(x[:, 1:], ((0, 0), (0, 1)))


def _divisor(weight: Array) -> Array:
    return jnp.where(weight > 0, weight, 1.0)


def _split_batch(batch: Any, num_parts: int) -> Any:
    """Leaves [B, ...] as [num_parts, B / num_parts, ...]."""

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
    expected = logits.shape[:2]
    for name, array in {"tokens": tokens, "weights": weights, "segments": segments}.items():
        if array is not None and array.shape != expected:
            raise ValueError(f"next_token_sums: {name} have shape {array.shape}; give {expected}, as the logits have")
