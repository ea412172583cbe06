"""PPO and REINFORCE in environments whose best policy is known, and their batches against sums written out."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.environment import TimeStep
from thinking.learning.policy_gradient import ppo, reinforce
from thinking.learning.replay_buffer import Episodes
from thinking.learning.rollouts import Trajectory
from thinking.networks.actor_critic import ActionEvaluation, Policy
from thinking.recipes.cart_pole.policy_training import (
    EvalSchedule,
    init_policy_training,
    make_ppo_batch,
    make_ppo_step,
    make_reinforce_batch,
    make_reinforce_step,
)

# The value of an observation is its first number.
FIRST_NUMBER_POLICY = Policy(None, None, None, lambda params, observation: params * observation[..., 0], None)


def test_ppo_advantages_bootstrap_after_truncation_alone():
    # Two environments of three steps: the first ends in step 1 by termination, the second by truncation.
    ended = np.array([[0, 0], [1, 1], [0, 0]], bool)
    terminated = ended & np.array([[True, False]])
    value, next_value = np.float32([[1, 1], [2, 2], [5, 5]]), np.float32([[2, 2], [4, 4], [6, 6]])
    trajectory = Trajectory(
        observation=value[..., None],
        action=np.arange(6).reshape(3, 2),
        reward=np.float32([[1, 1], [3, 3], [0, 0]]),
        terminated=terminated,
        truncated=ended & ~terminated,
        final_observation=next_value[..., None],
        extras=-np.arange(6.0, dtype=np.float32).reshape(3, 2),
    )
    make_batch = jax.jit(
        lambda trajectory, clip_values: make_ppo_batch(
            FIRST_NUMBER_POLICY, 1.0, trajectory, 0.5, 0.5, clip_values=clip_values
        ),
        static_argnums=1,
    )
    assert make_batch(trajectory, False).value is None
    batch = make_batch(trajectory, True)
    # By hand: r + 0.5 v' - v, then a quarter of the next step's advantage where the episode goes on.
    td_errors = np.array([[1 + 1 - 1, 1 + 1 - 1], [3 - 2, 3 + 2 - 2], [3 - 5, 3 - 5]])
    expected = np.stack([td_errors[0] + 0.25 * td_errors[1], td_errors[1], td_errors[2]])
    np.testing.assert_allclose(batch.advantage, expected.reshape(-1))
    np.testing.assert_allclose(batch.value_target, (expected + value).reshape(-1))
    np.testing.assert_array_equal(batch.value, value.reshape(-1))
    np.testing.assert_array_equal(batch.inputs, value.reshape(-1, 1))
    np.testing.assert_array_equal(batch.action, np.arange(6))
    np.testing.assert_array_equal(batch.log_prob, -np.arange(6))
    np.testing.assert_array_equal(batch.mask, 1)


@pytest.mark.parametrize("use_baseline", [True, False])
def test_reinforce_returns_bootstrap_from_a_trained_critic_after_truncation(use_baseline):
    # One episode terminates after two of three steps, one is truncated after three, one after one.
    states = np.full((3, 4, 2), np.nan, np.float32)
    for row, values in enumerate([[1, 1, 7], [1, 1, 1, 8], [1, 9]]):
        states[row, : len(values)] = np.float32(values)[:, None]
    episodes = Episodes(
        states,
        np.arange(9).reshape(3, 3),
        np.float32([[1, 2, 0], [1, 1, 1], [4, 0, 0]]),
        np.array([2, 3, 1], np.int32),
        np.array([True, False, False]),
    )
    batch = jax.jit(
        lambda episodes: make_reinforce_batch(FIRST_NUMBER_POLICY, 1.0, episodes, 0.5, use_baseline=use_baseline)
    )(episodes)
    if use_baseline:
        expected = [[1 + 1, 2, 0], [1 + 0.5 + 0.25 + 1, 1 + 0.5 + 2, 1 + 4], [4 + 4.5, 0, 0]]
    else:
        expected = [[2, 2, 0], [1.75, 1.5, 1], [4, 0, 0]]
    np.testing.assert_allclose(batch.value_target, expected)
    np.testing.assert_array_equal(batch.mask, [[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(batch.inputs, np.repeat(np.asarray(batch.mask)[..., None], 2, axis=2))
    np.testing.assert_array_equal(batch.action, episodes.actions)


@dataclass(frozen=True)
class Corridor:
    """Four cells in a row. Action 0 leaves at once for 0.3; action 1 goes on, and pays 1 behind the last cell."""

    max_episode_steps: int = 6
    reward_range: tuple[float, float] = (0.0, 1.0)
    num_cells: int = 4

    def reset(self, key):
        return jnp.int32(0), jax.nn.one_hot(0, self.num_cells)

    def step(self, key, state, action):
        terminated = (action == 0) | (state == self.num_cells - 1)
        reward = jnp.where(action == 0, 0.3, jnp.where(state == self.num_cells - 1, 1.0, 0.0))
        return TimeStep(state + 1, jax.nn.one_hot(state + 1, self.num_cells), reward, terminated, jnp.array(False))


@dataclass(frozen=True)
class Refuge:
    """One place. Action 0 leaves for 0.3; action 1 stays for 0.1, and after four steps the clock runs out.

    With a discount of 0.9, to stay for ever is worth 1, and for the steps that the clock leaves less than 0.3 on
    average. So the best policy stays if truncation is no end, and leaves if it is one, or if leaving is none.
    """

    max_episode_steps: int = 4
    reward_range: tuple[float, float] = (0.0, 0.3)

    def reset(self, key):
        return jnp.int32(0), jnp.ones(1)

    def step(self, key, state, action):
        terminated = action == 0
        truncated = ~terminated & (state + 1 == self.max_episode_steps)
        return TimeStep(state + 1, jnp.ones(1), jnp.where(terminated, 0.3, 0.1), terminated, truncated)


def tabular_policy(num_observations):
    """A softmax and a value for each one-hot observation."""

    def evaluate_actions(params, observation, action):
        log_probs = jax.nn.log_softmax(observation @ params["logits"])
        log_prob = jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]
        return ActionEvaluation(log_prob, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), value(params, observation))

    def value(params, observation):
        return observation @ params["value"]

    def act(params, key, observation):
        action = jax.random.categorical(key, observation @ params["logits"]).astype(jnp.int32)
        return action, evaluate_actions(params, observation, action).log_prob

    return Policy(
        lambda key: {"logits": jnp.zeros((num_observations, 2)), "value": jnp.zeros(num_observations)},
        act,
        lambda params, observation: jnp.argmax(observation @ params["logits"], axis=-1),
        value,
        evaluate_actions,
    )


def train_policy(env, algorithm, num_observations, num_updates=80):
    policy, optimizer = tabular_policy(num_observations), optax.adam(0.05)
    schedule = EvalSchedule(num_updates // 2, num_updates)
    if algorithm == "ppo":
        update = ppo(policy.evaluate_actions, optimizer, num_epochs=2, num_minibatches=2, entropy_weight=0.01)
        step = make_ppo_step(
            env, policy, update, rollout_length=8, discount=0.9, gae_lambda=0.9, clip_values=False, schedule=schedule
        )
    else:
        use_baseline = algorithm == "reinforce"
        update = reinforce(policy.evaluate_actions, optimizer, use_baseline=use_baseline, value_weight=1.0)
        step = make_reinforce_step(
            env,
            policy,
            update,
            use_baseline=use_baseline,
            num_episodes=16,
            discount=0.9,
            schedule=schedule,
        )

    @jax.jit
    def run(key):
        state = init_policy_training(env, policy, optimizer, 16, 2, key)
        return jax.lax.scan(step, state, jnp.arange(num_updates))

    return jax.device_get(run(jax.random.key(0)))


def probability_of_action_1(state):
    logits = state.train_state.params["logits"]
    return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "reinforce without baseline"])
def test_training_finds_the_distant_reward(algorithm):
    state, metrics = train_policy(Corridor(), algorithm, 4, num_updates=120)
    assert probability_of_action_1(state).min() > 0.9
    assert metrics["eval/return"].value[0] == 0  # the least possible, before the first evaluation
    assert metrics["eval/return"].value[-1] == pytest.approx(1)
    assert metrics["rollout/return"].value[-1] > 0.8
    assert (np.diff(metrics["rollout/num_env_steps"].value) > 0).all()
    if algorithm != "reinforce without baseline":  # discounted, from each cell
        np.testing.assert_allclose(state.train_state.params["value"], 0.9 ** np.array([3, 2, 1, 0]), atol=0.2)
    np.testing.assert_allclose(state.env.history[:, 0], metrics["rollout/num_env_steps"].value[[59, 119]])
    np.testing.assert_allclose(state.env.history[:, 2], metrics["rollout/return"].value[[59, 119]])
    np.testing.assert_allclose(state.env.history[-1, 1], 1)


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_truncation_is_not_termination_in_training(algorithm):
    state, _ = train_policy(Refuge(), algorithm, 1)
    assert probability_of_action_1(state).min() > 0.9
    assert state.train_state.params["value"][0] > 0.5  # 1 in the end
