"""How thoughts are learned: from the answer alone, through them or by what they were worth, or from given chains.

Axes: B words of a step, N symbols of the longest, T thoughts, L levels (of lengths 1 to N).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.learning.curriculum import Curriculum, estimate_success
from thinking.learning.policy_gradient import masked_mean
from thinking.learning.returns import group_advantages, returns_to_go
from thinking.reasoning.thoughts.thinking_model import ThinkingModel, ThinkingOutput
from thinking.train_state import RunnerState, apply_gradients, init_train_state
from thinking.types import Array, Metrics

SampleWords = Callable[[Array, Array], Any]
"""`draw(key, lengths [B]) -> words` with `symbols` [B, N], `lengths` [B], `states` [B, N] and `answers` [B], int32."""


class Reinforcement(NamedTuple):
    """How drawn thoughts learn from what they were worth: the log-probability of the right answer.

    Attributes:
        num_generations: thoughts drawn of each word, told from their mean in standard deviations (GRPO, Shao et al. 2024); 1:
            told from the mean of all words (REINFORCE, Williams 1992).
        imitate_best: whether instead the best thoughts of a group are imitated: search while training, as in expert iteration
            (Anthony et al. 2017).
        policy_weight: of the policy's loss beside the answer's.
        entropy_weight: weight of the entropy bonus.
        discount: what a reward counts for one thought earlier.
        repetition_penalty: what a thought pays that is the same as the one before it.
    """

    num_generations: int = 8
    imitate_best: bool = False
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
    """A model that has learned nothing yet here; consumes the key, of which come its parameters unless `initial_params` is."""
    init_key, key = jax.random.split(key)
    params = model.init(init_key) if initial_params is None else initial_params
    return RunnerState(init_train_state(params, optimizer), key, sampler=curriculum.init())


def make_thinking_step(
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
    """`step(state, index) -> (state, metrics)`, a pure function of both.

    Args:
        model: that learns.
        optimizer: an optax transformation.
        sample_words: words of given lengths.
        curriculum: a curriculum whose level l is the length l + 1.
        batch_size: B; with groups, so many rows of which a group shares a word.
        reinforcement: how drawn thoughts learn; None: through their gradient, where they have one.
        chain_weight: weight of a loss that makes thoughts the true states, which need as many kinds as there are states.
        step_cost: what each step costs, in nats, where the model ends its thoughts by itself.
        threshold: share of right answers to words of a length from which on it does so there. Until then a thought comes
            with each symbol. Ends that are free from the start come before there is anything to think: the model finds
            the answers to short words without a thought, and never those to longer ones.
    """
    group = 1 if reinforcement is None else reinforcement.num_generations

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        length_key, word_key, thought_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        level = curriculum.sample(runner_state.sampler, length_key, batch_size // group)
        words = sample_words(word_key, level + 1)
        words, level = jax.tree.map(lambda leaf: jnp.repeat(leaf, group, axis=0), (words, level))
        can_end = estimate_success(runner_state.sampler)[level] >= threshold

        def loss(params: Any) -> tuple[Array, tuple[Array, Metrics]]:
            thinking = model.think(params, words.symbols, words.lengths, thought_key, can_end=can_end)
            lost = optax.softmax_cross_entropy_with_integer_labels(thinking.answer_logits, words.answers)
            steps = jnp.mean(thinking.num_steps)
            total, metrics = jnp.mean(lost) + step_cost * steps, {"loss": jnp.mean(lost), "steps": steps}
            if reinforcement is not None:
                policy, told = policy_loss(thinking, -lost, reinforcement)
                total, metrics = total + policy, metrics | told
            if chain_weight:
                true = words.states[:, : thinking.thought_mask.shape[1]]
                told = optax.softmax_cross_entropy_with_integer_labels(thinking.logits, true)
                # Where ends are free a model thinks on behind its word, which has no states there.
                inside = jnp.arange(true.shape[1])[None] < words.lengths[:, None]
                metrics["chain_loss"] = masked_mean(told, (thinking.thought_mask & inside).astype(jnp.float32))
                total += chain_weight * metrics["chain_loss"]
            exact = (jnp.argmax(thinking.answer_logits, axis=-1) == words.answers).astype(jnp.float32)
            return total, (exact, metrics)

        gradients, (exact, metrics) = jax.grad(loss, has_aux=True)(runner_state.train_state.params)
        train_state = apply_gradients(runner_state.train_state, optimizer, gradients)
        sampler = curriculum.update(runner_state.sampler, level, exact, jnp.ones(batch_size))
        opened = jnp.sum(sampler.unlocked)
        metrics |= {
            "exact": jnp.mean(exact),
            "length": opened.astype(jnp.float32),
            "exact_of_longest": estimate_success(sampler)[opened - 1],
            "gradient_norm": optax.tree.norm(gradients),
        }
        return runner_state._replace(train_state=train_state, sampler=sampler), metrics

    return step


def record_thoughts(
    step_fn: Callable[[RunnerState, Array], tuple[RunnerState, Metrics]],
    model: ThinkingModel,
    words: Any,
    interval: int,
    num_steps: int,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics, Array]]:
    """The same step, which also tells what the model makes of some words, as it goes on to learn.

    Args:
        step_fn: of `thinking_step`.
        model: that learns.
        words: with `symbols` [B, N] and `lengths` [B], which are not learned from.
        interval: steps between two looks.
        num_steps: in all; the last is looked at too.

    Returns:
        A step with a sample [2, B, N] int32: what the answers' head says of each step (of a word's last: the answer),
        and the tokens that were thought; -1 where there are none, and everywhere after a step that was not looked at.
    """

    def look(params: Any) -> Array:
        thinking = model.think(params, words.symbols, words.lengths)
        said = jnp.argmax(model.read_answer(params, thinking.hidden), axis=-1)
        numbers = jnp.arange(said.shape[1])[None]
        said = jnp.where(numbers < thinking.num_steps[:, None], said, -1)
        last = numbers == words.lengths[:, None] - 1
        said = jnp.where(last, jnp.argmax(thinking.answer_logits, axis=-1)[:, None], said)
        thoughts = jnp.where(thinking.thought_mask & (model.kind == "discrete"), thinking.thoughts, -1)
        missing = said.shape[1] - thoughts.shape[1]
        return jnp.stack([said, jnp.pad(thoughts, ((0, 0), (0, missing)), constant_values=-1)]).astype(jnp.int32)

    def step_and_look(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics, Array]:
        state, metrics = step_fn(state, index)
        nothing = jnp.full((2, *words.symbols.shape), -1, jnp.int32)
        due = ((index + 1) % interval == 0) | (index + 1 == num_steps)
        return state, metrics, jax.lax.cond(due, look, lambda params: nothing, state.train_state.params)

    return step_and_look


def policy_loss(output: ThinkingOutput, reward: Array, reinforcement: Reinforcement) -> tuple[Array, Metrics]:
    """The loss of drawn thoughts whose answer was worth a reward [B], and its metrics."""
    mask = output.thought_mask.astype(jnp.float32)
    reward = jax.lax.stop_gradient(reward)
    if reinforcement.imitate_best:
        found = jnp.argmax(reward.reshape(-1, reinforcement.num_generations), axis=1)
        advantage = jax.nn.one_hot(found, reinforcement.num_generations).reshape(-1)
    else:
        advantage = group_advantages(
            reward, reinforcement.num_generations if reinforcement.num_generations > 1 else len(reward)
        )
    thoughts = output.thoughts
    again = jnp.pad(thoughts[:, 1:] == thoughts[:, :-1], ((0, 0), (1, 0))) * mask
    ends = mask - jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))  # 1 at the last thought
    worth = returns_to_go(advantage[:, None] * ends - reinforcement.repetition_penalty * again, reinforcement.discount)
    policy = -masked_mean(worth * output.log_probs, mask)
    entropy = masked_mean(output.entropy, mask)
    metrics = {"policy_loss": policy, "entropy": entropy, "repeated": masked_mean(again, mask)}
    return reinforcement.policy_weight * policy - reinforcement.entropy_weight * entropy, metrics
