"""Reward design and learning: completions are sampled, rewarded, and learned from."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from thinking.learning.curriculum import Syllabus
from thinking.learning.optimizers import adamw, warmup_stable_decay
from thinking.learning.policy_gradient import Update, grpo, imitation, ppo, reinforce
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training import advantages, rewards, step_advantages
from thinking.reasoning.post_training.advantages import Credit
from thinking.reasoning.post_training.training_step import Questions, Rewards, judge_texts, post_training_step
from thinking.recipes.arithmetic.config import DataConfig, RewardsConfig, RlConfig, Style
from thinking.recipes.arithmetic.datasets import Exam, exam


def draw_problems(sources: Sequence[str], config: DataConfig, style: Style, seed: int) -> Exam:
    """Problems to post-train on; none of them is held out."""
    return exam(
        sources,
        style,
        count=config.num_problems,
        seed=seed,
        test=False,
        speech=config.verbal_fraction,
        least_first=config.reverse_digits,
    )


def make_questions(examples: Exam) -> Questions:
    """Prompts on the device, with the answers and the worked steps that rewards read."""
    tokens, lengths, answers, steps = map(jnp.asarray, examples.prompts)
    return Questions(tokens, lengths, {"answers": answers, "steps": steps})


def make_optimizer(config: RlConfig) -> optax.GradientTransformation:
    """AdamW, whose learning rate rises in the first tenth of its steps and falls to 0 in the second half."""
    passes = 1 if config.algorithm == "reinforce" else config.num_epochs * config.num_minibatches
    steps = config.num_updates * passes
    # Adam's first steps are as long as any, whatever the gradient: without a warm-up they undo much of what was taught.
    schedule = warmup_stable_decay(config.optimizer.learning_rate, steps, steps // 10, steps // 2)
    return adamw(schedule, weight_decay=0.0, b2=0.99)


def make_rewards(config: RewardsConfig) -> Rewards:
    """The weighted sum of all rewards; each is logged by its name."""
    return rewards.combined(
        outcome=(config.outcome_weight, rewards.outcome),
        process=(config.process_weight, rewards.process),
        format=(config.format_weight, rewards.format),
        length=(config.length_weight, rewards.length),
    )


def make_algorithm(
    config: RlConfig, decoder: Decoder, optimizer: optax.GradientTransformation, outcome_weight: float
) -> tuple[Credit, Update]:
    """How advantages come of rewards, and how the policy learns from them.

    Args:
        config: names the algorithm, which is not none.
        decoder: the policy.
        optimizer: of its parameters.
        outcome_weight: what a right answer earns; expert iteration imitates nothing that earns less.
    """
    judge, by_step = judge_texts(decoder), config.advantage == "step"
    group, policy = config.num_generations, config.policy
    passes = {"epochs": config.num_epochs, "minibatches": config.num_minibatches}
    weights = {
        "value_weight": policy.value_weight,
        "entropy_weight": policy.entropy_weight,
        "entropy_ceiling": policy.entropy_ceiling,
    }
    if config.algorithm == "grpo":
        update = grpo(judge, optimizer, **passes, **weights, clip=policy.clip, kl_weight=policy.kl_weight)
        return (step_advantages.by_step_group if by_step else advantages.by_group)(group), update
    if config.algorithm == "ppo":
        update, decay = ppo(judge, optimizer, **passes, **weights, clip=policy.clip), policy.gae_lambda
        return step_advantages.by_step_value(group, decay) if by_step else advantages.by_value(decay), update
    if config.algorithm == "reinforce":
        credit = step_advantages.by_step_return(group) if by_step else advantages.by_return
        return credit, reinforce(judge, optimizer, **weights, baseline=not by_step)
    update = imitation(judge, optimizer, **passes, value_weight=policy.value_weight)
    return advantages.by_best(group, outcome_weight), update


def make_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    questions: Questions,
    sampler: Syllabus,
    config: RlConfig,
    rewards_config: RewardsConfig,
    max_new_tokens: int,
) -> Callable[..., tuple[Any, ...]]:
    """An update by rewards, as `experiment.training.train` takes it."""
    credit, update = make_algorithm(config, decoder, optimizer, rewards_config.outcome_weight)
    return post_training_step(
        decoder,
        questions,
        sampler,
        rewards=make_rewards(rewards_config),
        credit=credit,
        update=update,
        problems=config.num_prompts,
        tried=config.num_sampled_prompts,
        group=config.num_generations,
        max_new_tokens=max_new_tokens,
    )
