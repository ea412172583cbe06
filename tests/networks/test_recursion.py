"""Recursive networks, thinking, and their training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.environments.puzzles import prefix_sums, sample_puzzles
from thinking.learning.deep_supervision import CellBatch, deep_supervision
from thinking.networks.blocks import BlockConfig
from thinking.networks.positions import none
from thinking.networks.recursion import (
    CellInputs,
    recursive_network,
    sum_neighbors,
    think,
    think_several_times,
)

SIZE = 6
NETWORK = recursive_network(
    num_features=2, num_relations=2, num_classes=2, block=BlockConfig(24, 1, feed_forward=48, position=none())
)


def sample(key, num_rows, size=SIZE):
    puzzles = sample_puzzles(prefix_sums(), key, num_rows, size)
    return CellBatch(CellInputs(puzzles.features, puzzles.neighbors), puzzles.targets)


sample_batch = jax.jit(sample, static_argnums=(1, 2))
jit_think = jax.jit(functools.partial(think, NETWORK), static_argnames=("max_steps", "min_confidence"))


def train(num_steps, **options):
    options = {"batch_size": 32, "grad_steps": 4, "num_updates": 4, **options}
    training = deep_supervision(NETWORK, optax.adam(5e-3), sample, **options)

    @jax.jit
    def run(key):
        return jax.lax.scan(training.step, training.init(key), jax.random.split(key, num_steps))

    return run(jax.random.key(0))


@pytest.fixture(scope="module")
def trained():
    return train(500)


def test_neighbors_are_summed_by_relation():
    rng = np.random.default_rng(0)
    x, neighbors = rng.normal(size=(2, 5, 3)).astype(np.float32), rng.integers(-1, 5, (2, 2, 5, 4), np.int32)
    expected = np.zeros((2, 5, 6))
    for row, relation, cell, slot in np.ndindex(neighbors.shape):
        seen = int(neighbors[row, relation, cell, slot])
        if seen >= 0:
            expected[row, cell, 3 * relation : 3 * relation + 3] += x[row, seen]
    np.testing.assert_allclose(jax.jit(sum_neighbors)(x, neighbors), expected, atol=1e-6)


def test_thinking_longer_solves_longer_puzzles_than_in_training(trained):
    params = trained[0].ema_params
    batch = sample_batch(jax.random.key(5), 100, 4 * SIZE)

    def solve(max_steps):
        thought = jit_think(params, batch.inputs, max_steps=max_steps, min_confidence=1.0)
        return np.mean((np.asarray(thought.output.answer) == np.asarray(batch.targets)).all(axis=1))

    assert solve(4) < 0.3
    assert solve(40) > 0.9


def test_rows_halt_by_themselves_and_as_if_alone(trained):
    params, batch = trained[0].ema_params, sample_batch(jax.random.key(6), 64, 2 * SIZE)
    thought = jax.device_get(jit_think(params, batch.inputs, max_steps=64))
    first, last = int(thought.num_steps.argmin()), int(thought.num_steps.argmax())
    assert thought.num_steps[first] < thought.num_steps[last] < 64
    for row in (first, last):
        alone = jit_think(params, CellInputs(*(np.asarray(leaf)[row : row + 1] for leaf in batch.inputs)), max_steps=64)
        assert alone.num_steps[0] == thought.num_steps[row]
        np.testing.assert_allclose(alone.output.logits[0], thought.output.logits[row], atol=1e-4)


def test_confidence_knows_which_cells_are_right(trained):
    params, batch = trained[0].ema_params, sample_batch(jax.random.key(7), 200, 3 * SIZE)
    output = jax.device_get(jit_think(params, batch.inputs, max_steps=8, min_confidence=1.0).output)
    is_right = output.answer == np.asarray(batch.targets)
    assert 0.5 < is_right.mean() < 0.95
    assert output.confidence[is_right].mean() > output.confidence[~is_right].mean() + 1


def test_the_most_confident_rollout_is_kept(trained):
    params, batch = trained[0].ema_params, sample_batch(jax.random.key(8), 16)
    options = {"max_steps": 2, "min_confidence": 1.0}

    @jax.jit
    def think_once(key):
        latent = NETWORK.init_latent(params, batch.inputs) + 3.0 * jax.random.normal(key, (16, SIZE, 24))
        return think(NETWORK, params, batch.inputs, latent=latent, **options).output.log_prob_correct

    key = jax.random.key(1)
    several = jax.jit(
        lambda key: think_several_times(NETWORK, params, key, batch.inputs, num_rollouts=4, noise=3.0, **options)
    )(key)
    each = [think_once(one) for one in jax.random.split(key, 4)]
    np.testing.assert_allclose(several.output.log_prob_correct, np.max(each, axis=0), atol=1e-5)
    assert several.num_steps.tolist() == [8] * 16


def test_puzzles_stay_for_their_updates_and_oldest_make_way():
    training = deep_supervision(NETWORK, optax.sgd(0.0), sample, batch_size=4, grad_steps=3, num_updates=2)
    state = jax.jit(training.init)(jax.random.key(0))
    new, _ = jax.jit(training.step)(state, jax.random.key(1))
    step, init_latent = jax.jit(NETWORK.step), jax.jit(NETWORK.init_latent)
    latent, initial = state.latent, init_latent(state.train_state.params, new.batch.inputs)
    for _ in range(3):
        latent = step(state.train_state.params, latent, state.batch.inputs)
    new, state, latent, initial = jax.device_get((new, state, latent, initial))
    np.testing.assert_array_equal(new.batch.targets[:2], state.batch.targets[2:])
    np.testing.assert_allclose(new.latent[:2], latent[2:], atol=1e-5)
    np.testing.assert_allclose(new.latent[2:], initial[2:], atol=1e-6)


def test_progressive_training_learns_too():
    state, metrics = train(300, progressive=True)
    assert state.latent == ()
    assert metrics["cell_accuracy"][-20:].mean() > metrics["cell_accuracy"][:20].mean() + 0.2


@pytest.mark.parametrize("options", [{"attends": True}, {"recall": False}, {"num_blocks": 3}])
def test_variants_have_finite_gradients_for_all_parameters(options):
    network = recursive_network(num_features=2, num_relations=2, num_classes=2, block=BlockConfig(8, 2), **options)
    batch = sample_batch(jax.random.key(0), 2)

    def loss(params):
        latent = network.init_latent(params, batch.inputs)
        for _ in range(2):
            latent = network.step(params, latent, batch.inputs)
        output = network.predict(params, latent)
        return jnp.sum(output.logits**2) + jnp.sum(output.confidence**2)

    gradients = jax.jit(lambda: jax.grad(loss)(network.init(jax.random.key(0))))()
    for path, leaf in jax.tree.flatten_with_path(jax.device_get(gradients))[0]:
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.any(leaf != 0), jax.tree_util.keystr(path)


def test_without_recall_features_matter_at_the_start_alone():
    network = recursive_network(num_features=2, num_relations=2, num_classes=2, block=BlockConfig(8, 1), recall=False)
    params, inputs = jax.jit(network.init)(jax.random.key(0)), sample_batch(jax.random.key(0), 2).inputs
    other = inputs._replace(features=1 - np.asarray(inputs.features))
    init_latent, step = jax.jit(network.init_latent), jax.jit(network.step)
    latent = init_latent(params, inputs)
    assert np.any(np.asarray(latent) != np.asarray(init_latent(params, other)))
    np.testing.assert_array_equal(step(params, latent, inputs), step(params, latent, other))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 30}, "take 28"), ({"grad_steps": 0}, "grad_steps 0 .*at least 1")],
)
def test_bad_numbers_of_training_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train(1, **options)
