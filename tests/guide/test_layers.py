"""Layers: stacked or mixed, they learn as each alone would; and a guide is a pure function of one PyTree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.guide import worlds

from thinking.guide import Path, guide
from thinking.guide.abstraction import counted_entropy, skip_step
from thinking.guide.hippocampus import append
from thinking.guide.layers import stack_layers
from thinking.guide.tagging import tagged_space, visits
from thinking.kernels import Box, Context, Discrete, Transition, linear, table, transformer

NODES, ROWS = 6, 12
SPACE = Discrete(NODES)
SPACES = {"input": SPACE, "value": SPACE, "target": SPACE}


def assert_close(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def part(stacked, index):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def some_state(built, seed):
    """A state as `init` would give, but of plain numbers: drawing parameters takes longest to compile."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(key, leaf.shape)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(built.init, key))


def rows_of(seed):
    rng = np.random.default_rng(seed)
    items, target, value = rng.integers(0, NODES, (3, ROWS), np.int32)
    context = Context(items[:, None], np.ones(ROWS, np.int32))
    return Transition(context, target, value, rng.random(ROWS, np.float32), np.ones(ROWS, np.float32))


def test_layers_of_one_object_are_stacked_and_learn_as_each_alone():
    shared, other = linear(**SPACES, optimizer=optax.sgd(0.5), num_cells=4, num_slots=2), table(**SPACES)
    kernels = [shared, shared, other]
    layers = stack_layers(kernels)
    indices = [(0, 0), (0, 1), (1, 0)]  # the group of each layer, and where it stands in it
    batches = [rows_of(seed) for seed in range(3)]
    question = batches[0].context, batches[0].target

    @jax.jit
    def learn(states):
        fitted, metrics = layers.fit(states, batches)
        return fitted, metrics, [layers.infer(fitted, layer, *question) for layer in range(3)]

    @jax.jit
    def learn_alone(states):
        fitted = [kernel.fit(*both) for kernel, *both in zip(kernels, states, batches, strict=True)]
        return fitted, [kernel.infer(state, *question) for kernel, (state, _) in zip(kernels, fitted, strict=True)]

    states = some_state(layers, 0)
    fitted, metrics, answers = learn(states)
    alone, answers_alone = learn_alone([part(states[group], index) for group, index in indices])
    assert {name for name in metrics if name.startswith(("loss", "num_written"))} == {
        "layer_0/loss",
        "layer_1/loss",
        "layer_2/num_written",
    }
    for layer, (group, index) in enumerate(indices):
        state, measured = alone[layer]
        assert_close(state, part(fitted[group], index))
        assert_close(measured, {name: metrics[f"{name}/{layer}"] for name in measured})
        assert_close(answers_alone[layer], answers[layer])


def test_only_neighbours_are_stacked_and_each_begins_with_its_own_key():
    one = table(**SPACES)._replace(init=jax.random.key_data)
    other = one._replace()
    states = jax.jit(stack_layers([one, one, other, one]).init)(jax.random.key(0))
    assert [len(state) for state in states] == [2, 1, 1]
    assert len(np.unique(np.concatenate(states), axis=0)) == 4


def test_layers_of_different_kinds_make_one_guide():
    small = {"optimizer": optax.sgd(0.1), "num_slots": 2}
    layers = [
        table(**SPACES),
        linear(**SPACES, num_cells=4, **small),
        transformer(**SPACES, width=4, num_heads=1, **small),
    ]
    built = guide(layers=layers, abstraction=skip_step(2))
    start, goal = worlds.pairs(NODES)

    @jax.jit
    def learn_and_think(state, paths):
        learned, metrics = built.observe(state, paths)
        return learned, metrics, built.think(learned, start, goal, max_hops=4)

    state = some_state(built, 0)
    learned, metrics, plan = learn_and_think(state, worlds.walks(worlds.random(NODES, 0.4, 0), 4, 5, 0))
    assert {"layer_0/num_written", "layer_1/loss", "layer_2/loss"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    for layer in range(3):  # each has learned
        before, after = (jax.tree.leaves(guide_state.layers[layer]) for guide_state in (state, learned))
        assert not all(np.array_equal(old, new) for old, new in zip(before[:-1], after[:-1], strict=True))
    assert plan.states.shape == (NODES**2, 5)
    assert [targets.shape for targets in plan.targets] == [(NODES**2, 4)] * 3
    assert np.all((plan.states >= 0) & (plan.states < NODES))


def test_scanning_over_steps_and_mapping_over_seeds_is_what_a_python_loop_does():
    kernel = linear(**SPACES, optimizer=optax.adam(0.1), num_cells=4, num_slots=2)
    built = guide(layers=[kernel], abstraction=counted_entropy(SPACE))
    batches = [worlds.walks(worlds.random(NODES, 0.4, 0), 4, 5, seed) for seed in range(3)]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), some_state(built, 0), some_state(built, 1))
    by_init = jax.eval_shape(jax.vmap(built.init), jax.random.split(jax.random.key(0), 2))
    assert jax.tree.map(jnp.shape, states) == jax.tree.map(jnp.shape, by_init)

    @jax.jit
    def train(states, batches):
        def step(states, paths):
            states, metrics = jax.vmap(built.observe, in_axes=(0, None))(states, paths)
            return states, metrics["layer_0/loss"]

        return jax.lax.scan(step, states, batches)

    trained, losses = train(states, jax.tree.map(lambda *leaves: np.stack(leaves), *batches))
    observe = jax.jit(built.observe)
    assert losses.shape == (3, 2)
    for seed in range(2):
        state = part(states, seed)
        for step, paths in enumerate(batches):
            state, metrics = observe(state, paths)
            np.testing.assert_allclose(metrics["layer_0/loss"], losses[step, seed], rtol=1e-5)
        assert_close(state, part(trained, seed))
    first, second = (trained.layers[0].train_state.params["values"][seed, 0] for seed in (0, 1))
    assert not np.allclose(first, second)


def test_vectors_with_tags_are_observed_and_reacted_to():
    space, tagging = Box(2), visits(2)
    kernel = linear(
        input=tagged_space(space, tagging),
        value=space,
        target=space,
        optimizer=optax.sgd(0.1),
        num_cells=4,
        num_slots=2,
    )
    built = guide(layers=[kernel] * 2, abstraction=skip_step(2), tagging=tagging, memory=3)
    rng = np.random.default_rng(0)

    @jax.jit
    def observe_and_react(key, paths, observation, goal):
        state, metrics = built.observe(built.init(key), paths)
        return metrics, built.react(state, append(built.init_memory(3), observation), goal)

    paths = Path(rng.normal(size=(2, 4, 2)).astype(np.float32), np.array([4, 2], np.int32))
    observation, goal = rng.normal(size=(2, 3, 2)).astype(np.float32)
    metrics, reaction = observe_and_react(jax.random.key(0), paths, observation, goal)
    assert np.isfinite([metrics["layer_0/loss"], metrics["layer_1/loss"]]).all()
    assert (reaction.value.shape, reaction.value.dtype) == ((3, 2), np.float32)
    np.testing.assert_array_equal(reaction.targets[1], goal)
    assert np.isfinite(reaction.value).all()


SMALL = table(**SPACES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": [SMALL, table(**SPACES, context_length=2)]}, "layer 1 reads 2"),
        ({"layers": [SMALL, table(**{**SPACES, "input": Discrete(7)})]}, "layer 1 reads"),
        ({"layers": [table(**{**SPACES, "target": Discrete(7)})]}, "pursues Discrete.size=7.: allowed is a state"),
        ({"layers": [table(**SPACES, context_length=3)], "memory": 2}, "memory 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        guide(abstraction=skip_step(2), **settings)
