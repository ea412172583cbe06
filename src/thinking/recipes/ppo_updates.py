"""PPO's update and optimizer by the settings that tasks share."""

from typing import Any

import optax

from thinking.learning.policy_gradient import EvaluateFn, UpdateFn, ppo


def build_ppo(
    evaluate_actions: EvaluateFn, settings: Any, *, learning_rate: float, max_gradient_norm: float, num_updates: int
) -> tuple[UpdateFn, optax.GradientTransformation]:
    """The update, and Adam with a learning rate that falls to 0 linearly.

    Args:
        evaluate_actions: of the policy.
        settings: `num_epochs`, `num_minibatches`, `clip` and `entropy_weight`, as of `learning.policy_gradient.ppo`.
        learning_rate: the highest.
        max_gradient_norm: norm to which gradients are clipped.
        num_updates: of the whole training.
    """
    schedule = optax.linear_schedule(learning_rate, 0, num_updates * settings.num_epochs * settings.num_minibatches)
    adam = optax.chain(optax.clip_by_global_norm(max_gradient_norm), optax.adam(schedule, eps=1e-5))
    # Flattened to one vector, as many small operations are slow on a CPU.
    optimizer = optax.flatten(adam)
    update = ppo(
        evaluate_actions,
        optimizer,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
        clip=settings.clip,
        entropy_weight=settings.entropy_weight,
    )
    return update, optimizer
