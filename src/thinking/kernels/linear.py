"""A linear key-value memory, addressed by softmax.

The query is a concatenation of codes. Its product with the keys addresses M memory cells, whose slots are averaged:
`softmax(query K) V`, attention over learned keys and values (Sukhbaatar et al. 2019, persistent memory).
"""

import jax
import jax.numpy as jnp
import optax

from thinking.kernels.contract import Context, Kernel, Spaces
from thinking.kernels.gradient import SlotNetwork, gradient_kernel
from thinking.kernels.slots import INITIAL_SCORE_LOGIT, Learning, Slots, value_access
from thinking.types import Array, Discrete, Space, State, value_width


def linear(
    *,
    input: Space,
    value: Space,
    target: Space,
    optimizer: optax.GradientTransformation,
    context_length: int = 1,
    num_cells: int = 512,
    num_slots: int = 32,
    learning: Learning = value_access(),
) -> Kernel:
    """A gradient kernel of M softmax-addressed cells with S slots each.

    Args:
        input: space of the context items.
        value: space of the predicted values.
        target: space of the targets.
        optimizer: an optax transformation.
        context_length: C.
        num_cells: M.
        num_slots: S, hypotheses per query.
        learning: slot selection and asymmetry.

    Raises:
        ValueError: if a size is below 1.
    """
    if num_cells < 1 or num_slots < 1:
        raise ValueError(f"linear: num_cells {num_cells} and num_slots {num_slots} must each be at least 1")
    spaces = Spaces(input, value, target)
    width = value_width(value)

    def init(key: Array) -> State:
        context_key, target_key, value_key = jax.random.split(key, 3)
        return {
            "context_keys": jax.random.normal(context_key, (context_length, value_width(input), num_cells)),
            "target_keys": jax.random.normal(target_key, (value_width(target), num_cells)),
            "values": jax.random.normal(value_key, (num_cells, num_slots * width)),
            "scores": jnp.full((num_cells, num_slots), INITIAL_SCORE_LOGIT, jnp.float32),
        }

    def apply(params: State, context: Context, query_target: Array, dropout_key: Array | None) -> Slots:
        del dropout_key  # there is no dropout
        logits = _product(target, query_target, params["target_keys"])
        for index in range(context_length):
            product = _product(input, context.items[:, index], params["context_keys"][index])
            logits = logits + jnp.where(context.valid[:, index, None], product, 0)
        weights = jax.nn.softmax(logits)
        return Slots((weights @ params["values"]).reshape(-1, num_slots, width), weights @ params["scores"])

    return gradient_kernel(
        "linear",
        SlotNetwork(init, apply),
        spaces=spaces,
        context_length=context_length,
        optimizer=optimizer,
        learning=learning,
    )


def _product(space: Space, x: Array, keys: Array) -> Array:
    """The code of x [B, ...] times keys [V, M]; for an index, whose code is one-hot, a row of the keys."""
    return keys.at[x].get(mode="clip") if isinstance(space, Discrete) else x @ keys
