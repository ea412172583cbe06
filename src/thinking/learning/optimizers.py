"""AdamW with gradient clipping, and learning-rate schedules.

Schedules read the step count in the optimizer state, so resumed training continues its schedule. The count starts at
0: with warmup, the first step has learning rate 0.
"""

from typing import Any

import jax
import optax


def adamw(
    learning_rate: float | optax.Schedule,
    *,
    weight_decay: float = 0.1,
    max_gradient_norm: float = 1.0,
    b1: float = 0.9,
    b2: float = 0.95,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) after clipping by global norm (Pascanu et al. 2013).

    Weight decay applies to parameters of at least two axes, embeddings included, not to norm scales and biases.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled, 0 or more.
        max_gradient_norm: maximum global gradient norm.
        b1: EMA decay of gradients, 0 to below 1.
        b2: EMA decay of squared gradients, 0 to below 1.

    Raises:
        ValueError: if a number is out of range.
    """
    if not callable(learning_rate):
        _check_positive("learning_rate", learning_rate)
    _check_positive("max_gradient_norm", max_gradient_norm)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay {weight_decay} is out of range; give 0 or more")
    for name, decay in {"b1": b1, "b2": b2}.items():
        if not 0 <= decay < 1:
            raise ValueError(f"{name} {decay} is out of range; give 0 to below 1")
    return optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=_matrix_mask),
    )


def warmup_cosine(peak: float, num_steps: int, warmup_steps: int, final_fraction: float = 0.1) -> optax.Schedule:
    """Linear warmup, then cosine decay (Loshchilov & Hutter 2017).

    Args:
        peak: maximum learning rate, reached at step `warmup_steps`.
        num_steps: number of steps in all; the rate is constant afterwards.
        warmup_steps: 0 to below `num_steps`.
        final_fraction: final rate as a fraction of the peak, 0 to 1.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_positive("peak", peak)
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(f"warmup_steps {warmup_steps} is out of range; give 0 to below the {num_steps} steps")
    if not 0 <= final_fraction <= 1:
        raise ValueError(f"final_fraction {final_fraction} is out of range; it is a share of the peak, give 0 to 1")
    warmup, decay = (
        optax.linear_schedule(0.0, peak, warmup_steps),
        optax.cosine_decay_schedule(peak, num_steps - warmup_steps, final_fraction),
    )
    return optax.join_schedules([warmup, decay], [warmup_steps])


def warmup_stable_decay(peak: float, num_steps: int, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear warmup, a constant rate, then linear decay to 0 (WSD, Hu et al. 2024).

    Before the decay the rate does not depend on `num_steps`, so training can be extended from there.

    Args:
        peak: constant learning rate after the warmup.
        num_steps: number of steps in all; the rate is 0 afterwards.
        warmup_steps: 0 or more.
        decay_steps: 0 or more, the last steps.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_positive("peak", peak)
    for name, count in {"warmup_steps": warmup_steps, "decay_steps": decay_steps}.items():
        if count < 0:
            raise ValueError(f"{name} {count} is out of range; give 0 or more steps")
    if warmup_steps + decay_steps > num_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} and decay_steps {decay_steps} take longer than the {num_steps} steps; "
            "shorten one of them"
        )
    warmup, decay = optax.linear_schedule(0.0, peak, warmup_steps), optax.linear_schedule(peak, 0.0, decay_steps)
    return optax.join_schedules([warmup, optax.constant_schedule(peak), decay], [warmup_steps, num_steps - decay_steps])


def _matrix_mask(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def _check_positive(name: str, number: float) -> None:
    if not number > 0:
        raise ValueError(f"{name} {number} is out of range; give more than 0")
