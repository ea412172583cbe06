"""Reward design and post-training."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from thinking.learning.curriculum import IndexSampler
from thinking.learning.optimizers import adamw, warmup_stable_decay
from thinking.learning.policy_gradient import UpdateFn, expert_iteration, grpo, ppo, reinforce
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training import advantages, rewards, step_advantages
from thinking.reasoning.post_training.advantages import AdvantageFn
from thinking.reasoning.post_training.training_step import Prompts, RewardFn, make_evaluate_fn, make_post_training_step
from thinking.recipes.arithmetic.config import DataConfig, RewardsConfig, RLConfig, Style
from thinking.recipes.arithmetic.datasets import EvaluationSet, make_evaluation_set


def sample_problems(sources: Sequence[str], config: DataConfig, style: Style, seed: int) -> EvaluationSet:
    """Problems to post-train on, of the training split."""
    return make_evaluation_set(
        sources,
        style,
        num_problems=config.num_problems,
        seed=seed,
        split="train",
        verbal_fraction=config.verbal_fraction,
        reverse_digits=config.reverse_digits,
    )


def make_prompts(examples: EvaluationSet) -> Prompts:
    """Prompts on the device, with the columns `answers` and `steps` for rewards."""
    tokens, lengths, answers, steps = map(jnp.asarray, examples.prompts)
    return Prompts(tokens, lengths, {"answers": answers, "steps": steps})


def make_optimizer(config: RLConfig) -> optax.GradientTransformation:
    """AdamW with warm-up over the first tenth of the steps, and decay to 0 over the second half."""
    passes = 1 if config.algorithm == "reinforce" else config.num_epochs * config.num_minibatches
    steps = config.num_updates * passes
    # Adam's first updates have full size whatever the gradient; without warm-up they undo much of the fine-tuning.
    schedule = warmup_stable_decay(config.optimizer.learning_rate, steps, steps // 10, steps // 2)
    return adamw(schedule, weight_decay=0.0, b2=0.99)


def make_reward_fn(config: RewardsConfig) -> RewardFn:
    """The weighted sum of all rewards; each is logged by name."""
    return rewards.combine_rewards(
        outcome=(config.outcome_weight, rewards.outcome_reward),
        process=(config.process_weight, rewards.process_reward),
        format=(config.format_weight, rewards.format_reward),
        length=(config.length_weight, rewards.length_reward),
    )


def make_algorithm(
    config: RLConfig, decoder: Decoder, optimizer: optax.GradientTransformation
) -> tuple[AdvantageFn, UpdateFn]:
    """The advantage function and the update of an algorithm.

    Args:
        config: names the algorithm, which is not none.
        decoder: the policy.
        optimizer: of its parameters.
    """
    evaluate_fn, by_step = make_evaluate_fn(decoder), config.advantage == "step"
    num_generations = config.num_generations
    passes = {"num_epochs": config.num_epochs, "num_minibatches": config.num_minibatches}
    weights = {
        "value_weight": config.value_weight,
        "entropy_weight": config.entropy_weight,
        "entropy_ceiling": config.entropy_ceiling,
    }
    if config.algorithm == "grpo":
        update = grpo(evaluate_fn, optimizer, **passes, **weights, clip=config.clip, kl_weight=config.kl_weight)
        return (step_advantages.step_group_relative if by_step else advantages.group_relative)(num_generations), update
    if config.algorithm == "ppo":
        update, gae_lambda = ppo(evaluate_fn, optimizer, **passes, **weights, clip=config.clip), config.gae_lambda
        return step_advantages.step_gae_advantages(
            num_generations, gae_lambda
        ) if by_step else advantages.gae_advantages(gae_lambda), update
    if config.algorithm == "reinforce":
        advantage_fn = step_advantages.step_returns(num_generations) if by_step else advantages.return_to_go_advantages
        return advantage_fn, reinforce(evaluate_fn, optimizer, **weights, use_baseline=not by_step)
    update = expert_iteration(evaluate_fn, optimizer, **passes, value_weight=config.value_weight)
    return advantages.best_of_group(num_generations), update


def make_update_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    prompts: Prompts,
    sampler: IndexSampler,
    config: RLConfig,
    rewards_config: RewardsConfig,
    max_new_tokens: int,
) -> Callable[..., tuple[Any, ...]]:
    """A post-training step for `experiment.training_loop.train`."""
    advantage_fn, update = make_algorithm(config, decoder, optimizer)
    return make_post_training_step(
        decoder,
        prompts,
        sampler,
        reward_fn=make_reward_fn(rewards_config),
        advantage_fn=advantage_fn,
        update=update,
        num_prompts=config.num_prompts,
        num_sampled_prompts=config.num_sampled_prompts,
        num_generations=config.num_generations,
        max_new_tokens=max_new_tokens,
    )
