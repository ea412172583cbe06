"""Rollouts on the device: whole episodes, or a number of steps of environments that reset themselves.

Axes: T steps, E parallel environments, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environment import Environment, TimeStep
from thinking.learning.replay_buffer import Episodes
from thinking.types import Array

Carry = Any
ActFn = Callable[[Carry, Array, Array], tuple[Carry, Array, Any]]
"""`act(carry, key, observation [E, O]) -> (carry, action [E, ...], extras)`.

The carry is what a policy remembers of the episode, a PyTree [E, ...], () for most. Extras are a PyTree [E, ...] to be
recorded."""

PolicyFn = Callable[[Carry, Array, Array, Array], tuple[Carry, Array]]
"""`policy(carry, key, observation [E, O], return_so_far [E]) -> (carry, action [E, ...])`."""

NUM_RECENT = 100
"""Number of finished episodes in `mean_recent_return`."""


class VectorEnvState(NamedTuple):
    """State of parallel environments.

    Attributes:
        state: environment states [E, ...].
        observation: [E, O].
        return_so_far: [E] float32, returns of the current episodes.
        recent_returns: [NUM_RECENT] float32, ring buffer of the returns of finished episodes; the first
            `num_finished` entries are valid.
        num_finished: [] int32, number of finished episodes.
        policy_carry: what the policy remembers of the current episodes, a PyTree [E, ...].
    """

    state: Any
    observation: Array
    return_so_far: Array
    recent_returns: Array
    num_finished: Array
    policy_carry: Carry = ()


class Trajectory(NamedTuple):
    """Transitions, [T, E, ...] each.

    Attributes:
        observation: before the action.
        action: as `act` returned it.
        reward: float32.
        terminated: bool.
        truncated: bool.
        final_observation: after the action, before any reset.
        extras: as `act` returned them.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_observation: Array
    extras: Any


def init_envs(env: Environment, key: Array, num_envs: int, policy_carry: Carry = ()) -> VectorEnvState:
    """Newly reset environments, and the carry of a policy at the start of an episode. Consumes the key."""
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(key, num_envs))
    zero = jnp.zeros(num_envs, jnp.float32)
    recent_returns, num_finished = jnp.zeros(NUM_RECENT, jnp.float32), jnp.zeros((), jnp.int32)
    return VectorEnvState(state, observation, zero, recent_returns, num_finished, policy_carry)


def rollout(
    env: Environment, act: ActFn, key: Array, env_state: VectorEnvState, num_steps: int, initial_carry: Carry = ()
) -> tuple[VectorEnvState, Trajectory]:
    """Step the environments `num_steps` times. Consumes the key.

    An episode that ends is followed by a reset, and the carry of its policy by `initial_carry`.

    All random numbers of environments are drawn before the loop, and with them a reset for every step: in a loop of
    small steps, drawing costs more than stepping does.
    """
    num_envs = env_state.observation.shape[0]
    act_key, step_key, reset_key = jax.random.split(key, 3)
    act_keys = jax.random.split(act_key, num_steps)
    step_keys = jax.random.split(step_key, (num_steps, num_envs))
    resets = jax.vmap(jax.vmap(lambda key: env.reset(key)))(jax.random.split(reset_key, (num_steps, num_envs)))

    def step(carry: tuple[Any, Array, Array, Carry], inputs: tuple) -> tuple[tuple[Any, Array, Array, Carry], tuple]:
        state, observation, return_so_far, policy_carry = carry
        act_key, keys, reset = inputs
        policy_carry, action, extras = act(policy_carry, act_key, observation)
        time_step = _step_envs(env, keys, state, action)
        return_so_far = return_so_far + time_step.reward
        done = time_step.terminated | time_step.truncated
        next_state, next_observation = _select(done, reset, (time_step.state, time_step.observation))
        trajectory = Trajectory(
            observation,
            action,
            time_step.reward,
            time_step.terminated,
            time_step.truncated,
            time_step.observation,
            extras,
        )
        policy_carry = _select(done, initial_carry, policy_carry)
        carry = (next_state, next_observation, jnp.where(done, 0.0, return_so_far), policy_carry)
        return carry, (trajectory, return_so_far)

    start = env_state.state, env_state.observation, env_state.return_so_far, env_state.policy_carry
    (state, observation, return_so_far, policy_carry), (trajectory, returns) = jax.lax.scan(
        step, start, (act_keys, step_keys, resets)
    )
    recent_returns, num_finished = _update_recent(env_state, returns, trajectory.terminated | trajectory.truncated)
    env_state = VectorEnvState(state, observation, return_so_far, recent_returns, num_finished, policy_carry)
    return env_state, trajectory


def mean_recent_return(env_state: VectorEnvState) -> Array:
    """[] mean return of the last `NUM_RECENT` finished episodes; 0 before the first."""
    is_valid = jnp.arange(NUM_RECENT) < env_state.num_finished
    return jnp.sum(jnp.where(is_valid, env_state.recent_returns, 0)) / jnp.maximum(jnp.sum(is_valid), 1)


def collect_episodes(env: Environment, policy: PolicyFn, carry: Carry, key: Array, num_episodes: int) -> Episodes:
    """One whole episode of each of `num_episodes` environments.

    Args:
        env: the environment.
        policy: the policy.
        carry: its initial carry.
        key: consumed.
        num_episodes: E.
    """
    key, reset_key = jax.random.split(key)
    state, observation = jax.vmap(lambda key: env.reset(key))(jax.random.split(reset_key, num_episodes))

    def step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        state, observation, policy_carry, return_so_far, is_active, terminated = carry
        act_key, step_key = jax.random.split(key)
        policy_carry, action = policy(policy_carry, act_key, observation, return_so_far)
        time_step = _step_envs(env, jax.random.split(step_key, num_episodes), state, action)
        reward = jnp.where(is_active, time_step.reward, 0.0)
        # What has ended stands still, so that no environment runs on from a terminal state.
        state, observation = _select(is_active, (time_step.state, time_step.observation), (state, observation))
        terminated = terminated | (is_active & time_step.terminated)
        is_still_active = is_active & ~(time_step.terminated | time_step.truncated)
        carry = (state, observation, policy_carry, return_so_far + reward, is_still_active, terminated)
        return carry, (observation, action, reward, is_active)

    zero, false = jnp.zeros(num_episodes, jnp.float32), jnp.zeros(num_episodes, bool)
    carry, (next_observations, actions, rewards, is_active) = jax.lax.scan(
        step, (state, observation, carry, zero, ~false, false), jax.random.split(key, env.max_episode_steps)
    )
    states = jnp.concatenate([observation[None], next_observations])
    by_env = (jnp.swapaxes(x, 0, 1) for x in (states, actions, rewards))
    return Episodes(*by_env, jnp.sum(is_active, axis=0, dtype=jnp.int32), carry[-1])


def _step_envs(env: Environment, keys: Array, state: Any, action: Array) -> TimeStep:
    """One step of every environment, with a key for each."""
    return jax.vmap(lambda key, state, action: env.step(key, state, action))(keys, state, action)


def _select(where: Array, yes: Any, no: Any) -> Any:
    """The leaves [E, ...] of `yes` where `where` [E], else those of `no`."""
    return jax.tree.map(lambda a, b: jnp.where(where.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


def _update_recent(env_state: VectorEnvState, returns: Array, done: Array) -> tuple[Array, Array]:
    """`recent_returns` and `num_finished` after episodes with returns [T, E] finished where `done` [T, E]."""
    done, returns = done.reshape(-1), returns.reshape(-1)
    index = jnp.cumsum(done) - 1
    total = jnp.sum(done, dtype=jnp.int32)
    is_kept = done & (index >= total - NUM_RECENT)
    slot = jnp.where(is_kept, (env_state.num_finished + index) % NUM_RECENT, NUM_RECENT)
    return env_state.recent_returns.at[slot].set(returns, mode="drop"), env_state.num_finished + total
