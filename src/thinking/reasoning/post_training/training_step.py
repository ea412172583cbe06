"""Reinforcement learning on completions: sample, compute rewards and advantages, update.

Axes: R prompts, Q prompts of an update, G completions of each, B = Q G rows, P tokens of the longest prompt, N of the
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
from thinking.learning.statistics import masked_mean, standard_deviation
from thinking.networks.actor_critic import ActionEvaluation
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.advantages import AdvantageFn
from thinking.text.vocabulary import END, Vocabulary
from thinking.train_state import RunnerState, TrainState
from thinking.types import Array, Metrics, Params

RewardFn = Callable[..., tuple[Array, dict[str, Array]]]
"""`reward_fn(prompts [B, P], completions, **columns) -> (total [B], {name: [B]})`, as of `rewards.combine_rewards`."""


class Prompts(NamedTuple):
    """The prompts of a task and the data of its rewards.

    Attributes:
        tokens: [R, P] int32, left-aligned.
        lengths: [R] int32, from 1.
        columns: arrays [R, ...] by name, read by rewards and advantages. `forced` [R, N] int32 is read by generation:
            tokens that replace sampled ones, -1 elsewhere; `advantage_fn` must mask them.
    """

    tokens: Array
    lengths: Array
    columns: Mapping[str, Array]


class Sample(NamedTuple):
    """Sampled completions with their rewards.

    Attributes:
        prompt_index: [B] int32.
        tokens: [B, N] int32, of the completion.
        length: [B] int32, of the completion.
        rewards: by name [B], unweighted.
        reward: [B], total.
        advantage: [B], mean over tokens under the mask.
    """

    prompt_index: Array
    tokens: Array
    length: Array
    rewards: Mapping[str, Array]
    reward: Array
    advantage: Array


def make_evaluate_fn(decoder: Decoder) -> EvaluateFn:
    """A decoder as a policy: inputs are (prompts [B, P], lengths [B]), actions the completion tokens [B, N].

    Args:
        decoder: a decoder.
    """

    def evaluate_actions(params: Params, inputs: tuple[Array, Array], tokens: Array) -> ActionEvaluation:
        prompts, lengths = inputs
        rows = concat_completion(prompts, lengths, tokens)
        output = decoder.apply(params, rows)
        log_probs = jax.nn.log_softmax(output.logits)
        targets = jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        token_log_probs = jnp.sum(
            log_probs * jax.nn.one_hot(targets, decoder.vocab_size), axis=-1
        )  # a gather's gradient is slow
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        # The logits of a token are at the position before it.
        positions = lengths[:, None] - 1 + jnp.arange(tokens.shape[1])[None]
        return ActionEvaluation(
            *(jnp.take_along_axis(array, positions, axis=1) for array in (token_log_probs, entropy, output.value))
        )

    return evaluate_actions


def init_post_training(
    train_state: TrainState, sampler: IndexSampler, key: Array, *, keep_reference: bool = False
) -> RunnerState:
    """The initial state of post-training, with the key stored in it.

    Args:
        train_state: policy parameters and optimizer state.
        sampler: sampler of prompts.
        key: key of all steps.
        keep_reference: whether to keep the initial policy as reference policy.
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
    """`step(runner_state, index) -> (runner_state, metrics, sample)`: one batch of completions and one update.

    Metrics have the names of TRL. `reward_std` is the mean over prompts of the standard deviation within their
    completions, `completions/answered_ratio` the share of completions with an answer. The success passed to the sampler
    is the reward named `outcome` if there is one, else the total.

    Args:
        decoder: a decoder.
        prompts: R prompts.
        sampler: chooses the prompts of an update.
        reward_fn: rewards of completions.
        advantage_fn: advantages of their tokens.
        update: an update of `learning.policy_gradient` for the policy `make_evaluate_fn(decoder)`.
        num_prompts: Q.
        num_generations: G.
        max_new_tokens: N.
        num_sampled_prompts: prompts to sample, Q by default. The update uses the Q of highest reward variance (dynamic
            sampling, Yu et al. 2025, DAPO).
        num_shown: number of completions in the returned sample.

    Raises:
        ValueError: if fewer prompts are sampled than used.
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
        sample_key, generate_key, update_key = jax.random.split(runner_state.key, 3)
        prompt_indices, level = sampler.sample(runner_state.sampler, sample_key, index, num_sampled_prompts)
        prompt_index = jnp.repeat(prompt_indices, num_generations)
        prompt_tokens, lengths = prompts.tokens[prompt_index], prompts.lengths[prompt_index]
        columns = {name: column[prompt_index] for name, column in prompts.columns.items()}
        completions = generate(
            decoder,
            runner_state.train_state.params,
            jax.random.fold_in(generate_key, index),
            prompt_tokens,
            lengths,
            max_new_tokens=max_new_tokens,
            stop_tokens=(END,),
            forced_tokens=columns.get("forced"),
        )
        total_reward, rewards = reward_fn(prompt_tokens, completions, **columns)
        completion_metrics = _compute_metrics(completions, total_reward, rewards, num_generations)
        level, success = jnp.repeat(level, num_generations), rewards.get("outcome", total_reward)
        sampler_state = sampler.update(runner_state.sampler, level, success, jnp.ones_like(success))
        if num_sampled_prompts > num_prompts:
            selected = select_highest_variance(total_reward, num_generations, num_prompts)
            prompt_index, prompt_tokens, lengths, columns, completions, total_reward, rewards = jax.tree.map(
                lambda leaf: leaf[selected],
                (prompt_index, prompt_tokens, lengths, columns, completions, total_reward, rewards),
            )
        batch = advantage_fn(completions, total_reward, **(columns | rewards))._replace(inputs=(prompt_tokens, lengths))
        if jax.tree.leaves(runner_state.reference):
            reference_log_prob = evaluate_actions(runner_state.reference, batch.inputs, batch.action).log_prob
            batch = batch._replace(reference_log_prob=reference_log_prob)
        train_state, metrics = update(runner_state.train_state, batch, jax.random.fold_in(update_key, index))
        metrics |= completion_metrics | {"curriculum/num_unlocked": sampler.num_unlocked(sampler_state)}
        advantage = masked_mean(batch.advantage, batch.mask, axis=1)
        sample = Sample(prompt_index, completions.tokens, completions.length, rewards, total_reward, advantage)
        return (
            runner_state._replace(train_state=train_state, sampler=sampler_state),
            metrics,
            _take_first(sample, num_shown),
        )

    return step


def select_highest_variance(rewards: Array, num_generations: int, num_prompts: int) -> Array:
    """[num_prompts G] int32, indices of the completions of the prompts of highest reward variance, grouped.

    Args:
        rewards: [B], group by group.
        num_generations: G.
        num_prompts: number of prompts to select.
    """
    selected = jax.lax.top_k(_group_deviations(rewards, num_generations), num_prompts)[1]
    return (selected[:, None] * num_generations + jnp.arange(num_generations)[None]).reshape(-1)


def sample_records(vocabulary: Vocabulary, prompts: Prompts, sample: Sample) -> list[dict[str, Any]]:
    """One dict a completion: prompt, completion, each reward, total reward and advantage.

    Args:
        vocabulary: decodes tokens.
        prompts: R prompts.
        sample: of a step, on the host.
    """
    records = []
    for index, row in enumerate(sample.prompt_index):
        prompt = np.asarray(prompts.tokens[row])[: int(prompts.lengths[row])]
        completion = sample.tokens[index][: int(sample.length[index])]
        records.append(
            {
                "prompt": vocabulary.decode(prompt.tolist()),
                "completion": vocabulary.decode(completion.tolist()),
                **{f"rewards/{name}": float(value[index]) for name, value in sample.rewards.items()},
                "reward": float(sample.reward[index]),
                "advantage": float(sample.advantage[index]),
            }
        )
    return records


def _take_first(sample: Sample, count: int) -> Sample:
    return jax.tree.map(lambda leaf: leaf[:count], sample)


def _group_deviations(rewards: Array, num_generations: int) -> Array:
    """[Q] standard deviation of rewards [Q G] within each group, 0 if they are equal up to rounding."""
    grouped = rewards.reshape(-1, num_generations)
    return standard_deviation(grouped, jnp.ones_like(grouped), axis=1)


def _compute_metrics(
    completions: Completions, total_reward: Array, rewards: Mapping[str, Array], num_generations: int
) -> Metrics:
    std = _group_deviations(total_reward, num_generations)
    return {
        "reward": jnp.mean(total_reward),
        "reward_std": jnp.mean(std),
        "frac_reward_zero_std": jnp.mean((std == 0).astype(jnp.float32)),
        **{f"rewards/{name}": jnp.mean(value) for name, value in rewards.items()},
        "completions/mean_length": jnp.mean(completions.length.astype(jnp.float32)),
        "completions/clipped_ratio": 1 - jnp.mean(completions.stopped.astype(jnp.float32)),
        "completions/answered_ratio": jnp.mean(find_answers(completions)[2].astype(jnp.float32)),
    }
