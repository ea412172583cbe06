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
from thinking.networks.actor_critic import Policy
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Metrics


class EnvRecord(NamedTuple):
    """Worlds that run along with a training, and what is counted of them: the `env` of its `RunnerState`.

    Attributes:
        worlds: under way.
        steps: [] int32, environment steps up to now.
        judged: [] float32, mean return of the last test episodes, which are not learned from.
        history: [P, 3] float32, at each judgement: steps, judged, mean return of training episodes.
    """

    worlds: Worlds
    steps: Array
    judged: Array
    history: Array


Step = Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]
"""`step(state, index) -> (state, metrics)`: collect, and learn from that."""

JUDGED = 16
"""Test episodes of a judgement."""


def init_policy_training(
    world: World, policy: Policy, optimizer: optax.GradientTransformation, worlds: int, judgements: int, key: Array
) -> RunnerState:
    """A policy that has learned nothing, in so many worlds, which will be judged so often. Keeps the key."""
    init_key, begin_key = jax.random.split(key)
    params = policy.init(init_key)
    worst = jnp.float32(world.rewards[0] * world.limit)
    env = EnvRecord(
        worlds=begin(world, begin_key, worlds),
        steps=jnp.zeros((), jnp.int32),
        judged=worst,
        history=jnp.zeros((judgements, 3), jnp.float32),
    )
    return RunnerState(init_train_state(params, optimizer), key, env=env)


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

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(state.key, index), 3)
        params, env = state.train_state.params, state.env
        worlds, lived = rollout(world, lambda key, seen: policy.act(params, key, seen), live_key, env.worlds, steps)
        values = policy.value(params, lived.observation)
        ended = lived.terminated | lived.truncated
        advantages = generalized_advantages(
            lived.reward, values, policy.value(params, lived.reached), lived.terminated, ended, discount, decay
        )
        mask = jnp.ones(values.shape, jnp.float32)
        happened = Experience(lived.observation, lived.action, lived.notes, advantages, advantages + values, mask)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), happened)
        train_state, metrics = update(state.train_state, rows, learn_key)
        env = env._replace(worlds=worlds, steps=env.steps + values.size)
        trained = recent_return(worlds)
        env = _judged(world, greedy(policy, train_state.params), env, trained, index, judge_every, judge_key)
        return state._replace(train_state=train_state, env=env), _figures(env, trained) | metrics

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

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(state.key, index), 3)
        params = state.train_state.params

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
        train_state, metrics = update(state.train_state, happened, learn_key)
        env = state.env._replace(steps=state.env.steps + jnp.sum(lived.length))
        trained = jnp.mean(lived.returns)
        env = _judged(world, greedy(policy, train_state.params), env, trained, index, judge_every, judge_key)
        return state._replace(train_state=train_state, env=env), _figures(env, trained) | metrics

    return step


def greedy(policy: Policy, params: object) -> Pursue:
    """The policy without chance, as it is judged."""
    return lambda mind, key, observation, gained: (mind, policy.best(params, observation))


def _judged(
    world: World, pursue: Pursue, env: EnvRecord, trained: Array, index: Array, every: int, key: Array
) -> EnvRecord:
    def judge(env: EnvRecord) -> EnvRecord:
        judged = jnp.mean(episodes(world, pursue, (), key, JUDGED).returns)
        point = jnp.stack([env.steps.astype(jnp.float32), judged, trained])
        return env._replace(judged=judged, history=env.history.at[index // every].set(point))

    return jax.lax.cond(index % every == every - 1, judge, lambda env: env, env)


def _figures(env: EnvRecord, training_return: Array) -> Metrics:
    return {
        "return": env.judged,
        "training_return": training_return,
        "environment_steps": env.steps.astype(jnp.float32),
    }
