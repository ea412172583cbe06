"""Collecting experience on the device: whole episodes, or so many steps of worlds that begin anew by themselves.

Axes: T steps, E worlds that move side by side, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environment import Environment, TimeStep
from thinking.learning.replay_buffer import Episodes
from thinking.types import Array

ActFn = Callable[[Array, Array], tuple[Array, Any]]
"""`act(key, observation [E, O]) -> (action [E, ...], notes)`; notes are a PyTree [E, ...] that is kept beside it."""

Carry = Any
PolicyFn = Callable[[Carry, Array, Array, Array], tuple[Carry, Array]]
"""`pursue(mind, key, observation [E, O], gained [E]) -> (mind, action [E, ...])`; gained is the return up to now."""

NUM_RECENT = 100
"""So many finished episodes are averaged, as is usual."""


class VectorEnvState(NamedTuple):
    """Worlds under way.

    Attributes:
        state: of each world [E, ...].
        observation: [E, O].
        return_so_far: [E] float32, returns of the episodes under way.
        recent_returns: [RECENT] float32, returns of the episodes that finished last; NaN-free, meaningful up to `num_finished`.
        num_finished: [] int32, how many episodes have ended.
    """

    state: Any
    observation: Array
    return_so_far: Array
    recent_returns: Array
    num_finished: Array


class Trajectory(NamedTuple):
    """What happened, [T, E, ...] each.

    Attributes:
        observation: what was seen before the action.
        action: what was done.
        reward: float32.
        terminated: bool.
        truncated: bool.
        final_observation: what was seen after it, before a new episode began.
        extras: what `act` noted.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_observation: Array
    extras: Any


def init_envs(env: Environment, key: Array, num_envs: int) -> VectorEnvState:
    """So many worlds at their beginning. Consumes the key."""
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(key, num_envs))
    zero = jnp.zeros(num_envs, jnp.float32)
    return VectorEnvState(state, observation, zero, jnp.zeros(NUM_RECENT, jnp.float32), jnp.zeros((), jnp.int32))


def rollout(
    env: Environment, act: ActFn, key: Array, env_state: VectorEnvState, num_steps: int
) -> tuple[VectorEnvState, Trajectory]:
    """Let the worlds go on for so many steps. Consumes the key."""

    def advance(
        carry: tuple[Any, Array, Array], key: Array
    ) -> tuple[tuple[Any, Array, Array], tuple[Trajectory, Array]]:
        state, observation, gained = carry
        moment, action, notes = _step_envs(env, act, key, state, observation)
        gained = gained + moment.reward
        done = moment.terminated | moment.truncated
        happened = Trajectory(observation, action, *moment[2:], notes)
        return (moment.state, moment.observation, jnp.where(done, 0.0, gained)), (happened, gained)

    start = env_state.state, env_state.observation, env_state.return_so_far
    (state, observation, gained), (happened, totals) = jax.lax.scan(advance, start, jax.random.split(key, num_steps))
    recent, finished = _update_recent(env_state, totals, happened.terminated | happened.truncated)
    return VectorEnvState(state, observation, gained, recent, finished), happened


def mean_recent_return(env_state: VectorEnvState) -> Array:
    """[] mean return of the last finished episodes; 0 before the first."""
    known = jnp.arange(NUM_RECENT) < env_state.num_finished
    return jnp.sum(jnp.where(known, env_state.recent_returns, 0)) / jnp.maximum(jnp.sum(known), 1)


def collect_episodes(env: Environment, policy: PolicyFn, carry: Carry, key: Array, num_episodes: int) -> Episodes:
    """One whole episode in each of `num_episodes` new worlds, which rest when it is over.

    Args:
        env: the task.
        policy: how to act.
        carry: what `policy` carries along, as it is at the beginning.
        key: consumed.
        num_episodes: E.
    """
    key, reset_key = jax.random.split(key)
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(reset_key, num_episodes))

    def advance(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        state, observation, mind, gained, alive, terminated = carry

        def act(key: Array, seen: Array) -> tuple[Array, Carry]:
            return policy(mind, key, seen, gained)[::-1]

        moment, action, mind = _step_envs(env, act, key, state, observation)
        reward = jnp.where(alive, moment.reward, 0.0)
        terminated = terminated | (alive & moment.terminated)
        going_on = alive & ~(moment.terminated | moment.truncated)
        carry = moment.state, moment.observation, mind, gained + reward, going_on, terminated
        return carry, (moment.final_observation, action, reward, alive)

    zero, no = jnp.zeros(num_episodes, jnp.float32), jnp.zeros(num_episodes, bool)
    carry, (reached, actions, rewards, alive) = jax.lax.scan(
        advance, (state, observation, carry, zero, ~no, no), jax.random.split(key, env.max_episode_steps)
    )
    states = jnp.concatenate([observation[None], reached])
    by_world = (jnp.swapaxes(x, 0, 1) for x in (states, actions, rewards))
    return Episodes(*by_world, jnp.sum(alive, axis=0, dtype=jnp.int32), carry[-1])


def _step_envs(env: Environment, act: ActFn, key: Array, state: Any, observation: Array) -> tuple[TimeStep, Array, Any]:
    """One step of every world."""
    act_key, step_key = jax.random.split(key)
    action, notes = act(act_key, observation)
    keys = jax.random.split(step_key, observation.shape[0])
    moment = jax.vmap(lambda key, state, action: env.step(key, state, action))(keys, state, action)
    return moment, action, notes


def _update_recent(env_state: VectorEnvState, returns: Array, done: Array) -> tuple[Array, Array]:
    """The ring of the last returns, and the count, after `done` [T, E] episodes of return `returns` [T, E] ended."""
    done, returns = done.reshape(-1), returns.reshape(-1)
    number = jnp.cumsum(done) - 1
    total = jnp.sum(done, dtype=jnp.int32)
    kept = done & (number >= total - NUM_RECENT)
    place = jnp.where(kept, (env_state.num_finished + number) % NUM_RECENT, NUM_RECENT)
    return env_state.recent_returns.at[place].set(returns, mode="drop"), env_state.num_finished + total
