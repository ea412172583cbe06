"""Training of thoughts: by gradients of the answer loss, by reinforcement, or on target chains.

Axes: B words of a step, N symbols of the longest, T thoughts, L levels (of lengths 1 to N).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.curriculum import Curriculum, estimate_success
from thinking.learning.returns import group_advantages, returns_to_go
from thinking.learning.statistics import clear_masked, masked_mean
from thinking.reasoning.thoughts.thinking_model import ThinkingModel, ThinkingOutput
from thinking.train_state import RunnerState, apply_gradients, init_train_state
from thinking.types import Array, Metrics

SampleWords = Callable[[Array, Array], Any]
"""`sample_words(key, lengths [B]) -> words`, int32: `symbols` and `states` [B, N], `lengths` and `final_states` [B]."""


class Reinforcement(NamedTuple):
    """Reinforcement of sampled thoughts, whose reward is the log-probability of the correct answer.

    Attributes:
        num_generations: samples of each word, whose rewards are normalised as a group (GRPO, Shao et al. 2024); 1:
            normalised over the batch (REINFORCE, Williams 1992).
        expert_iteration: whether to imitate the best sample of a group instead (expert iteration, Anthony et al. 2017).
        policy_weight: weight of the policy loss.
        entropy_weight: weight of the entropy bonus.
        discount: discount factor for each thought.
        repetition_penalty: penalty of a thought that equals the one before.
    """

    num_generations: int = 8
    expert_iteration: bool = False
    policy_weight: float = 1.0
    entropy_weight: float = 0.01
    discount: float = 1.0
    repetition_penalty: float = 0.0


def init_thought_training(
    model: ThinkingModel,
    optimizer: optax.GradientTransformation,
    curriculum: Curriculum,
    key: Array,
    initial_params: Any = None,
) -> RunnerState:
    """The initial training state, with new parameters unless `initial_params` are given; consumes the key."""
    init_key, key = jax.random.split(key)
    params = model.init(init_key) if initial_params is None else initial_params
    return RunnerState(init_train_state(params, optimizer), key, sampler=curriculum.init())


def make_symbol_thought_step(
    model: ThinkingModel,
    optimizer: optax.GradientTransformation,
    sample_words: SampleWords,
    curriculum: Curriculum,
    *,
    batch_size: int,
    reinforcement: Reinforcement | None = None,
    chain_weight: float = 0.0,
    step_cost: float = 0.0,
    threshold: float = 0.9,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(runner_state, index) -> (runner_state, metrics)`, a pure function of both.

    Args:
        model: the model.
        optimizer: an optax transformation.
        sample_words: samples words of given lengths.
        curriculum: curriculum whose level l is the length l + 1.
        batch_size: B rows, a multiple of `num_generations`; the rows of a group share a word.
        reinforcement: policy-gradient loss; None: gradients through the thoughts only.
        chain_weight: weight of the cross entropy of thoughts against the true states; needs K = number of states.
        step_cost: cost of an expected step, in nats, if the model chooses its end.
        threshold: success estimate of a word length at which the model may choose its end there. Before that, n
            symbols take n steps: with free ends from the start, the model learns to answer short words without thoughts
            and never solves longer ones.
    """
    group_size = 1 if reinforcement is None else reinforcement.num_generations

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        length_key, word_key, thought_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        level = curriculum.sample(runner_state.sampler, length_key, batch_size // group_size)
        words = sample_words(word_key, level + 1)
        words, level = jax.tree.map(lambda leaf: jnp.repeat(leaf, group_size, axis=0), (words, level))
        can_end = estimate_success(runner_state.sampler)[level] >= threshold

        def loss(params: Any) -> tuple[Array, tuple[Array, Metrics]]:
            output = model.think(params, words.symbols, words.lengths, thought_key, can_end=can_end)
            answer_loss = optax.softmax_cross_entropy_with_integer_labels(output.answer_logits, words.final_states)
            steps = jnp.mean(output.num_steps)
            total, metrics = (
                jnp.mean(answer_loss) + step_cost * steps,
                {"loss/answer": jnp.mean(answer_loss), "thoughts/num_steps": steps},
            )
            if reinforcement is not None:
                policy_term, policy_metrics = policy_loss(output, -answer_loss, reinforcement)
                total, metrics = total + policy_term, metrics | policy_metrics
            if chain_weight:
                targets = words.states[:, : output.thought_mask.shape[1]]
                chain_losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, targets)
                # With a free end, steps past the word have no true state.
                in_word = jnp.arange(targets.shape[1])[None] < words.lengths[:, None]
                metrics["loss/chain"] = masked_mean(chain_losses, (output.thought_mask & in_word).astype(jnp.float32))
                total += chain_weight * metrics["loss/chain"]
            exact = (jnp.argmax(output.answer_logits, axis=-1) == words.final_states).astype(jnp.float32)
            return total, (exact, {"loss": total, **metrics})

        gradients, (exact, metrics) = jax.grad(loss, has_aux=True)(runner_state.train_state.params)
        train_state = apply_gradients(runner_state.train_state, optimizer, gradients)
        sampler = curriculum.update(runner_state.sampler, level, exact, jnp.ones(batch_size))
        num_unlocked = jnp.sum(sampler.unlocked)
        metrics |= {
            "exact_match": jnp.mean(exact),
            "curriculum/num_unlocked": num_unlocked.astype(jnp.float32),
            "curriculum/exact_match_longest": estimate_success(sampler)[num_unlocked - 1],
            "grad_norm": optax.tree.norm(gradients),
        }
        return runner_state._replace(train_state=train_state, sampler=sampler), metrics

    return step


def with_thought_records(
    step_fn: Callable[[RunnerState, Array], tuple[RunnerState, Metrics]],
    model: ThinkingModel,
    words: Any,
    interval: int,
    num_steps: int,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics, Array]]:
    """The training step with a record of the model's thoughts on some words.

    Args:
        step_fn: of `make_symbol_thought_step`.
        model: the model.
        words: held-out words with `symbols` [B, N] and `lengths` [B].
        interval: steps between records.
        num_steps: number of steps in all; the last one is recorded as well.

    Returns:
        A step with a sample [2, B, N] int32: the argmax of the answer head at each step (at a word's last symbol: the
        answer), and the thought tokens; -1 where there are none, and everywhere at steps without a record.
    """

    def record(params: Any) -> Array:
        output = model.think(params, words.symbols, words.lengths)
        predictions = jnp.argmax(model.read_answer(params, output.hidden), axis=-1)
        indices = jnp.arange(predictions.shape[1])[None]
        predictions = jnp.where(indices < output.num_steps[:, None], predictions, -1)
        is_last = indices == words.lengths[:, None] - 1
        predictions = jnp.where(is_last, jnp.argmax(output.answer_logits, axis=-1)[:, None], predictions)
        thoughts = jnp.where(output.thought_mask & (model.kind == "discrete"), output.thoughts, -1)
        num_missing = predictions.shape[1] - thoughts.shape[1]
        return jnp.stack([predictions, jnp.pad(thoughts, ((0, 0), (0, num_missing)), constant_values=-1)]).astype(
            jnp.int32
        )

    def step_and_record(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics, Array]:
        state, metrics = step_fn(state, index)
        empty = jnp.full((2, *words.symbols.shape), -1, jnp.int32)
        is_due = ((index + 1) % interval == 0) | (index + 1 == num_steps)
        return state, metrics, jax.lax.cond(is_due, record, lambda params: empty, state.train_state.params)

    return step_and_record


def policy_loss(output: ThinkingOutput, reward: Array, reinforcement: Reinforcement) -> tuple[Array, Metrics]:
    """Policy-gradient loss of sampled thoughts with reward [B], and its metrics."""
    mask = output.thought_mask.astype(jnp.float32)
    reward = jax.lax.stop_gradient(reward)
    if reinforcement.expert_iteration:
        best = jnp.argmax(reward.reshape(-1, reinforcement.num_generations), axis=1)
        advantage = jax.nn.one_hot(best, reinforcement.num_generations).reshape(-1)
    else:
        advantage = group_advantages(
            reward, reinforcement.num_generations if reinforcement.num_generations > 1 else len(reward)
        )
    thoughts = output.thoughts
    is_repeated = jnp.pad(thoughts[:, 1:] == thoughts[:, :-1], ((0, 0), (1, 0))) * mask
    is_last = mask - jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))  # last thoughts
    returns = returns_to_go(
        advantage[:, None] * is_last - reinforcement.repetition_penalty * is_repeated, reinforcement.discount
    )
    loss = -masked_mean(returns * clear_masked(output.log_probs, mask), mask)
    entropy = masked_mean(output.entropy, mask)
    metrics = {"loss/policy": loss, "entropy": entropy, "thoughts/repeated_fraction": masked_mean(is_repeated, mask)}
    return reinforcement.policy_weight * loss - reinforcement.entropy_weight * entropy, metrics
