"""Policy gradients: REINFORCE and PPO as pure update functions, for anything that acts.

Nothing here knows what an action is. The rows of an `Experience` are steps of a control task or whole sequences of
tokens; all that is asked for is a function which judges actions under parameters.

Axes: N rows, each with any number of further axes `...` (none for steps, the tokens of a sequence for texts).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.kernels.contract import Array, Metrics
from thinking.learning.learner import Learner, Params, stepped
from thinking.learning.policies import Judgement

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
    """

    inputs: Any
    action: Array
    log_prob: Array
    advantage: Array
    target: Array
    mask: Array


Update = Callable[[Learner, Experience, Array], tuple[Learner, Metrics]]
"""`update(learner, experience, key) -> (learner, metrics)`; consumes the key."""


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
) -> Update:
    """REINFORCE (Williams 1992): one step along `advantage * grad log_prob`.

    Args:
        judge: the policy.
        optimizer: an optax transformation; chain `optax.clip_by_global_norm` in front of it to clip.
        baseline: whether the policy's own value, trained beside it, is taken off the returns, and the rest is
            normalised; without it `experience.target`, the return, is what counts.
        value_weight: weight of the value's loss.
        entropy_weight: weight of the entropy bonus.
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        said = judge(params, batch.inputs, batch.action)
        worth = batch.target
        if baseline:
            worth = normalised(batch.target - jax.lax.stop_gradient(said.value), batch.mask)
        policy_loss = -masked_mean(worth * said.log_prob, batch.mask)
        value_loss = 0.5 * masked_mean((said.value - batch.target) ** 2, batch.mask) if baseline else jnp.zeros(())
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - entropy_weight * entropy
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    def update(learner: Learner, experience: Experience, key: Array) -> tuple[Learner, Metrics]:
        del key  # nothing is left to chance
        return _descend(loss, optimizer, learner, experience)

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
    """

    def loss(params: Params, batch: Experience) -> tuple[Array, Metrics]:
        said = judge(params, batch.inputs, batch.action)
        advantage = normalised(batch.advantage, batch.mask)
        difference = said.log_prob - batch.log_prob
        ratio = jnp.exp(difference)
        policy_loss = -masked_mean(
            jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage), batch.mask
        )
        value_loss = 0.5 * masked_mean((said.value - batch.target) ** 2, batch.mask)
        entropy = masked_mean(said.entropy, batch.mask)
        total = policy_loss + value_weight * value_loss - entropy_weight * entropy
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": masked_mean(ratio - 1 - difference, batch.mask),  # Schulman's estimate, never negative
            "clip_ratio": masked_mean((jnp.abs(ratio - 1) > clip).astype(jnp.float32), batch.mask),
        }

    def update(learner: Learner, experience: Experience, key: Array) -> tuple[Learner, Metrics]:
        rows = experience.mask.shape[0]
        if rows % minibatches:
            raise ValueError(f"ppo: {minibatches} minibatches do not divide {rows} rows; take a divisor")
        orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, epochs))

        def descend(learner: Learner, chosen: Array) -> tuple[Learner, Metrics]:
            return _descend(loss, optimizer, learner, jax.tree.map(lambda leaf: leaf[chosen], experience))

        learner, metrics = jax.lax.scan(descend, learner, orders.reshape(epochs * minibatches, -1))
        return learner, jax.tree.map(jnp.mean, metrics)

    return update


def _descend(
    loss: Callable[[Params, Experience], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
    learner: Learner,
    batch: Experience,
) -> tuple[Learner, Metrics]:
    gradients, metrics = jax.grad(loss, has_aux=True)(learner.params, batch)
    return stepped(learner, optimizer, gradients), metrics
