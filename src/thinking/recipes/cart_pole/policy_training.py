"""PPO and REINFORCE in control worlds.

Axes: T steps, E worlds side by side, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments.control import World
from thinking.learning.policy_gradient import Experience, Update
from thinking.learning.returns import generalized_advantages, returns_to_go
from thinking.learning.rollouts import Pursue, Worlds, begin, episodes, recent_return, rollout
from thinking.learning.train_state import Learner
from thinking.networks.actor_critic import Policy
from thinking.types import Array, Metrics


class Searcher(NamedTuple):
    """All that a policy search knows, and where it stands.

    Attributes:
        learner: parameters and optimizer.
        worlds: under way.
        steps: [] int32, environment steps up to now.
        judged: [] float32, mean return of the last test episodes, which are not learned from.
        history: [P, 3] float32, at each judgement: steps, judged, mean return of training episodes.
        key: of everything random; never changes.
    """

    learner: Learner
    worlds: Worlds
    steps: Array
    judged: Array
    history: Array
    key: Array


Step = Callable[[Searcher, Array], tuple[Searcher, Metrics]]
"""`step(searcher, index) -> (searcher, metrics)`: collect, and learn from that."""

JUDGED = 16
"""Test episodes of a judgement."""


def searcher(
    world: World, policy: Policy, optimizer: optax.GradientTransformation, worlds: int, judgements: int, key: Array
) -> Searcher:
    """A policy that has learned nothing, in so many worlds, which will be judged so often. Keeps the key."""
    init_key, begin_key = jax.random.split(key)
    params = policy.init(init_key)
    worst = jnp.float32(world.rewards[0] * world.limit)
    return Searcher(
        learner=Learner(params, optimizer.init(params)),
        worlds=begin(world, begin_key, worlds),
        steps=jnp.zeros((), jnp.int32),
        judged=worst,
        history=jnp.zeros((judgements, 3), jnp.float32),
        key=key,
    )


def ppo_step(
    world: World, policy: Policy, update: Update, *, steps: int, discount: float, decay: float, judge_every: int
) -> Step:
    """Learn from T steps of each world, whose ends are told apart: bootstrapped across truncation.

    Args:
        world: the task.
        policy: what acts.
        update: of `learning.policy_gradient.ppo`.
        steps: T.
        discount: of rewards.
        decay: lambda of the advantages.
        judge_every: steps between two judgements.
    """

    def step(state: Searcher, index: Array) -> tuple[Searcher, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(state.key, index), 3)
        params = state.learner.params
        worlds, lived = rollout(world, lambda key, seen: policy.act(params, key, seen), live_key, state.worlds, steps)
        values = policy.value(params, lived.observation)
        ended = lived.terminated | lived.truncated
        advantages = generalized_advantages(
            lived.reward, values, policy.value(params, lived.reached), lived.terminated, ended, discount, decay
        )
        mask = jnp.ones(values.shape, jnp.float32)
        happened = Experience(lived.observation, lived.action, lived.notes, advantages, advantages + values, mask)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), happened)
        learner, metrics = update(state.learner, rows, learn_key)
        state = state._replace(learner=learner, worlds=worlds, steps=state.steps + values.size)
        trained = recent_return(worlds)
        state = _judged(world, policy, state, trained, index, judge_every, judge_key)
        return state, _figures(state, trained) | metrics

    return step


def reinforce_step(
    world: World, policy: Policy, update: Update, *, count: int, discount: float, judge_every: int
) -> Step:
    """Learn from `count` whole episodes.

    Args:
        world: the task.
        policy: what acts.
        update: of `learning.policy_gradient.reinforce`.
        count: E.
        discount: of rewards.
        judge_every: steps between two judgements.
    """

    def step(state: Searcher, index: Array) -> tuple[Searcher, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(state.key, index), 3)
        params = state.learner.params

        def pursue(mind: tuple, key: Array, observation: Array, gained: Array) -> tuple[tuple, Array]:
            return mind, policy.act(params, key, observation)[0]

        lived = episodes(world, pursue, (), live_key, count)
        # What a truncated episode would still have gained, its last state's value tells.
        last = jnp.take_along_axis(lived.states, lived.length[:, None, None], axis=1)[:, 0]
        further = jnp.where(lived.terminated, 0.0, policy.value(params, last))
        final = jnp.arange(world.limit)[None] == lived.length[:, None] - 1
        gains = returns_to_go(lived.rewards + jnp.where(final, discount * further[:, None], 0), discount)
        mask = lived.valid.astype(jnp.float32)
        happened = Experience(lived.states[:, :-1], lived.actions, mask, gains, gains, mask)
        learner, metrics = update(state.learner, happened, learn_key)
        state = state._replace(learner=learner, steps=state.steps + jnp.sum(lived.length))
        trained = jnp.mean(lived.returns)
        state = _judged(world, policy, state, trained, index, judge_every, judge_key)
        return state, _figures(state, trained) | metrics

    return step


def greedy(policy: Policy, params: object) -> Pursue:
    """The policy without chance, as it is judged."""
    return lambda mind, key, observation, gained: (mind, policy.best(params, observation))


def _judged(
    world: World, policy: Policy, state: Searcher, trained: Array, index: Array, every: int, key: Array
) -> Searcher:
    def judge(state: Searcher) -> Searcher:
        judged = jnp.mean(episodes(world, greedy(policy, state.learner.params), (), key, JUDGED).returns)
        point = jnp.stack([state.steps.astype(jnp.float32), judged, trained])
        return state._replace(judged=judged, history=state.history.at[index // every].set(point))

    return jax.lax.cond(index % every == every - 1, judge, lambda state: state, state)


def _figures(state: Searcher, training_return: Array) -> Metrics:
    return {
        "return": state.judged,
        "training_return": training_return,
        "environment_steps": state.steps.astype(jnp.float32),
    }
