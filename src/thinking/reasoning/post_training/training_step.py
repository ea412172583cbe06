"""Reinforcement learning of what is written: sample, reward, give credit, learn.

Axes: R problems, Q of them in an update, G completions of each, B = Q G rows, P tokens of the longest prompt, N of the
longest completion.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.answers import find_answers
from thinking.generation.completions import Completions, generate
from thinking.generation.prompts import concat_completion
from thinking.learning.curriculum import IndexSampler
from thinking.learning.policy_gradient import EvaluateFn, UpdateFn
from thinking.networks.actor_critic import ActionEvaluation
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.advantages import AdvantageFn
from thinking.text.vocabulary import END, Vocabulary
from thinking.train_state import RunnerState, TrainState
from thinking.types import Array, Metrics, Params

RewardFn = Callable[..., tuple[Array, dict[str, Array]]]
"""`rewards(prompts [B, P], completions, **columns) -> (total [B], {name: [B]})`, of `rewards.combine_rewards`."""


class Prompts(NamedTuple):
    """What is asked, and by what answers are judged.

    Attributes:
        tokens: [R, P] int32, each prompt beginning at the left.
        lengths: [R] int32, from 1.
        columns: arrays [R, ...] that rewards read, by name. One is read by the writing itself: `forced` [R, N] int32,
            tokens that are written whatever the policy says, -1 elsewhere; what they earn is the credit's to leave out.
    """

    tokens: Array
    lengths: Array
    columns: Mapping[str, Array]


class Sample(NamedTuple):
    """What was written and what became of it.

    Attributes:
        prompt_index: [B] int32, which problem was asked.
        tokens: [B, N] int32, of the completion.
        length: [B] int32, how many.
        rewards: by name [B], unweighted.
        reward: [B].
        advantage: [B], the mean over its tokens.
    """

    prompt_index: Array
    tokens: Array
    length: Array
    rewards: Mapping[str, Array]
    reward: Array
    advantage: Array


def make_evaluate_fn(decoder: Decoder) -> EvaluateFn:
    """A decoder as the policy that updates judge: inputs are (prompts [B, P], lengths [B]), actions [B, N] the tokens.

    Args:
        decoder: a decoder.
    """

    def evaluate_actions(params: Params, inputs: tuple[Array, Array], tokens: Array) -> ActionEvaluation:
        prompts, lengths = inputs
        rows = concat_completion(prompts, lengths, tokens)
        reading = decoder.apply(params, rows)
        log_probs = jax.nn.log_softmax(reading.logits)
        wanted = jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        said = jnp.sum(log_probs * jax.nn.one_hot(wanted, decoder.vocab_size), axis=-1)  # a gather's gradient is slow
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        # The token that follows another is judged where that one stands.
        place = lengths[:, None] - 1 + jnp.arange(tokens.shape[1])[None]
        return ActionEvaluation(*(jnp.take_along_axis(each, place, axis=1) for each in (said, entropy, reading.value)))

    return evaluate_actions


def init_post_training(
    train_state: TrainState, sampler: IndexSampler, key: Array, *, keep_reference: bool = False
) -> RunnerState:
    """A policy that is to be improved. Keeps the key.

    Args:
        train_state: the policy and its optimizer.
        sampler: of the problems.
        key: of everything random.
        keep_reference: whether the policy of the start is kept as the reference.
    """
    reference = jax.tree.map(jnp.copy, train_state.params) if keep_reference else ()
    return RunnerState(train_state, key, sampler=sampler.init(), reference=reference)


def make_post_training_step(
    decoder: Decoder,
    prompts: Prompts,
    sampler: IndexSampler,
    *,
    reward_fn: RewardFn,
    advantage_fn: AdvantageFn,
    update: UpdateFn,
    num_prompts: int,
    num_generations: int,
    max_new_tokens: int,
    num_sampled_prompts: int | None = None,
    num_shown: int = 8,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics, Sample]]:
    """`step(state, index) -> (state, metrics, sample)`: one batch of completions, and what is learned from it.

    Metrics bear the names that trainers of language models use. `reward_std` is the mean over problems of the standard
    deviation among the completions of each; `valid_fraction` the share in which an answer can be read. The syllabus is
    told the reward named `outcome_reward` where there is one, else the total.

    Args:
        decoder: a decoder.
        prompts: all problems.
        sampler: which of them an update asks.
        reward_fn: what completions earn.
        advantage_fn: what their tokens are to learn from that.
        update: of `learning.policy_gradient`, of the policy `make_evaluate_fn(decoder)`.
        num_prompts: Q, what is learned from.
        num_generations: G.
        max_new_tokens: N.
        num_sampled_prompts: how many problems are answered, Q by default. Of more, those are learned from whose completions differ
            most in their rewards: where they agree there is little to learn (dynamic sampling, Yu et al. 2025, DAPO).
        num_shown: the first so many completions are handed out as the sample.
    """
    evaluate_actions, num_sampled_prompts = (
        make_evaluate_fn(decoder),
        num_prompts if num_sampled_prompts is None else num_sampled_prompts,
    )
    if num_sampled_prompts < num_prompts:
        raise ValueError(
            f"make_post_training_step: num_sampled_prompts {num_sampled_prompts} is below num_prompts {num_prompts}; "
            "give at least as many"
        )

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics, Sample]:
        draw_key, write_key, learn_key = jax.random.split(runner_state.key, 3)
        drawn, level = sampler.sample(runner_state.sampler, draw_key, index, num_sampled_prompts)
        row = jnp.repeat(drawn, num_generations)
        prompt_tokens, lengths = prompts.tokens[row], prompts.lengths[row]
        columns = {name: column[row] for name, column in prompts.columns.items()}
        written = generate(
            decoder,
            runner_state.train_state.params,
            jax.random.fold_in(write_key, index),
            prompt_tokens,
            lengths,
            max_new_tokens=max_new_tokens,
            stop_tokens=(END,),
            forced_tokens=columns.get("forced"),
        )
        total, each = reward_fn(prompt_tokens, written, **columns)
        figures = _compute_metrics(written, total, each, num_generations)
        level, success = jnp.repeat(level, num_generations), each.get("outcome", total)
        sampler_state = sampler.update(runner_state.sampler, level, success, jnp.ones_like(success))
        if num_sampled_prompts > num_prompts:
            chosen = select_highest_variance(total, num_generations, num_prompts)
            row, prompt_tokens, lengths, columns, written, total, each = jax.tree.map(
                lambda leaf: leaf[chosen], (row, prompt_tokens, lengths, columns, written, total, each)
            )
        experience = advantage_fn(written, total, **(columns | each))._replace(inputs=(prompt_tokens, lengths))
        if jax.tree.leaves(runner_state.reference):
            reference = evaluate_actions(runner_state.reference, experience.inputs, experience.action).log_prob
            experience = experience._replace(reference_log_prob=reference)
        train_state, metrics = update(runner_state.train_state, experience, jax.random.fold_in(learn_key, index))
        metrics |= figures | {"levels_open": sampler.num_unlocked(sampler_state)}
        advantage = jnp.sum(experience.advantage, axis=1) / jnp.maximum(jnp.sum(experience.mask, axis=1), 1)
        sample = Sample(row, written.tokens, written.length, each, total, advantage)
        return (
            runner_state._replace(train_state=train_state, sampler=sampler_state),
            metrics,
            _take_first(sample, num_shown),
        )

    return step


def select_highest_variance(rewards: Array, num_generations: int, num_prompts: int) -> Array:
    """[count G] int32, the completions of the problems whose rewards differ most, problem by problem.

    Args:
        rewards: [B], group by group.
        num_generations: G.
        num_prompts: of problems.
    """
    spread = jnp.std(rewards.reshape(-1, num_generations), axis=1)
    problem = jax.lax.top_k(spread, num_prompts)[1]
    return (problem[:, None] * num_generations + jnp.arange(num_generations)[None]).reshape(-1)


def sample_records(vocabulary: Vocabulary, prompts: Prompts, sample: Sample) -> list[dict[str, Any]]:
    """A sample as a table to read: prompt, completion, each reward, their sum and the advantage.

    Args:
        vocabulary: of the tokens.
        prompts: all problems.
        sample: of a step, on the host.
    """
    found = []
    for index, row in enumerate(sample.prompt_index):
        asked = np.asarray(prompts.tokens[row])[: int(prompts.lengths[row])]
        written = sample.tokens[index][: int(sample.length[index])]
        found.append(
            {
                "prompt": vocabulary.decode(asked.tolist()),
                "completion": vocabulary.decode(written.tolist()),
                **{f"rewards/{name}": float(value[index]) for name, value in sample.rewards.items()},
                "reward": float(sample.reward[index]),
                "advantage": float(sample.advantage[index]),
            }
        )
    return found


def _take_first(sample: Sample, count: int) -> Sample:
    return jax.tree.map(lambda leaf: leaf[:count], sample)


def _compute_metrics(
    completions: Completions, total_reward: Array, rewards: Mapping[str, Array], num_generations: int
) -> Metrics:
    spread = jnp.std(total_reward.reshape(-1, num_generations), axis=1)
    alike = jnp.all(
        total_reward.reshape(-1, num_generations) == total_reward.reshape(-1, num_generations)[:, :1], axis=1
    )
    return {
        "reward": jnp.mean(total_reward),
        "reward_std": jnp.mean(spread),
        "frac_reward_zero_std": jnp.mean(alike.astype(jnp.float32)),
        **{f"rewards/{name}": jnp.mean(value) for name, value in rewards.items()},
        "completions/mean_length": jnp.mean(completions.length.astype(jnp.float32)),
        "completions/clipped_ratio": 1 - jnp.mean(completions.stopped.astype(jnp.float32)),
        "valid_fraction": jnp.mean(find_answers(completions)[2].astype(jnp.float32)),
    }
