"""AdamW as sequence models are trained with it, and schedules of its learning rate.

A schedule reads the optimizer's own count of steps, which is part of its state: training that is resumed goes on at
the rate where it stood. A schedule counts from 0, so with a warmup the first step is made at a rate of 0.
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
    """AdamW (Loshchilov & Hutter 2019) behind clipping (Pascanu et al. 2013).

    Only matrices decay, which is every parameter of at least two axes, embeddings too. The scales of norms and the
    biases have one axis, and are left alone.

    Args:
        learning_rate: the learning rate, or a schedule of it.
        weight_decay: the share of a matrix that a step at rate 1 would take away.
        max_gradient_norm: the largest norm of all gradients together; a larger one is scaled down to it.
        b1: decay of the gradients' mean.
        b2: decay of the squared gradients' mean.

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
    """Linearly from 0 up to the peak, then down along half a cosine (Loshchilov & Hutter 2017).

    Args:
        peak: the highest rate, at step `warmup_steps`.
        num_steps: of the whole training; from there on the rate is the lowest.
        warmup_steps: steps up to the peak.
        final_fraction: the lowest rate, as a share of the peak.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_positive("peak", peak)
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(f"warmup_steps {warmup_steps} is out of range; give 0 to below the {num_steps} steps")
    if not 0 <= final_fraction <= 1:
        raise ValueError(f"final_fraction {final_fraction} is out of range; it is a share of the peak, give 0 to 1")
    up, down = (
        optax.linear_schedule(0.0, peak, warmup_steps),
        optax.cosine_decay_schedule(peak, num_steps - warmup_steps, final_fraction),
    )
    return optax.join_schedules([up, down], [warmup_steps])


def warmup_stable_decay(peak: float, num_steps: int, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linearly from 0 up to the peak, there for most of the time, then linearly down to 0 (WSD, Hu et al. 2024).

    Up to the decay nothing depends on the number of steps, so a training can be made longer from there.

    Args:
        peak: the highest rate, from step `warmup_steps` to step `steps - decay`.
        num_steps: of the whole training; from there on the rate is 0.
        warmup_steps: steps up to the peak.
        decay_steps: steps down to 0, at the end.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_positive("peak", peak)
    for name, part in {"warmup_steps": warmup_steps, "decay_steps": decay_steps}.items():
        if part < 0:
            raise ValueError(f"{name} {part} is out of range; give 0 or more steps")
    if warmup_steps + decay_steps > num_steps:
        raise ValueError(
            f"warmup_steps {warmup_steps} and decay_steps {decay_steps} take longer than the {num_steps} steps; shorten one of them"
        )
    up, down = optax.linear_schedule(0.0, peak, warmup_steps), optax.linear_schedule(peak, 0.0, decay_steps)
    return optax.join_schedules([up, optax.constant_schedule(peak), down], [warmup_steps, num_steps - decay_steps])


def _matrix_mask(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def _check_positive(name: str, number: float) -> None:
    if not number > 0:
        raise ValueError(f"{name} {number} is out of range; give more than 0")
