"""Think and react over plan trees, against the nested unrolling in plain Python, for random layers."""

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


def fitted(kind, level):
    """Centroids, or a whitening, of a level."""
    vectors = np.random.default_rng(level).normal(size=(12, D)).astype(np.float32)
    return whitening(vectors, 3) if kind == "whitened" else vectors[: 4 - level % 2]


def guessing_tokens(codec, above):
    """An untrained kernel: for every (older item, newest item, target) a code, every second one the mark."""
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


def guessing_vectors(codec, above):
    """The same for vectors: waves of weights drawn by `init`."""
    size = codec.space.dims

    def init(key):
        return jax.random.normal(key, (C * size + above.dims, size))

    def infer(state, context, target):
        items = jnp.where(context.valid[..., None], context.items, 0).reshape(len(target), -1)
        waves = jnp.sin(jnp.concatenate([items, target], axis=1) @ state)
        return Hypothesis(jnp.where(jnp.arange(size)[None] < size - 1, waves, 9 * (waves > 0)), jnp.ones(len(target)))

    return Kernel(init, lambda state, batch: (state, {}), infer, Spaces(codec.space, codec.space, above), C)


class Plain(NamedTuple):
    """A codec for one vector, without JAX; its mark is None."""

    encode: object
    decode: object


def plain(codec_data):
    if isinstance(codec_data, Whitening):
        return Plain(
            # No BLAS: its matrix product of vectors may raise spurious floating-point warnings.
            lambda vector: np.einsum("d,dk->k", vector - codec_data.mean, codec_data.forward),
            lambda code: codec_data.mean if code is None else code @ codec_data.backward + codec_data.mean,
        )
    return Plain(
        lambda vector: int(np.argmax(codec_data @ vector)),
        lambda c: codec_data.mean(axis=0) if c is None else codec_data[c],
    )


def answer(state, history, targets, size):
    """The value of a layer from its history: a code, one of `size` or a vector (0), and whether it is the mark.

    Its target is the first; for vectors those of the layers above are behind it.
    """
    if size:
        *older, newest = [size - 1 if code is None else code for code in history[-2:]]
        code_of_value = int(state[older[0] if older else size, newest, targets[0]])
        return code_of_value, code_of_value == size - 1
    marks = [np.r_[np.zeros(3), np.sqrt(3)] if code is None else np.r_[code, 0] for code in history[-2:]]
    waves = np.sin(np.concatenate([*[np.zeros(4)] * (2 - len(marks)), *marks, *(np.r_[t, 0] for t in targets)]) @ state)
    return waves[:-1], waves[-1] > 0


class OutOfSteps(Exception):
    """The maximum number of steps is reached."""


def unrolled(states, codecs, sizes, goal, done):
    """(step, sub-goals, how many are new, done) before each step, at most T, by nested unrolling."""
    top, history = len(states) - 1, [[] for _ in states]
    targets, pursued, steps_made, predictions = [None] * len(states), [None] * top, [], []
    num_new, is_done = 0, False

    def unroll_layer(layer, target):
        nonlocal num_new, is_done
        code, steps = codecs[layer + 1].encode(target), []
        targets[layer] = code
        history[layer].append(None)
        if layer < top:
            pursued[layer], num_new = codecs[layer + 1].decode(code), num_new + 1
        while True:
            code_of_value, is_mark = answer(states[layer], history[layer], targets[layer:], sizes[layer])
            is_over = is_mark and steps
            if is_over and (layer < top or len(steps_made) >= len(done)):
                return steps
            is_done = is_done or bool(is_over)  # of the top layer, during the prefix: it continues
            value = codecs[layer].decode(None if is_mark and sizes[layer] else code_of_value)
            below = unroll_layer(layer - 1, value) if layer > 0 else [step(value)]
            history[layer].append(codecs[layer].encode(np.mean(below, axis=0)))
            steps += below

    def step(predicted):
        nonlocal num_new, is_done
        if len(steps_made) == T:
            raise OutOfSteps
        predictions.append((predicted, [*pursued], num_new, is_done))
        num_new, is_done = 0, False
        steps_made.append(done[len(steps_made)] if len(steps_made) < len(done) else predicted)
        return steps_made[-1]

    with contextlib.suppress(OutOfSteps):
        unroll_layer(top, goal)
    return predictions


class Case(NamedTuple):
    """A random guide: `use(seed, goals, done, count) -> (states, plan, reactions)`."""

    use: object
    codecs: list
    sizes: list


@pytest.fixture(scope="module", params=KINDS, ids=lambda param: f"{param[1]} layers of {param[0]}")
def case(request):
    kind, layers = request.param
    codec_data = [fitted(kind, level) for level in range(layers + 1)]
    codecs = [whitening_codec(each) if kind == "whitened" else token_codec(each) for each in codec_data]
    kernel = guessing_vectors if kind == "whitened" else guessing_tokens
    layers = [kernel(codec, concat_target_space(codecs[level + 1 :])) for level, codec in enumerate(codecs[:-1])]
    guide = plan_guide(layers=layers, codecs=codecs)

    @jax.jit
    def use(seed, goals, done, count):
        state = guide.init(jax.random.key(seed))
        return state, think(guide, state, goals, done, count, T), react(guide, state, goals, done)

    sizes = [codec.space.size if isinstance(codec.space, Discrete) else 0 for codec in codecs[:-1]]
    return Case(lambda *given: jax.device_get(use(*given)), [plain(each) for each in codec_data], sizes)


def draw_inputs(seed):
    """Goals, prefixes, and their lengths."""
    rng = np.random.default_rng(seed)
    goals, done = rng.normal(size=(B, D)), rng.normal(size=(B, T, D))
    return goals.astype(np.float32), done.astype(np.float32), rng.integers(0, [1, 1, 3, 5, 8, T + 1], B)


def assert_are(predictions, plan_found, row):
    """The predictions are a row of the plan."""
    for at, (step, sub_goals, num_new, is_done) in enumerate(predictions):
        np.testing.assert_allclose(plan_found.steps[row, at], step, atol=1e-3)
        for own, predicted in zip(plan_found.sub_goals, sub_goals, strict=True):
            np.testing.assert_allclose(own[row, at], predicted, atol=1e-3)
        assert (plan_found.num_new_sub_goals[row, at], plan_found.done[row, at]) == (num_new, is_done)


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_plan_is_a_nested_unrolling_that_continues_a_prefix(case, seed):
    goals, done, count = draw_inputs(seed)
    states, plan, _ = case.use(seed, goals, done, count)
    for row in range(B):
        predictions = unrolled(states, case.codecs, case.sizes, goals[row], done[row, : count[row]])
        assert plan.length[row] == len(predictions)
        assert_are(predictions, plan, row)
        if len(predictions) < T:
            assert plan.done[row, len(predictions)]


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_react_is_the_same_with_every_step_observed(case, seed):
    goals, done, count = draw_inputs(seed)
    states, _, reaction = case.use(seed, goals, done, count)
    assert reaction.length.tolist() == [T] * B
    for row in range(B):
        predictions = unrolled(states, case.codecs, case.sizes, goals[row], done[row])
        assert len(predictions) == T
        assert_are(predictions, reaction, row)


@pytest.mark.parametrize("seed", range(2))
def test_react_predicts_what_think_predicts_after_the_steps_before(case, seed):
    goals, done, _ = draw_inputs(seed)
    for at in range(T):
        _, plan, reaction = case.use(seed, goals, done, np.full(B, at))
        np.testing.assert_array_equal(plan.done[:, at], reaction.done[:, at])
        np.testing.assert_array_equal(plan.num_new_sub_goals[:, at], reaction.num_new_sub_goals[:, at])
        for own, predicted in zip([plan.steps, *plan.sub_goals], [reaction.steps, *reaction.sub_goals], strict=True):
            np.testing.assert_allclose(own[:, at], predicted[:, at], atol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=5, deadline=None, derandomize=True)
def test_rows_are_independent(case, seed):
    goals, done, count = draw_inputs(seed)
    order = np.random.default_rng(seed).permutation(B)
    _, plan, _ = case.use(seed, goals, done, count)
    _, moved, _ = case.use(seed, goals[order], done[order], count[order])
    np.testing.assert_array_equal(moved.length, plan.length[order])
    for row, before in enumerate(order):
        length = plan.length[before]
        for own, predicted in zip(jax.tree.leaves(moved)[:-1], jax.tree.leaves(plan)[:-1], strict=True):
            np.testing.assert_allclose(own[row, :length], predicted[before, :length], atol=1e-5)


def test_a_prefix_longer_than_the_plan_is_refused():
    with pytest.raises(ValueError, match="max_steps 3: 4 steps are done already; give at least so many"):
        think(None, (), np.zeros((1, D)), np.zeros((1, 4, D)), np.zeros(1, int), 3)
