"""Training of the recursive network and its controls."""

import jax

from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.learning.deep_supervision import DeepSupervision, DeepSupervisionState, deep_supervision
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.blocks import BlockConfig
from thinking.networks.positions import none
from thinking.networks.recursion import RecursiveNetwork, recursive_network
from thinking.recipes.deep_thinking.config import Config, NetworkName
from thinking.recipes.deep_thinking.problem_families import NetworkDims, Problem
from thinking.types import Array, Metrics

CHUNK = 50
"""Steps per chunk."""


def compute_depth(config: Config) -> int:
    """Steps of thought that a puzzle gets in training; also the depth of the networks of fixed depth."""
    return config.thinking.grad_steps * config.thinking.num_updates


def build_network(config: Config, problem: Problem | NetworkDims, name: NetworkName) -> RecursiveNetwork:
    """The network of this name, for puzzles of the problem's sizes."""
    model = config.model
    heads = next(heads for heads in (4, 2, 1) if model.width % heads == 0)
    return recursive_network(
        num_features=problem.num_features,
        num_relations=problem.num_relations,
        num_classes=problem.num_classes,
        block=BlockConfig(model.width, heads, feed_forward=model.feed_forward, position=none()),
        attends=model.attends,
        num_blocks=compute_depth(config) if name == "feed_forward" else 1,
        recall=name != "no_recall",
    )


def build_training(config: Config, problem: Problem, name: NetworkName) -> DeepSupervision:
    """The training of the network of this name.

    Networks of fixed depth begin each update with new puzzles, and the gradient flows through all of their depth. So
    they have the same updates as the others, and more computation.
    """
    steps, thinking, rate = config.training.num_steps, config.thinking, config.optimizer
    grad_steps = {"feed_forward": 1, "fixed_depth": compute_depth(config)}.get(name, thinking.grad_steps)
    is_fixed = name in ("feed_forward", "fixed_depth")
    schedule = warmup_cosine(rate.learning_rate, steps, min(100, steps // 10), rate.final_fraction)
    return deep_supervision(
        build_network(config, problem, name),
        adamw(schedule, weight_decay=0.01),
        problem.sample,
        batch_size=config.training.batch_size,
        grad_steps=grad_steps,
        num_updates=1 if is_fixed else thinking.num_updates,
        progressive=is_fixed or thinking.progressive,
        noise=0.0 if is_fixed else thinking.noise,
    )


def train_network(config: Config, run: Run, problem: Problem, name: NetworkName, seed: int) -> TrainResult:
    """Train one network; the state of the result is a `DeepSupervisionState`.

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    training = build_training(config, problem, name)
    key = jax.random.key(seed)

    def step(state: DeepSupervisionState, index: Array) -> tuple[DeepSupervisionState, Metrics]:
        return training.step(state, jax.random.fold_in(key, index))

    return train(
        run,
        f"{name}-{seed}",
        init=lambda: jax.jit(training.init)(key),
        step=step,
        num_steps=config.training.num_steps,
        chunk_size=CHUNK,
        progress_metric="exact_match",
    )
