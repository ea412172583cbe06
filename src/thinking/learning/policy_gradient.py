"""REINFORCE, PPO, GRPO and expert iteration as pure update functions, for any policy and action space.

Axes: N rows, each with further axes `...`: none for environment steps, one for the tokens of a sequence.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.statistics import clear_masked, masked_mean, standardize
from thinking.networks.actor_critic import ActionEvaluation
from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Metrics, Params

EvaluateFn = Callable[[Params, Any, Array], ActionEvaluation]
"""`evaluate_actions(params, inputs, actions [N, ...]) -> ActionEvaluation` of arrays [N, ...]."""


class PolicyBatch(NamedTuple):
    """Data of one policy update.

    Attributes:
        inputs: policy inputs, a PyTree of arrays [N, ...].
        action: [N, ...].
        log_prob: [N, ...] under the behaviour policy, in nats.
        advantage: [N, ...].
        value_target: [N, ...], target of the value function.
        mask: [N, ...] float32 >= 0, weight of each action. Where it is 0, every array but inputs and action may hold
            anything.
        reference_log_prob: [N, ...] under the reference policy, in nats; None without one.
        value: [N, ...] of the value function before the update, from which `ppo` limits its change; None for no limit.
    """

    inputs: Any
    action: Array
    log_prob: Array
    advantage: Array
    value_target: Array
    mask: Array
    reference_log_prob: Array | None = None
    value: Array | None = None


UpdateFn = Callable[[TrainState, PolicyBatch, Array], tuple[TrainState, Metrics]]
"""`update(train_state, batch, key) -> (train_state, metrics)`; consumes the key."""


def reinforce(
    evaluate_actions: EvaluateFn,
    optimizer: optax.GradientTransformation,
    *,
    use_baseline: bool = True,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
    entropy_ceiling: float = jnp.inf,
) -> UpdateFn:
    """REINFORCE (Williams 1992): one step along `advantage * grad log_prob`.

    Args:
        evaluate_actions: the policy and its value function.
        optimizer: an optax transformation, gradient clipping included.
        use_baseline: whether to subtract the learned value baseline from the returns `batch.value_target` and
            normalise; otherwise the returns are used as they are.
        value_weight: weight of the value loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        evaluation, batch = _evaluate(evaluate_actions, params, batch)
        advantage = batch.value_target
        if use_baseline:
            advantage = standardize(batch.value_target - jax.lax.stop_gradient(evaluation.value), batch.mask)
        policy_loss = -masked_mean(advantage * evaluation.log_prob, batch.mask)
        value_loss = _value_loss(evaluation, batch) if use_baseline else jnp.zeros(())
        entropy = masked_mean(evaluation.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"loss": total, "loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}

    def update(train_state: TrainState, batch: PolicyBatch, key: Array) -> tuple[TrainState, Metrics]:
        del key
        return _gradient_step(loss, optimizer, train_state, batch)

    return update


def ppo(
    evaluate_actions: EvaluateFn,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
    entropy_ceiling: float = jnp.inf,
) -> UpdateFn:
    """Proximal policy optimization (Schulman et al. 2017); advantages are normalised in each minibatch.

    Where `batch.value` is given, the value loss is clipped as the policy loss is (Engstrom et al. 2020).

    Args:
        evaluate_actions: the policy and its value function.
        optimizer: an optax transformation, gradient clipping included.
        num_epochs: passes over the batch.
        num_minibatches: minibatches of an epoch; must divide the rows.
        clip: clipping range of the importance ratio around 1, and of the value around `batch.value`.
        value_weight: weight of the value loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        evaluation, batch = _evaluate(evaluate_actions, params, batch)
        policy_loss, metrics = _clipped_loss(evaluation, batch, standardize(batch.advantage, batch.mask), clip)
        value_loss = _value_loss(evaluation, batch, clip)
        entropy = masked_mean(evaluation.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {
            "loss": total,
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "entropy": entropy,
            **metrics,
        }

    return _make_minibatch_update("ppo", loss, optimizer, num_epochs, num_minibatches)


def grpo(
    evaluate_actions: EvaluateFn,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int = 1,
    num_minibatches: int = 4,
    clip: float = 0.2,
    kl_weight: float = 0.0,
    value_weight: float = 0.0,
    entropy_weight: float = 0.0,
    entropy_ceiling: float = jnp.inf,
) -> UpdateFn:
    """Group relative policy optimization (Shao et al. 2024) with advantages of `returns.group_advantages`.

    Every action has the same weight, whatever the length of its sequence (Yu et al. 2025). The metric `kl` is that
    from the reference policy if there is one, else from the behaviour policy.

    Args:
        evaluate_actions: the policy and its value function.
        optimizer: an optax transformation, gradient clipping included.
        num_epochs: passes over the batch.
        num_minibatches: minibatches of an epoch; must divide the rows.
        clip: clipping range of the importance ratio around 1.
        kl_weight: weight of the KL divergence from the reference policy; not 0 needs `batch.reference_log_prob`.
        value_weight: weight of the value loss. The update does not use the value, but a search may.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        if kl_weight and batch.reference_log_prob is None:
            raise ValueError(f"grpo: kl_weight {kl_weight} without a reference; give reference_log_prob, or take 0")
        evaluation, batch = _evaluate(evaluate_actions, params, batch)
        policy_loss, metrics = _clipped_loss(evaluation, batch, batch.advantage, clip)
        if batch.reference_log_prob is not None:
            metrics["kl"] = _estimate_kl(batch.reference_log_prob - evaluation.log_prob, batch.mask)
        value_loss = _value_loss(evaluation, batch)
        entropy = masked_mean(evaluation.entropy, batch.mask)
        penalty = kl_weight * metrics["kl"] if kl_weight else 0.0
        total = (
            policy_loss + penalty + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        )
        return total, {
            "loss": total,
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "entropy": entropy,
            **metrics,
        }

    return _make_minibatch_update("grpo", loss, optimizer, num_epochs, num_minibatches)


def expert_iteration(
    evaluate_actions: EvaluateFn,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int = 1,
    num_minibatches: int = 4,
    value_weight: float = 0.0,
) -> UpdateFn:
    """Cross entropy on actions weighted by their advantage, 1 or 0: expert iteration (Anthony et al. 2017).

    Args:
        evaluate_actions: the policy and its value function.
        optimizer: an optax transformation.
        num_epochs: passes over the batch.
        num_minibatches: minibatches of an epoch; must divide the rows.
        value_weight: weight of the value loss, over all actions; a search may use the value.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        evaluation, batch = _evaluate(evaluate_actions, params, batch)
        policy_loss = -masked_mean(evaluation.log_prob, batch.mask * batch.advantage)
        value_loss = _value_loss(evaluation, batch)
        entropy = masked_mean(evaluation.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss
        return total, {"loss": total, "loss/policy": policy_loss, "loss/value": value_loss, "entropy": entropy}

    return _make_minibatch_update("expert_iteration", loss, optimizer, num_epochs, num_minibatches)


LossFn = Callable[[Params, PolicyBatch], tuple[Array, Metrics]]


def _evaluate(evaluate_actions: EvaluateFn, params: Params, batch: PolicyBatch) -> tuple[ActionEvaluation, PolicyBatch]:
    """The evaluation of the batch's actions, and the batch, with zeros where the mask is 0."""
    arrays = (batch.log_prob, batch.advantage, batch.value_target, batch.reference_log_prob, batch.value)
    evaluation, arrays = jax.tree.map(
        lambda array: clear_masked(array, batch.mask), (evaluate_actions(params, batch.inputs, batch.action), arrays)
    )
    names = ("log_prob", "advantage", "value_target", "reference_log_prob", "value")
    return evaluation, batch._replace(**dict(zip(names, arrays, strict=True)))


def _clipped_loss(
    evaluation: ActionEvaluation, batch: PolicyBatch, advantage: Array, clip: float
) -> tuple[Array, Metrics]:
    """PPO's clipped surrogate loss, with the metrics `kl` and `clip_ratio`."""
    log_ratio = evaluation.log_prob - batch.log_prob
    ratio = jnp.exp(log_ratio)
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    return -masked_mean(surrogate, batch.mask), {
        "kl": _estimate_kl(log_ratio, batch.mask),
        "clip_ratio": masked_mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32), batch.mask),
    }


def _estimate_kl(log_ratio: Array, mask: Array) -> Array:
    """Schulman's k3 estimate of the KL divergence, never negative, from differences of log-probabilities."""
    return masked_mean(jnp.exp(log_ratio) - 1 - log_ratio, mask)


def _entropy_bonus(entropy: Array, weight: float, ceiling: float) -> Array:
    """The entropy bonus, 0 above a ceiling (He et al. 2025): once advantages vanish, it would undo what was learned."""
    return jnp.where(entropy < ceiling, weight * entropy, 0.0)


def _value_loss(evaluation: ActionEvaluation, batch: PolicyBatch, clip: float = jnp.inf) -> Array:
    """Half the mean squared error; the larger one of the value and of the value within `clip` of `batch.value`."""
    error = (evaluation.value - batch.value_target) ** 2
    if batch.value is not None:
        clipped_value = batch.value + jnp.clip(evaluation.value - batch.value, -clip, clip)
        error = jnp.maximum(error, (clipped_value - batch.value_target) ** 2)
    return 0.5 * masked_mean(error, batch.mask)


def _make_minibatch_update(
    name: str, loss: LossFn, optimizer: optax.GradientTransformation, num_epochs: int, num_minibatches: int
) -> UpdateFn:
    """Epochs over shuffled minibatches, which must divide the rows (else ValueError); metrics are means."""

    def update(train_state: TrainState, batch: PolicyBatch, key: Array) -> tuple[TrainState, Metrics]:
        rows = batch.mask.shape[0]
        if rows % num_minibatches:
            raise ValueError(f"{name}: {num_minibatches} minibatches do not divide {rows} rows; take a divisor")
        permutations = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, num_epochs))

        def step(train_state: TrainState, indices: Array) -> tuple[TrainState, Metrics]:
            return _gradient_step(loss, optimizer, train_state, jax.tree.map(lambda leaf: leaf[indices], batch))

        train_state, metrics = jax.lax.scan(step, train_state, permutations.reshape(num_epochs * num_minibatches, -1))
        return train_state, jax.tree.map(jnp.mean, metrics)

    return update


def _gradient_step(
    loss: LossFn, optimizer: optax.GradientTransformation, train_state: TrainState, batch: PolicyBatch
) -> tuple[TrainState, Metrics]:
    gradients, metrics = jax.grad(loss, has_aux=True)(train_state.params, batch)
    return apply_gradients(train_state, optimizer, gradients), metrics
