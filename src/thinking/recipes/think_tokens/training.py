"""Training a model of each kind of thoughts and each seed."""

from typing import Any

import jax

from thinking.environments.automata import Words, automaton, draw_words
from thinking.experiment import Run
from thinking.experiment.training import Trained, train
from thinking.learning.curriculum import curriculum
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.reasoning.thoughts import converted
from thinking.reasoning.thoughts.training import Reinforcement, init_thought_training, thinking_step, watched
from thinking.recipes.think_tokens.config import RL_GRADIENTS, Config, Kind
from thinking.recipes.think_tokens.evaluation import asked
from thinking.recipes.think_tokens.model import build_thinker
from thinking.recipes.think_tokens.thoughts_page import record_of
from thinking.types import Array

CHUNK = 50
"""Steps between two looks at the metrics."""
MAX_RECORDS = 60
"""How often the thoughts about the recorded words are written down while a model learns, at most."""
NUM_RECORDED_WORDS = 128


def stage_name(kind: Kind, seed: int) -> str:
    """The stage of training of a model."""
    return f"{kind}-{seed}"


def recorded_words(config: Config) -> Words:
    """Words whose thoughts are written down while models learn; nothing is learned from them."""
    length = config.problem.length
    return asked(automaton(config.problem.name), config.seed + 1, length, length, NUM_RECORDED_WORDS)


def train_thinkers(config: Config, run: Run) -> dict[tuple[Kind, int], Trained]:
    """Train models of all kinds and seeds; where they are converted, those that do not think come first."""
    convert, trained = config.thought.convert_from_none, {}
    for kind in sorted(config.thoughts, key=lambda kind: convert and kind != "none"):
        for seed in range(config.seed, config.seed + config.seeds):
            params = None
            if convert and kind != "none":
                params = converted(trained["none", seed].state.train_state.params)
            trained[kind, seed] = train_thinker(config, run, kind, seed, params)
    return trained


def train_thinker(config: Config, run: Run, kind: Kind, seed: int, params: Any = None) -> Trained:
    """Train one model; words are a function of the seed and the step alone, and longer the better it does.

    Args:
        config: of the run.
        run: that takes what is saved.
        kind: of thoughts.
        seed: of the model.
        params: parameters to begin with; None: those of the seed.

    Raises:
        RunError: as `experiment.training.train`.
    """
    model, machine = build_thinker(config, kind), automaton(config.problem.name)
    training, threshold, end_thought = config.training, config.curriculum.threshold, config.thought.end_thought
    steps, batch, optimizer = training.num_steps, training.batch_size, config.optimizer
    lengths = curriculum(config.problem.length, threshold=threshold, memory=8.0 * batch, least=4 * batch)
    schedule = warmup_cosine(optimizer.learning_rate, steps, min(100, steps // 10), optimizer.final_fraction)
    adam = adamw(schedule, weight_decay=0.01)

    # The last step always ends a thought; there is one more where ending with the longest words is to be learned.
    longest = config.problem.length + end_thought

    def draw(key: Array, word_lengths: Array) -> Words:
        return draw_words(machine, key, word_lengths, longest)

    step = thinking_step(
        model,
        adam,
        draw,
        lengths,
        batch=batch,
        reinforcement=make_reinforcement(config) if kind == "discrete" else None,
        chains=config.supervision.chain_weight if kind == "discrete" else 0.0,
        step_cost=config.thought.step_cost if end_thought else 0.0,
        mastery=threshold,
    )
    record_every = CHUNK * -(-steps // (CHUNK * MAX_RECORDS))
    return train(
        run,
        stage_name(kind, seed),
        init=lambda: jax.jit(lambda key: init_thought_training(model, adam, lengths, key, params))(
            jax.random.key(seed)
        ),
        step=watched(step, model, recorded_words(config), record_every, steps),
        steps=steps,
        chunk=CHUNK,
        watch="length",
        tell=record_of,
    )


def make_reinforcement(config: Config) -> Reinforcement | None:
    """How discrete thoughts learn by a reward; None where they do not."""
    gradient, rl = config.thought.gradient, config.rl
    if gradient not in RL_GRADIENTS:
        return None
    return Reinforcement(
        group=1 if gradient == "reinforce" else rl.num_generations,
        best=gradient == "search",
        weight=rl.policy_weight,
        entropy=rl.entropy_weight,
        discount=rl.discount,
        repetition=rl.repetition_penalty,
    )
