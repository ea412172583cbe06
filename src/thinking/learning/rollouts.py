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

Act = Callable[[Array, Array], tuple[Array, Any]]
"""`act(key, observation [E, O]) -> (action [E, ...], notes)`; notes are a PyTree [E, ...] that is kept beside it."""

Mind = Any
Pursue = Callable[[Mind, Array, Array, Array], tuple[Mind, Array]]
"""`pursue(mind, key, observation [E, O], gained [E]) -> (mind, action [E, ...])`; gained is the return up to now."""

RECENT = 100
"""So many finished episodes are averaged, as is usual."""


class Worlds(NamedTuple):
    """Worlds under way.

    Attributes:
        state: of each world [E, ...].
        observation: [E, O].
        gained: [E] float32, returns of the episodes under way.
        recent: [RECENT] float32, returns of the episodes that finished last; NaN-free, meaningful up to `finished`.
        finished: [] int32, how many episodes have ended.
    """

    state: Any
    observation: Array
    gained: Array
    recent: Array
    finished: Array


class Steps(NamedTuple):
    """What happened, [T, E, ...] each.

    Attributes:
        observation: what was seen before the action.
        action: what was done.
        reward: float32.
        terminated: bool.
        truncated: bool.
        reached: what was seen after it, before a new episode began.
        notes: what `act` noted.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    reached: Array
    notes: Any


def begin(env: Environment, key: Array, worlds: int) -> Worlds:
    """So many worlds at their beginning. Consumes the key."""
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(key, worlds))
    zero = jnp.zeros(worlds, jnp.float32)
    return Worlds(state, observation, zero, jnp.zeros(RECENT, jnp.float32), jnp.zeros((), jnp.int32))


def rollout(env: Environment, act: Act, key: Array, worlds: Worlds, steps: int) -> tuple[Worlds, Steps]:
    """Let the worlds go on for so many steps. Consumes the key."""

    def advance(carry: tuple[Any, Array, Array], key: Array) -> tuple[tuple[Any, Array, Array], tuple[Steps, Array]]:
        state, observation, gained = carry
        moment, action, notes = _move(env, act, key, state, observation)
        gained = gained + moment.reward
        done = moment.terminated | moment.truncated
        happened = Steps(observation, action, *moment[2:], notes)
        return (moment.state, moment.observation, jnp.where(done, 0.0, gained)), (happened, gained)

    start = worlds.state, worlds.observation, worlds.gained
    (state, observation, gained), (happened, totals) = jax.lax.scan(advance, start, jax.random.split(key, steps))
    recent, finished = _remember(worlds, totals, happened.terminated | happened.truncated)
    return Worlds(state, observation, gained, recent, finished), happened


def recent_return(worlds: Worlds) -> Array:
    """[] mean return of the last finished episodes; 0 before the first."""
    known = jnp.arange(RECENT) < worlds.finished
    return jnp.sum(jnp.where(known, worlds.recent, 0)) / jnp.maximum(jnp.sum(known), 1)


def episodes(env: Environment, pursue: Pursue, mind: Mind, key: Array, count: int) -> Episodes:
    """One whole episode in each of `count` new worlds, which rest when it is over.

    Args:
        env: the task.
        pursue: how to act.
        mind: what `pursue` carries along, as it is at the beginning.
        key: consumed.
        count: E.
    """
    key, reset_key = jax.random.split(key)
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(reset_key, count))

    def advance(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        state, observation, mind, gained, alive, terminated = carry

        def act(key: Array, seen: Array) -> tuple[Array, Mind]:
            return pursue(mind, key, seen, gained)[::-1]

        moment, action, mind = _move(env, act, key, state, observation)
        reward = jnp.where(alive, moment.reward, 0.0)
        terminated = terminated | (alive & moment.terminated)
        going_on = alive & ~(moment.terminated | moment.truncated)
        carry = moment.state, moment.observation, mind, gained + reward, going_on, terminated
        return carry, (moment.final_observation, action, reward, alive)

    zero, no = jnp.zeros(count, jnp.float32), jnp.zeros(count, bool)
    carry, (reached, actions, rewards, alive) = jax.lax.scan(
        advance, (state, observation, mind, zero, ~no, no), jax.random.split(key, env.limit)
    )
    states = jnp.concatenate([observation[None], reached])
    by_world = (jnp.swapaxes(x, 0, 1) for x in (states, actions, rewards))
    return Episodes(*by_world, jnp.sum(alive, axis=0, dtype=jnp.int32), carry[-1])


def _move(env: Environment, act: Act, key: Array, state: Any, observation: Array) -> tuple[TimeStep, Array, Any]:
    """One step of every world."""
    act_key, step_key = jax.random.split(key)
    action, notes = act(act_key, observation)
    keys = jax.random.split(step_key, observation.shape[0])
    moment = jax.vmap(lambda key, state, action: env.step(key, state, action))(keys, state, action)
    return moment, action, notes


def _remember(worlds: Worlds, totals: Array, done: Array) -> tuple[Array, Array]:
    """The ring of the last returns, and the count, after `done` [T, E] episodes of return `totals` [T, E] ended."""
    done, totals = done.reshape(-1), totals.reshape(-1)
    number = jnp.cumsum(done) - 1
    total = jnp.sum(done, dtype=jnp.int32)
    kept = done & (number >= total - RECENT)
    place = jnp.where(kept, (worlds.finished + number) % RECENT, RECENT)
    return worlds.recent.at[place].set(totals, mode="drop"), worlds.finished + total
