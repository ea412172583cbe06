"""Rollouts of policies with a memory, as batches for PPO.

Axes: T steps, E parallel environments.
"""

import jax
import jax.numpy as jnp

from thinking.environment import Environment
from thinking.learning.policy_gradient import PolicyBatch
from thinking.learning.returns import generalized_advantages
from thinking.learning.rollouts import VectorEnvState, rollout
from thinking.networks.recurrent_policy import RecurrentPolicy, RecurrentPolicyInputs
from thinking.types import Array, Params, State


def collect_recurrent_batch(
    env: Environment,
    policy: RecurrentPolicy,
    params: Params,
    key: Array,
    env_state: VectorEnvState,
    num_steps: int,
    *,
    discount: float,
    gae_lambda: float,
) -> tuple[VectorEnvState, PolicyBatch]:
    """T steps of each environment, and generalized advantages, as rows [E, T] that begin with the policy's state.

    Values are bootstrapped at truncation, with what the policy remembers there.

    Args:
        env: the environment.
        policy, params: the policy.
        key: consumed.
        env_state: environments whose `policy_carry` is the policy's state.
        num_steps: T.
        discount: discount factor.
        gae_lambda: lambda of generalized advantage estimation.
    """

    def act(state: State, key: Array, observation: Array) -> tuple[State, Array, tuple[Array, State]]:
        state, action, log_prob = policy.act(params, key, state, observation)
        return state, action, (log_prob, state)

    initial_state = policy.init_state(len(env_state.observation))
    after, trajectory = rollout(env, act, key, env_state, num_steps, initial_state)
    log_prob, states = trajectory.extras
    done = trajectory.terminated | trajectory.truncated
    # The carry of the first step is already that of a new episode where one begins.
    is_start = jnp.pad(done[:-1], ((1, 0), (0, 0)))
    observation, action, log_prob, is_start = (
        x.swapaxes(0, 1) for x in (trajectory.observation, trajectory.action, log_prob, is_start)
    )
    inputs = RecurrentPolicyInputs(env_state.policy_carry, observation, is_start)
    values = policy.evaluate_actions(params, inputs, action).value.T
    next_values = jax.vmap(lambda *step: policy.value(params, *step))(states, trajectory.final_observation)
    advantages = generalized_advantages(
        trajectory.reward, values, next_values, trajectory.terminated, done, discount, gae_lambda
    )
    mask = jnp.ones(action.shape[:2], jnp.float32)
    return after, PolicyBatch(inputs, action, log_prob, advantages.T, (advantages + values).T, mask)
