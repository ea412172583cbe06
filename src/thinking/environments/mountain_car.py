"""MountainCarContinuous-v0 with Gymnasium's dynamics.

Gymnax stops the car at the goal in place of the left wall, and counts a car that rolls back over the goal as arrived.
"""

from typing import Any

import jax.numpy as jnp
from gymnax.environments.classic_control.continuous_mountain_car import ContinuousMountainCar, EnvParams, EnvState

from thinking.types import Array


class MountainCarContinuous(ContinuousMountainCar):
    """Gymnax's environment with a step of its own; all else is inherited."""

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Array, EnvState, Array, Array, dict[Any, Any]]:
        """Take one step with an action [1]: observation [2], state, reward, whether it terminated, and more.

        The left wall stops the car. The key is not used.
        """
        del key
        action = action.squeeze()
        force = jnp.clip(action, params.min_action, params.max_action)
        velocity = state.velocity + force * params.power - jnp.cos(3 * state.position) * params.gravity
        velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
        position = jnp.clip(state.position + velocity, params.min_position, params.max_position)
        velocity = jnp.where((position == params.min_position) & (velocity < 0), 0.0, velocity)
        state = EnvState(position=position, velocity=velocity, time=state.time + 1)
        terminated = self.is_terminated(state, params)
        reward = 100.0 * terminated - 0.1 * action**2
        return self.get_obs(state), state, reward, terminated, {"discount": self.discount(state, params)}
