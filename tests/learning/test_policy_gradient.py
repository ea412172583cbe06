"""REINFORCE, PPO, GRPO and imitation, against gradients in NumPy and a bandit with a known optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.learning.policy_gradient import (
    PolicyBatch,
    grpo,
    imitation,
    masked_mean,
    normalize_advantages,
    ppo,
    reinforce,
)
from thinking.networks.actor_critic import ActionEvaluation
from thinking.train_state import init_train_state

ROWS, NUM_ACTIONS = 8, 3


def evaluate_actions(params, inputs, action):
    """A bandit of sequences: each action [N, ...] has the same softmax distribution, whatever the inputs."""
    log_probs = jax.nn.log_softmax(params["logits"])
    entropy = jnp.broadcast_to(-jnp.sum(jnp.exp(log_probs) * log_probs), action.shape)
    return ActionEvaluation(log_probs[action], entropy, jnp.broadcast_to(params["value"], action.shape))


def init_params():
    return {"logits": np.float32([0.1, -0.2, 0.3]), "value": np.float32(0.5)}


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def make_batch(key, shape, params=None, mask=None):
    batch = jax.device_get(sample_batch(key, init_params() if params is None else params, shape))
    return batch if mask is None else batch._replace(mask=mask)


@functools.partial(jax.jit, static_argnums=2)
def sample_batch(key, params, shape):
    """Actions sampled from a policy; the reward is 1 for action 2, 0 for the others."""
    action = jax.random.categorical(key, params["logits"], shape=shape)
    reward = (action == 2).astype(jnp.float32)
    evaluation = evaluate_actions(params, None, action)
    return PolicyBatch(
        jnp.zeros(shape), action, evaluation.log_prob, reward - evaluation.value, reward, jnp.ones(shape)
    )


def run_update(update, optimizer, batch, key=0):
    return jax.device_get(jax.jit(update)(init_state(optimizer), batch, jax.random.key(key)))


def init_state(optimizer):
    return jax.jit(lambda params: init_train_state(params, optimizer))(init_params())


def test_reinforce_without_baseline_steps_along_return_times_score():
    optimizer = optax.sgd(1.0)
    batch = make_batch(jax.random.key(0), (ROWS,))
    train_state, metrics = run_update(reinforce(evaluate_actions, optimizer, use_baseline=False), optimizer, batch)
    # The gradient of a softmax's log probability.
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = (batch.value_target[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["loss/value"]) == 0


def test_reinforce_baseline_converges_to_the_mean_return():
    optimizer = optax.adam(0.05)
    batch = make_batch(jax.random.key(1), (64,))
    update = jax.jit(reinforce(evaluate_actions, optimizer))
    train_state = init_state(optimizer)
    for _ in range(150):
        train_state, _ = update(train_state, batch, jax.random.key(0))
    assert float(train_state.params["value"]) == pytest.approx(float(batch.value_target.mean()), abs=0.02)


def test_first_ppo_step_is_the_policy_gradient():
    optimizer = optax.sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    update = ppo(evaluate_actions, optimizer, num_epochs=1, num_minibatches=1, entropy_weight=0.0, value_weight=0.0)
    train_state, metrics = run_update(update, optimizer, batch)
    advantage = batch.advantage
    advantage = (advantage - advantage.mean()) / advantage.std()
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-5)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clip_ratio"]) == 0


def test_ppo_has_no_gradient_beyond_the_clip():
    optimizer = optax.sgd(1.0)
    batch = make_batch(jax.random.key(3), (ROWS,))
    is_positive = np.asarray(jax.jit(normalize_advantages)(batch.advantage, batch.mask)) > 0
    # As if the policy had already moved beyond the clip in the direction of the advantages.
    clipped_batch = batch._replace(log_prob=batch.log_prob - np.where(is_positive, np.float32(0.5), np.float32(-0.5)))
    update = ppo(
        evaluate_actions, optimizer, num_epochs=1, num_minibatches=1, clip=0.2, entropy_weight=0.0, value_weight=0.0
    )
    train_state, metrics = run_update(update, optimizer, clipped_batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])
    assert float(metrics["clip_ratio"]) == 1


@pytest.mark.parametrize("shape", [(64,), (16, 4)], ids=["steps", "sequences"])
@pytest.mark.parametrize("name", ["ppo", "reinforce", "grpo"])
def test_training_finds_the_best_action(name, shape):
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    update = {"ppo": ppo, "reinforce": reinforce, "grpo": grpo}[name](evaluate_actions, optimizer, entropy_weight=0.0)

    @jax.jit
    def train_policy(key):
        def step(train_state, key):
            sample_key, update_key = jax.random.split(key)
            return update(train_state, sample_batch(sample_key, train_state.params, shape), update_key)[0], None

        train_state = init_train_state(init_params(), optimizer)
        return jax.lax.scan(step, train_state, jax.random.split(key, 60))[0]

    assert softmax(np.asarray(train_policy(jax.random.key(0)).params["logits"]))[2] > 0.95


@pytest.mark.parametrize("make_update", [ppo, reinforce, grpo, imitation])
def test_masked_entries_do_not_change_the_update(make_update):
    optimizer = optax.sgd(0.1)
    settings = {} if make_update is reinforce else {"num_epochs": 2, "num_minibatches": 1}
    update = make_update(evaluate_actions, optimizer, **settings)
    mask = np.arange(ROWS * 2).reshape(ROWS, 2) % 3 > 0
    batch = make_batch(jax.random.key(4), (ROWS, 2), mask=mask.astype(np.float32))
    corrupted_batch = batch._replace(
        action=np.where(mask, batch.action, 0),
        advantage=np.where(mask, batch.advantage, np.float32(1e6)),
        value_target=np.where(mask, batch.value_target, np.float32(-1e6)),
        log_prob=np.where(mask, batch.log_prob, np.float32(-1.0)),
    )
    expected, _ = run_update(update, optimizer, batch)
    actual, _ = run_update(update, optimizer, corrupted_batch)
    # Large masked values may change rounding only.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), expected.params, actual.params)


def test_grpo_does_not_normalise_advantages():
    optimizer = optax.sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    train_state, metrics = run_update(grpo(evaluate_actions, optimizer, num_minibatches=1), optimizer, batch)
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (batch.advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)


def test_grpo_with_kl_weight_converges_to_the_reference():
    optimizer = optax.sgd(0.5)
    batch = make_batch(jax.random.key(3), (64,))._replace(advantage=np.zeros(64, np.float32))
    reference_log_probs = np.log(softmax(np.float32([1, 0, -1])))
    update = jax.jit(grpo(evaluate_actions, optimizer, num_minibatches=1, kl_weight=1.0))
    train_state = init_state(optimizer)
    divergences = []
    for step in range(40):
        sample_batch = make_batch(jax.random.key(step), (64,), train_state.params)._replace(advantage=batch.advantage)
        train_state, metrics = update(
            train_state,
            sample_batch._replace(reference_log_prob=reference_log_probs[sample_batch.action]),
            jax.random.key(0),
        )
        divergences.append(float(metrics["kl"]))
    np.testing.assert_allclose(np.log(softmax(np.asarray(train_state.params["logits"]))), reference_log_probs, atol=0.2)
    assert divergences[0] > 0.2
    assert divergences[-1] < 0.02
    with pytest.raises(ValueError, match="without a reference"):
        run_update(grpo(evaluate_actions, optimizer, kl_weight=1.0), optimizer, batch)


def test_imitation_converges_to_the_weighted_frequencies():
    optimizer = optax.sgd(1.0)
    action = np.int32([0, 0, 0, 1, 1, 2, 2, 2])
    zeros, weights = np.zeros(ROWS, np.float32), np.float32([1, 1, 1, 1, 1, 0, 0, 0])
    batch = PolicyBatch(zeros, action, zeros, weights, zeros, np.ones(ROWS, np.float32))
    train_state = init_state(optimizer)
    update = jax.jit(imitation(evaluate_actions, optimizer, num_minibatches=1))
    for _ in range(200):
        train_state, _ = update(train_state, batch, jax.random.key(0))
    np.testing.assert_allclose(softmax(np.asarray(train_state.params["logits"]))[:2], [0.6, 0.4], atol=0.02)


def test_minibatches_must_divide_the_rows():
    optimizer = optax.sgd(0.1)
    with pytest.raises(ValueError, match="3 minibatches do not divide 8 rows"):
        run_update(
            ppo(evaluate_actions, optimizer, num_minibatches=3), optimizer, make_batch(jax.random.key(0), (ROWS,))
        )


def test_masked_mean_of_no_entries_is_zero():
    assert masked_mean(jnp.ones(3), jnp.zeros(3)) == 0
