"""What layers learn from outlines, against all places of all legs, read off the outlines one by one."""

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
# JAX would compile for every number of lessons.
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


def legs_in(text, goal, level):
    """(targets, values) of the legs of a level, 2 the top, in a text of three layers; its own target is the first."""
    legs = [([goal], text)]
    for _ in range(2 - level):
        legs = [([mean(part), *targets], part) for targets, inner in legs for part in inner]
    return [(targets, [mean(part) for part in inner]) for targets, inner in legs]


def places_in(texts, goals, level):
    """(context, targets, value) of all places where a layer is asked: codes, of which the mark is one."""
    for text, goal in zip(texts, goals, strict=True):
        lived = []
        for targets, values in legs_in(text, goal, level):
            lived.append(MARK)
            targets = [np.r_[target, 0] for target in targets]
            for value in values:
                code = np.r_[value, 0]
                yield lived[-CONTEXTS[level] :], targets, code
                lived.append(code)
            yield lived[-CONTEXTS[level] :], targets, MARK


def taught_by(texts):
    return make_examples(to_sub_trajectories(texts, goals_of(texts), VECTORS, 3), [WITHOUT_JAX] * 4, CONTEXTS)


@settings(max_examples=10, deadline=None)
@given(TEXTS)
def test_at_each_place_the_next_value_is_learned_or_that_the_leg_is_over(texts):
    for level, taught in enumerate(map(jax.device_get, taught_by(texts))):
        places = list(places_in(texts, goals_of(texts), level))
        assert len(taught.value) == len(places)
        for row, (context, targets, value) in enumerate(places):
            real = taught.window[row, CONTEXTS[level] - taught.length[row] :]
            np.testing.assert_allclose(taught.codes[real], context, atol=1e-6)
            np.testing.assert_allclose(taught.targets[taught.sub_trajectory[row]], targets[0], atol=1e-6)
            np.testing.assert_allclose(taught.codes[taught.value[row]], value, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(TEXTS, st.integers(0, 2))
def test_what_the_layer_above_is_asked_for_a_leg_are_lessons_that_lead_to_it(texts, pairs):
    legs = to_sub_trajectories(texts, goals_of(texts), VECTORS, 3)
    legs[-1] = add_pairs(legs[-1], pairs, 0)
    *lower, top = map(jax.device_get, make_examples(legs, [WITHOUT_JAX] * 4, CONTEXTS))
    assert top.upper_examples.shape == (len(legs[-1]), 0)
    for below, above, own in zip(lower, [*lower[1:], top], legs[1:], strict=True):
        assert below.upper_examples.shape == (len(below.targets), NUM_UPPER_EXAMPLES)
        np.testing.assert_array_equal(
            above.codes[above.value[below.upper_examples]], below.targets[:, None].repeat(8, axis=1)
        )
        # Each is asked for itself, not for one of equal steps: the places of a leg's values lead to the legs in order.
        numbers = np.concatenate([[*leg.numbers, -1] for leg in own])
        for leg, lessons_asked in enumerate(below.upper_examples):
            assert len(set(lessons_asked.tolist())) == min(np.sum(numbers == leg), NUM_UPPER_EXAMPLES)
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
    legs = to_sub_trajectories(texts, goals, VECTORS, 3)[-1]
    mixed = add_pairs(legs, each, seed)
    pairs = mixed[-each * count :]
    singles = mixed[: -each * count]
    ascending = set()
    for pair in pairs:
        ((first, second),) = [
            (a, b)
            for a in range(count)
            for b in range(count)
            if a != b and np.array_equal(pair.numbers, [*legs[a].numbers, *legs[b].numbers])
        ]
        np.testing.assert_allclose(pair.target, normalize((goals[first] + goals[second])[None])[0], atol=1e-6)
        np.testing.assert_array_equal(pair.values, [*legs[first].values, *legs[second].values])
        ascending.add(bool(place[first] < place[second]))
    assert len(ascending) == 1
    # Singles are whole rounds of all texts: at least one, and as many as come nearest to the weight of the pairs.
    rounds, rest = divmod(len(singles), count)
    assert rest == 0
    assert all(single is legs[index % count] for index, single in enumerate(singles))
    one, wanted = (sum(len(leg.values) + 1 for leg in some) for some in (legs, pairs))
    assert rounds >= 1
    assert rounds == 1 or abs(rounds * one - wanted) <= one / 2


def test_without_pairs_or_with_one_text_alone_nothing_is_paired():
    legs = to_sub_trajectories([(((0,),),), (((1,),),)], goals_of("ab"), VECTORS, 3)[-1]
    assert add_pairs(legs, 0, 0) == legs
    assert add_pairs(legs[:1], 3, 0) == legs[:1]


def test_a_text_that_no_pair_holds_is_still_learned_however_long_it_is():
    texts = [(((0,),),) * (500 if index == 0 else 1) for index in range(8)]
    legs = to_sub_trajectories(texts, goals_of(texts), VECTORS, 3)[-1]
    for seed in range(100):
        assert any(leg is legs[0] for leg in add_pairs(legs, 1, seed))


def saying(code, level):
    """The kernel of a layer of three that says one and the same."""
    space = AS_THEY_ARE.space
    spaces = Spaces(space, space, concat_target_space([AS_THEY_ARE] * (3 - level)))

    def infer(state, context, target):
        return Hypothesis(jnp.broadcast_to(code, (target.shape[0], D + 1)), jnp.ones(target.shape[0]))

    return Kernel(lambda key: (), lambda state, batch: (state, {}), infer, spaces, CONTEXTS[level])


SAID = np.array([7, 8, 9, 0], np.float32)
ROWS = 2000


@pytest.fixture(scope="module")
def drawn():
    """`random_tags(noises)` are lessons of a few texts for layers all of which say the same, and the texts."""
    texts = [(((0, 1), (2,)), ((3, 1),)), (((4, 0),),)]
    guide = plan_guide(layers=[saying(SAID, level) for level in range(3)], codecs=[AS_THEY_ARE] * 4)
    taught = jax.tree.map(jnp.asarray, taught_by(texts))
    use = jax.jit(lambda noises: sample_examples(guide, ((),) * 3, taught, jax.random.key(0), ROWS, noises))
    return lambda *noises: (jax.device_get(use(jnp.asarray(noises))), texts)


def test_half_of_the_targets_are_those_of_the_texts_and_half_what_the_layer_above_says(drawn):
    batches, texts = drawn(0.0, 0.0, 0.0)
    for level, batch in enumerate(batches):
        # Targets [ROWS, layers from this one up, D + 1], and which of them a layer said.
        targets = batch.target.reshape(ROWS, 3 - level, D + 1)
        said = (targets == SAID).all(axis=2)
        assert (np.abs(said[:, :-1].mean(axis=0) - 0.5) < 5 * 0.5 / ROWS**0.5).all()
        assert not said[:, -1].any()
        places = [
            np.concatenate([*[MARK] * (CONTEXTS[level] - len(context)), *context, value, *pursued])
            for context, pursued, value in places_in(texts, goals_of(texts), level)
        ]
        read = np.concatenate([batch.context.items.reshape(ROWS, -1), batch.value, batch.target], axis=1)
        apart = np.abs(read[:, None] - np.array(places)[None])
        # Whatever is pursued, the rest of a row is a lesson, and all lessons are drawn.
        ignored = np.repeat(said, D + 1, axis=1)
        apart[:, :, -ignored.shape[1] :] *= ~ignored[:, None]
        alike = apart.max(axis=2) < 1e-5
        assert alike.any(axis=1).all()
        assert alike[~said.any(axis=1)].any(axis=0).all()
        assert (batch.score == 1).all()
        assert (batch.mask == 1).all()


def test_noise_is_that_of_the_layer_and_spares_what_the_layer_above_says(drawn):
    batches, _ = drawn(0.1, 0.2, 0.4)
    for level, (batch, noise) in enumerate(zip(batches, (0.1, 0.2, 0.4), strict=True)):
        target = batch.target[:, : D + 1]
        said = (target == SAID).all(axis=1)
        assert 0.4 < said.mean() < 0.6 or level == 2
        # No text gives the last number of a target anything but 0.
        np.testing.assert_allclose(target[~said, -1].std(), noise, rtol=0.1)


def test_tables_that_were_taught_all_lessons_recall_the_texts():
    """Steps of one wording, sections that differ, and goals that differ: nothing is left to guess."""
    vectors = np.eye(6, dtype=np.float32)
    texts = [
        (((0, 1, 2), (3, 4)), ((5, 0),)),
        (((3, 4), (0, 1)), ((1, 1, 5), (2,))),
        (((2,),),),
        (((0, 1, 2), (5, 0)), ((4, 4), (3, 4)), ((1, 5),)),
    ]
    goals = np.eye(4, 6, dtype=np.float32)
    legs = to_sub_trajectories(texts, goals, vectors, 3)
    levels = [np.concatenate([leg.values for leg in level]) for level in legs]
    codecs = [token_codec(np.unique(normalize(values), axis=0)) for values in [*levels, goals]]
    lengths = (3, 3, 3)
    spaces = [
        {"input": own.space, "value": own.space, "target": above.space} for own, above in itertools.pairwise(codecs)
    ]
    layers = [table(**each, context_length=length) for each, length in zip(spaces, lengths, strict=True)]
    guide = plan_guide(layers=layers, codecs=codecs)
    taught = make_examples(legs, codecs, lengths)

    def whole(level):
        ones = jnp.ones(len(level.value))
        context = Context(level.codes[level.window], level.length)
        return Transition(context, level.targets[level.sub_trajectory], level.codes[level.value], ones, ones)

    @jax.jit
    def recall():
        state, _ = guide.fit(guide.init(jax.random.key(0)), [whole(level) for level in taught])
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
