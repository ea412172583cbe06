"""Cost of a post-training step, and its fraction in generation and update.

Axes: B completions of an update.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking.benchmarks.config import PostTrainingConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.environments.arithmetic.sources import SMALL_NUMBER_PROBLEMS
from thinking.experiment import Run
from thinking.experiment.device import measure_best_seconds
from thinking.experiment.training_loop import TrainResult, train
from thinking.files import make_temporary_folder
from thinking.generation.completions import generate
from thinking.learning.curriculum import uniform_sampler
from thinking.learning.optimizers import adamw
from thinking.learning.policy_gradient import UpdateFn, grpo
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.reasoning.post_training.advantages import group_relative
from thinking.reasoning.post_training.rewards import combine_rewards, format_reward, outcome_reward
from thinking.reasoning.post_training.training_step import (
    Prompts,
    init_post_training,
    make_evaluate_fn,
    make_post_training_step,
    sample_records,
)
from thinking.recipes.arithmetic.datasets import make_evaluation_set
from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import END
from thinking.train_state import TrainState, init_train_state


def measure_post_training(config: PostTrainingConfig, setup: Setup) -> Measurement:
    """The fraction of a loop's time, without compilation, that generation and update take by themselves.

    The loop is GRPO on small-number problems as in a task, with rewards, metrics, samples and checkpoints.
    """
    examples = make_evaluation_set([SMALL_NUMBER_PROBLEMS], num_problems=1, seed=0, split="train")
    tokens, lengths, answers, steps = map(jnp.asarray, examples.prompts)
    prompts = Prompts(tokens, lengths, {"answers": answers, "steps": steps})
    model = decoder(
        vocab_size=len(VOCABULARY),
        context_length=tokens.shape[1] + config.max_new_tokens,
        block=BlockConfig(config.decoder.width, config.decoder.num_heads, gated=True),
        num_layers=config.decoder.num_layers,
        value_head=True,
    )
    optimizer = adamw(1e-4, weight_decay=0.0)
    update = grpo(make_evaluate_fn(model), optimizer, num_minibatches=2)
    train_result = _train(config, setup.run, model, prompts, optimizer, update)
    generation_seconds, update_seconds = _measure_parts(config, model, prompts, update, train_result.state.train_state)
    step_seconds = train_result.seconds / config.num_steps
    row = {
        "benchmark": "post-training step",
        "rows": config.num_prompts * config.num_generations,
        "tokens": config.max_new_tokens,
        "generation_ms": generation_seconds * 1e3,
        "update_ms": update_seconds * 1e3,
        "ms": step_seconds * 1e3,
        "generation_and_update_fraction": (generation_seconds + update_seconds) / step_seconds,
    }
    return Measurement([row])


def _train(
    config: PostTrainingConfig,
    run: Run,
    model: Decoder,
    prompts: Prompts,
    optimizer: optax.GradientTransformation,
    update: UpdateFn,
) -> TrainResult:
    sampler = uniform_sampler(len(prompts.tokens))
    step = make_post_training_step(
        model,
        prompts,
        sampler,
        reward_fn=combine_rewards(outcome=(1.0, outcome_reward), format=(0.1, format_reward)),
        advantage_fn=group_relative(config.num_generations),
        update=update,
        num_prompts=config.num_prompts,
        num_generations=config.num_generations,
        max_new_tokens=config.max_new_tokens,
    )

    def init() -> Any:
        params = model.init(jax.random.key(0))
        return init_post_training(init_train_state(params, optimizer), sampler, jax.random.key(1))

    def log_samples(sample: Any) -> list[Row]:
        return sample_records(VOCABULARY, prompts, sample)

    with make_temporary_folder(run.folder) as folder:
        inner_run = dataclasses.replace(run, folder=folder, metric_writers=())
        functions = {"init": init, "step": step, "log_samples": log_samples}
        chunk = max(1, config.num_steps // 3)
        return train(
            inner_run, "loop", **functions, num_steps=config.num_steps, chunk_size=chunk, progress_metric="reward"
        )


def _measure_parts(
    config: PostTrainingConfig, model: Decoder, prompts: Prompts, update: UpdateFn, train_state: TrainState
) -> tuple[float, float]:
    """Seconds of one step's generation, and of its update."""
    count = config.num_prompts * config.num_generations
    rows = jnp.arange(count) % len(prompts.tokens)
    inputs = prompts.tokens[rows], prompts.lengths[rows]

    def generate_completions(params: Any) -> Any:
        return generate(
            model, params, jax.random.key(2), *inputs, max_new_tokens=config.max_new_tokens, stop_tokens=(END,)
        )

    completions = jax.jit(generate_completions)(train_state.params)
    rewards = jax.random.uniform(jax.random.key(3), (count,))
    batch = group_relative(config.num_generations)(completions, rewards)._replace(inputs=inputs)
    update_seconds = measure_best_seconds(
        jax.jit(lambda train_state: update(train_state, batch, jax.random.key(4))), train_state
    )
    return measure_best_seconds(jax.jit(generate_completions), train_state.params), update_seconds
