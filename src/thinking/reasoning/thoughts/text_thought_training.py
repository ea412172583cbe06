"""Training of thoughts before text, rewarded by the log-probability of the continuation.

Several thoughts are sampled for each window. The reward is the gain in log-probability of the true continuation over a
frozen reference model without thoughts, as in Quiet-STaR (Zelikman et al. 2024).

Axes: N tokens of the corpus, B windows of a step, G thoughts of each, C tokens of a context, M of a continuation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.returns import group_advantages
from thinking.learning.statistics import clear_masked, masked_mean
from thinking.reasoning.thoughts.text_thoughts import LogProbs, ThoughtPolicy
from thinking.train_state import RunnerState, apply_gradients
from thinking.types import Array, Metrics, Params

ThoughtAdvantageFn = Callable[[Array, int], Array]
"""`advantage_fn(gain [B G], num_generations) -> advantage [B G]`, group by group."""


class ThoughtTrainingOptions(NamedTuple):
    """Options of a training step.

    Attributes:
        context_length: C.
        continuation_length: M.
        batch_size: B.
        advantage_fn: advantages of thoughts; None: thoughts are not trained.
        num_generations: G.
        entropy_weight: weight of the entropy bonus.
    """

    context_length: int
    continuation_length: int
    batch_size: int
    advantage_fn: ThoughtAdvantageFn | None = None
    num_generations: int = 1
    entropy_weight: float = 0.0


def normalize_gains_by_group(gain: Array, num_generations: int) -> Array:
    """Gains [B G] normalised within the thoughts of a window (Shao et al. 2024), or over the batch if G is 1.

    Within a group the reference cancels. With G = 1 it is the baseline for the difficulty of a window.
    """
    return group_advantages(gain, num_generations if num_generations > 1 else len(gain))


def select_best_of_group(gain: Array, num_generations: int) -> Array:
    """[B G] 1 for the best thought of each window if its gain is above 0, else 0.

    Expert iteration (Anthony et al. 2017), or STaR (Zelikman et al. 2022) with a likelihood in place of an answer.

    Args:
        gain: [B G] over the reference.
        num_generations: G.
    """
    grouped = gain.reshape(-1, num_generations)
    best = jax.nn.one_hot(jnp.argmax(grouped, axis=1), num_generations) * (grouped > 0)
    return best.reshape(-1)


def sample_windows(tokens: Array, key: Array, batch_size: int, length: int) -> Array:
    """[B, length] random windows of a text [N]; consumes the key."""
    first = jax.random.randint(key, (batch_size,), 0, len(tokens) - length + 1)
    return tokens[first[:, None] + jnp.arange(length)[None]]


def policy_loss(log_probs: LogProbs, advantage: Array) -> Array:
    """[] policy-gradient loss of sampled thoughts with advantage [B G], as a mean weighted by its absolute value."""
    mask = log_probs.sampled_mask
    advantage = clear_masked(jnp.broadcast_to(advantage[:, None], mask.shape), mask)
    thought = clear_masked(log_probs.thought, mask)
    return -masked_mean(jnp.sign(advantage) * thought, mask * jnp.abs(advantage))


def make_thought_training_step(
    thought_policy: ThoughtPolicy,
    reference_policy: ThoughtPolicy,
    optimizer: optax.GradientTransformation,
    tokens: Array,
    training: ThoughtTrainingOptions,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(runner_state, index) -> (runner_state, metrics)`, a pure function of both.

    The loss is the mean cross entropy of the context plus that of the continuation after sampled thoughts, plus the
    policy loss. The windows depend only on the key of the state and the index.

    Args:
        thought_policy: the trained policy.
        reference_policy: the reference; its parameters are `runner_state.reference`, () for none.
        optimizer: an optax transformation.
        tokens: [N] int32, of the corpus.
        training: options.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        window_key, think_key = jax.random.split(jax.random.fold_in(runner_state.key, index))
        windows = sample_windows(
            tokens, window_key, training.batch_size, training.context_length + training.continuation_length
        )
        contexts, continuation = jnp.split(
            jnp.repeat(windows, training.num_generations, axis=0), [training.context_length], axis=1
        )
        thought = thought_policy.think(runner_state.train_state.params, think_key, contexts)
        reference_log_probs = _reference_log_probs(reference_policy, runner_state.reference, windows, training)

        def loss(params: Params) -> tuple[Array, Metrics]:
            log_probs = thought_policy.compute_log_probs(params, contexts, thought, continuation)
            context_loss, continuation_loss = (
                -jnp.mean(log_probs.context) / (training.context_length - 1),
                -jnp.mean(log_probs.continuation) / training.continuation_length,
            )
            total, metrics = (
                context_loss + continuation_loss,
                {"loss/continuation": continuation_loss, "loss/context": context_loss},
            )
            gain = jax.lax.stop_gradient(log_probs.continuation) - reference_log_probs
            if jax.tree.leaves(runner_state.reference):
                metrics |= {"reward": jnp.mean(gain)}
            if training.advantage_fn is not None:
                policy_term, entropy = (
                    policy_loss(log_probs, training.advantage_fn(gain, training.num_generations)),
                    masked_mean(log_probs.entropy, log_probs.sampled_mask),
                )
                total += policy_term - training.entropy_weight * entropy
                length = jnp.mean(thought.length.astype(jnp.float32)) - 1  # without its end token
                metrics |= {"loss/policy": policy_term, "entropy": entropy, "thoughts/mean_length": length}
            return total, {"loss": total, **metrics}

        gradients, metrics = jax.grad(loss, has_aux=True)(runner_state.train_state.params)
        metrics |= {"grad_norm": optax.tree.norm(gradients)}
        return runner_state._replace(
            train_state=apply_gradients(runner_state.train_state, optimizer, gradients)
        ), metrics

    return step


def _reference_log_probs(
    reference_policy: ThoughtPolicy, reference_params: Any, windows: Array, training: ThoughtTrainingOptions
) -> Array:
    """[B G] log-probabilities of the continuations under the reference, in nats; 0 without a reference."""
    if not jax.tree.leaves(reference_params):
        return jnp.zeros(training.batch_size * training.num_generations)
    contexts, continuation = jnp.split(windows, [training.context_length], axis=1)
    thought = reference_policy.think(reference_params, jax.random.key(0), contexts)
    return jnp.repeat(
        reference_policy.compute_log_probs(reference_params, contexts, thought, continuation).continuation,
        training.num_generations,
    )
