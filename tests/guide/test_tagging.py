"""Tagging: the same tags in training and in acting, and what a guide infers for revisited states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide import Trajectories, guide
from thinking.guide.abstraction import skip_step
from thinking.guide.hippocampus import append, init_memory, recall
from thinking.guide.tagging import (
    attach_tags,
    mask_repeats,
    random_tags,
    tag_context,
    tagged_space,
    untagged_space,
    visits,
)
from thinking.kernels import Box, Context, Discrete, Hypothesis, Transition, table

STATES, TAGS = 8, 3
trajectories = st.lists(st.integers(0, 2), min_size=STATES, max_size=STATES)


def make_items(space, numbers):
    numbers = np.array(numbers, space.dtype)
    return numbers if isinstance(space, Discrete) else np.stack([numbers, 1 - numbers], -1)


PROBABILITIES = np.array([0.5, 0.3, 0.2], np.float32)
TAGGINGS = {
    "visits of indices": (Discrete(3), visits(TAGS)),
    "visits of vectors": (Box(2), visits(TAGS)),
    "visits, clipped": (Discrete(3), visits(TAGS, cyclic=False)),
    "random": (Discrete(3), random_tags(jnp.asarray(PROBABILITIES), jax.random.key(3))),
}


@pytest.fixture(scope="module")
def tag_fns():
    """`tag_fns[NAME](trajectory, length)`: its tags, the tagged trajectory, and the tagged memory at each step."""

    def make_tag_fn(space, tagging):
        def observe_and_react(memory, item):
            memory = append(memory, item[None])
            context = tag_context(tagging, recall(memory, STATES), space)
            return memory, (context.items[0], context.length[0])

        @jax.jit
        def tag_trajectory_and_memory(items, valid):
            tags = tagging.tag(items, valid)
            _, contexts = jax.lax.scan(observe_and_react, init_memory(space, 1, STATES), items)
            return tags, attach_tags(tagging, items, tags, space), contexts

        return lambda trajectory, length=STATES: jax.device_get(
            tag_trajectory_and_memory(make_items(space, trajectory), np.arange(STATES) < length)
        )

    return {name: make_tag_fn(*setting) for name, setting in TAGGINGS.items()}


@given(trajectory=trajectories, length=st.integers(0, STATES))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_visits_counts_earlier_visits(tag_fns, trajectory, length):
    num_visits = [trajectory[:t].count(trajectory[t]) for t in range(length)]
    cyclic, vector_tags, clipped = (
        tag_fns[name](trajectory, length)[0][:length].tolist() for name in list(TAGGINGS)[:3]
    )
    assert cyclic == vector_tags == [n % TAGS for n in num_visits]  # the count starts again
    assert clipped == [min(n, TAGS - 1) for n in num_visits]  # the last tag stands for any higher count


@pytest.mark.parametrize("name", TAGGINGS)
@given(trajectory=trajectories)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_memory_tags_equal_trajectory_tags_at_every_step(tag_fns, name, trajectory):
    _, tagged_trajectory, (contexts, lengths) = tag_fns[name](trajectory)
    for t in range(STATES):
        assert lengths[t] == t + 1
        np.testing.assert_array_equal(contexts[t, STATES - t - 1 :], tagged_trajectory[: t + 1])


def test_random_tags_match_probabilities_and_depend_on_the_history_alone(tag_fns):
    _, tagging = TAGGINGS["random"]
    histories = np.random.default_rng(0).integers(0, 1000, (400, STATES)).astype(np.int32)
    tag_histories = jax.jit(jax.vmap(tagging.tag, in_axes=(0, None)))
    tags = np.asarray(tag_histories(histories, np.ones(STATES, bool)))
    for t in range(STATES):  # 400 samples: a frequency's standard deviation is at most 0.025
        frequencies = np.bincount(tags[:, t], minlength=TAGS) / len(tags)
        np.testing.assert_allclose(frequencies, PROBABILITIES, atol=0.1)
    again = np.asarray(tag_histories(np.where(np.arange(STATES) < 5, histories, 7), np.arange(STATES) < 5))
    np.testing.assert_array_equal(again[:, :5], tags[:, :5])  # neither the future nor the padding is used
    is_late = np.arange(STATES) >= 3
    late, padded = (np.asarray(tag_histories(np.where(is_late, histories, old), is_late)) for old in (histories, 7))
    np.testing.assert_array_equal(late[:, 3:], padded[:, 3:])  # nor is what a memory held before it was cleared
    changed = histories.copy()
    changed[:, 0] += 1
    # But the whole past is.
    assert np.mean(np.asarray(tag_histories(changed, np.ones(STATES, bool)))[:, -1] != tags[:, -1]) > 0.4


def test_one_tag_tells_nothing_apart():
    assert visits(1).tag(np.array([2, 2, 1, 2]), np.ones(4, bool)).tolist() == [0, 0, 0, 0]


def test_visits_needs_at_least_one_tag():
    with pytest.raises(ValueError, match="at least one tag"):
        visits(0)


@pytest.mark.parametrize("space", [Discrete(5), Box(2)])
def test_untagging_a_space_undoes_tagging_it(space):
    assert untagged_space(tagged_space(space, visits(3)), visits(3)) == space
    assert tagged_space(space, None) == untagged_space(space, None) == space


def test_index_and_tag_map_one_to_one_into_the_tagged_space():
    space, tagging = Discrete(4), visits(3)
    items, tags = np.divmod(np.arange(12, dtype=np.int32), np.int32(3))
    attached = attach_tags(tagging, jnp.asarray(items), jnp.asarray(tags), space)
    assert sorted(attached.tolist()) == list(range(tagged_space(space, tagging).size))


def test_tagged_vectors_gain_one_feature_per_tag():
    attached = attach_tags(visits(3), jnp.array([[0.5, 2.0]]), jnp.array([1]), Box(2))
    assert attached.tolist() == [[0.5, 2.0, 0, 1, 0]]


def test_context_is_unchanged_without_tagging():
    context = Context(jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32))
    assert tag_context(None, context, Discrete(2)) is context


def test_mask_repeats_matches_plain_python():
    rng = np.random.default_rng(0)
    space, tagging, rows = Discrete(3), visits(TAGS), 300
    input_space = tagged_space(space, tagging)
    kernel = table(input=input_space, value=space, target=space, context_length=2)

    def random_batch(rows):
        context = Context(rng.integers(0, input_space.size, (rows, 2), np.int32), rng.integers(1, 3, rows, np.int32))
        target, value = rng.integers(0, space.size, (2, rows), np.int32)
        return Transition(
            context, target, value, rng.random(rows, np.float32), rng.integers(0, 2, rows) * np.float32(0.5)
        )

    def make_query(context, row, newest):
        older = context.items[row, 0] if context.length[row] == 2 else None
        return older, newest

    stored_batch, batch = random_batch(60), random_batch(rows)
    entries = {}
    for row in range(60):
        key = (*make_query(stored_batch.context, row, stored_batch.context.items[row, 1]), stored_batch.target[row])
        if stored_batch.mask[row] > 0 and stored_batch.score[row] > entries.get(key, (0, -1))[1]:
            entries[key] = stored_batch.value[row], stored_batch.score[row]
    expected_mask = batch.mask.copy()
    for row in range(rows):
        tag, state = divmod(batch.context.items[row, 1], space.size)
        for lower_tag in range(tag):
            key = (*make_query(batch.context, row, lower_tag * space.size + state), batch.target[row])
            if key in entries and entries[key][0] == batch.value[row]:
                expected_mask[row] = 0

    @jax.jit
    def fit_and_mask(stored_batch, batch):
        state, _ = kernel.fit(kernel.init(jax.random.key(0)), stored_batch)
        return mask_repeats(lambda context, target: kernel.infer(state, context, target), batch, tagging, space)

    masked = fit_and_mask(*jax.tree.map(jnp.asarray, (stored_batch, batch)))
    np.testing.assert_array_equal(masked.mask, expected_mask)
    assert 0 < np.sum(expected_mask != batch.mask) < rows  # both masked and unmasked rows occurred
    jax.tree.map(np.testing.assert_array_equal, masked._replace(mask=0), batch._replace(mask=0))


def test_mask_repeats_queries_vectors_with_a_lower_tag():
    queries = []

    def infer(context, target):
        queries.append(context.items[:, -1].tolist())
        return Hypothesis(jnp.array([[7.0], [7.0]]), jnp.array([0.5, -jnp.inf]))

    space, tagging = Box(1), visits(2)
    items = attach_tags(tagging, jnp.array([[[3.0]], [[4.0]]]), jnp.array([[1], [1]]), space)
    batch = Transition(
        Context(items, jnp.ones(2, jnp.int32)), jnp.zeros((2, 1)), jnp.full((2, 1), 7.0), jnp.ones(2), jnp.ones(2)
    )
    assert mask_repeats(infer, batch, tagging, space).mask.tolist() == [0, 1]  # the second query has no entry
    assert queries == [[[3, 1, 0], [4, 1, 0]]]


def test_guide_tries_another_action_when_it_revisits_a_state():
    space, tagging = Discrete(4), visits(2)
    kernel = table(input=tagged_space(space, tagging), value=space, target=space)
    model = guide(layers=[kernel], abstraction=skip_step(2), tagging=tagging, memory=6)
    observe, state = jax.jit(model.observe), model.init(jax.random.key(0))
    # The second trajectory repeats its first action when it revisits 0; the third takes another, and is no faster.
    for trajectory in ([0, 1, 3, 0, 0], [0, 1, 0, 1, 3], [0, 1, 0, 2, 3]):
        length = 3 if trajectory[2] == 3 else 5
        state, _ = observe(state, Trajectories(np.array([trajectory], np.int32), np.array([length], np.int32)))

    @jax.jit
    def observe_and_react(state, memory, observation):
        memory = append(memory, observation)
        return memory, model.react(state, memory, jnp.array([3])).value

    memory, values = model.init_memory(1), []
    for observation in (0, 1, 0):
        memory, value = observe_and_react(state, memory, np.array([observation], np.int32))
        values += value.tolist()
    assert values == [1, 3, 2]  # the fastest action from 0, and at the second visit the other


def test_guide_with_tags_needs_a_memory():
    space = Discrete(2)
    kernel = table(input=tagged_space(space, visits(2)), value=space, target=space)
    with pytest.raises(ValueError, match="give memory"):
        guide(layers=[kernel], abstraction=skip_step(2), tagging=visits(2))


def test_random_tags_match_their_probabilities():
    probabilities = jnp.array([0.5, 0.3, 0.2])
    items = jax.random.randint(jax.random.key(0), (400, 20), 0, 9)
    tags = jax.vmap(random_tags(probabilities, jax.random.key(1)).tag)(items, jnp.ones_like(items, bool))
    frequencies = np.bincount(np.asarray(tags).ravel(), minlength=3) / tags.size
    np.testing.assert_allclose(frequencies, probabilities, atol=0.05)
