"""REINFORCE, PPO, GRPO and imitation, against gradients written out and choices whose best is known."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.learning.policy_gradient import (
    PolicyBatch,
    grpo,
    imitation,
    ppo,
    reinforce,
)
from thinking.learning.statistics import standardize
from thinking.networks.actor_critic import ActionEvaluation
from thinking.train_state import init_train_state

ROWS, CHOICES = 8, 3


def evaluate_actions(params, inputs, action):
    """A bandit of whole sequences: each action of [N, ...] is drawn from one softmax, whatever was seen."""
    logs = jax.nn.log_softmax(params["logits"])
    entropy = jnp.broadcast_to(-jnp.sum(jnp.exp(logs) * logs), action.shape)
    return ActionEvaluation(logs[action], entropy, jnp.broadcast_to(params["value"], action.shape))


def init_params():
    return {"logits": np.float32([0.1, -0.2, 0.3]), "value": np.float32(0.5)}


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def make_batch(key, shape, params=None, mask=None):
    batch = jax.device_get(sample_batch(key, init_params() if params is None else params, shape))
    return batch if mask is None else batch._replace(mask=mask)


@functools.partial(jax.jit, static_argnums=2)
def sample_batch(key, params, shape):
    """Actions drawn from a policy; 2 pays 1, the others nothing."""
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


def test_reinforce_without_a_baseline_steps_along_return_times_score():
    optimizer = optax.sgd(1.0)
    batch = make_batch(jax.random.key(0), (ROWS,))
    train_state, metrics = run_update(reinforce(evaluate_actions, optimizer, use_baseline=False), optimizer, batch)
    # The gradient of a softmax's log probability.
    scores = np.eye(CHOICES)[batch.action] - softmax(init_params()["logits"])
    step = (batch.value_target[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["value_loss"]) == 0


def test_the_baseline_learns_the_mean_return():
    optimizer = optax.adam(0.05)
    batch = make_batch(jax.random.key(1), (64,))
    update = jax.jit(reinforce(evaluate_actions, optimizer))
    train_state = init_state(optimizer)
    for _ in range(150):
        train_state, _ = update(train_state, batch, jax.random.key(0))
    assert float(train_state.params["value"]) == pytest.approx(float(batch.value_target.mean()), abs=0.02)


def test_ppos_first_step_is_the_gradient_of_the_normalised_advantage():
    optimizer = optax.sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    update = ppo(evaluate_actions, optimizer, num_epochs=1, num_minibatches=1, entropy_weight=0.0, value_weight=0.0)
    train_state, metrics = run_update(update, optimizer, batch)
    advantage = batch.advantage
    advantage = (advantage - advantage.mean()) / advantage.std()
    scores = np.eye(CHOICES)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-5)
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clip_ratio"]) == 0


def test_ppo_does_not_push_beyond_the_clip():
    optimizer = optax.sgd(1.0)
    batch = make_batch(jax.random.key(3), (ROWS,))
    better = np.asarray(jax.jit(standardize)(batch.advantage, batch.mask)) > 0
    # As if the policy had already moved far towards what was good and away from what was not.
    moved = batch._replace(log_prob=batch.log_prob - np.where(better, np.float32(0.5), np.float32(-0.5)))
    update = ppo(
        evaluate_actions, optimizer, num_epochs=1, num_minibatches=1, clip=0.2, entropy_weight=0.0, value_weight=0.0
    )
    train_state, metrics = run_update(update, optimizer, moved)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])
    assert float(metrics["clip_ratio"]) == 1


@pytest.mark.parametrize("shape", [(64,), (16, 4)], ids=["steps", "sequences"])
@pytest.mark.parametrize("name", ["ppo", "reinforce", "grpo"])
def test_the_best_choice_is_found(name, shape):
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    update = {"ppo": ppo, "reinforce": reinforce, "grpo": grpo}[name](evaluate_actions, optimizer, entropy_weight=0.0)

    @jax.jit
    def train_policy(key):
        def step(train_state, key):
            draw_key, learn_key = jax.random.split(key)
            return update(train_state, sample_batch(draw_key, train_state.params, shape), learn_key)[0], None

        train_state = init_train_state(init_params(), optimizer)
        return jax.lax.scan(step, train_state, jax.random.split(key, 60))[0]

    assert softmax(np.asarray(train_policy(jax.random.key(0)).params["logits"]))[2] > 0.95


MADE = {"reinforce": reinforce, "ppo": ppo, "grpo": grpo, "imitation": imitation}
OPTIONS = {
    "reinforce": {"value_weight": 0.3, "entropy_weight": 0.2},
    "ppo": {"num_epochs": 1, "num_minibatches": 1, "clip": 0.25, "value_weight": 0.3, "entropy_weight": 0.2},
    "grpo": {"num_minibatches": 1, "clip": 0.25, "kl_weight": 0.7, "value_weight": 0.3, "entropy_weight": 0.2},
    "imitation": {"num_minibatches": 1, "value_weight": 0.3},
}


def reference_loss(name, params, batch, *, clip=0.25, kl_weight=0.7, value_weight=0.3, entropy_weight=0.2):
    """The losses as their papers write them, in NumPy's float64."""
    logs = params["logits"] - np.log(np.exp(params["logits"]).sum())
    log_prob, entropy = logs[batch.action], -(np.exp(logs) * logs).sum()

    def mean(x, weight=batch.mask):
        return (x * weight).sum() / weight.sum()

    value_loss, advantage = 0.5 * mean((params["value"] - batch.value_target) ** 2), np.float64(batch.advantage)
    if name == "imitation":
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
    params = {key: np.array(value, np.float64) for key, value in init_params().items()}

    def slope(key, index):
        sides = []
        for sign in (1, -1):
            moved = {name: value.copy() for name, value in params.items()}
            moved[key][index] += sign * width
            sides.append(reference_loss(name, moved, batch, **options))
        return (sides[0] - sides[1]) / (2 * width)

    return {"logits": np.array([slope("logits", index) for index in range(CHOICES)]), "value": slope("value", ())}


def make_weighted_batch():
    """Old actions of a policy that has moved: ratios on both sides of the clip, for good and bad ones alike."""
    rng, shape = np.random.default_rng(0), (ROWS, 5)
    batch = make_batch(jax.random.key(5), shape, mask=rng.choice([0, 0.25, 1, 2], shape).astype(np.float32))
    noise = rng.choice([-0.5, -0.1, 0.1, 0.5], shape).astype(np.float32)
    return batch._replace(
        log_prob=batch.log_prob + noise,
        advantage=rng.normal(0.4, 1, shape).astype(np.float32),
        value_target=rng.normal(0.4, 1, shape).astype(np.float32),
        reference_log_prob=batch.log_prob + rng.normal(0, 0.4, shape).astype(np.float32),
    )


@pytest.mark.parametrize("name", MADE)
def test_a_step_follows_the_gradient_of_the_loss_written_out(name):
    optimizer, batch = optax.sgd(1.0), make_weighted_batch()
    if name == "imitation":
        batch = batch._replace(advantage=(batch.advantage > 0).astype(np.float32))
    train_state, metrics = run_update(MADE[name](evaluate_actions, optimizer, **OPTIONS[name]), optimizer, batch)
    expected = reference_gradient(name, batch)
    for key, value in init_params().items():
        np.testing.assert_allclose(value - train_state.params[key], expected[key], atol=2e-5)
    # The parts of the loss are what is left if the weights of the others are 0.
    params = {key: np.array(value, np.float64) for key, value in init_params().items()}
    alone = reference_loss(name, params, batch, kl_weight=0, value_weight=0, entropy_weight=0)
    assert float(metrics["policy_loss"]) == pytest.approx(alone, abs=1e-5)
    with_value = reference_loss(name, params, batch, kl_weight=0, value_weight=1, entropy_weight=0)
    assert float(metrics["value_loss"]) == pytest.approx(with_value - alone, abs=1e-5)
    probs = softmax(init_params()["logits"])
    assert float(metrics["entropy"]) == pytest.approx(-(probs * np.log(probs)).sum(), abs=1e-5)


def test_the_figures_of_ppo_are_of_the_policy_that_acted():
    optimizer, batch = optax.sgd(0.0), make_weighted_batch()
    _, metrics = run_update(ppo(evaluate_actions, optimizer, **OPTIONS["ppo"]), optimizer, batch)
    log_ratio = np.log(softmax(init_params()["logits"]))[batch.action] - batch.log_prob
    expected_kl = np.average(np.exp(log_ratio) - 1 - log_ratio, weights=batch.mask)
    assert float(metrics["kl"]) == pytest.approx(expected_kl, rel=1e-4)
    is_clipped = np.abs(np.exp(log_ratio) - 1) > OPTIONS["ppo"]["clip"]
    assert float(metrics["clip_ratio"]) == pytest.approx(np.average(is_clipped, weights=batch.mask), rel=1e-4)


@pytest.mark.parametrize("name", ["reinforce", "ppo", "grpo"])
def test_the_entropy_bonus_spreads_the_policy_below_its_ceiling_alone(name):
    optimizer = optax.sgd(0.5)
    batch = make_batch(jax.random.key(6), (ROWS,))
    batch = batch._replace(advantage=np.zeros(ROWS, np.float32), value_target=np.full(ROWS, 0.7, np.float32))
    options = {} if name == "reinforce" else {"num_minibatches": 1}

    def entropy_after(**settings):
        update = MADE[name](evaluate_actions, optimizer, **options, **settings)
        probs = softmax(run_update(update, optimizer, batch)[0].params["logits"])
        return -(probs * np.log(probs)).sum()

    probs = softmax(init_params()["logits"])
    before = -(probs * np.log(probs)).sum()
    assert entropy_after(entropy_weight=0.3) > before + 1e-3
    assert entropy_after(entropy_weight=0.3, entropy_ceiling=before - 0.01) == pytest.approx(before, abs=1e-6)
    assert entropy_after(entropy_weight=0.0) == pytest.approx(before, abs=1e-6)


def test_equal_advantages_move_nothing():
    optimizer = optax.adam(0.1)
    batch = make_batch(jax.random.key(7), (10,))._replace(advantage=np.full(10, 0.7, np.float32))
    update = ppo(evaluate_actions, optimizer, num_minibatches=1, value_weight=0.0, entropy_weight=0.0)
    train_state, _ = run_update(update, optimizer, batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])
    batch = batch._replace(value_target=np.full(10, 0.7, np.float32))
    train_state, _ = run_update(reinforce(evaluate_actions, optimizer, value_weight=0.0), optimizer, batch)
    np.testing.assert_array_equal(train_state.params["logits"], init_params()["logits"])


ILLEGAL = CHOICES
"""An action of probability 0."""


def evaluate_with_illegal(params, inputs, action):
    logs = jax.nn.log_softmax(jnp.append(params["logits"], -jnp.inf))
    evaluation = evaluate_actions(params, inputs, jnp.minimum(action, CHOICES - 1))
    entropy = jnp.where(action == ILLEGAL, jnp.nan, evaluation.entropy)
    value = jnp.where(action == ILLEGAL, jnp.inf, evaluation.value)
    return ActionEvaluation(logs[action], entropy, value)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf, -200.0, 1e30])
@pytest.mark.parametrize("name", MADE)
def test_what_is_masked_changes_nothing(name, bad):
    optimizer, batch, bad = optax.sgd(0.1), make_weighted_batch(), np.float32(bad)
    update = MADE[name](evaluate_with_illegal, optimizer, **OPTIONS[name])
    corrupted = batch._replace(
        action=np.where(batch.mask > 0, batch.action, ILLEGAL),
        **{
            field: np.where(batch.mask > 0, getattr(batch, field), bad)
            for field in ("advantage", "value_target", "log_prob", "reference_log_prob")
        },
    )
    jax.tree.map(
        np.testing.assert_array_equal, run_update(update, optimizer, batch), run_update(update, optimizer, corrupted)
    )


@pytest.mark.parametrize("name", MADE)
def test_a_batch_without_weight_moves_nothing(name):
    optimizer = optax.sgd(0.1)
    batch = make_weighted_batch()._replace(mask=np.zeros((ROWS, 5), np.float32))
    options = OPTIONS[name] | ({} if name == "imitation" else {"entropy_weight": 0.0})
    train_state, _ = run_update(MADE[name](evaluate_actions, optimizer, **options), optimizer, batch)
    jax.tree.map(np.testing.assert_array_equal, train_state.params, init_params())


def test_every_row_is_used_once_an_epoch():
    optimizer = optax.sgd(1.0)
    weights = 2.0 ** np.arange(ROWS).astype(np.float32)

    def evaluate_row(params, inputs, action):
        # The gradient of each row is another power of 2.
        return ActionEvaluation(params["sum"] * inputs, jnp.zeros_like(inputs), jnp.zeros_like(inputs))

    zeros, ones = np.zeros(ROWS, np.float32), np.ones(ROWS, np.float32)
    batch = PolicyBatch(weights, zeros, zeros, ones, zeros, ones)
    for num_epochs in (1, 3):
        update = imitation(evaluate_row, optimizer, num_epochs=num_epochs, num_minibatches=ROWS)
        train_state, _ = jax.jit(update)(
            init_train_state({"sum": jnp.zeros(())}, optimizer), batch, jax.random.key(num_epochs)
        )
        assert float(train_state.params["sum"]) == num_epochs * weights.sum()


def test_grpo_takes_advantages_as_they_are():
    optimizer = optax.sgd(0.1)
    batch = make_batch(jax.random.key(2), (ROWS,))
    train_state, metrics = run_update(grpo(evaluate_actions, optimizer, num_minibatches=1), optimizer, batch)
    scores = np.eye(CHOICES)[batch.action] - softmax(init_params()["logits"])
    step = 0.1 * (batch.advantage[:, None] * scores).mean(axis=0)
    np.testing.assert_allclose(train_state.params["logits"], init_params()["logits"] + step, atol=1e-6)
    assert train_state.params["value"] == init_params()["value"]
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)


def test_grpo_is_pulled_towards_the_reference():
    optimizer = optax.sgd(0.5)
    batch = make_batch(jax.random.key(3), (64,))._replace(advantage=np.zeros(64, np.float32))
    expected = np.log(softmax(np.float32([1, 0, -1])))
    update = jax.jit(grpo(evaluate_actions, optimizer, num_minibatches=1, kl_weight=1.0))
    train_state = init_state(optimizer)
    far = []
    for step in range(40):
        sample_batch = make_batch(jax.random.key(step), (64,), train_state.params)._replace(advantage=batch.advantage)
        train_state, metrics = update(
            train_state, sample_batch._replace(reference_log_prob=expected[sample_batch.action]), jax.random.key(0)
        )
        far.append(float(metrics["kl"]))
    np.testing.assert_allclose(np.log(softmax(np.asarray(train_state.params["logits"]))), expected, atol=0.2)
    assert far[0] > 0.2
    assert far[-1] < 0.02
    with pytest.raises(ValueError, match="without a reference"):
        run_update(grpo(evaluate_actions, optimizer, kl_weight=1.0), optimizer, batch)


def test_imitation_ends_at_the_frequencies_of_what_it_is_shown():
    optimizer = optax.sgd(1.0)
    action = np.int32([0, 0, 0, 1, 1, 2, 2, 2])
    blank, shown = np.zeros(ROWS, np.float32), np.float32([1, 1, 1, 1, 1, 0, 0, 0])
    batch = PolicyBatch(blank, action, blank, shown, blank, np.ones(ROWS, np.float32))
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
        (imitation, {"num_epochs": 1, "num_minibatches": 4, "value_weight": 0.0}),
    ],
)
def test_defaults_are_those_of_the_papers(function, expected):
    defaults = {name: each.default for name, each in inspect.signature(function).parameters.items()}
    assert {name: defaults[name] for name in expected} == expected
    assert defaults.get("entropy_ceiling", np.inf) == np.inf
