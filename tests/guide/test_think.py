"""Think and react, against nested unrolling in plain Python, for layers with random values."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guide import example_graphs

from thinking.guide import Trajectories, guide
from thinking.guide.abstraction import skip_step
from thinking.guide.hippocampus import append
from thinking.kernels import Discrete, Hypothesis, Kernel, Spaces, table

NODES, LAYERS, C, HOPS = 5, 3, 2, 8
SPACE = Discrete(NODES)
MISSING = NODES  # stands for an older item that is missing


def random_kernel():
    """An untrained kernel with a value for every (older item, newest item, target), drawn by `init`."""

    def init(key):
        return jax.random.randint(key, (NODES + 1, NODES, NODES), 0, NODES)

    def infer(state, context, target):
        older = jnp.where(context.length > 1, context.items[:, 0], MISSING)
        return Hypothesis(state[older, context.items[:, 1], target], jnp.ones(target.shape))

    return Kernel(init, lambda state, batch: (state, {}), infer, Spaces(SPACE, SPACE, SPACE), C)


def infer_value(table, history, target, replace_current_state):
    """The value of a layer. Above the lowest, a sub-goal equal to the current state becomes the target."""
    value = int(table[history[-2] if len(history) > 1 else MISSING, history[-1], target])
    return target if replace_current_state and value == history[-1] else value


class OutOfHops(Exception):
    """The maximum number of hops is reached."""


def unroll_in_python(tables, start, goal):
    """The states of a plan and the targets at each hop. The layer below fills each segment, with a new memory."""
    states, targets = [start], []

    def unroll_layer(layer, goals):
        history = []
        while states[-1] not in goals:  # a segment also ends at a goal of a layer above
            if len(targets) == HOPS:
                raise OutOfHops
            history.append(states[-1])
            value = infer_value(tables[layer], history, goals[-1], layer > 0)
            if layer > 0:
                unroll_layer(layer - 1, [*goals, value])
            else:
                targets.append(goals)
                states.append(value)

    with contextlib.suppress(OutOfHops):
        unroll_layer(LAYERS - 1, [goal])
    return states, targets


@pytest.fixture(scope="module")
def random_guide():
    model = guide(layers=[random_kernel()] * LAYERS, abstraction=skip_step(2))
    start, goal = example_graphs.pairs(NODES)

    @jax.jit
    def think_and_react(seed):
        state = model.init(jax.random.key(seed))
        memory = model.init_memory(NODES**2)
        reaction = model.react(state, append(memory, start), goal)
        # Here the goal was visited before.
        reaction_with_history = model.react(state, append(append(memory, goal), start), goal)
        return state.layers[0], model.think(state, start, goal, max_hops=HOPS), reaction, reaction_with_history

    return lambda seed: jax.device_get(think_and_react(seed))


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_think_matches_nested_unrolling(random_guide, seed):
    tables, plan, _, _ = random_guide(seed)
    for row, (start, goal) in enumerate(zip(*example_graphs.pairs(NODES), strict=True)):
        states, targets = unroll_in_python(tables, int(start), int(goal))
        hops = len(states) - 1
        assert plan.hops[row] == hops
        assert plan.states[row].tolist() == states + [states[-1]] * (HOPS - hops)
        assert plan.arrived[row] == (states[-1] == goal)
        for layer in range(LAYERS):
            assert plan.targets[layer][row, :hops].tolist() == [
                hop_targets[LAYERS - 1 - layer] for hop_targets in targets
            ]


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_react_chains_the_targets_of_all_layers(random_guide, seed):
    tables, _, *reactions = random_guide(seed)
    for num_goal_visits, reaction in enumerate(reactions):
        for row, (start, goal) in enumerate(
            zip(*(nodes.tolist() for nodes in example_graphs.pairs(NODES)), strict=True)
        ):
            history, chain = [goal] * num_goal_visits + [start], [goal]
            for layer in range(LAYERS - 1, -1, -1):
                chain.append(infer_value(tables[layer], history, chain[-1], layer > 0))
            assert [int(layer_targets[row]) for layer_targets in reaction.targets] == chain[-2::-1]
            assert reaction.value[row] == chain[-1]


def test_layers_without_entries_pass_the_goal_on():
    model = example_graphs.table_guide(NODES)
    start, goal = example_graphs.pairs(NODES)

    @jax.jit
    def react():
        return model.react(model.init(jax.random.key(0)), append(model.init_memory(NODES**2), start), goal)

    reaction = react()
    for output in (*reaction.targets, reaction.value):
        np.testing.assert_array_equal(output, goal)


def test_think_contexts_contain_the_states_of_the_segment():
    """Layers with strides of 1, 2 and 4, so that the contexts are known."""
    queries = {1: [], 2: [], 4: []}

    def stride_kernel(stride):
        def record(items, length, target):
            query = items[0, len(items[0]) - length[0] :].tolist(), int(target[0])
            if query not in queries[stride][-1:]:  # an unfinished segment's query is repeated at every hop
                queries[stride].append(query)

        def infer(state, context, target):
            jax.debug.callback(record, context.items, context.length, target, ordered=True)
            return Hypothesis(jnp.minimum(context.items[:, -1] + stride, target), jnp.ones(target.shape))

        space = Discrete(8)
        return Kernel(lambda key: (), lambda state, batch: (state, {}), infer, Spaces(space, space, space), 3)

    model = guide(layers=[stride_kernel(stride) for stride in (1, 2, 4)], abstraction=skip_step(2))
    state = model.init(jax.random.key(0))
    plan = jax.jit(lambda start, goal: model.think(state, start, goal, max_hops=9))(
        np.array([0], np.int32), np.array([7], np.int32)
    )
    jax.effects_barrier()
    assert plan.states[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert queries[4] == [([0], 7), ([0, 4], 7)]
    assert queries[2] == [([0], 4), ([0, 2], 4), ([4], 7), ([4, 6], 7)]
    assert queries[1] == [([0], 2), ([0, 1], 2), ([2], 4), ([2, 3], 4), ([4], 6), ([4, 5], 6), ([6], 7)]


def test_think_applies_actions_with_the_given_model():
    cells, states = 6, 12
    space = Discrete(cells)
    top = table(input=space, value=space, target=space)
    lowest = table(input=space, value=Discrete(2), target=space)
    model = guide(layers=[lowest, top], abstraction=skip_step(2))

    def apply_action(cell, action):  # 0 is left, 1 is right; there is a wall at both ends
        return jnp.clip(cell + 2 * action - 1, 0, cells - 1)

    rng = np.random.default_rng(0)
    actions = rng.integers(0, 2, (200, states), np.int32)
    history = np.empty((200, states), np.int32)
    history[:, 0] = rng.integers(0, cells, 200)
    for t in range(1, states):
        history[:, t] = np.clip(history[:, t - 1] + 2 * actions[:, t - 1] - 1, 0, cells - 1)
    start, goal = example_graphs.pairs(cells)

    @jax.jit
    def observe_and_think(trajectories):
        state, _ = model.observe(model.init(jax.random.key(0)), trajectories)
        return model.think(state, start, goal, max_hops=cells, apply=apply_action)

    plan = observe_and_think(Trajectories(history, np.full(200, states, np.int32), actions))
    assert plan.arrived.all()
    np.testing.assert_array_equal(plan.hops, abs(start - goal))
    steps = np.diff(plan.states, axis=1)
    is_hop = np.arange(cells) < np.asarray(plan.hops)[:, None]
    np.testing.assert_array_equal(steps, np.where(is_hop, np.sign(goal - start)[:, None], 0))


@pytest.mark.parametrize(
    ("start", "goal", "message"),
    [
        (0, np.array([1]), r"^start: give a batch, an array \[B\]; this is int$"),
        (np.array([0]), np.array([[1]]), r"^goal: give a batch, an array \[B\]; this is an array \[1, 1\]$"),
        (np.int32(0), np.array([1]), r"^start: .*this is an array \[\]$"),
    ],
)
def test_arguments_that_are_no_batch_are_named(start, goal, message):
    planner = guide(layers=[random_kernel()], abstraction=skip_step(2))
    with pytest.raises(ValueError, match=message):
        planner.think(planner.init(jax.random.key(0)), start, goal, max_hops=2)


def test_trajectories_of_another_type_are_refused():
    planner = guide(layers=[random_kernel()], abstraction=skip_step(2))
    with pytest.raises(ValueError, match=r"^trajectories: give Trajectories\(states, length\); this is tuple$"):
        planner.observe(planner.init(jax.random.key(0)), (np.zeros((2, 3), np.int32), np.array([3, 3])))
