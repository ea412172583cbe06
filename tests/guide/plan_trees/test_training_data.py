"""Training examples of plan trees, against all places of all sub-trajectories, read off the trees one by one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan_trees.codecs import Codec, concat_target_space, token_codec
from thinking.guide.plan_trees.plan_guide import plan_guide
from thinking.guide.plan_trees.training_data import (
    NUM_UPPER_EXAMPLES,
    add_pairs,
    make_examples,
    sample_examples,
    to_sub_trajectories,
)
from thinking.guide.plan_trees.unrolling import think
from thinking.kernels import Box, Context, Hypothesis, Kernel, Spaces, Transition, table
from thinking.text.embedders import normalize

D, W = 3, 5
VECTORS = np.random.default_rng(0).normal(size=(W, D)).astype(np.float32)
MARK = np.eye(D + 1, dtype=np.float32)[-1]
AS_THEY_ARE = Codec(
    Box(D + 1),
    lambda vectors: jnp.pad(vectors, ((0, 0), (0, 1))),
    lambda codes: codes[:, :-1],
    MARK,
    lambda codes: codes[:, -1] > 0.5,
)
# JAX would compile for every number of examples.
WITHOUT_JAX = AS_THEY_ARE._replace(encode=lambda vectors: np.pad(vectors, ((0, 0), (0, 1))))
CONTEXTS = (3, 2, 1)

STEPS = st.lists(st.integers(0, W - 1), min_size=1, max_size=3).map(tuple)
SECTIONS = st.lists(STEPS, min_size=1, max_size=3).map(tuple)
TEXTS = st.lists(st.lists(SECTIONS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)


def goals_of(texts):
    return np.random.default_rng(1).normal(size=(len(texts), D)).astype(np.float32)


def steps_in(part):
    return [part] if isinstance(part, int) else [step for inner in part for step in steps_in(inner)]


def mean(part):
    return np.mean([VECTORS[step] for step in steps_in(part)], axis=0)


def sub_trajectories_in(text, goal, level):
    """(targets, values) of the sub-trajectories of a level, 2 the top, in a text; the first target is its own."""
    sub_trajectories = [([goal], text)]
    for _ in range(2 - level):
        sub_trajectories = [([mean(part), *targets], part) for targets, inner in sub_trajectories for part in inner]
    return [(targets, [mean(part) for part in inner]) for targets, inner in sub_trajectories]


def examples_in(texts, goals, level):
    """(context, targets, value) of all examples of a layer: codes, of which the mark is one."""
    for text, goal in zip(texts, goals, strict=True):
        history = []
        for targets, values in sub_trajectories_in(text, goal, level):
            history.append(MARK)
            targets = [np.r_[target, 0] for target in targets]
            for value in values:
                code = np.r_[value, 0]
                yield history[-CONTEXTS[level] :], targets, code
                history.append(code)
            yield history[-CONTEXTS[level] :], targets, MARK


def examples_of(texts):
    return make_examples(to_sub_trajectories(texts, goals_of(texts), VECTORS, 3), [WITHOUT_JAX] * 4, CONTEXTS)


@settings(max_examples=10, deadline=None)
@given(TEXTS)
def test_at_each_place_the_example_is_the_next_value_or_the_mark(texts):
    for level, examples in enumerate(map(jax.device_get, examples_of(texts))):
        expected_rows = list(examples_in(texts, goals_of(texts), level))
        assert len(examples.value) == len(expected_rows)
        for row, (context, targets, value) in enumerate(expected_rows):
            valid = examples.window[row, CONTEXTS[level] - examples.length[row] :]
            np.testing.assert_allclose(examples.codes[valid], context, atol=1e-6)
            np.testing.assert_allclose(examples.targets[examples.sub_trajectory[row]], targets[0], atol=1e-6)
            np.testing.assert_allclose(examples.codes[examples.value[row]], value, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(TEXTS, st.integers(0, 2))
def test_the_upper_examples_of_a_sub_trajectory_are_those_that_lead_to_it(texts, pairs):
    sub_trajectories = to_sub_trajectories(texts, goals_of(texts), VECTORS, 3)
    sub_trajectories[-1] = add_pairs(sub_trajectories[-1], pairs, 0)
    *lower, top = map(jax.device_get, make_examples(sub_trajectories, [WITHOUT_JAX] * 4, CONTEXTS))
    assert top.upper_examples.shape == (len(sub_trajectories[-1]), 0)
    for below, above, own in zip(lower, [*lower[1:], top], sub_trajectories[1:], strict=True):
        assert below.upper_examples.shape == (len(below.targets), NUM_UPPER_EXAMPLES)
        np.testing.assert_array_equal(
            above.codes[above.value[below.upper_examples]], below.targets[:, None].repeat(8, axis=1)
        )
        # Each is found by its number, not by equal steps: the values of a layer lead to the sub-trajectories in order.
        numbers = np.concatenate([[*sub.numbers, -1] for sub in own])
        for sub, upper in enumerate(below.upper_examples):
            assert len(set(upper.tolist())) == min(np.sum(numbers == sub), NUM_UPPER_EXAMPLES)
        np.testing.assert_array_equal(
            numbers[below.upper_examples], np.arange(len(below.targets))[:, None].repeat(8, axis=1)
        )


def line_of_goals(rng, count):
    """Goals that differ the most along the first axis, and where they stand on it."""
    goals = normalize(np.c_[rng.permutation(count) - count / 2, 0.1 * rng.normal(size=(count, D - 1)) + 5])
    return goals.astype(np.float32), goals[:, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(2, 6), each=st.integers(1, 3))
def test_pairs_of_texts_pursue_both_goals_in_one_order_and_count_as_much_as_the_texts_alone(seed, count, each):
    rng = np.random.default_rng(seed)
    texts = [(((0,),),) * size for size in rng.integers(1, 30, count)]
    goals, place = line_of_goals(rng, count)
    sub_trajectories = to_sub_trajectories(texts, goals, VECTORS, 3)[-1]
    mixed = add_pairs(sub_trajectories, each, seed)
    pairs = mixed[-each * count :]
    singles = mixed[: -each * count]
    ascending = set()
    for pair in pairs:
        ((first, second),) = [
            (a, b)
            for a in range(count)
            for b in range(count)
            if a != b and np.array_equal(pair.numbers, [*sub_trajectories[a].numbers, *sub_trajectories[b].numbers])
        ]
        np.testing.assert_allclose(pair.target, normalize((goals[first] + goals[second])[None])[0], atol=1e-6)
        np.testing.assert_array_equal(pair.values, [*sub_trajectories[first].values, *sub_trajectories[second].values])
        ascending.add(bool(place[first] < place[second]))
    assert len(ascending) == 1
    # Singles are whole rounds of all texts: at least one, and as many as come nearest to the weight of the pairs.
    rounds, rest = divmod(len(singles), count)
    assert rest == 0
    assert all(single is sub_trajectories[index % count] for index, single in enumerate(singles))
    one, pair_total = (sum(len(sub.values) + 1 for sub in some) for some in (sub_trajectories, pairs))
    assert rounds >= 1
    assert rounds == 1 or abs(rounds * one - pair_total) <= one / 2


def test_without_pairs_or_with_one_text_alone_nothing_is_paired():
    sub_trajectories = to_sub_trajectories([(((0,),),), (((1,),),)], goals_of("ab"), VECTORS, 3)[-1]
    assert add_pairs(sub_trajectories, 0, 0) == sub_trajectories
    assert add_pairs(sub_trajectories[:1], 3, 0) == sub_trajectories[:1]


def test_a_text_that_no_pair_holds_is_still_learned_however_long_it_is():
    texts = [(((0,),),) * (500 if index == 0 else 1) for index in range(8)]
    sub_trajectories = to_sub_trajectories(texts, goals_of(texts), VECTORS, 3)[-1]
    for seed in range(100):
        assert any(sub is sub_trajectories[0] for sub in add_pairs(sub_trajectories, 1, seed))


def constant_kernel(code, level):
    """The kernel of a layer of three whose value is constant."""
    space = AS_THEY_ARE.space
    spaces = Spaces(space, space, concat_target_space([AS_THEY_ARE] * (3 - level)))

    def infer(state, context, target):
        return Hypothesis(jnp.broadcast_to(code, (target.shape[0], D + 1)), jnp.ones(target.shape[0]))

    return Kernel(lambda key: (), lambda state, batch: (state, {}), infer, spaces, CONTEXTS[level])


CONSTANT = np.array([7, 8, 9, 0], np.float32)
ROWS = 2000


@pytest.fixture(scope="module")
def sample():
    """`sample(*noise_scales)`: batches of a few texts for layers with a constant value, and the texts."""
    texts = [(((0, 1), (2,)), ((3, 1),)), (((4, 0),),)]
    guide = plan_guide(layers=[constant_kernel(CONSTANT, level) for level in range(3)], codecs=[AS_THEY_ARE] * 4)
    examples = jax.tree.map(jnp.asarray, examples_of(texts))
    use = jax.jit(
        lambda noise_scales: sample_examples(guide, ((),) * 3, examples, jax.random.key(0), ROWS, noise_scales)
    )
    return lambda *noise_scales: (jax.device_get(use(jnp.asarray(noise_scales))), texts)


def test_half_of_the_targets_are_those_of_the_texts_and_half_are_inferred_by_the_layer_above(sample):
    batches, texts = sample(0.0, 0.0, 0.0)
    for level, batch in enumerate(batches):
        # Targets [ROWS, layers from this one up, D + 1], and which of them a layer inferred.
        targets = batch.target.reshape(ROWS, 3 - level, D + 1)
        is_constant = (targets == CONSTANT).all(axis=2)
        assert (np.abs(is_constant[:, :-1].mean(axis=0) - 0.5) < 5 * 0.5 / ROWS**0.5).all()
        assert not is_constant[:, -1].any()
        expected_rows = [
            np.concatenate([*[MARK] * (CONTEXTS[level] - len(context)), *context, value, *pursued])
            for context, pursued, value in examples_in(texts, goals_of(texts), level)
        ]
        read = np.concatenate([batch.context.items.reshape(ROWS, -1), batch.value, batch.target], axis=1)
        apart = np.abs(read[:, None] - np.array(expected_rows)[None])
        # Whatever the target, the rest of a row is an example, and all examples are sampled.
        ignored = np.repeat(is_constant, D + 1, axis=1)
        apart[:, :, -ignored.shape[1] :] *= ~ignored[:, None]
        alike = apart.max(axis=2) < 1e-5
        assert alike.any(axis=1).all()
        assert alike[~is_constant.any(axis=1)].any(axis=0).all()
        assert (batch.score == 1).all()
        assert (batch.mask == 1).all()


def test_noise_is_that_of_the_layer_and_spares_inferred_targets(sample):
    batches, _ = sample(0.1, 0.2, 0.4)
    for level, (batch, noise_scale) in enumerate(zip(batches, (0.1, 0.2, 0.4), strict=True)):
        target = batch.target[:, : D + 1]
        is_constant = (target == CONSTANT).all(axis=1)
        assert 0.4 < is_constant.mean() < 0.6 or level == 2
        # No text gives the last number of a target anything but 0.
        np.testing.assert_allclose(target[~is_constant, -1].std(), noise_scale, rtol=0.1)


def test_tables_that_were_trained_on_all_examples_recall_the_texts():
    """Steps of one wording, sections that differ, and goals that differ: nothing is left to guess."""
    vectors = np.eye(6, dtype=np.float32)
    texts = [
        (((0, 1, 2), (3, 4)), ((5, 0),)),
        (((3, 4), (0, 1)), ((1, 1, 5), (2,))),
        (((2,),),),
        (((0, 1, 2), (5, 0)), ((4, 4), (3, 4)), ((1, 5),)),
    ]
    goals = np.eye(4, 6, dtype=np.float32)
    sub_trajectories = to_sub_trajectories(texts, goals, vectors, 3)
    levels = [np.concatenate([sub.values for sub in level]) for level in sub_trajectories]
    codecs = [token_codec(np.unique(normalize(values), axis=0)) for values in [*levels, goals]]
    lengths = (3, 3, 3)
    spaces = [
        {"input": own.space, "value": own.space, "target": above.space} for own, above in itertools.pairwise(codecs)
    ]
    layers = [table(**each, context_length=length) for each, length in zip(spaces, lengths, strict=True)]
    guide = plan_guide(layers=layers, codecs=codecs)
    examples = make_examples(sub_trajectories, codecs, lengths)

    def all_rows(level):
        ones = jnp.ones(len(level.value))
        context = Context(level.codes[level.window], level.length)
        return Transition(context, level.targets[level.sub_trajectory], level.codes[level.value], ones, ones)

    @jax.jit
    def recall():
        state, _ = guide.fit(guide.init(jax.random.key(0)), [all_rows(level) for level in examples])
        return think(guide, state, goals, jnp.zeros((4, 0, 6)), jnp.zeros(4, jnp.int32), 16)

    plan = jax.device_get(recall())
    for row, text in enumerate(texts):
        assert plan.length[row] == len(steps_in(text))
        assert plan.steps[row, : plan.length[row]].argmax(axis=1).tolist() == steps_in(text)
        # Two sub-goals are new with the first step of a part, one with that of a later section of it.
        new = [
            int(at == 0) + int(at == place == 0)
            for part in text for place, section in enumerate(part) for at in range(len(section))
        ]  # fmt: skip
        assert plan.num_new_sub_goals[row, : plan.length[row]].tolist() == new
