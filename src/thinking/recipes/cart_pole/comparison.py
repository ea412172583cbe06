"""Comparing algorithms in control worlds: what each is, a line of results for each, and how fast each collects.

Axes: S seeds, P judgements, E episodes or worlds side by side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.control import World
from thinking.environments.gymnasium_evaluation import steps_until
from thinking.experiment.device import best_seconds
from thinking.experiment.training import Trained
from thinking.guide import Guide, GuideState
from thinking.guide.hippocampus import append
from thinking.learning.rollouts import begin, rollout
from thinking.networks.actor_critic import Policy
from thinking.recipes.cart_pole.agent import Scale
from thinking.types import Array

Row = dict[str, Any]
Actor = Callable[[Any, Array, Array], Array]
"""`actor(params, key, observation [E, O]) -> action [E, ...]`."""


class Player(NamedTuple):
    """An algorithm, trained.

    Attributes:
        trained: its stage.
        history: [S, P, 3] environment steps, judged return and training return, of each seed at each judgement.
        play: `play(wanted, count) -> (play, mind)`, for `judging.judge`.
        params: what it learned, [S, ...].
        asks: the returns that it can be asked for, None for the best.
    """

    trained: Trained
    history: Array
    play: Callable[[float | None, int], tuple[Any, Any]]
    params: Any
    asks: tuple[float | None, ...] = (None,)


def policy_player(policy: Policy, trained: Trained) -> Player:
    """A trained policy, which plays without chance."""
    params = trained.state.train_state.params

    def play(mind: tuple, seen: Array, gained: Array) -> tuple[tuple, Array, dict]:
        return mind, jax.vmap(policy.best)(params, seen), {}

    return Player(trained, trained.state.env.history, lambda *_: (play, ()), params)


def row(name: str, wanted: float | None, player: Player, returns: np.ndarray, threshold: float | None) -> Row:
    """A line of results: over seeds, each seed's mean over its test episodes [S, E]."""
    means = returns.mean(axis=1)
    steps, judged, training = (np.asarray(player.history)[:, :, column] for column in range(3))
    return {
        "algorithm": name,
        "asked": "best" if wanted is None else f"{wanted:g}",
        "mean_return": float(means.mean()),
        "std_over_seeds": float(means.std()),
        "worst_seed": float(means.min()),
        "best_seed": float(means.max()),
        "steps_to_threshold": steps_until(steps, judged, threshold),
        "training_steps_to_threshold": steps_until(steps, training, threshold),
        "environment_steps": float(steps[:, -1].mean()),
        "steps_per_second": float(steps[:, -1].sum() / max(player.trained.seconds, 1e-9)),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(player.params)) // len(means),
        "return_of_seeds": " ".join(f"{mean:.0f}" for mean in means),
    }


def guide_actor(guide: Guide) -> tuple[Callable[[Array], Any], Actor]:
    """How a guide is begun, and acts on what it sees and nothing before."""

    def actor(params: Any, key: Array, observation: Array) -> Array:
        dims = observation.shape[1]
        scale = Scale(jnp.ones(()), jnp.zeros(dims), jnp.ones(dims))
        memory = append(guide.remember(observation.shape[0]), scale(observation))
        return guide.react(params, memory, jnp.ones((observation.shape[0], 1))).value

    return guide.init, actor


def policy_actor(policy: Policy) -> tuple[Callable[[Array], Any], Actor]:
    """How a policy is begun, and acts by chance, as in training."""
    return policy.init, lambda params, key, observation: policy.act(params, key, observation)[0]


def collection_speed(
    world: World, name: str, init: Callable[[Array], Any], actor: Actor, worlds: int, steps: int = 100
) -> Row:
    """Environment steps per second while experience is collected, the policy included."""
    params = jax.jit(init)(jax.random.key(0))
    start = jax.jit(lambda key: begin(world, key, worlds))(jax.random.key(1))

    @jax.jit
    def collect(params: Any, start: Any) -> Any:
        return rollout(world, lambda key, seen: (actor(params, key, seen), ()), jax.random.key(2), start, steps)

    seconds = best_seconds(collect, params, start)
    learned = [layer.train_state.params for layer in params.layers] if isinstance(params, GuideState) else params
    return {
        "collecting": name,
        "worlds": worlds,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(learned)),
        "environment_steps_per_second": worlds * steps / seconds,
    }
