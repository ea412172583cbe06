"""Policy gradients: REINFORCE, PPO and GRPO as pure update functions, for anything that acts; imitation beside them.

Nothing here knows what an action is. The rows of an `PolicyBatch` are steps of a control task or whole sequences of
tokens; all that is asked for is a function which judges actions under parameters.

Axes: N rows, each with any number of further axes `...` (none for steps, the tokens of a sequence for texts).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.networks.actor_critic import ActionEvaluation
from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Metrics, Params

EvaluateFn = Callable[[Params, Any, Array], ActionEvaluation]
"""`judge(params, inputs, actions) -> Judgement` of arrays [N, ...]."""


class PolicyBatch(NamedTuple):
    """What a policy learns from.

    Attributes:
        inputs: a PyTree of arrays [N, ...], what the policy saw.
        action: [N, ...] what it did.
        log_prob: [N, ...] how likely that was to it, in nats.
        advantage: [N, ...] how much better than expected that was.
        value_target: [N, ...] what the value should be.
        mask: [N, ...] float32 >= 0, the weight of each action; what has none changes nothing.
        reference_log_prob: [N, ...] how likely the action is to a policy that should not be left far behind, in nats; None
            where nobody asks.
    """

    inputs: Any
    action: Array
    log_prob: Array
    advantage: Array
    value_target: Array
    mask: Array
    reference_log_prob: Array | None = None


UpdateFn = Callable[[TrainState, PolicyBatch, Array], tuple[TrainState, Metrics]]
"""`update(train_state, experience, key) -> (train_state, metrics)`; consumes the key."""


def masked_mean(x: Array, mask: Array) -> Array:
    """[] mean of x, weighted by the mask; 0 where nothing has weight."""
    return jnp.sum(x * mask) / jnp.maximum(jnp.sum(mask), jnp.finfo(jnp.float32).tiny)


def normalize_advantages(advantage: Array, mask: Array) -> Array:
    """Advantages of mean 0 and standard deviation 1 over what has weight."""
    centred = advantage - masked_mean(advantage, mask)
    return centred / (jnp.sqrt(masked_mean(centred**2, mask)) + 1e-8)


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
        evaluate_actions: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        use_baseline: whether the policy's own value, trained beside it, is taken off the returns, and the rest is
            normalised; without it `experience.target`, the return, is what counts.
        value_weight: weight of the value's loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        said = evaluate_actions(params, batch.inputs, batch.action)
        worth = batch.value_target
        if use_baseline:
            worth = normalize_advantages(batch.value_target - jax.lax.stop_gradient(said.value), batch.mask)
        policy_loss = -masked_mean(worth * said.log_prob, batch.mask)
        value_loss = _value_loss(said, batch) if use_baseline else jnp.zeros(())
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    def update(train_state: TrainState, batch: PolicyBatch, key: Array) -> tuple[TrainState, Metrics]:
        del key  # nothing is left to chance
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
    """Proximal policy optimization (Schulman et al. 2017): several epochs over the same experience, kept near it.

    Advantages are normalised in each minibatch.

    Args:
        evaluate_actions: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        num_epochs: passes over the experience.
        num_minibatches: parts of each pass; must divide the rows.
        clip: how far the ratio of new to old probabilities may stray from 1 and still pay.
        value_weight: weight of the value's loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        said = evaluate_actions(params, batch.inputs, batch.action)
        policy_loss, metrics = _clipped_loss(said, batch, normalize_advantages(batch.advantage, batch.mask), clip)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, **metrics}

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
    """Group relative policy optimization (Shao et al. 2024): advantages are told from a group, not from a value.

    They are taken as they are given, so `returns.group_advantages` makes them. Every action weighs the same, however
    long its sequence (Yu et al. 2025). The metric `kl` is told of the reference policy where there is one, else of the
    policy that acted.

    Args:
        evaluate_actions: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        num_epochs: passes over the experience.
        num_minibatches: parts of each pass; must divide the rows.
        clip: how far the ratio of new to old probabilities may stray from 1 and still pay.
        kl_weight: weight of the divergence from the reference policy; more than 0 asks for `experience.reference`.
        value_weight: weight of a value's loss. Nothing here reads the value, but a search may.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        if kl_weight and batch.reference_log_prob is None:
            raise ValueError(f"grpo: kl_weight {kl_weight} without a reference; give reference_log_prob, or take 0")
        said = evaluate_actions(params, batch.inputs, batch.action)
        policy_loss, metrics = _clipped_loss(said, batch, batch.advantage, clip)
        if batch.reference_log_prob is not None:
            metrics["kl"] = _estimate_kl(batch.reference_log_prob - said.log_prob, batch.mask)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        penalty = kl_weight * metrics["kl"] if kl_weight else 0.0
        total = (
            policy_loss + penalty + value_weight * value_loss - _entropy_bonus(entropy, entropy_weight, entropy_ceiling)
        )
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, **metrics}

    return _make_minibatch_update("grpo", loss, optimizer, num_epochs, num_minibatches)


def imitation(
    evaluate_actions: EvaluateFn,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int = 1,
    num_minibatches: int = 4,
    value_weight: float = 0.0,
) -> UpdateFn:
    """Makes actions likelier by their advantage, 1 or 0: the learning half of expert iteration (Anthony et al. 2017).

    Args:
        evaluate_actions: the policy.
        optimizer: an optax transformation.
        num_epochs: passes over the experience.
        num_minibatches: parts of each pass; must divide the rows.
        value_weight: weight of a value's loss, of all actions, for a search to read.
    """

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, Metrics]:
        said = evaluate_actions(params, batch.inputs, batch.action)
        policy_loss = -masked_mean(said.log_prob, batch.mask * batch.advantage)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    return _make_minibatch_update("imitation", loss, optimizer, num_epochs, num_minibatches)


LossFn = Callable[[Params, PolicyBatch], tuple[Array, Metrics]]


def _clipped_loss(
    evaluation: ActionEvaluation, batch: PolicyBatch, advantage: Array, clip: float
) -> tuple[Array, Metrics]:
    """PPO's clipped loss, how far the policy went, and how often it was held back."""
    difference = evaluation.log_prob - batch.log_prob
    ratio = jnp.exp(difference)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    return -masked_mean(gain, batch.mask), {
        "kl": _estimate_kl(difference, batch.mask),
        "clip_ratio": masked_mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32), batch.mask),
    }


def _estimate_kl(difference: Array, mask: Array) -> Array:
    """Schulman's estimate of the KL divergence, never negative, from differences of log-probabilities."""
    difference = jnp.where(mask > 0, difference, 0.0)  # what has no weight may be anything, and exp of it infinite
    return masked_mean(jnp.exp(difference) - 1 - difference, mask)


def _entropy_bonus(entropy: Array, weight: float, ceiling: float) -> Array:
    """The entropy bonus, which rests above a ceiling (He et al. 2025).

    What is learned has no advantage any more, and a bonus that never rests would undo it.
    """
    return jnp.where(entropy < ceiling, weight * entropy, 0.0)


def _value_loss(evaluation: ActionEvaluation, batch: PolicyBatch) -> Array:
    return 0.5 * masked_mean((evaluation.value - batch.value_target) ** 2, batch.mask)


def _make_minibatch_update(
    name: str, loss: LossFn, optimizer: optax.GradientTransformation, num_epochs: int, num_minibatches: int
) -> UpdateFn:
    """Several passes over the same experience, each in another order and in parts; metrics are means."""

    def update(train_state: TrainState, batch: PolicyBatch, key: Array) -> tuple[TrainState, Metrics]:
        rows = batch.mask.shape[0]
        if rows % num_minibatches:
            raise ValueError(f"{name}: {num_minibatches} minibatches do not divide {rows} rows; take a divisor")
        orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, num_epochs))

        def descend(train_state: TrainState, chosen: Array) -> tuple[TrainState, Metrics]:
            return _gradient_step(loss, optimizer, train_state, jax.tree.map(lambda leaf: leaf[chosen], batch))

        train_state, metrics = jax.lax.scan(descend, train_state, orders.reshape(num_epochs * num_minibatches, -1))
        return train_state, jax.tree.map(jnp.mean, metrics)

    return update


def _gradient_step(
    loss: LossFn, optimizer: optax.GradientTransformation, train_state: TrainState, batch: PolicyBatch
) -> tuple[TrainState, Metrics]:
    gradients, metrics = jax.grad(loss, has_aux=True)(train_state.params, batch)
    return apply_gradients(train_state, optimizer, gradients), metrics
