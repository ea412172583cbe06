"""Training examples of plan trees, against plain Python that lists every position of every sub-trajectory."""

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
SEPARATOR = np.eye(D + 1, dtype=np.float32)[-1]
IDENTITY_CODEC = Codec(
    Box(D + 1),
    lambda vectors: jnp.pad(vectors, ((0, 0), (0, 1))),
    lambda codes: codes[:, :-1],
    SEPARATOR,
    lambda codes: codes[:, -1] > 0.5,
)
# Without JAX, which would compile for every number of examples.
NUMPY_CODEC = IDENTITY_CODEC._replace(encode=lambda vectors: np.pad(vectors, ((0, 0), (0, 1))))
CONTEXT_LENGTHS = (3, 2, 1)

STEPS = st.lists(st.integers(0, W - 1), min_size=1, max_size=3).map(tuple)
SECTIONS = st.lists(STEPS, min_size=1, max_size=3).map(tuple)
TEXTS = st.lists(st.lists(SECTIONS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)


def random_goals(texts):
    return np.random.default_rng(1).normal(size=(len(texts), D)).astype(np.float32)


def list_steps(part):
    return [part] if isinstance(part, int) else [step for inner in part for step in list_steps(inner)]


def mean_vector(part):
    return np.mean([VECTORS[step] for step in list_steps(part)], axis=0)


def list_sub_trajectories(text, goal, level):
    """(targets, values) of a text's sub-trajectories on a level; 2 is the top. The first target is its own."""
    sub_trajectories = [([goal], text)]
    for _ in range(2 - level):
        sub_trajectories = [
            ([mean_vector(part), *targets], part) for targets, inner in sub_trajectories for part in inner
        ]
    return [(targets, [mean_vector(part) for part in inner]) for targets, inner in sub_trajectories]


def list_examples(texts, goals, level):
    """(context, targets, value) of all examples of a layer, as codes; the separator is a code."""
    for text, goal in zip(texts, goals, strict=True):
        history = []
        for targets, values in list_sub_trajectories(text, goal, level):
            history.append(SEPARATOR)
            targets = [np.r_[target, 0] for target in targets]
            for value in values:
                code = np.r_[value, 0]
                yield history[-CONTEXT_LENGTHS[level] :], targets, code
                history.append(code)
            yield history[-CONTEXT_LENGTHS[level] :], targets, SEPARATOR


def make_text_examples(texts):
    return make_examples(
        to_sub_trajectories(texts, random_goals(texts), VECTORS, 3), [NUMPY_CODEC] * 4, CONTEXT_LENGTHS
    )


@settings(max_examples=10, deadline=None)
@given(TEXTS)
def test_examples_match_plain_python(texts):
    for level, examples in enumerate(map(jax.device_get, make_text_examples(texts))):
        expected_rows = list(list_examples(texts, random_goals(texts), level))
        assert len(examples.value) == len(expected_rows)
        for row, (context, targets, value) in enumerate(expected_rows):
            valid = examples.window[row, CONTEXT_LENGTHS[level] - examples.length[row] :]
            np.testing.assert_allclose(examples.codes[valid], context, atol=1e-6)
            np.testing.assert_allclose(examples.targets[examples.sub_trajectory[row]], targets[0], atol=1e-6)
            np.testing.assert_allclose(examples.codes[examples.value[row]], value, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(TEXTS, st.integers(0, 2))
def test_upper_examples_lead_to_their_sub_trajectory(texts, num_pairs):
    sub_trajectories = to_sub_trajectories(texts, random_goals(texts), VECTORS, 3)
    sub_trajectories[-1] = add_pairs(sub_trajectories[-1], num_pairs, 0)
    *lower, top = map(jax.device_get, make_examples(sub_trajectories, [NUMPY_CODEC] * 4, CONTEXT_LENGTHS))
    assert top.upper_examples.shape == (len(sub_trajectories[-1]), 0)
    for below, above, own in zip(lower, [*lower[1:], top], sub_trajectories[1:], strict=True):
        assert below.upper_examples.shape == (len(below.targets), NUM_UPPER_EXAMPLES)
        np.testing.assert_array_equal(
            above.codes[above.value[below.upper_examples]], below.targets[:, None].repeat(8, axis=1)
        )
        # They are matched by number, not by equal steps: the values of a layer lead to the sub-trajectories in order.
        value_indices = np.concatenate([[*sub.value_indices, -1] for sub in own])
        for sub, upper in enumerate(below.upper_examples):
            assert len(set(upper.tolist())) == min(np.sum(value_indices == sub), NUM_UPPER_EXAMPLES)
        np.testing.assert_array_equal(
            value_indices[below.upper_examples], np.arange(len(below.targets))[:, None].repeat(8, axis=1)
        )


def random_goals_on_a_line(rng, num_goals):
    """Goals whose variance is largest along the first axis, and their coordinates on it."""
    goals = normalize(np.c_[rng.permutation(num_goals) - num_goals / 2, 0.1 * rng.normal(size=(num_goals, D - 1)) + 5])
    return goals.astype(np.float32), goals[:, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), num_texts=st.integers(2, 6), num_pairs=st.integers(1, 3))
def test_pairs_join_two_texts_and_weigh_as_much_as_single_texts(seed, num_texts, num_pairs):
    rng = np.random.default_rng(seed)
    texts = [(((0,),),) * size for size in rng.integers(1, 30, num_texts)]
    goals, coordinate = random_goals_on_a_line(rng, num_texts)
    sub_trajectories = to_sub_trajectories(texts, goals, VECTORS, 3)[-1]
    with_pairs = add_pairs(sub_trajectories, num_pairs, seed)
    pairs = with_pairs[-num_pairs * num_texts :]
    singles = with_pairs[: -num_pairs * num_texts]
    is_ascending = set()
    for pair in pairs:
        ((first, second),) = [
            (a, b)
            for a in range(num_texts)
            for b in range(num_texts)
            if a != b
            and np.array_equal(
                pair.value_indices, [*sub_trajectories[a].value_indices, *sub_trajectories[b].value_indices]
            )
        ]
        np.testing.assert_allclose(pair.target, normalize((goals[first] + goals[second])[None])[0], atol=1e-6)
        np.testing.assert_array_equal(pair.values, [*sub_trajectories[first].values, *sub_trajectories[second].values])
        is_ascending.add(bool(coordinate[first] < coordinate[second]))
    assert len(is_ascending) == 1
    # Singles are whole rounds of all texts. At least one, and the number nearest to the weight of the pairs.
    rounds, remainder = divmod(len(singles), num_texts)
    assert remainder == 0
    assert all(single is sub_trajectories[index % num_texts] for index, single in enumerate(singles))
    examples_per_round, examples_of_pairs = (
        sum(len(sub.values) + 1 for sub in group) for group in (sub_trajectories, pairs)
    )
    assert rounds >= 1
    assert rounds == 1 or abs(rounds * examples_per_round - examples_of_pairs) <= examples_per_round / 2


def test_add_pairs_keeps_single_texts_without_pairs():
    sub_trajectories = to_sub_trajectories([(((0,),),), (((1,),),)], random_goals("ab"), VECTORS, 3)[-1]
    assert add_pairs(sub_trajectories, 0, 0) == sub_trajectories
    assert add_pairs(sub_trajectories[:1], 3, 0) == sub_trajectories[:1]


def test_add_pairs_keeps_every_text():
    texts = [(((0,),),) * (500 if index == 0 else 1) for index in range(8)]
    sub_trajectories = to_sub_trajectories(texts, random_goals(texts), VECTORS, 3)[-1]
    for seed in range(100):
        assert any(sub is sub_trajectories[0] for sub in add_pairs(sub_trajectories, 1, seed))


def constant_kernel(code, level):
    """The kernel of a layer of three whose value is constant."""
    space = IDENTITY_CODEC.space
    spaces = Spaces(space, space, concat_target_space([IDENTITY_CODEC] * (3 - level)))

    def infer(state, context, target):
        return Hypothesis(jnp.broadcast_to(code, (target.shape[0], D + 1)), jnp.ones(target.shape[0]))

    return Kernel(lambda key: (), lambda state, batch: (state, {}), infer, spaces, CONTEXT_LENGTHS[level])


CONSTANT = np.array([7, 8, 9, 0], np.float32)
ROWS = 2000


@pytest.fixture(scope="module")
def sample():
    """`sample(*noise_scales)`: batches of a few texts for layers with a constant value, and the texts."""
    texts = [(((0, 1), (2,)), ((3, 1),)), (((4, 0),),)]
    guide = plan_guide(layers=[constant_kernel(CONSTANT, level) for level in range(3)], codecs=[IDENTITY_CODEC] * 4)
    examples = jax.tree.map(jnp.asarray, make_text_examples(texts))
    sample_all = jax.jit(
        lambda noise_scales: sample_examples(guide, ((),) * 3, examples, jax.random.key(0), ROWS, noise_scales)
    )
    return lambda *noise_scales: (jax.device_get(sample_all(jnp.asarray(noise_scales))), texts)


def test_half_of_the_targets_are_inferred_by_the_layer_above(sample):
    batches, texts = sample(0.0, 0.0, 0.0)
    for level, batch in enumerate(batches):
        # Targets [ROWS, layers from this one up, D + 1], and whether a layer inferred them.
        targets = batch.target.reshape(ROWS, 3 - level, D + 1)
        is_constant = (targets == CONSTANT).all(axis=2)
        assert (np.abs(is_constant[:, :-1].mean(axis=0) - 0.5) < 5 * 0.5 / ROWS**0.5).all()
        assert not is_constant[:, -1].any()
        expected_rows = [
            np.concatenate([*[SEPARATOR] * (CONTEXT_LENGTHS[level] - len(context)), *context, value, *targets_of_row])
            for context, targets_of_row, value in list_examples(texts, random_goals(texts), level)
        ]
        rows = np.concatenate([batch.context.items.reshape(ROWS, -1), batch.value, batch.target], axis=1)
        difference = np.abs(rows[:, None] - np.array(expected_rows)[None])
        # Apart from inferred targets, each row is an example, and all examples are sampled.
        is_ignored = np.repeat(is_constant, D + 1, axis=1)
        difference[:, :, -is_ignored.shape[1] :] *= ~is_ignored[:, None]
        is_equal = difference.max(axis=2) < 1e-5
        assert is_equal.any(axis=1).all()
        assert is_equal[~is_constant.any(axis=1)].any(axis=0).all()
        assert (batch.score == 1).all()
        assert (batch.mask == 1).all()


def test_noise_scale_is_per_layer_and_spares_inferred_targets(sample):
    batches, _ = sample(0.1, 0.2, 0.4)
    for level, (batch, noise_scale) in enumerate(zip(batches, (0.1, 0.2, 0.4), strict=True)):
        target = batch.target[:, : D + 1]
        is_constant = (target == CONSTANT).all(axis=1)
        assert 0.4 < is_constant.mean() < 0.6 or level == 2
        # The last feature of a text's target is 0 before noise.
        np.testing.assert_allclose(target[~is_constant, -1].std(), noise_scale, rtol=0.1)


def test_tables_trained_on_all_examples_reproduce_the_texts():
    """All steps, sections and goals are distinct, so the examples determine the texts."""
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
    context_lengths = (3, 3, 3)
    spaces = [
        {"input": own.space, "value": own.space, "target": above.space} for own, above in itertools.pairwise(codecs)
    ]
    layers = [
        table(**layer_spaces, context_length=length)
        for layer_spaces, length in zip(spaces, context_lengths, strict=True)
    ]
    guide = plan_guide(layers=layers, codecs=codecs)
    examples = make_examples(sub_trajectories, codecs, context_lengths)

    def make_batch(level):
        ones = jnp.ones(len(level.value))
        context = Context(level.codes[level.window], level.length)
        return Transition(context, level.targets[level.sub_trajectory], level.codes[level.value], ones, ones)

    @jax.jit
    def fit_and_think():
        state, _ = guide.fit(guide.init(jax.random.key(0)), [make_batch(level) for level in examples])
        return think(guide, state, goals, jnp.zeros((4, 0, 6)), jnp.zeros(4, jnp.int32), 16)

    plan = jax.device_get(fit_and_think())
    for row, text in enumerate(texts):
        assert plan.length[row] == len(list_steps(text))
        assert plan.steps[row, : plan.length[row]].argmax(axis=1).tolist() == list_steps(text)
        # Two sub-goals are new with the first step of a part, one with that of a later section of it.
        expected_num_new = [
            int(index == 0) + int(index == section_index == 0)
            for part in text for section_index, section in enumerate(part) for index in range(len(section))
        ]  # fmt: skip
        assert plan.num_new_sub_goals[row, : plan.length[row]].tolist() == expected_num_new
