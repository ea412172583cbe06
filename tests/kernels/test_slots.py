"""Slots: which one learns from a row, and what it comes to hold."""

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

each_learning = pytest.mark.parametrize("learning", ACCESSES, ids=lambda learning: f"{learning.access} access")
each_space = pytest.mark.parametrize("space", SPACES, ids=["indices", "vectors"])


def problem(space):
    """Slots at random, with scores on either side of those of the rows."""
    random = np.random.default_rng(0)
    width = space.size if isinstance(space, Discrete) else space.dims
    slots = Slots(random.normal(size=(ROWS, SLOTS, width)), random.normal(size=(ROWS, SLOTS)))
    value = random.integers(0, 4, ROWS) if isinstance(space, Discrete) else random.normal(size=(ROWS, width))
    value = value.astype(space.dtype)
    score = np.linspace(0, 1, ROWS)
    return jax.tree.map(np.float32, slots), value, np.float32(score)


@functools.partial(jit, static_argnums=(0, 1))
def gradients(learning, space, slots, value, score):
    def total(slots):
        losses, parts = compute_slot_loss(learning, space, slots, value, score)
        return jnp.sum(losses), (losses, parts)

    return jax.grad(total, has_aux=True)(slots)


@each_learning
@each_space
def test_the_loss_of_a_row_is_its_slots_distance_and_an_asymmetric_cross_entropy(learning, space):
    slots, value, score = problem(space)
    _, (losses, parts) = jax.tree.map(np.asarray, gradients(learning, space, slots, value, score))
    for row in range(ROWS):
        row_slots = np.float64(slots.values[row]), np.float64(slots.scores[row])
        value_loss, score_loss = reference.slot_loss(learning, space, *row_slots, value[row], score[row])
        np.testing.assert_allclose(parts["loss/value"][row], value_loss, rtol=1e-4)
        np.testing.assert_allclose(parts["loss/score"][row], score_loss, rtol=1e-4)
        np.testing.assert_allclose(losses[row], value_loss + learning.score_weight * score_loss, rtol=1e-4)


@each_learning
@each_space
def test_a_row_moves_the_value_of_one_slot_alone_the_most_similar_or_that_of_its_score(learning, space):
    slots, value, score = problem(space)
    moved = jax.tree.map(np.asarray, gradients(learning, space, slots, value, score)[0])
    chosen = []
    for row in range(ROWS):
        slot = reference.chosen_slot(learning, space, np.float64(slots.values[row]), value[row], score[row])
        assert list(np.flatnonzero(np.any(moved.values[row] != 0, axis=1))) == [slot]
        chosen.append(slot)
    assert len(set(chosen)) > 2
    if learning.access == "score":
        assert chosen == [round(n / 11 * 4) for n in range(12)]


@each_learning
def test_a_row_draws_the_score_of_its_slot_to_its_own_and_the_other_scores_down(learning):
    slots, value, score = problem(Box(3))
    moved = jax.tree.map(np.asarray, gradients(learning, Box(3), slots, value, score)[0])
    guess = reference.sigmoid(slots.scores)
    for row in range(ROWS):
        slot = reference.chosen_slot(learning, Box(3), np.float64(slots.values[row]), value[row], score[row])
        surpassed = score[row] > guess[row, slot]
        expected = learning.penalty * guess[row]
        expected[slot] = (1 if surpassed else learning.shortfall_weight) * (guess[row, slot] - float(score[row]))
        np.testing.assert_allclose(moved.scores[row], learning.score_weight * expected, rtol=1e-4, atol=1e-6)


def converge(learning, space, slots, value, score, weight=None, steps=800):
    """The slots of one question after descent on the weighted mean of the rows."""
    value, score = jnp.asarray(value), jnp.asarray(score)
    weight = jnp.ones_like(score) if weight is None else jnp.asarray(weight)

    def mean(slots):
        shown = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (score.size, *leaf.shape[1:])), slots)
        return jnp.sum(weight * compute_slot_loss(learning, space, shown, value, score)[0]) / jnp.sum(weight)

    def step(slots, _):
        return jax.tree.map(lambda leaf, gradient: leaf - 0.5 * gradient, slots, jax.grad(mean)(slots)), None

    return jax.lax.scan(step, slots, length=steps)[0]


def fresh(*values):
    """One question's slots, their values given, their scores untouched."""
    return Slots(jnp.asarray(values)[None], jnp.full((1, len(values)), INITIAL_SCORE_LOGIT))


def test_the_shortfall_weight_says_how_much_a_bad_row_counts_against_a_good_one_for_the_same_answer():
    # At rest a good row's pull upward, 0.9 - s, equals a bad one's downward, shortfall_weight (s - 0.1).
    def rest(shortfall_weight):
        learning = value_access()._replace(shortfall_weight=shortfall_weight)
        return converge(learning, Box(1), fresh([1.0]), [[1.0], [1.0]], [0.9, 0.1], steps=4000).scores[0, 0]

    shortfall_weight = np.asarray([0, 0.02, 0.3, 1])
    scores = reference.sigmoid(jit(jax.vmap(rest))(jnp.float32(shortfall_weight)))
    np.testing.assert_allclose(scores, (0.9 + shortfall_weight * 0.1) / (1 + shortfall_weight), atol=0.005)


@each_learning
def test_the_best_answer_is_given_though_a_worse_one_is_four_times_as_frequent(learning):
    start = fresh(*([[0.1 * slot] for slot in range(-4, 5)]))
    slots = jit(functools.partial(converge, learning, Box(1)))(start, [[1.0], [-1.0]], [0.9, 0.6], [1.0, 4.0])
    np.testing.assert_allclose(select_best_slot(Box(1), slots).value, [[1.0]], atol=0.05)


@pytest.mark.parametrize("better", [5.0, 6.0])
def test_answers_to_which_the_same_slot_is_the_most_similar_are_not_averaged(better):
    start, worse = fresh([0.0], [-1.0], [-2.0]), 11.0 - better
    slots = jit(functools.partial(converge, value_access(), Box(1)))(start, [[worse], [better]], [0.3, 0.9])
    hypothesis = select_best_slot(Box(1), slots)
    np.testing.assert_allclose(hypothesis.value, [[better]], atol=0.1)
    np.testing.assert_allclose(hypothesis.score, [0.9], atol=0.05)


def test_the_hypothesis_is_the_slot_of_the_highest_score_and_an_untrained_slot_never_wins():
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
def test_a_bad_setting_is_refused_with_one_line_that_names_it_and_what_is_allowed(build, name, bad, allowed):
    with pytest.raises(ValueError, match=f"{name} {bad}.*allowed.*{allowed}") as refusal:
        build(**{name: bad})
    assert "\n" not in str(refusal.value)
