"""The guide over outlines, step by step on one that is known by heart: what is asked, remembered, told and learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.guide.hippocampus import recall
from thinking.guide.plan_trees.codecs import token_codec
from thinking.guide.plan_trees.plan_guide import plan_guide
from thinking.kernels import Box, Context, Discrete, Hypothesis, Kernel, Spaces, Transition, table
from thinking.text.embedders import normalize

# A goal is reached by "ab" and "c"; these by the steps a, b and c. A mark ends each.
STEPS = np.eye(3, dtype=np.float32)
SECTIONS = normalize(np.array([[1, 1, 0], [0, 0, 1]], np.float32))
GOALS = np.array([[0, 1, 1], [1, 1, 1]], np.float32)
CODECS = [token_codec(STEPS), token_codec(SECTIONS), token_codec(normalize(GOALS))]
A, B, C, END = range(4)
AB, ONLY_C, OVER = range(3)
GOAL = 1


def layer(level, length=2):
    own, above = CODECS[level].space, CODECS[level + 1].space
    return table(input=own, value=own, target=above, context_length=length)


GUIDE = plan_guide(layers=[layer(0), layer(1)], codecs=CODECS)


def lessons(*rows):
    """Of (context, target, value), as short as they are."""
    contexts, targets, values = zip(*rows, strict=True)
    items = np.array([[0] * (2 - len(context)) + context for context in contexts], np.int32)
    ones = np.ones(len(rows), np.float32)
    context = Context(items, np.array([len(context) for context in contexts], np.int32))
    return Transition(context, np.array(targets, np.int32), np.array(values, np.int32), ones, ones)


STEP_LESSONS = lessons(
    ([END], AB, A), ([END, A], AB, B), ([A, B], AB, END), ([B, END], ONLY_C, C), ([END, C], ONLY_C, END)
)
SECTION_LESSONS = lessons(([OVER], GOAL, AB), ([OVER, AB], GOAL, ONLY_C), ([AB, ONLY_C], GOAL, OVER))


@pytest.fixture(scope="module")
def taught():
    """The state of a guide that knows the outline, and the metrics of its lessons."""
    return jax.jit(GUIDE.fit)(GUIDE.init(jax.random.key(0)), [STEP_LESSONS, SECTION_LESSONS])


@pytest.fixture(scope="module")
def walk(taught):
    """`walk(steps)` are the thoughts before steps, the guide's own where one is None, and the minds behind them."""
    begin, advance, observe = (jax.jit(part) for part in (GUIDE.init_carry, GUIDE.propose_step, GUIDE.observe))

    def go(steps):
        mind, thoughts, minds = begin(taught[0], GOALS[GOAL:]), [], []
        for step in steps:
            thought, mind = advance(taught[0], mind)
            mind = observe(mind, thought.step if step is None else np.array([step], np.float32))
            thoughts.append(jax.device_get(thought))
            minds.append(mind)
        return thoughts, minds

    return go


def test_an_outline_that_was_taught_is_gone_through_step_by_step(walk):
    thoughts, _ = walk([None] * 4)
    assert [int(thought.step[0].argmax()) for thought in thoughts[:3]] == [A, B, C]
    assert [int(thought.sub_goals[0][0] @ SECTIONS[AB] > 0.9) for thought in thoughts[:3]] == [1, 1, 0]
    assert [int(thought.num_new_sub_goals[0]) for thought in thoughts[:3]] == [1, 0, 1]
    assert [bool(thought.done[0]) for thought in thoughts] == [False, False, False, True]


def test_a_layer_remembers_the_legs_before_with_a_mark_in_front_of_each(walk):
    _, minds = walk([None] * 3)
    lowest, top = minds[2]
    assert recall(lowest.memory, 2).items.tolist() == [[END, C]]
    assert int(lowest.memory.count[0]) == 5  # END, a, b, END, c
    assert recall(top.memory, 2).items.tolist() == [[OVER, AB]]
    assert (int(lowest.num_steps[0]), int(top.num_steps[0])) == (1, 2)
    np.testing.assert_allclose(top.step_sum, [STEPS[A] + STEPS[B]])


def test_what_was_really_done_is_what_is_remembered_and_averaged(walk):
    thoughts, minds = walk([STEPS[A], [0, 0, 4], None])
    # The lowest layer never saw a, c: it says a, as a table does that does not know, and its leg goes on.
    assert int(thoughts[2].step[0].argmax()) == A
    lowest, _ = minds[1]
    np.testing.assert_allclose(lowest.step_sum, [[1, 0, 4]])
    assert recall(lowest.memory, 2).items.tolist() == [[A, C]]


def test_each_layer_learns_its_own_lessons_and_metrics_bear_its_number(taught):
    _, metrics = taught
    assert {name: float(value) for name, value in metrics.items()} == {"written/0": 5, "written/1": 3}


def test_what_a_layer_would_tell_the_one_below_is_a_code_of_its_values(taught):
    state, _ = taught
    context = Context(np.array([[0, OVER], [OVER, AB]], np.int32), np.array([1, 2], np.int32))
    tell = jax.jit(lambda *asked: GUIDE.infer_subgoal(state, 1, *asked))
    told, known = tell(context, np.array([GOAL, GOAL], np.int32))
    assert told.tolist() == [AB, ONLY_C]
    assert known.all()


def test_layers_are_born_from_different_keys():
    spaces = Spaces(CODECS[0].space, CODECS[0].space, CODECS[0].space)

    def infer(state, context, target):
        return Hypothesis(target, jnp.ones(1))

    kernel = Kernel(lambda key: jax.random.normal(key), lambda state, batch: (state, {}), infer, spaces, 1)
    first, second = plan_guide(layers=[kernel] * 2, codecs=[CODECS[0]] * 3).init(jax.random.key(0))
    assert first != second


@pytest.mark.parametrize(
    ("layers", "codecs", "says"),
    [
        ([], CODECS[:1], "0 layers and 1 codecs: give at least one layer, and a codec more"),
        ([layer(0)], CODECS, "1 layers and 3 codecs"),
        ([layer(1), layer(0)], CODECS, "layer 0 reads Discrete"),
        ([layer(0), layer(0)], CODECS, "layer 1 reads Discrete"),
    ],
)
def test_layers_that_do_not_fit_their_codecs_are_refused(layers, codecs, says):
    with pytest.raises(ValueError, match=says):
        plan_guide(layers=layers, codecs=codecs)


def test_a_refusal_names_the_spaces():
    vectors = table(input=Discrete(4), value=Box(3), target=Discrete(3))
    with pytest.raises(ValueError, match=r"answers Box\(dims=3\) .* have Discrete\(size=4\) for the first two"):
        plan_guide(layers=[vectors, layer(1)], codecs=CODECS)
