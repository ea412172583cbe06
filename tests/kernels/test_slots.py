"""Slots: which slot a row trains, and what the slots converge to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels import reference
from tests.kernels.quick import jit

from thinking.kernels import Box, Discrete, score_access, value_access
from thinking.kernels.slots import INITIAL_SCORE_LOGIT, Slots, compute_slot_loss, select_best_slot

ROWS, SLOTS = 12, 5
SPACES = [Discrete(4), Box(3)]
ACCESSES = [value_access(), score_access()]

for_each_learning = pytest.mark.parametrize("learning", ACCESSES, ids=lambda learning: f"{learning.access} access")
for_each_space = pytest.mark.parametrize("space", SPACES, ids=["indices", "vectors"])


def random_problem(space):
    """Random slots, with scores above and below those of the rows."""
    rng = np.random.default_rng(0)
    width = space.size if isinstance(space, Discrete) else space.dims
    slots = Slots(rng.normal(size=(ROWS, SLOTS, width)), rng.normal(size=(ROWS, SLOTS)))
    value = rng.integers(0, 4, ROWS) if isinstance(space, Discrete) else rng.normal(size=(ROWS, width))
    value = value.astype(space.dtype)
    score = np.linspace(0, 1, ROWS)
    return jax.tree.map(np.float32, slots), value, np.float32(score)


@functools.partial(jit, static_argnums=(0, 1))
def compute_gradients(learning, space, slots, value, score):
    def sum_losses(slots):
        losses, parts = compute_slot_loss(learning, space, slots, value, score)
        return jnp.sum(losses), (losses, parts)

    return jax.grad(sum_losses, has_aux=True)(slots)


@for_each_learning
@for_each_space
def test_slot_loss_matches_numpy_reference(learning, space):
    slots, value, score = random_problem(space)
    _, (losses, parts) = jax.tree.map(np.asarray, compute_gradients(learning, space, slots, value, score))
    for row in range(ROWS):
        row_slots = np.float64(slots.values[row]), np.float64(slots.scores[row])
        value_loss, score_loss = reference.compute_slot_loss(learning, space, *row_slots, value[row], score[row])
        np.testing.assert_allclose(parts["loss/value"][row], value_loss, rtol=1e-4)
        np.testing.assert_allclose(parts["loss/score"][row], score_loss, rtol=1e-4)
        np.testing.assert_allclose(losses[row], value_loss + learning.score_weight * score_loss, rtol=1e-4)


@for_each_learning
@for_each_space
def test_each_row_trains_the_value_of_one_slot(learning, space):
    slots, value, score = random_problem(space)
    gradients = jax.tree.map(np.asarray, compute_gradients(learning, space, slots, value, score)[0])
    selected_slots = []
    for row in range(ROWS):
        slot = reference.select_slot(learning, space, np.float64(slots.values[row]), value[row], score[row])
        assert list(np.flatnonzero(np.any(gradients.values[row] != 0, axis=1))) == [slot]
        selected_slots.append(slot)
    assert len(set(selected_slots)) > 2
    if learning.access == "score":
        assert selected_slots == [round(n / 11 * 4) for n in range(12)]


@for_each_learning
def test_score_gradients_match_numpy_reference(learning):
    slots, value, score = random_problem(Box(3))
    gradients = jax.tree.map(np.asarray, compute_gradients(learning, Box(3), slots, value, score)[0])
    slot_scores = reference.sigmoid(slots.scores)
    for row in range(ROWS):
        slot = reference.select_slot(learning, Box(3), np.float64(slots.values[row]), value[row], score[row])
        is_above = score[row] > slot_scores[row, slot]
        expected = learning.penalty * slot_scores[row]
        expected[slot] = (1 if is_above else learning.shortfall_weight) * (slot_scores[row, slot] - float(score[row]))
        np.testing.assert_allclose(gradients.scores[row], learning.score_weight * expected, rtol=1e-4, atol=1e-6)


def descend(learning, space, slots, value, score, weight=None, num_steps=800):
    """The slots of one query after gradient descent on the weighted mean loss of the rows."""
    value, score = jnp.asarray(value), jnp.asarray(score)
    weight = jnp.ones_like(score) if weight is None else jnp.asarray(weight)

    def mean_loss(slots):
        repeated_slots = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (score.size, *leaf.shape[1:])), slots)
        return jnp.sum(weight * compute_slot_loss(learning, space, repeated_slots, value, score)[0]) / jnp.sum(weight)

    def step(slots, _):
        return jax.tree.map(lambda leaf, gradient: leaf - 0.5 * gradient, slots, jax.grad(mean_loss)(slots)), None

    return jax.lax.scan(step, slots, length=num_steps)[0]


def make_initial_slots(*values):
    """The slots of one query, with given values and initial scores."""
    return Slots(jnp.asarray(values)[None], jnp.full((1, len(values)), INITIAL_SCORE_LOGIT))


def test_shortfall_weight_sets_the_equilibrium_score():
    # At equilibrium the upward gradient of the good row, 0.9 - s, equals shortfall_weight (s - 0.1) of the bad one.
    def find_equilibrium(shortfall_weight):
        learning = value_access()._replace(shortfall_weight=shortfall_weight)
        return descend(learning, Box(1), make_initial_slots([1.0]), [[1.0], [1.0]], [0.9, 0.1], num_steps=4000).scores[
            0, 0
        ]

    shortfall_weight = np.asarray([0, 0.02, 0.3, 1])
    scores = reference.sigmoid(jit(jax.vmap(find_equilibrium))(jnp.float32(shortfall_weight)))
    np.testing.assert_allclose(scores, (0.9 + shortfall_weight * 0.1) / (1 + shortfall_weight), atol=0.005)


@for_each_learning
def test_best_value_wins_over_a_more_frequent_worse_value(learning):
    initial_slots = make_initial_slots(*([[0.1 * slot] for slot in range(-4, 5)]))
    slots = jit(functools.partial(descend, learning, Box(1)))(initial_slots, [[1.0], [-1.0]], [0.9, 0.6], [1.0, 4.0])
    np.testing.assert_allclose(select_best_slot(Box(1), slots).value, [[1.0]], atol=0.05)


@pytest.mark.parametrize("better_value", [5.0, 6.0])
def test_values_that_share_a_slot_are_not_averaged(better_value):
    initial_slots, worse_value = make_initial_slots([0.0], [-1.0], [-2.0]), 11.0 - better_value
    slots = jit(functools.partial(descend, value_access(), Box(1)))(
        initial_slots, [[worse_value], [better_value]], [0.3, 0.9]
    )
    hypothesis = select_best_slot(Box(1), slots)
    np.testing.assert_allclose(hypothesis.value, [[better_value]], atol=0.1)
    np.testing.assert_allclose(hypothesis.score, [0.9], atol=0.05)


def test_select_best_slot_selects_the_highest_score():
    slots = Slots(jnp.asarray([[[1.0, 9, 0], [0, 1, 5]], [[7.0, 1, 0], [0, 8, 5]]]), jnp.asarray([[-1.0, 2], [3, -3]]))
    index, vector = select_best_slot(Discrete(3), slots), select_best_slot(Box(3), slots)
    assert np.array_equal(index.value, [2, 0])
    assert np.array_equal(vector.value, [[0, 1, 5], [7, 1, 0]])
    np.testing.assert_allclose(index.score, reference.sigmoid([2, 3]), rtol=1e-6)
    assert np.array_equal(index.score, vector.score)
    assert reference.sigmoid(INITIAL_SCORE_LOGIT) < 0.05


@pytest.mark.parametrize("build", [value_access, score_access])
@pytest.mark.parametrize(
    ("name", "bad", "allowed"),
    [
        ("shortfall_weight", -0.1, "0 .*1"),
        ("shortfall_weight", 1.5, "0 .*1"),
        ("score_weight", -1.0, "0"),
        ("penalty", -2.0, "0"),
    ],
)
def test_settings_out_of_range_are_rejected(build, name, bad, allowed):
    with pytest.raises(ValueError, match=f"{name} {bad}.*allowed.*{allowed}") as error:
        build(**{name: bad})
    assert "\n" not in str(error.value)
