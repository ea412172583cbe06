"""How thoughts before text are learned: by what they add to the probability of the text that follows.

Nobody shows a thought. A model thinks several times before the same text and is told of each thought how likely the
true text became behind it, as in Quiet-STaR (Zelikman et al. 2024), measured against a frozen model that does not
think.

Axes: N tokens of the corpus, B windows of a step, G thoughts of each, C tokens of a context, M that follow.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.policy_gradient import masked_mean
from thinking.learning.returns import group_advantages
from thinking.reasoning.thoughts.text_thoughts import LogProbs, ThoughtPolicy
from thinking.train_state import RunnerState, apply_gradients
from thinking.types import Array, Metrics, Params

ThoughtAdvantageFn = Callable[[Array, int], Array]
"""`credit(gain [B G], group) -> [B G]`, how much likelier each thought should become, group by group."""


class ThoughtTraining(NamedTuple):
    """What a step learns from, and how.

    Attributes:
        context_length: C.
        continuation_length: M.
        batch_size: B.
        advantage_fn: what thoughts learn; None: nothing, they are given.
        num_generations: G.
        entropy_weight: weight of the entropy bonus.
    """

    context_length: int
    continuation_length: int
    batch_size: int
    advantage_fn: ThoughtAdvantageFn | None = None
    num_generations: int = 1
    entropy_weight: float = 0.0


def group_relative(gain: Array, num_generations: int) -> Array:
    """How much better a thought did than the others of its window, which it is reinforced by (Shao et al. 2024).

    What the reference says is the same for a whole group and falls out; where a thought has no others, it is told from
    the thoughts of all windows, and the reference alone says which windows are hard.
    """
    return group_advantages(gain, num_generations if num_generations > 1 else len(gain))


def best_of_group(gain: Array, num_generations: int) -> Array:
    """1 for the best thought of each window if it beat the reference, else 0: what is imitated.

    That is expert iteration (Anthony et al. 2017), or STaR (Zelikman et al. 2022) with a likelihood for an answer.

    Args:
        gain: [B G] over the reference.
        num_generations: G.
    """
    grouped = gain.reshape(-1, num_generations)
    best = jax.nn.one_hot(jnp.argmax(grouped, axis=1), num_generations) * (grouped > 0)
    return best.reshape(-1)


def sample_windows(tokens: Array, key: Array, batch_size: int, length: int) -> Array:
    """[B, length] parts of a text [N] from anywhere; consumes the key."""
    first = jax.random.randint(key, (batch_size,), 0, len(tokens) - length + 1)
    return tokens[first[:, None] + jnp.arange(length)[None]]


def policy_loss(log_probs: LogProbs, advantage: Array) -> Array:
    """[] the loss whose descent makes thoughts likelier by their credit [B], or less likely where it is below 0."""
    return -masked_mean(
        jnp.sign(advantage)[:, None] * log_probs.thought, log_probs.sampled_mask * jnp.abs(advantage)[:, None]
    )


def make_thought_training_step(
    thought_policy: ThoughtPolicy,
    reference_policy: ThoughtPolicy,
    optimizer: optax.GradientTransformation,
    tokens: Array,
    training: ThoughtTraining,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(state, index) -> (state, metrics)`, a pure function of both.

    A model learns the context as any language model does, and what follows behind the thoughts that it had itself;
    what follows weighs as much as all of the context. Of two models the same step reads the same windows.

    Args:
        thought_policy: what learns.
        reference_policy: how the reference reads. The state has its parameters, or () where nothing is judged.
        optimizer: an optax transformation.
        tokens: [N] int32, of the corpus.
        training: to learn.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        window_key, think_key = jax.random.split(jax.random.fold_in(runner_state.key, index))
        window = sample_windows(
            tokens, window_key, training.batch_size, training.context_length + training.continuation_length
        )
        contexts, following = jnp.split(
            jnp.repeat(window, training.num_generations, axis=0), [training.context_length], axis=1
        )
        thought = thought_policy.think(runner_state.train_state.params, think_key, contexts)
        reference = _reference_log_probs(reference_policy, runner_state.reference, window, training)

        def loss(params: Params) -> tuple[Array, Metrics]:
            said = thought_policy.compute_log_probs(params, contexts, thought, following)
            context, ahead = (
                -jnp.mean(said.context) / (training.context_length - 1),
                -jnp.mean(said.continuation) / training.continuation_length,
            )
            total, metrics = context + ahead, {"loss": ahead, "context_loss": context}
            gain = jax.lax.stop_gradient(said.continuation) - reference
            if jax.tree.leaves(runner_state.reference):
                metrics |= {"gain": jnp.mean(gain)}
            if training.advantage_fn is not None:
                policy, entropy = (
                    policy_loss(said, training.advantage_fn(gain, training.num_generations)),
                    masked_mean(said.entropy, said.sampled_mask),
                )
                total += policy - training.entropy_weight * entropy
                length = jnp.mean(thought.length.astype(jnp.float32)) - 1  # without its end
                metrics |= {"policy_loss": policy, "entropy": entropy, "thought_tokens": length}
            return total, metrics

        gradients, metrics = jax.grad(loss, has_aux=True)(runner_state.train_state.params)
        metrics |= {"gradient_norm": optax.tree.norm(gradients)}
        return runner_state._replace(
            train_state=apply_gradients(runner_state.train_state, optimizer, gradients)
        ), metrics

    return step


def _reference_log_probs(
    reference_policy: ThoughtPolicy, reference_params: Any, windows: Array, training: ThoughtTraining
) -> Array:
    """[B G] how likely what follows is to the reference, in nats; 0 where there is none."""
    if not jax.tree.leaves(reference_params):
        return jnp.zeros(training.batch_size * training.num_generations)
    contexts, following = jnp.split(windows, [training.context_length], axis=1)
    nothing = reference_policy.think(reference_params, jax.random.key(0), contexts)
    return jnp.repeat(
        reference_policy.compute_log_probs(reference_params, contexts, nothing, following).continuation,
        training.num_generations,
    )
