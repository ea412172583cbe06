"""Layers: stacked layers learn as separate kernels do; a guide is a set of pure functions of one PyTree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.guide import example_graphs

from thinking.guide import Trajectories, guide
from thinking.guide.abstraction import skip_step, visit_counts
from thinking.guide.hippocampus import append
from thinking.guide.layers import stack_layers
from thinking.guide.tagging import tagged_space, visits
from thinking.kernels import Box, Context, Discrete, Transition, linear, table, transformer

NODES, ROWS = 6, 12
SPACE = Discrete(NODES)
SPACES = {"input": SPACE, "value": SPACE, "target": SPACE}


def assert_close(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for left_leaf, right_leaf in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if jnp.issubdtype(left_leaf.dtype, jax.dtypes.prng_key):
            left_leaf, right_leaf = jax.random.key_data(left_leaf), jax.random.key_data(right_leaf)
        np.testing.assert_allclose(left_leaf, right_leaf, rtol=1e-5, atol=1e-6)


def select_index(stacked, index):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def random_state(model, seed):
    """A state with the structure of `init`, filled by NumPy: compiling `init` takes long."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(key, leaf.shape)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(model.init, key))


def random_batch(seed):
    rng = np.random.default_rng(seed)
    items, target, value = rng.integers(0, NODES, (3, ROWS), np.int32)
    context = Context(items[:, None], np.ones(ROWS, np.int32))
    return Transition(context, target, value, rng.random(ROWS, np.float32), np.ones(ROWS, np.float32))


def test_stacked_layers_match_separate_kernels():
    shared_kernel, other_kernel = linear(**SPACES, optimizer=optax.sgd(0.5), num_cells=4, num_slots=2), table(**SPACES)
    kernels = [shared_kernel, shared_kernel, other_kernel]
    layers = stack_layers(kernels)
    indices = [(0, 0), (0, 1), (1, 0)]  # the group of each layer, and its index in the group
    batches = [random_batch(seed) for seed in range(3)]
    query = batches[0].context, batches[0].target

    @jax.jit
    def fit_stacked(states):
        fitted_states, metrics = layers.fit(states, batches)
        return fitted_states, metrics, [layers.infer(fitted_states, layer, *query) for layer in range(3)]

    @jax.jit
    def fit_separately(states):
        fitted_states = [
            kernel.fit(*state_and_batch) for kernel, *state_and_batch in zip(kernels, states, batches, strict=True)
        ]
        return fitted_states, [
            kernel.infer(state, *query) for kernel, (state, _) in zip(kernels, fitted_states, strict=True)
        ]

    states = random_state(layers, 0)
    fitted_states, metrics, hypotheses = fit_stacked(states)
    separate_results, separate_hypotheses = fit_separately(
        [select_index(states[group], index) for group, index in indices]
    )
    assert {name for name in metrics if name.endswith(("/loss", "num_written"))} == {
        "layer_0/loss",
        "layer_1/loss",
        "layer_2/num_written",
    }
    for layer, (group, index) in enumerate(indices):
        state, separate_metrics = separate_results[layer]
        assert_close(state, select_index(fitted_states[group], index))
        assert_close(separate_metrics, {name: metrics[f"layer_{layer}/{name}"] for name in separate_metrics})
        assert_close(separate_hypotheses[layer], hypotheses[layer])


def test_only_neighbours_are_stacked_and_each_layer_has_its_own_key():
    kernel = table(**SPACES)._replace(init=jax.random.key_data)
    other_kernel = kernel._replace()
    states = jax.jit(stack_layers([kernel, kernel, other_kernel, kernel]).init)(jax.random.key(0))
    assert [len(state) for state in states] == [2, 1, 1]
    assert len(np.unique(np.concatenate(states), axis=0)) == 4


def test_guide_mixes_kernels_of_different_kinds():
    options = {"optimizer": optax.sgd(0.1), "num_slots": 2}
    layers = [
        table(**SPACES),
        linear(**SPACES, num_cells=4, **options),
        transformer(**SPACES, width=4, num_heads=1, **options),
    ]
    model = guide(layers=layers, abstraction=skip_step(2))
    start, goal = example_graphs.pairs(NODES)

    @jax.jit
    def observe_and_think(state, trajectories):
        fitted_state, metrics = model.observe(state, trajectories)
        return fitted_state, metrics, model.think(fitted_state, start, goal, max_hops=4)

    state = random_state(model, 0)
    fitted_state, metrics, plan = observe_and_think(
        state, example_graphs.walks(example_graphs.random(NODES, 0.4, 0), 4, 5, 0)
    )
    assert {"layer_0/num_written", "layer_1/loss", "layer_2/loss"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    for layer in range(3):  # each layer was trained
        before, after = (jax.tree.leaves(guide_state.layers[layer]) for guide_state in (state, fitted_state))
        assert not all(
            np.array_equal(leaf_before, leaf_after)
            for leaf_before, leaf_after in zip(before[:-1], after[:-1], strict=True)
        )
    assert plan.states.shape == (NODES**2, 5)
    assert [targets.shape for targets in plan.targets] == [(NODES**2, 4)] * 3
    assert np.all((plan.states >= 0) & (plan.states < NODES))


def test_scan_over_steps_and_vmap_over_seeds_match_a_python_loop():
    kernel = linear(**SPACES, optimizer=optax.adam(0.1), num_cells=4, num_slots=2)
    model = guide(layers=[kernel], abstraction=visit_counts(SPACE))
    batches = [example_graphs.walks(example_graphs.random(NODES, 0.4, 0), 4, 5, seed) for seed in range(3)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), random_state(model, 0), random_state(model, 1))
    abstract_states = jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), 2))
    assert jax.tree.map(jnp.shape, states) == jax.tree.map(jnp.shape, abstract_states)

    @jax.jit
    def train(states, batches):
        def step(states, trajectories):
            states, metrics = jax.vmap(model.observe, in_axes=(0, None))(states, trajectories)
            return states, metrics["layer_0/loss"]

        return jax.lax.scan(step, states, batches)

    final_states, losses = train(states, jax.tree.map(lambda *leaves: np.stack(leaves), *batches))
    observe = jax.jit(model.observe)
    assert losses.shape == (3, 2)
    for seed in range(2):
        state = select_index(states, seed)
        for step, trajectories in enumerate(batches):
            state, metrics = observe(state, trajectories)
            np.testing.assert_allclose(metrics["layer_0/loss"], losses[step, seed], rtol=1e-5)
        assert_close(state, select_index(final_states, seed))
    first, second = (final_states.layers[0].train_state.params["values"][seed, 0] for seed in (0, 1))
    assert not np.allclose(first, second)


def test_guide_observes_and_reacts_with_tagged_vectors():
    space, tagging = Box(2), visits(2)
    kernel = linear(
        input=tagged_space(space, tagging),
        value=space,
        target=space,
        optimizer=optax.sgd(0.1),
        num_cells=4,
        num_slots=2,
    )
    model = guide(layers=[kernel] * 2, abstraction=skip_step(2), tagging=tagging, memory=3)
    rng = np.random.default_rng(0)

    @jax.jit
    def observe_and_react(key, trajectories, observation, goal):
        state, metrics = model.observe(model.init(key), trajectories)
        return metrics, model.react(state, append(model.init_memory(3), observation), goal)

    trajectories = Trajectories(rng.normal(size=(2, 4, 2)).astype(np.float32), np.array([4, 2], np.int32))
    observation, goal = rng.normal(size=(2, 3, 2)).astype(np.float32)
    metrics, reaction = observe_and_react(jax.random.key(0), trajectories, observation, goal)
    assert np.isfinite([metrics["layer_0/loss"], metrics["layer_1/loss"]]).all()
    assert (reaction.value.shape, reaction.value.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(reaction.targets[1], goal)
    assert np.isfinite(reaction.value).all()


TABLE = table(**SPACES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": [TABLE, table(**SPACES, context_length=2)]}, "layer 1 reads 2"),
        ({"layers": [TABLE, table(**{**SPACES, "input": Discrete(7)})]}, "layer 1 reads"),
        ({"layers": [table(**{**SPACES, "target": Discrete(7)})]}, "pursues Discrete.size=7.: allowed is a state"),
        ({"layers": [table(**SPACES, context_length=3)], "memory": 2}, "memory 2"),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        guide(abstraction=skip_step(2), **settings)
