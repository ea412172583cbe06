"""A trained guide that acts, as a value: what is exported of a run, and what acts.

Axes: S seeds, E episodes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments import control
from thinking.environments.control import ControlEnv
from thinking.errors import UserError
from thinking.experiment.cards import CardTexts
from thinking.learning.statistics import init_moments
from thinking.recipes.cart_pole.agent import (
    AgentState,
    BestState,
    GuideActor,
    ObservationNormalizer,
    TargetScale,
    make_policy_fn,
)
from thinking.recipes.cart_pole.config import Config
from thinking.recipes.cart_pole.trainers import build_guide
from thinking.train_state import drop_training

CARD = CardTexts(
    summary="A guide, a hierarchical planner, that acts in a classic control environment, for a target return that one "
    "asks for.",
    data="Episodes that it collected itself in gymnax, about `env.name` of `config.json`. It was trained by hindsight, "
    "without a policy gradient.",
    limits="It knows one environment. A return between the worst and the best that it has seen is met on average, and "
    "not in every episode.",
    usage="from thinking.environments.gymnasium_evaluation import evaluate_in_gymnasium\n\n"
    "returns, _ = evaluate_in_gymnasium(model.env, *model.make_policy(target_return=None, num_episodes=2), 1, 2)\n"
    "print(returns)",
)
"""What the model card says."""


class ControlGuide(NamedTuple):
    """A trained guide of a control environment.

    Attributes:
        config: of its training.
        model: the guide with its environment.
        params: an `AgentState` of its best state and its normalizer alone.
    """

    config: Config
    model: GuideActor
    params: AgentState

    @property
    def env(self) -> ControlEnv:
        """The environment."""
        return self.model.env

    def make_policy(self, target_return: float | None = None, num_episodes: int = 1) -> tuple[Callable, Any]:
        """A policy and its initial carry, for `gymnasium_evaluation.evaluate_in_gymnasium` with one seed.

        Args:
            target_return: the return to reach; None for the highest.
            num_episodes: E, side by side.
        """
        agents = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self.params)
        update = self.config.collection.update_return_to_go
        return make_policy_fn(self.model, agents, target_return, update, num_episodes)


def select(config: Config) -> Config:
    """The config of the one guide that is exported, of the first seed.

    Raises:
        UserError: the run has no guide.
    """
    if "guide" not in config.algorithms:
        raise UserError(f"--algorithms {' '.join(config.algorithms)}: only guides can be exported; add guide")
    return dataclasses.replace(config, algorithms=("guide",), seeds=1)


def describe_params(config: Config) -> AgentState:
    """Shapes and types of the parameters of one seed."""

    def init(key: jax.Array) -> tuple[BestState, ObservationNormalizer]:
        scale = jnp.zeros(config.buffer.num_best + config.buffer.num_binned)
        state = BestState(drop_training(build_guide(config, env).init(key)), TargetScale(scale, scale, jnp.zeros(())))
        return state, ObservationNormalizer(init_moments(env.observation_space.dims))

    env = control.make_env(config.env.name)
    best_state, normalizer = jax.eval_shape(init, jax.random.key(0))
    best_state = best_state._replace(guide=best_state.guide._replace(abstraction=()))
    # What training alone needs is ().
    return AgentState(*[()] * len(AgentState._fields))._replace(best_state=best_state, normalizer=normalizer)


def read_params(config: Config, folder: Path) -> AgentState:
    """The parameters of the first seed of a finished run.

    Raises:
        RunError: the checkpoint is missing, damaged, or does not fit.
    """
    from thinking.experiment.checkpoint import read_part  # Orbax takes a second to import

    def add_seeds(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.seeds, *leaf.shape), leaf.dtype)

    agents = read_part(folder / "checkpoints" / "guide", jax.tree.map(add_seeds, describe_params(config)))
    return jax.tree.map(lambda leaf: leaf[0], agents)


def build(config: Config, params: AgentState) -> ControlGuide:
    """The trained guide."""
    env = control.make_env(config.env.name)
    actor = GuideActor(env, build_guide(config, env), config.guide.value_discount)
    return ControlGuide(config, actor, params)
