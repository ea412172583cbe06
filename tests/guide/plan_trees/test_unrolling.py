"""Think and react over plan trees, against nested unrolling in plain Python, for random layers."""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan_trees.codecs import Whitening, concat_target_space, token_codec, whitening, whitening_codec
from thinking.guide.plan_trees.plan_guide import plan_guide
from thinking.guide.plan_trees.unrolling import react, think
from thinking.kernels import Discrete, Hypothesis, Kernel, Spaces

B, C, D, T = 6, 2, 5, 10
SEEDS = st.integers(0, 2**31 - 1)
KINDS = [("tokens", 3), ("whitened", 3), ("tokens", 1)]


def fit_codec_data(kind, level):
    """Centroids, or a whitening, of a level."""
    vectors = np.random.default_rng(level).normal(size=(12, D)).astype(np.float32)
    return whitening(vectors, 3) if kind == "whitened" else vectors[: 4 - level % 2]


def random_token_kernel(codec, above):
    """An untrained kernel: a random code for every (older item, newest item, target); about half are the separator."""
    codes, targets = codec.space.size, above.size

    def init(key):
        value_key, mark_key = jax.random.split(key)
        shape = codes + 1, codes, targets
        values = jax.random.randint(value_key, shape, 0, codes - 1)
        return jnp.where(jax.random.bernoulli(mark_key, 0.5, shape), codes - 1, values)

    def infer(state, context, target):
        older = jnp.where(context.length > 1, context.items[:, 0], codes)
        return Hypothesis(state[older, context.items[:, 1], target], jnp.ones(len(target)))

    return Kernel(init, lambda state, batch: (state, {}), infer, Spaces(codec.space, codec.space, above), C)


def random_vector_kernel(codec, above):
    """The same for vectors: sines of random projections, drawn by `init`."""
    size = codec.space.dims

    def init(key):
        return jax.random.normal(key, (C * size + above.dims, size))

    def infer(state, context, target):
        items = jnp.where(context.valid[..., None], context.items, 0).reshape(len(target), -1)
        waves = jnp.sin(jnp.concatenate([items, target], axis=1) @ state)
        return Hypothesis(jnp.where(jnp.arange(size)[None] < size - 1, waves, 9 * (waves > 0)), jnp.ones(len(target)))

    return Kernel(init, lambda state, batch: (state, {}), infer, Spaces(codec.space, codec.space, above), C)


class PlainCodec(NamedTuple):
    """A codec for one vector, without JAX; its separator is None."""

    encode: object
    decode: object


def make_plain_codec(codec_data):
    if isinstance(codec_data, Whitening):
        return PlainCodec(
            # No BLAS: its matrix product of vectors may raise spurious floating-point warnings.
            lambda vector: np.einsum("d,dk->k", vector - codec_data.mean, codec_data.forward),
            lambda code: codec_data.mean if code is None else code @ codec_data.backward + codec_data.mean,
        )
    return PlainCodec(
        lambda vector: int(np.argmax(codec_data @ vector)),
        lambda c: codec_data.mean(axis=0) if c is None else codec_data[c],
    )


def infer_value(state, history, targets, num_codes):
    """The value of a layer, and whether it is the separator. It is one of `num_codes` codes, or a vector if 0.

    The layer's own target is the first. For vectors the targets of the layers above follow.
    """
    if num_codes:
        *older, newest = [num_codes - 1 if code is None else code for code in history[-2:]]
        code_of_value = int(state[older[0] if older else num_codes, newest, targets[0]])
        return code_of_value, code_of_value == num_codes - 1
    codes = [np.r_[np.zeros(3), np.sqrt(3)] if code is None else np.r_[code, 0] for code in history[-2:]]
    waves = np.sin(np.concatenate([*[np.zeros(4)] * (2 - len(codes)), *codes, *(np.r_[t, 0] for t in targets)]) @ state)
    return waves[:-1], waves[-1] > 0


class OutOfSteps(Exception):
    """The maximum number of steps is reached."""


def unroll_in_python(states, codecs, sizes, goal, prefix):
    """(step, sub-goals, number of new ones, done) before each step, at most T, by nested unrolling."""
    top, histories = len(states) - 1, [[] for _ in states]
    targets, sub_goals, plan_steps, predictions = [None] * len(states), [None] * top, [], []
    num_new, is_done = 0, False

    def unroll_layer(layer, target):
        nonlocal num_new, is_done
        code, steps = codecs[layer + 1].encode(target), []
        targets[layer] = code
        histories[layer].append(None)
        if layer < top:
            sub_goals[layer], num_new = codecs[layer + 1].decode(code), num_new + 1
        while True:
            code_of_value, is_separator = infer_value(states[layer], histories[layer], targets[layer:], sizes[layer])
            is_over = is_separator and steps
            if is_over and (layer < top or len(plan_steps) >= len(prefix)):
                return steps
            is_done = is_done or bool(is_over)  # true if the top layer is done during the prefix; it continues
            value = codecs[layer].decode(None if is_separator and sizes[layer] else code_of_value)
            below = unroll_layer(layer - 1, value) if layer > 0 else [step(value)]
            histories[layer].append(codecs[layer].encode(np.mean(below, axis=0)))
            steps += below

    def step(predicted_step):
        nonlocal num_new, is_done
        if len(plan_steps) == T:
            raise OutOfSteps
        predictions.append((predicted_step, [*sub_goals], num_new, is_done))
        num_new, is_done = 0, False
        plan_steps.append(prefix[len(plan_steps)] if len(plan_steps) < len(prefix) else predicted_step)
        return plan_steps[-1]

    with contextlib.suppress(OutOfSteps):
        unroll_layer(top, goal)
    return predictions


class Case(NamedTuple):
    """A random guide: `think_and_react(seed, goals, prefix, prefix_length) -> (states, plan, reaction)`."""

    think_and_react: object
    codecs: list
    sizes: list


@pytest.fixture(scope="module", params=KINDS, ids=lambda param: f"{param[1]} layers of {param[0]}")
def case(request):
    kind, layers = request.param
    codec_data = [fit_codec_data(kind, level) for level in range(layers + 1)]
    codecs = [whitening_codec(data) if kind == "whitened" else token_codec(data) for data in codec_data]
    make_kernel = random_vector_kernel if kind == "whitened" else random_token_kernel
    layers = [make_kernel(codec, concat_target_space(codecs[level + 1 :])) for level, codec in enumerate(codecs[:-1])]
    guide = plan_guide(layers=layers, codecs=codecs)

    @jax.jit
    def think_and_react(seed, goals, prefix, prefix_length):
        state = guide.init(jax.random.key(seed))
        return state, think(guide, state, goals, prefix, prefix_length, T), react(guide, state, goals, prefix)

    sizes = [codec.space.size if isinstance(codec.space, Discrete) else 0 for codec in codecs[:-1]]
    return Case(
        lambda *inputs: jax.device_get(think_and_react(*inputs)), [make_plain_codec(data) for data in codec_data], sizes
    )


def draw_inputs(seed):
    """Goals, prefixes and their lengths."""
    rng = np.random.default_rng(seed)
    goals, prefix = rng.normal(size=(B, D)), rng.normal(size=(B, T, D))
    return goals.astype(np.float32), prefix.astype(np.float32), rng.integers(0, [1, 1, 3, 5, 8, T + 1], B)


def assert_row_equals(predictions, plan, row):
    """Asserts that a row of the plan has these predictions."""
    for index, (step, sub_goals, num_new, is_done) in enumerate(predictions):
        np.testing.assert_allclose(plan.steps[row, index], step, atol=1e-3)
        for actual, expected in zip(plan.sub_goals, sub_goals, strict=True):
            np.testing.assert_allclose(actual[row, index], expected, atol=1e-3)
        assert (plan.num_new_sub_goals[row, index], plan.done[row, index]) == (num_new, is_done)


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_think_matches_nested_unrolling_after_a_prefix(case, seed):
    goals, prefix, prefix_length = draw_inputs(seed)
    states, plan, _ = case.think_and_react(seed, goals, prefix, prefix_length)
    for row in range(B):
        predictions = unroll_in_python(states, case.codecs, case.sizes, goals[row], prefix[row, : prefix_length[row]])
        assert plan.length[row] == len(predictions)
        assert_row_equals(predictions, plan, row)
        if len(predictions) < T:
            assert plan.done[row, len(predictions)]


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_react_matches_nested_unrolling_with_observed_steps(case, seed):
    goals, observed, prefix_length = draw_inputs(seed)
    states, _, reaction = case.think_and_react(seed, goals, observed, prefix_length)
    assert reaction.length.tolist() == [T] * B
    for row in range(B):
        predictions = unroll_in_python(states, case.codecs, case.sizes, goals[row], observed[row])
        assert len(predictions) == T
        assert_row_equals(predictions, reaction, row)


@pytest.mark.parametrize("seed", range(2))
def test_react_matches_think_after_each_prefix(case, seed):
    goals, observed, _ = draw_inputs(seed)
    for index in range(T):
        _, plan, reaction = case.think_and_react(seed, goals, observed, np.full(B, index))
        np.testing.assert_array_equal(plan.done[:, index], reaction.done[:, index])
        np.testing.assert_array_equal(plan.num_new_sub_goals[:, index], reaction.num_new_sub_goals[:, index])
        for think_leaf, react_leaf in zip(
            [plan.steps, *plan.sub_goals], [reaction.steps, *reaction.sub_goals], strict=True
        ):
            np.testing.assert_allclose(think_leaf[:, index], react_leaf[:, index], atol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=5, deadline=None, derandomize=True)
def test_rows_are_independent(case, seed):
    goals, prefix, prefix_length = draw_inputs(seed)
    order = np.random.default_rng(seed).permutation(B)
    _, plan, _ = case.think_and_react(seed, goals, prefix, prefix_length)
    _, permuted_plan, _ = case.think_and_react(seed, goals[order], prefix[order], prefix_length[order])
    np.testing.assert_array_equal(permuted_plan.length, plan.length[order])
    for row, original_row in enumerate(order):
        length = plan.length[original_row]
        for permuted_leaf, leaf in zip(jax.tree.leaves(permuted_plan)[:-1], jax.tree.leaves(plan)[:-1], strict=True):
            np.testing.assert_allclose(permuted_leaf[row, :length], leaf[original_row, :length], atol=1e-5)


def test_a_prefix_longer_than_max_steps_is_rejected():
    with pytest.raises(ValueError, match="max_steps 3: 4 steps are done already; give at least so many"):
        think(None, (), np.zeros((1, D)), np.zeros((1, 4, D)), np.zeros(1, int), 3)
