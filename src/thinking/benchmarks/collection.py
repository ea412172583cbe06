"""Speed of collecting experience in control environments, the policy network included.

Axes: E parallel environments, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.benchmarks.config import CollectionConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.environments import control
from thinking.environments.control import ControlEnv
from thinking.experiment.device import measure_best_seconds
from thinking.guide import Guide, GuideState
from thinking.guide.hippocampus import append
from thinking.learning.rollouts import init_envs, rollout
from thinking.learning.statistics import Moments
from thinking.networks.actor_critic import Policy
from thinking.recipes.cart_pole import config as cart_pole
from thinking.recipes.cart_pole import trainers
from thinking.recipes.cart_pole.agent import ObservationNormalizer
from thinking.trees import count_parameters
from thinking.types import Array


class Actor(NamedTuple):
    """A policy.

    Attributes:
        init: `init(key) -> params`.
        act: `act(params, key, observation [E, O]) -> action [E, ...]`.
    """

    init: Callable[[Array], Any]
    act: Callable[[Any, Array, Array], Array]


def measure_collection(config: CollectionConfig, setup: Setup) -> Measurement:
    """Environment steps per second with the default networks of the cart pole task."""
    del setup
    env, networks = control.make_env(config.env_name), cart_pole.Config()
    guide, policy = trainers.build_guide(networks, env), trainers.build_policy(networks, env)
    actors = {"guide": make_guide_actor(guide), "ppo": make_policy_actor(policy)}
    speeds = [
        measure_collection_speed(env, name, actor, num_envs=config.num_envs, steps=config.num_steps)
        for name, actor in actors.items()
    ]
    return Measurement(speeds)


def make_guide_actor(guide: Guide) -> Actor:
    """A guide (a hierarchical planner) that reacts to its present observation alone."""

    def act(params: Any, key: Array, observation: Array) -> Array:
        del key  # deterministic
        dims = observation.shape[1]
        normalizer = ObservationNormalizer(Moments(jnp.ones(()), jnp.zeros(dims), jnp.ones(dims)))
        memory = append(guide.init_memory(observation.shape[0]), normalizer(observation))
        return guide.react(params, memory, jnp.ones((observation.shape[0], 1))).value

    return Actor(guide.init, act)


def make_policy_actor(policy: Policy) -> Actor:
    """A policy that samples its actions, as in training."""
    return Actor(policy.init, lambda params, key, observation: policy.act(params, key, observation)[0])


def measure_collection_speed(env: ControlEnv, name: str, actor: Actor, *, num_envs: int, steps: int) -> Row:
    """Environment steps per second of a rollout.

    Args:
        env: the environment.
        name, actor: the policy, and its name in the row.
        num_envs: E.
        steps: of each environment.
    """
    params = jax.jit(actor.init)(jax.random.key(0))
    envs = jax.jit(lambda key: init_envs(env, key, num_envs))(jax.random.key(1))

    @jax.jit
    def collect(params: Any, envs: Any) -> Any:
        def act(carry: tuple, key: Array, observation: Array) -> tuple[tuple, Array, tuple]:
            return carry, actor.act(params, key, observation), ()

        return rollout(env, act, jax.random.key(2), envs, steps)

    seconds = measure_best_seconds(collect, params, envs)
    learned_params = [layer.train_state.params for layer in params.layers] if isinstance(params, GuideState) else params
    return {
        "benchmark": f"collection in {env.name}, {name}",
        "num_envs": num_envs,
        "num_parameters": count_parameters(learned_params),
        "env_steps_per_second": num_envs * steps / seconds,
    }
