"""Training of a model for each kind of thoughts and each seed."""

from typing import Any

import jax

from thinking.environments.automata import WordBatch, make_automaton, sample_words
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.learning.curriculum import curriculum
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.reasoning.thoughts import init_from_model_without_thoughts
from thinking.reasoning.thoughts.thought_training import (
    Reinforcement,
    init_thought_training,
    make_symbol_thought_step,
    with_thought_records,
)
from thinking.recipes.think_tokens.config import RL_GRADIENTS, Config, Kind
from thinking.recipes.think_tokens.evaluation import sample_test_words
from thinking.recipes.think_tokens.model import build_thinking_model
from thinking.recipes.think_tokens.thoughts_page import make_record
from thinking.types import Array

CHUNK = 50
"""Steps per chunk."""
MAX_RECORDS = 60
"""Maximum records of thoughts in a training."""
NUM_RECORDED_WORDS = 128


def make_stage_name(kind: Kind, seed: int) -> str:
    """The name of a model's training stage."""
    return f"{kind}-{seed}"


def sample_recorded_words(config: Config) -> WordBatch:
    """Words whose thoughts are recorded during training; they are not trained on."""
    length = config.problem.length
    return sample_test_words(make_automaton(config.problem.name), config.seed + 1, length, length, NUM_RECORDED_WORDS)


def train_models(config: Config, run: Run) -> dict[tuple[Kind, int], TrainResult]:
    """Train models of all kinds and seeds; kind none first where others start from it."""
    converts, trained = config.thought.convert_from_none, {}
    for kind in sorted(config.thoughts, key=lambda kind: converts and kind != "none"):
        for seed in range(config.seed, config.seed + config.seeds):
            params = None
            if converts and kind != "none":
                params = init_from_model_without_thoughts(trained["none", seed].state.train_state.params)
            trained[kind, seed] = train_model(config, run, kind, seed, params)
    return trained


def train_model(config: Config, run: Run, kind: Kind, seed: int, params: Any = None) -> TrainResult:
    """Train one model, by default on words that grow longer by a curriculum.

    Args:
        config: of the run.
        run: receives checkpoints and metrics.
        kind: of thoughts.
        seed: of the model and the words.
        params: initial parameters; None: those of the seed.

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    model, machine = build_thinking_model(config, kind), make_automaton(config.problem.name)
    training, threshold, end_thought = config.training, config.curriculum.threshold, config.thought.end_thought
    steps, batch, optimizer = training.num_steps, training.batch_size, config.optimizer
    lengths = curriculum(
        config.problem.length,
        threshold=threshold,
        decay_attempts=8.0 * batch,
        min_attempts=4 * batch,
        locked=config.curriculum.enabled,
    )
    schedule = warmup_cosine(optimizer.learning_rate, steps, min(100, steps // 10), optimizer.final_fraction)
    gradient_transformation = adamw(schedule, weight_decay=0.01)

    # The last step always ends a thought. One more lets the model learn to end after the longest words.
    max_length = config.problem.length + end_thought

    def sample_batch(key: Array, word_lengths: Array) -> WordBatch:
        return sample_words(machine, key, word_lengths, max_length)

    step = make_symbol_thought_step(
        model,
        gradient_transformation,
        sample_batch,
        lengths,
        batch_size=batch,
        reinforcement=make_reinforcement(config) if kind == "discrete" else None,
        chain_weight=config.supervision.chain_weight if kind == "discrete" else 0.0,
        step_cost=config.thought.step_cost if end_thought else 0.0,
        threshold=threshold,
    )
    record_every = CHUNK * -(-steps // (CHUNK * MAX_RECORDS))
    return train(
        run,
        make_stage_name(kind, seed),
        init=lambda: jax.jit(lambda key: init_thought_training(model, gradient_transformation, lengths, key, params))(
            jax.random.key(seed)
        ),
        step=with_thought_records(step, model, sample_recorded_words(config), record_every, steps),
        num_steps=steps,
        chunk_size=CHUNK,
        progress_metric="curriculum/num_unlocked",
        log_samples=make_record,
    )


def make_reinforcement(config: Config) -> Reinforcement | None:
    """Settings of policy gradients for discrete thoughts; None for other gradients."""
    gradient, rl = config.thought.gradient, config.rl
    if gradient not in RL_GRADIENTS:
        return None
    return Reinforcement(
        num_generations=1 if gradient == "reinforce" else rl.num_generations,
        expert_iteration=gradient == "expert_iteration",
        policy_weight=rl.policy_weight,
        entropy_weight=rl.entropy_weight,
        discount=rl.discount,
        repetition_penalty=rl.repetition_penalty,
    )
