"""REINFORCE, PPO, GRPO and expert_iteration, against gradients in NumPy and a bandit with a known optimum."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.learning.policy_gradient import (
    PolicyBatch,
    expert_iteration,
    grpo,
    ppo,
    reinforce,
)
from thinking.learning.statistics import standardize
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


sgd = functools.cache(optax.sgd)


@functools.cache
def make_update(algorithm, optimizer, evaluate_fn=evaluate_actions, **options):
    """The jitted update of an algorithm."""
    return jax.jit(algorithm(evaluate_fn, optimizer, **options))


def run_update(update, optimizer, batch, key=0):
    return jax.device_get(update(init_state(optimizer), batch, jax.random.key(key)))


@functools.cache
def init_state(optimizer):
    return jax.jit(lambda params: init_train_state(params, optimizer))(init_params())


def test_reinforce_without_baseline_steps_along_return_times_score():
    optimizer = sgd(1.0)
    batch = make_batch(jax.random.key(0), (ROWS,))
    train_state, metrics = run_update(make_update(reinforce, optimizer, use_baseline=False), optimizer, batch)
    # The gradient of a softmax's log probability.
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = (batch.value_target[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["loss/value"]) == 0


def test_reinforce_baseline_converges_to_the_mean_return():
    optimizer = optax.adam(0.05)
    batch = make_batch(jax.random.key(1), (64,))
    update = make_update(reinforce, optimizer)
    train_state = init_state(optimizer)
    for _ in range(150):
        train_state, _ = update(train_state, batch, jax.random.key(0))
    assert float(train_state.params["value"]) == pytest.approx(float(batch.value_target.mean()), abs=0.02)


def test_first_ppo_step_is_the_policy_gradient():
    optimizer = sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    update = make_update(ppo, optimizer, num_epochs=1, num_minibatches=1, entropy_weight=0.0, value_weight=0.0)
    train_state, metrics = run_update(update, optimizer, batch)
    advantage = batch.advantage
    advantage = (advantage - advantage.mean()) / advantage.std()
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-5)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clip_ratio"]) == 0


def test_ppo_has_no_gradient_beyond_the_clip():
    optimizer = sgd(1.0)
    batch = make_batch(jax.random.key(3), (ROWS,))
    is_positive = np.asarray(jax.jit(standardize)(batch.advantage, batch.mask)) > 0
    # As if the policy had already moved beyond the clip in the direction of the advantages.
    clipped_batch = batch._replace(log_prob=batch.log_prob - np.where(is_positive, np.float32(0.5), np.float32(-0.5)))
    update = make_update(
        ppo, optimizer, num_epochs=1, num_minibatches=1, clip=0.2, entropy_weight=0.0, value_weight=0.0
    )
    train_state, metrics = run_update(update, optimizer, clipped_batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])
    assert float(metrics["clip_ratio"]) == 1


def test_ppo_value_loss_is_the_larger_one_of_value_and_clipped_value():
    # The value is 0.5 everywhere. It moved by 0.1, by 0.4 toward the target, and by 0.4 away from it.
    old, target = np.float32([0.4, 0.1, 0.9]), np.float32([1.0, 1.0, 1.0])
    batch = make_batch(jax.random.key(4), (3,))._replace(value=old, value_target=target, advantage=target - old)
    optimizer = sgd(0.0)
    update = make_update(ppo, optimizer, num_epochs=1, num_minibatches=1, clip=0.2, entropy_weight=0.0)
    by_hand = [0.5**2, max(0.5**2, (0.3 - 1) ** 2), max(0.5**2, (0.7 - 1) ** 2)]
    assert run_update(update, optimizer, batch)[1]["loss/value"] == pytest.approx(np.mean(by_hand) / 2)
    unclipped = run_update(update, optimizer, batch._replace(value=None))[1]["loss/value"]
    assert unclipped == pytest.approx(0.5**2 / 2)


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


ALGORITHMS = {"reinforce": reinforce, "ppo": ppo, "grpo": grpo, "expert_iteration": expert_iteration}
OPTIONS = {
    "reinforce": {"value_weight": 0.3, "entropy_weight": 0.2},
    "ppo": {"num_epochs": 1, "num_minibatches": 1, "clip": 0.25, "value_weight": 0.3, "entropy_weight": 0.2},
    "grpo": {"num_minibatches": 1, "clip": 0.25, "kl_weight": 0.7, "value_weight": 0.3, "entropy_weight": 0.2},
    "expert_iteration": {"num_minibatches": 1, "value_weight": 0.3},
}


def reference_loss(name, params, batch, *, clip=0.25, kl_weight=0.7, value_weight=0.3, entropy_weight=0.2):
    """The losses as their papers write them, in NumPy's float64."""
    log_probs = params["logits"] - np.log(np.exp(params["logits"]).sum())
    log_prob, entropy = log_probs[batch.action], -(np.exp(log_probs) * log_probs).sum()

    def mean(x, weight=batch.mask):
        return (x * weight).sum() / weight.sum()

    value_loss, advantage = 0.5 * mean((params["value"] - batch.value_target) ** 2), np.float64(batch.advantage)
    if name == "expert_iteration":
        return -mean(log_prob, batch.mask * advantage) + value_weight * value_loss
    if name == "reinforce":
        advantage = np.float64(batch.value_target) - init_params()["value"]  # the baseline has no gradient here
    if name != "grpo":
        advantage = advantage - mean(advantage)
        advantage = advantage / np.sqrt(mean(advantage**2))
    ratio = np.exp(log_prob - batch.log_prob)
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)
    policy_loss = -mean(advantage * log_prob) if name == "reinforce" else -mean(surrogate)
    log_ratio = batch.reference_log_prob - log_prob
    penalty = kl_weight * mean(np.exp(log_ratio) - 1 - log_ratio) if name == "grpo" else 0.0
    return policy_loss + penalty + value_weight * value_loss - entropy_weight * entropy


def reference_gradient(name, batch, width=1e-5, **options):
    """Central differences of `reference_loss`."""
    params = {key: np.array(value, np.float64) for key, value in init_params().items()}

    def partial_derivative(key, index):
        losses = []
        for sign in (1, -1):
            shifted_params = {name: value.copy() for name, value in params.items()}
            shifted_params[key][index] += sign * width
            losses.append(reference_loss(name, shifted_params, batch, **options))
        return (losses[0] - losses[1]) / (2 * width)

    return {
        "logits": np.array([partial_derivative("logits", index) for index in range(NUM_ACTIONS)]),
        "value": partial_derivative("value", ()),
    }


def make_weighted_batch():
    """Actions of an earlier policy: ratios on both sides of the clip, for positive and negative advantages alike."""
    rng, shape = np.random.default_rng(0), (ROWS, 5)
    batch = make_batch(jax.random.key(5), shape, mask=rng.choice([0, 0.25, 1, 2], shape).astype(np.float32))
    noise = rng.choice([-0.5, -0.1, 0.1, 0.5], shape).astype(np.float32)
    return batch._replace(
        log_prob=batch.log_prob + noise,
        advantage=rng.normal(0.4, 1, shape).astype(np.float32),
        value_target=rng.normal(0.4, 1, shape).astype(np.float32),
        reference_log_prob=batch.log_prob + rng.normal(0, 0.4, shape).astype(np.float32),
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_update_follows_the_gradient_of_the_reference_loss(name):
    optimizer, batch = sgd(1.0), make_weighted_batch()
    if name == "expert_iteration":
        batch = batch._replace(advantage=(batch.advantage > 0).astype(np.float32))
    train_state, metrics = run_update(make_update(ALGORITHMS[name], optimizer, **OPTIONS[name]), optimizer, batch)
    expected = reference_gradient(name, batch)
    for key, value in init_params().items():
        np.testing.assert_allclose(value - train_state.params[key], expected[key], atol=2e-5)
    # Each term of the loss is what remains if the other weights are 0.
    params = {key: np.array(value, np.float64) for key, value in init_params().items()}
    policy_loss = reference_loss(name, params, batch, kl_weight=0, value_weight=0, entropy_weight=0)
    assert float(metrics["loss/policy"]) == pytest.approx(policy_loss, abs=1e-5)
    loss_with_value = reference_loss(name, params, batch, kl_weight=0, value_weight=1, entropy_weight=0)
    assert float(metrics["loss/value"]) == pytest.approx(loss_with_value - policy_loss, abs=1e-5)
    probs = softmax(init_params()["logits"])
    assert float(metrics["entropy"]) == pytest.approx(-(probs * np.log(probs)).sum(), abs=1e-5)


def test_ppo_metrics_compare_with_the_behaviour_policy():
    optimizer, batch = sgd(1.0), make_weighted_batch()
    _, metrics = run_update(make_update(ppo, optimizer, **OPTIONS["ppo"]), optimizer, batch)
    log_ratio = np.log(softmax(init_params()["logits"]))[batch.action] - batch.log_prob
    expected_kl = np.average(np.exp(log_ratio) - 1 - log_ratio, weights=batch.mask)
    assert float(metrics["kl"]) == pytest.approx(expected_kl, rel=1e-4)
    is_clipped = np.abs(np.exp(log_ratio) - 1) > OPTIONS["ppo"]["clip"]
    assert float(metrics["clip_ratio"]) == pytest.approx(np.average(is_clipped, weights=batch.mask), rel=1e-4)


@pytest.mark.parametrize("name", ["reinforce", "ppo", "grpo"])
def test_entropy_bonus_raises_entropy_only_below_its_ceiling(name):
    optimizer = sgd(0.5)
    batch = make_batch(jax.random.key(6), (ROWS,))
    batch = batch._replace(advantage=np.zeros(ROWS, np.float32), value_target=np.full(ROWS, 0.7, np.float32))
    options = {} if name == "reinforce" else {"num_minibatches": 1}

    @jax.jit
    def update(train_state, batch, weight, ceiling):
        settings = {"entropy_weight": weight, "entropy_ceiling": ceiling}
        update = ALGORITHMS[name](evaluate_actions, optimizer, **options, **settings)
        return update(train_state, batch, jax.random.key(0))[0]

    def entropy_after(entropy_weight, entropy_ceiling=np.inf):
        settings = np.float32([entropy_weight, entropy_ceiling])
        probs = softmax(np.asarray(update(init_state(optimizer), batch, *settings).params["logits"]))
        return -(probs * np.log(probs)).sum()

    probs = softmax(init_params()["logits"])
    entropy_before = -(probs * np.log(probs)).sum()
    assert entropy_after(entropy_weight=0.3) > entropy_before + 1e-3
    assert entropy_after(entropy_weight=0.3, entropy_ceiling=entropy_before - 0.01) == pytest.approx(
        entropy_before, abs=1e-6
    )
    assert entropy_after(entropy_weight=0.0) == pytest.approx(entropy_before, abs=1e-6)


def test_equal_advantages_do_not_change_the_policy():
    optimizer = optax.adam(0.1)
    batch = make_batch(jax.random.key(7), (10,))._replace(advantage=np.full(10, 0.7, np.float32))
    update = make_update(ppo, optimizer, num_minibatches=1, value_weight=0.0, entropy_weight=0.0)
    train_state, _ = run_update(update, optimizer, batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])
    batch = batch._replace(value_target=np.full(10, 0.7, np.float32))
    train_state, _ = run_update(make_update(reinforce, optimizer, value_weight=0.0), optimizer, batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])


ILLEGAL_ACTION = NUM_ACTIONS
"""An action of probability 0."""


def evaluate_with_illegal_action(params, inputs, action):
    log_probs = jax.nn.log_softmax(jnp.append(params["logits"], -jnp.inf))
    evaluation = evaluate_actions(params, inputs, jnp.minimum(action, NUM_ACTIONS - 1))
    entropy = jnp.where(action == ILLEGAL_ACTION, jnp.nan, evaluation.entropy)
    value = jnp.where(action == ILLEGAL_ACTION, jnp.inf, evaluation.value)
    return ActionEvaluation(log_probs[action], entropy, value)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf, -200.0, 1e30])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_masked_entries_do_not_change_the_update(name, bad):
    optimizer, batch, bad = sgd(0.1), make_weighted_batch(), np.float32(bad)
    update = make_update(ALGORITHMS[name], optimizer, evaluate_with_illegal_action, **OPTIONS[name])
    corrupted_batch = batch._replace(
        action=np.where(batch.mask > 0, batch.action, ILLEGAL_ACTION),
        **{
            field: np.where(batch.mask > 0, getattr(batch, field), bad)
            for field in ("advantage", "value_target", "log_prob", "reference_log_prob")
        },
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        run_update(update, optimizer, batch),
        run_update(update, optimizer, corrupted_batch),
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_batch_without_weight_does_not_change_the_params(name):
    optimizer = sgd(1.0)
    batch = make_weighted_batch()._replace(mask=np.zeros((ROWS, 5), np.float32))
    options = OPTIONS[name] | ({} if name == "expert_iteration" else {"entropy_weight": 0.0})
    train_state, _ = run_update(make_update(ALGORITHMS[name], optimizer, **options), optimizer, batch)
    jax.tree.map(np.testing.assert_array_equal, train_state.params, init_params())


def test_every_row_is_used_once_per_epoch():
    optimizer = sgd(1.0)
    weights = 2.0 ** np.arange(ROWS).astype(np.float32)

    def evaluate_row(params, inputs, action):
        # The gradient of each row is another power of 2.
        return ActionEvaluation(params["sum"] * inputs, jnp.zeros_like(inputs), jnp.zeros_like(inputs))

    zeros, ones = np.zeros(ROWS, np.float32), np.ones(ROWS, np.float32)
    batch = PolicyBatch(weights, zeros, zeros, ones, zeros, ones)
    for num_epochs in (1, 3):
        update = expert_iteration(evaluate_row, optimizer, num_epochs=num_epochs, num_minibatches=ROWS)
        train_state, _ = jax.jit(update)(
            init_train_state({"sum": jnp.zeros(())}, optimizer), batch, jax.random.key(num_epochs)
        )
        assert float(train_state.params["sum"]) == num_epochs * weights.sum()


def test_grpo_does_not_normalise_advantages():
    optimizer = sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    train_state, metrics = run_update(make_update(grpo, optimizer, num_minibatches=1), optimizer, batch)
    scores = np.eye(NUM_ACTIONS)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (batch.advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)


def test_grpo_with_kl_weight_converges_to_the_reference():
    optimizer = sgd(0.5)
    batch = make_batch(jax.random.key(3), (64,))._replace(advantage=np.zeros(64, np.float32))
    reference_log_probs = np.log(softmax(np.float32([1, 0, -1])))
    update = make_update(grpo, optimizer, num_minibatches=1, kl_weight=1.0)
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
        run_update(make_update(grpo, optimizer, kl_weight=1.0), optimizer, batch)


def test_imitation_converges_to_the_weighted_frequencies():
    optimizer = sgd(1.0)
    action = np.int32([0, 0, 0, 1, 1, 2, 2, 2])
    zeros, weights = np.zeros(ROWS, np.float32), np.float32([1, 1, 1, 1, 1, 0, 0, 0])
    batch = PolicyBatch(zeros, action, zeros, weights, zeros, np.ones(ROWS, np.float32))
    train_state = init_state(optimizer)
    update = make_update(expert_iteration, optimizer, num_minibatches=1)
    for _ in range(200):
        train_state, _ = update(train_state, batch, jax.random.key(0))
    np.testing.assert_allclose(softmax(np.asarray(train_state.params["logits"]))[:2], [0.6, 0.4], atol=0.02)


def test_minibatches_must_divide_the_rows():
    optimizer = sgd(0.1)
    with pytest.raises(ValueError, match="3 minibatches do not divide 8 rows"):
        run_update(make_update(ppo, optimizer, num_minibatches=3), optimizer, make_batch(jax.random.key(0), (ROWS,)))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (reinforce, {"use_baseline": True, "value_weight": 0.5, "entropy_weight": 0.0}),
        (ppo, {"num_epochs": 4, "num_minibatches": 4, "clip": 0.2, "value_weight": 0.5, "entropy_weight": 0.01}),
        (
            grpo,
            {
                "num_epochs": 1,
                "num_minibatches": 4,
                "clip": 0.2,
                "kl_weight": 0,
                "value_weight": 0,
                "entropy_weight": 0,
            },
        ),
        (expert_iteration, {"num_epochs": 1, "num_minibatches": 4, "value_weight": 0.0}),
    ],
)
def test_default_arguments_are_those_of_the_papers(function, expected):
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    assert {name: defaults[name] for name in expected} == expected
    assert defaults.get("entropy_ceiling", np.inf) == np.inf
