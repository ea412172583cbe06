"""Policy gradients: REINFORCE, PPO and GRPO as pure update functions, for anything that acts; imitation beside them.

Nothing here knows what an action is. The rows of an `Experience` are steps of a control task or whole sequences of
tokens; all that is asked for is a function which judges actions under parameters.

Axes: N rows, each with any number of further axes `...` (none for steps, the tokens of a sequence for texts).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.networks.actor_critic import Judgement
from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Metrics, Params

Judge = Callable[[Params, Any, Array], Judgement]
"""`judge(params, inputs, actions) -> Judgement` of arrays [N, ...]."""


class Experience(NamedTuple):
    """What a policy learns from.

    Attributes:
        inputs: a PyTree of arrays [N, ...], what the policy saw.
        action: [N, ...] what it did.
        log_prob: [N, ...] how likely that was to it, in nats.
        advantage: [N, ...] how much better than expected that was.
        target: [N, ...] what the value should be.
        mask: [N, ...] float32 >= 0, the weight of each action; what has none changes nothing.
        reference: [N, ...] how likely the action is to a policy that should not be left far behind, in nats; None
            where nobody asks.
    """

    inputs: Any
    action: Array
    log_prob: Array
    advantage: Array
    target: Array
    mask: Array
    reference: Array | None = None


Update = Callable[[TrainState, Experience, Array], tuple[TrainState, Metrics]]
"""`update(train_state, experience, key) -> (train_state, metrics)`; consumes the key."""


def masked_mean(x: Array, mask: Array) -> Array:
    """[] mean of x, weighted by the mask; 0 where nothing has weight."""
    return jnp.sum(x * mask) / jnp.maximum(jnp.sum(mask), jnp.finfo(jnp.float32).tiny)


def normalised(advantage: Array, mask: Array) -> Array:
    """Advantages of mean 0 and standard deviation 1 over what has weight."""
    centred = advantage - masked_mean(advantage, mask)
    return centred / (jnp.sqrt(masked_mean(centred**2, mask)) + 1e-8)


def reinforce(
    judge: Judge,
    optimizer: optax.GradientTransformation,
    *,
    baseline: bool = True,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
    entropy_ceiling: float = jnp.inf,
) -> Update:
    """REINFORCE (Williams 1992): one step along `advantage * grad log_prob`.

    Args:
        judge: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        baseline: whether the policy's own value, trained beside it, is taken off the returns, and the rest is
            normalised; without it `experience.target`, the return, is what counts.
        value_weight: weight of the value's loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        said = judge(params, batch.inputs, batch.action)
        worth = batch.target
        if baseline:
            worth = normalised(batch.target - jax.lax.stop_gradient(said.value), batch.mask)
        policy_loss = -masked_mean(worth * said.log_prob, batch.mask)
        value_loss = _value_loss(said, batch) if baseline else jnp.zeros(())
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    def update(train_state: TrainState, experience: Experience, key: Array) -> tuple[TrainState, Metrics]:
        del key  # nothing is left to chance
        return _descend(loss, optimizer, train_state, experience)

    return update


def ppo(
    judge: Judge,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int = 4,
    minibatches: int = 4,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
    entropy_ceiling: float = jnp.inf,
) -> Update:
    """Proximal policy optimization (Schulman et al. 2017): several epochs over the same experience, kept near it.

    Advantages are normalised in each minibatch.

    Args:
        judge: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        epochs: passes over the experience.
        minibatches: parts of each pass; must divide the rows.
        clip: how far the ratio of new to old probabilities may stray from 1 and still pay.
        value_weight: weight of the value's loss.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        said = judge(params, batch.inputs, batch.action)
        policy_loss, metrics = _surrogate(said, batch, normalised(batch.advantage, batch.mask), clip)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - _bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, **metrics}

    return _passes("ppo", loss, optimizer, epochs, minibatches)


def grpo(
    judge: Judge,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int = 1,
    minibatches: int = 4,
    clip: float = 0.2,
    kl_weight: float = 0.0,
    value_weight: float = 0.0,
    entropy_weight: float = 0.0,
    entropy_ceiling: float = jnp.inf,
) -> Update:
    """Group relative policy optimization (Shao et al. 2024): advantages are told from a group, not from a value.

    They are taken as they are given, so `returns.group_advantages` makes them. Every action weighs the same, however
    long its sequence (Yu et al. 2025). The metric `kl` is told of the reference policy where there is one, else of the
    policy that acted.

    Args:
        judge: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        epochs: passes over the experience.
        minibatches: parts of each pass; must divide the rows.
        clip: how far the ratio of new to old probabilities may stray from 1 and still pay.
        kl_weight: weight of the divergence from the reference policy; more than 0 asks for `experience.reference`.
        value_weight: weight of a value's loss. Nothing here reads the value, but a search may.
        entropy_weight: weight of the entropy bonus.
        entropy_ceiling: the mean entropy, in nats, above which there is no bonus.
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        if kl_weight and batch.reference is None:
            raise ValueError(f"grpo: kl_weight {kl_weight} without a reference; give experience.reference, or take 0")
        said = judge(params, batch.inputs, batch.action)
        policy_loss, metrics = _surrogate(said, batch, batch.advantage, clip)
        if batch.reference is not None:
            metrics["kl"] = _divergence(batch.reference - said.log_prob, batch.mask)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        penalty = kl_weight * metrics["kl"] if kl_weight else 0.0
        total = policy_loss + penalty + value_weight * value_loss - _bonus(entropy, entropy_weight, entropy_ceiling)
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, **metrics}

    return _passes("grpo", loss, optimizer, epochs, minibatches)


def imitation(
    judge: Judge,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int = 1,
    minibatches: int = 4,
    value_weight: float = 0.0,
) -> Update:
    """Makes actions likelier by their advantage, 1 or 0: the learning half of expert iteration (Anthony et al. 2017).

    Args:
        judge: the policy.
        optimizer: an optax transformation.
        epochs: passes over the experience.
        minibatches: parts of each pass; must divide the rows.
        value_weight: weight of a value's loss, of all actions, for a search to read.
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        said = judge(params, batch.inputs, batch.action)
        policy_loss = -masked_mean(said.log_prob, batch.mask * batch.advantage)
        value_loss = _value_loss(said, batch)
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    return _passes("imitation", loss, optimizer, epochs, minibatches)


Loss = Callable[[Params, Experience], tuple[Array, Metrics]]


def _surrogate(said: Judgement, batch: Experience, advantage: Array, clip: float) -> tuple[Array, Metrics]:
    """PPO's clipped loss, how far the policy went, and how often it was held back."""
    difference = said.log_prob - batch.log_prob
    ratio = jnp.exp(difference)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    return -masked_mean(gain, batch.mask), {
        "kl": _divergence(difference, batch.mask),
        "clip_ratio": masked_mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32), batch.mask),
    }


def _divergence(difference: Array, mask: Array) -> Array:
    """Schulman's estimate of the KL divergence, never negative, from differences of log-probabilities."""
    difference = jnp.where(mask > 0, difference, 0.0)  # what has no weight may be anything, and exp of it infinite
    return masked_mean(jnp.exp(difference) - 1 - difference, mask)


def _bonus(entropy: Array, weight: float, ceiling: float) -> Array:
    """The entropy bonus, which rests above a ceiling (He et al. 2025).

    What is learned has no advantage any more, and a bonus that never rests would undo it.
    """
    return jnp.where(entropy < ceiling, weight * entropy, 0.0)


def _value_loss(said: Judgement, batch: Experience) -> Array:
    return 0.5 * masked_mean((said.value - batch.target) ** 2, batch.mask)


def _passes(name: str, loss: Loss, optimizer: optax.GradientTransformation, epochs: int, minibatches: int) -> Update:
    """Several passes over the same experience, each in another order and in parts; metrics are means."""

    def update(train_state: TrainState, experience: Experience, key: Array) -> tuple[TrainState, Metrics]:
        rows = experience.mask.shape[0]
        if rows % minibatches:
            raise ValueError(f"{name}: {minibatches} minibatches do not divide {rows} rows; take a divisor")
        orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, epochs))

        def descend(train_state: TrainState, chosen: Array) -> tuple[TrainState, Metrics]:
            return _descend(loss, optimizer, train_state, jax.tree.map(lambda leaf: leaf[chosen], experience))

        train_state, metrics = jax.lax.scan(descend, train_state, orders.reshape(epochs * minibatches, -1))
        return train_state, jax.tree.map(jnp.mean, metrics)

    return update


def _descend(
    loss: Loss, optimizer: optax.GradientTransformation, train_state: TrainState, batch: Experience
) -> tuple[TrainState, Metrics]:
    gradients, metrics = jax.grad(loss, has_aux=True)(train_state.params, batch)
    return apply_gradients(train_state, optimizer, gradients), metrics
