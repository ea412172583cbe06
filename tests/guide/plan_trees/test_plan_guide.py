"""The guide over plan trees, step by step on one known tree: its inputs, memories, predictions and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.guide.hippocampus import recall
from thinking.guide.plan_trees.codecs import token_codec
from thinking.guide.plan_trees.plan_guide import plan_guide
from thinking.kernels import Box, Context, Discrete, Hypothesis, Kernel, Spaces, Transition, table
from thinking.text.embedders import normalize

# The goal has the sections "ab" and "c", these have the steps a, b and c. A separator ends each.
STEPS = np.eye(3, dtype=np.float32)
SECTIONS = normalize(np.array([[1, 1, 0], [0, 0, 1]], np.float32))
GOALS = np.array([[0, 1, 1], [1, 1, 1]], np.float32)
CODECS = [token_codec(STEPS), token_codec(SECTIONS), token_codec(normalize(GOALS))]
A, B, C, STEP_END = range(4)
AB, ONLY_C, SECTION_END = range(3)
GOAL = 1


def make_layer(level, length=2):
    own, above = CODECS[level].space, CODECS[level + 1].space
    return table(input=own, value=own, target=above, context_length=length)


GUIDE = plan_guide(layers=[make_layer(0), make_layer(1)], codecs=CODECS)


def make_batch(*rows):
    """A batch of (context, target, value); contexts may be short."""
    contexts, targets, values = zip(*rows, strict=True)
    items = np.array([[0] * (2 - len(context)) + context for context in contexts], np.int32)
    ones = np.ones(len(rows), np.float32)
    context = Context(items, np.array([len(context) for context in contexts], np.int32))
    return Transition(context, np.array(targets, np.int32), np.array(values, np.int32), ones, ones)


STEP_EXAMPLES = make_batch(
    ([STEP_END], AB, A),
    ([STEP_END, A], AB, B),
    ([A, B], AB, STEP_END),
    ([B, STEP_END], ONLY_C, C),
    ([STEP_END, C], ONLY_C, STEP_END),
)
SECTION_EXAMPLES = make_batch(
    ([SECTION_END], GOAL, AB), ([SECTION_END, AB], GOAL, ONLY_C), ([AB, ONLY_C], GOAL, SECTION_END)
)


@pytest.fixture(scope="module")
def state_and_metrics():
    """The state of a guide that was trained on the plan tree, and its metrics."""
    return jax.jit(GUIDE.fit)(GUIDE.init(jax.random.key(0)), [STEP_EXAMPLES, SECTION_EXAMPLES])


@pytest.fixture(scope="module")
def unroll(state_and_metrics):
    """`unroll(steps)`: the predictions before steps, the guide's own where one is None, and the carries after them."""
    init_carry, propose_step, observe = (
        jax.jit(fn) for fn in (GUIDE.init_carry, GUIDE.propose_step, GUIDE.record_step)
    )

    def unroll_steps(steps):
        carry, predictions, carries = init_carry(state_and_metrics[0], GOALS[GOAL:]), [], []
        for step in steps:
            prediction, carry = propose_step(state_and_metrics[0], carry)
            carry = observe(carry, prediction.step if step is None else np.array([step], np.float32))
            predictions.append(jax.device_get(prediction))
            carries.append(carry)
        return predictions, carries

    return unroll_steps


def test_guide_predicts_the_plan_tree_it_was_trained_on(unroll):
    predictions, _ = unroll([None] * 4)
    assert [int(prediction.step[0].argmax()) for prediction in predictions[:3]] == [A, B, C]
    assert [int(prediction.sub_goals[0][0] @ SECTIONS[AB] > 0.9) for prediction in predictions[:3]] == [1, 1, 0]
    assert [int(prediction.num_new_sub_goals[0]) for prediction in predictions[:3]] == [1, 0, 1]
    assert [bool(prediction.done[0]) for prediction in predictions] == [False, False, False, True]


def test_memory_keeps_earlier_sub_trajectories_after_a_mark_each(unroll):
    _, carries = unroll([None] * 3)
    lowest, top = carries[2]
    assert recall(lowest.memory, 2).items.tolist() == [[STEP_END, C]]
    assert int(lowest.memory.count[0]) == 5  # STEP_END, a, b, STEP_END, c
    assert recall(top.memory, 2).items.tolist() == [[SECTION_END, AB]]
    assert (int(lowest.num_steps[0]), int(top.num_steps[0])) == (1, 2)
    np.testing.assert_allclose(top.step_sum, [STEPS[A] + STEPS[B]])


def test_observed_steps_enter_the_memory_and_the_step_sum(unroll):
    predictions, carries = unroll([STEPS[A], [0, 0, 4], None])
    # The lowest layer has no entry for a, c: the table's default is a, and the sub-trajectory continues.
    assert int(predictions[2].step[0].argmax()) == A
    lowest, _ = carries[1]
    np.testing.assert_allclose(lowest.step_sum, [[1, 0, 4]])
    assert recall(lowest.memory, 2).items.tolist() == [[A, C]]


def test_fit_trains_each_layer_and_prefixes_its_metrics(state_and_metrics):
    _, metrics = state_and_metrics
    assert {name: float(value) for name, value in metrics.items()} == {
        "layer_0/num_written": 5,
        "layer_1/num_written": 3,
    }


def test_infer_subgoal_returns_a_code_and_whether_it_is_known(state_and_metrics):
    state, _ = state_and_metrics
    context = Context(np.array([[0, SECTION_END], [SECTION_END, AB]], np.int32), np.array([1, 2], np.int32))
    infer_sub_goal = jax.jit(lambda *query: GUIDE.infer_sub_goal(state, 1, *query))
    sub_goal, is_known = infer_sub_goal(context, np.array([GOAL, GOAL], np.int32))
    assert sub_goal.tolist() == [AB, ONLY_C]
    assert is_known.all()


def test_layers_are_initialized_from_different_keys():
    spaces = Spaces(CODECS[0].space, CODECS[0].space, CODECS[0].space)

    def infer(state, context, target):
        return Hypothesis(target, jnp.ones(1))

    kernel = Kernel(lambda key: jax.random.normal(key), lambda state, batch: (state, {}), infer, spaces, 1)
    first, second = plan_guide(layers=[kernel] * 2, codecs=[CODECS[0]] * 3).init(jax.random.key(0))
    assert first != second


@pytest.mark.parametrize(
    ("layers", "codecs", "message"),
    [
        ([], CODECS[:1], "0 layers and 1 codecs: give at least one layer, and one codec more than layers"),
        ([make_layer(0)], CODECS, "1 layers and 3 codecs"),
        ([make_layer(1), make_layer(0)], CODECS, "layer 0 reads Discrete"),
        ([make_layer(0), make_layer(0)], CODECS, "layer 1 reads Discrete"),
    ],
)
def test_layers_that_do_not_match_their_codecs_are_rejected(layers, codecs, message):
    with pytest.raises(ValueError, match=message):
        plan_guide(layers=layers, codecs=codecs)


def test_error_message_names_the_spaces():
    vectors = table(input=Discrete(4), value=Box(3), target=Discrete(3))
    with pytest.raises(ValueError, match=r"answers Box\(dims=3\) .* have Discrete\(size=4\) for the first two"):
        plan_guide(layers=[vectors, make_layer(1)], codecs=CODECS)
