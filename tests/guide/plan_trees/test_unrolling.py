"""Thinking and reacting over outlines, against the nested unrolling written out in Python, for layers that guess."""

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
    """A kernel that was never taught: for every (older item, newest item, target) a code, every second one the mark."""
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


def plain(made):
    if isinstance(made, Whitening):
        return Plain(
            lambda vector: (vector - made.mean) @ made.forward,
            lambda code: made.mean if code is None else code @ made.backward + made.mean,
        )
    return Plain(lambda vector: int(np.argmax(made @ vector)), lambda c: made.mean(axis=0) if c is None else made[c])


def answer(state, lived, targets, size):
    """What a layer says that remembers `path_score`: a code, one of so many or a vector (0), and whether it is the mark.

    It pursues the first of the targets; a vector with those of the layers above behind it.
    """
    if size:
        *older, newest = [size - 1 if code is None else code for code in lived[-2:]]
        said = int(state[older[0] if older else size, newest, targets[0]])
        return said, said == size - 1
    marks = [np.r_[np.zeros(3), np.sqrt(3)] if code is None else np.r_[code, 0] for code in lived[-2:]]
    waves = np.sin(np.concatenate([*[np.zeros(4)] * (2 - len(marks)), *marks, *(np.r_[t, 0] for t in targets)]) @ state)
    return waves[:-1], waves[-1] > 0


class Spent(Exception):
    """The steps are spent."""


def unrolled(states, codecs, sizes, goal, done):
    """(step, sub-goals, how many are new, ended) before each step, at most T; each leg is filled by the layer below."""
    top, lived = len(states) - 1, [[] for _ in states]
    targets, pursued, made, thoughts = [None] * len(states), [None] * top, [], []
    fresh, ended = 0, False

    def leg(layer, target):
        nonlocal fresh, ended
        code, steps = codecs[layer + 1].encode(target), []
        targets[layer] = code
        lived[layer].append(None)
        if layer < top:
            pursued[layer], fresh = codecs[layer + 1].decode(code), fresh + 1
        while True:
            said, is_mark = answer(states[layer], lived[layer], targets[layer:], sizes[layer])
            over = is_mark and steps
            if over and (layer < top or len(made) >= len(done)):
                return steps
            ended = ended or bool(over)  # of the top layer, while others act: the world goes on
            value = codecs[layer].decode(None if is_mark and sizes[layer] else said)
            below = leg(layer - 1, value) if layer > 0 else [step(value)]
            lived[layer].append(codecs[layer].encode(np.mean(below, axis=0)))
            steps += below

    def step(told):
        nonlocal fresh, ended
        if len(made) == T:
            raise Spent
        thoughts.append((told, [*pursued], fresh, ended))
        fresh, ended = 0, False
        made.append(done[len(made)] if len(made) < len(done) else told)
        return made[-1]

    with contextlib.suppress(Spent):
        leg(top, goal)
    return thoughts


class World(NamedTuple):
    """A guide that guesses: `use(seed, goals, done, count) -> (states, thoughts, reactions)`."""

    use: object
    codecs: list
    sizes: list


@pytest.fixture(scope="module", params=KINDS, ids=lambda param: f"{param[1]} layers of {param[0]}")
def world(request):
    kind, layers = request.param
    made = [fitted(kind, level) for level in range(layers + 1)]
    codecs = [whitening_codec(each) if kind == "whitened" else token_codec(each) for each in made]
    kernel = guessing_vectors if kind == "whitened" else guessing_tokens
    layers = [kernel(codec, concat_target_space(codecs[level + 1 :])) for level, codec in enumerate(codecs[:-1])]
    guide = plan_guide(layers=layers, codecs=codecs)

    @jax.jit
    def use(seed, goals, done, count):
        state = guide.init(jax.random.key(seed))
        return state, think(guide, state, goals, done, count, T), react(guide, state, goals, done)

    sizes = [codec.space.size if isinstance(codec.space, Discrete) else 0 for codec in codecs[:-1]]
    return World(lambda *given: jax.device_get(use(*given)), [plain(each) for each in made], sizes)


def asked(seed):
    """Goals, steps that were done, and how many of them were."""
    rng = np.random.default_rng(seed)
    goals, done = rng.normal(size=(B, D)), rng.normal(size=(B, T, D))
    return goals.astype(np.float32), done.astype(np.float32), rng.integers(0, [1, 1, 3, 5, 8, T + 1], B)


def assert_are(thoughts, found, row):
    """What was thought is a row of what was found."""
    for at, (step, sub_goals, fresh, ended) in enumerate(thoughts):
        np.testing.assert_allclose(found.steps[row, at], step, atol=1e-3)
        for own, told in zip(found.sub_goals, sub_goals, strict=True):
            np.testing.assert_allclose(own[row, at], told, atol=1e-3)
        assert (found.num_new_sub_goals[row, at], found.done[row, at]) == (fresh, ended)


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_thoughts_are_a_nested_unrolling_that_goes_on_from_what_was_done(world, seed):
    goals, done, count = asked(seed)
    states, plan, _ = world.use(seed, goals, done, count)
    for row in range(B):
        thoughts = unrolled(states, world.codecs, world.sizes, goals[row], done[row, : count[row]])
        assert plan.length[row] == len(thoughts)
        assert_are(thoughts, plan, row)
        if len(thoughts) < T:
            assert plan.done[row, len(thoughts)]


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_reacting_is_the_same_with_every_step_observed(world, seed):
    goals, done, count = asked(seed)
    states, _, reaction = world.use(seed, goals, done, count)
    assert reaction.length.tolist() == [T] * B
    for row in range(B):
        thoughts = unrolled(states, world.codecs, world.sizes, goals[row], done[row])
        assert len(thoughts) == T
        assert_are(thoughts, reaction, row)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_reacted_is_what_is_thought_after_the_steps_before(world, seed):
    goals, done, _ = asked(seed)
    for at in range(T):
        _, plan, reaction = world.use(seed, goals, done, np.full(B, at))
        np.testing.assert_array_equal(plan.done[:, at], reaction.done[:, at])
        np.testing.assert_array_equal(plan.num_new_sub_goals[:, at], reaction.num_new_sub_goals[:, at])
        for own, told in zip([plan.steps, *plan.sub_goals], [reaction.steps, *reaction.sub_goals], strict=True):
            np.testing.assert_allclose(own[:, at], told[:, at], atol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=5, deadline=None, derandomize=True)
def test_no_row_sees_another(world, seed):
    goals, done, count = asked(seed)
    order = np.random.default_rng(seed).permutation(B)
    _, plan, _ = world.use(seed, goals, done, count)
    _, moved, _ = world.use(seed, goals[order], done[order], count[order])
    np.testing.assert_array_equal(moved.length, plan.length[order])
    for row, before in enumerate(order):
        length = plan.length[before]
        for own, told in zip(jax.tree.leaves(moved)[:-1], jax.tree.leaves(plan)[:-1], strict=True):
            np.testing.assert_allclose(own[row, :length], told[before, :length], atol=1e-5)


def test_no_more_may_be_done_than_a_plan_has_steps():
    with pytest.raises(ValueError, match="max_steps 3: 4 steps are done already; give at least so many"):
        think(None, (), np.zeros((1, D)), np.zeros((1, 4, D)), np.zeros(1, int), 3)
