"""What an update by rewards costs, and how much of it is spent on writing and learning.

Axes: B completions of an update.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking.benchmarks.config import PostTrainingConfig
from thinking.benchmarks.contract import Measurement, Row, Setup
from thinking.environments.arithmetic.sources import WORDS
from thinking.experiment import Run
from thinking.experiment.device import best_seconds
from thinking.experiment.training import Trained, train
from thinking.generation.completions import generate
from thinking.learning.curriculum import evenly
from thinking.learning.optimizers import adamw
from thinking.learning.policy_gradient import Update, grpo
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.reasoning.post_training.advantages import by_group
from thinking.reasoning.post_training.rewards import combined, format, outcome
from thinking.reasoning.post_training.training_step import (
    Questions,
    init_post_training,
    judge_texts,
    post_training_step,
    records,
)
from thinking.recipes.arithmetic.datasets import exam
from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import END
from thinking.train_state import TrainState, init_train_state


def measure_post_training(config: PostTrainingConfig, setup: Setup) -> Measurement:
    """The share of a loop's wall-clock, compilation apart, that writing and learning take by themselves.

    The loop is GRPO over word problems as a task runs it, with rewards, metrics, samples and checkpoints.
    """
    asked = exam([WORDS], count=1, seed=0, test=False)
    tokens, lengths, answers, steps = map(jnp.asarray, asked.prompts)
    questions = Questions(tokens, lengths, {"answers": answers, "steps": steps})
    model = decoder(
        vocabulary=len(VOCABULARY),
        context_length=tokens.shape[1] + config.max_new_tokens,
        block=BlockConfig(config.decoder.width, config.decoder.num_heads, gated=True),
        layers=config.decoder.num_layers,
        value_head=True,
    )
    optimizer = adamw(1e-4, weight_decay=0.0)
    update = grpo(judge_texts(model), optimizer, minibatches=2)
    trained = _train(config, setup.run, model, questions, optimizer, update)
    writing, learning = _seconds_alone(config, model, questions, update, trained.state.train_state)
    whole = trained.seconds / config.steps
    row = {
        "measured": "update by rewards",
        "rows": config.num_prompts * config.num_generations,
        "tokens": config.max_new_tokens,
        "generation_ms": writing * 1e3,
        "update_ms": learning * 1e3,
        "ms": whole * 1e3,
        "generation_and_update_percent": 100 * (writing + learning) / whole,
    }
    return Measurement([row])


def _train(
    config: PostTrainingConfig,
    run: Run,
    model: Decoder,
    questions: Questions,
    optimizer: optax.GradientTransformation,
    update: Update,
) -> Trained:
    """The whole loop, in a folder that is removed again."""
    syllabus = evenly(len(questions.tokens))
    step = post_training_step(
        model,
        questions,
        syllabus,
        rewards=combined(outcome=(1.0, outcome), format=(0.1, format)),
        credit=by_group(config.num_generations),
        update=update,
        problems=config.num_prompts,
        group=config.num_generations,
        max_new_tokens=config.max_new_tokens,
    )

    def begin() -> Any:
        params = model.init(jax.random.key(0))
        return init_post_training(init_train_state(params, optimizer), syllabus, jax.random.key(1))

    def tell(sample: Any) -> list[Row]:
        return records(VOCABULARY, questions, sample)

    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        fresh = dataclasses.replace(run, folder=Path(folder), mirrors=())
        begun = {"init": begin, "step": step, "tell": tell}
        chunk = max(1, config.steps // 3)
        return train(fresh, "loop", **begun, steps=config.steps, chunk=chunk, watch="reward")


def _seconds_alone(
    config: PostTrainingConfig, model: Decoder, questions: Questions, update: Update, train_state: TrainState
) -> tuple[float, float]:
    """What writing the completions of one step takes by itself, and learning from them."""
    count = config.num_prompts * config.num_generations
    rows = jnp.arange(count) % len(questions.tokens)
    prompts = questions.tokens[rows], questions.lengths[rows]

    def write(params: Any) -> Any:
        return generate(
            model, params, jax.random.key(2), *prompts, max_new_tokens=config.max_new_tokens, stop_tokens=(END,)
        )

    written = jax.jit(write)(train_state.params)
    total = jax.random.uniform(jax.random.key(3), (count,))
    experience = by_group(config.num_generations)(written, total)._replace(inputs=prompts)
    learning = best_seconds(
        jax.jit(lambda train_state: update(train_state, experience, jax.random.key(4))), train_state
    )
    return best_seconds(jax.jit(write), train_state.params), learning
