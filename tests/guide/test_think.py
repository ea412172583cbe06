"""Thinking and reacting, against the nested unrolling written out in Python, for layers that answer at random."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guide import worlds

from thinking.guide import Path, guide
from thinking.guide.abstraction import skip_step
from thinking.guide.hippocampus import append
from thinking.kernels import Discrete, Hypothesis, Kernel, Spaces, table

NODES, LAYERS, C, HOPS = 5, 3, 2, 8
SPACE = Discrete(NODES)
MISSING = NODES  # what an answer knows of an older item that is not there


def oracle():
    """An untrained kernel with a value for every (older item, newest item, target), drawn by `init`."""

    def init(key):
        return jax.random.randint(key, (NODES + 1, NODES, NODES), 0, NODES)

    def infer(state, context, target):
        older = jnp.where(context.length > 1, context.items[:, 0], MISSING)
        return Hypothesis(state[older, context.items[:, 1], target], jnp.ones(target.shape))

    return Kernel(init, lambda state, batch: (state, {}), infer, Spaces(SPACE, SPACE, SPACE), C)


def answer(table, history, target, passes_on_itself):
    """The value of a layer from its history; above the lowest, a sub-goal equal to the present state counts as none."""
    value = int(table[history[-2] if len(history) > 1 else MISSING, history[-1], target])
    return target if passes_on_itself and value == history[-1] else value


class OutOfHops(Exception):
    """The maximum number of hops is reached."""


def unrolled(tables, start, goal):
    """The states of a plan and the targets at each hop: the layer below fills each segment with a new memory."""
    states, pursued = [start], []

    def unroll_layer(layer, goals):
        history = []
        while states[-1] not in goals:  # where a goal of a layer above is met, its segment is done too
            if len(pursued) == HOPS:
                raise OutOfHops
            history.append(states[-1])
            value = answer(tables[layer], history, goals[-1], layer > 0)
            if layer > 0:
                unroll_layer(layer - 1, [*goals, value])
            else:
                pursued.append(goals)
                states.append(value)

    with contextlib.suppress(OutOfHops):
        unroll_layer(LAYERS - 1, [goal])
    return states, pursued


@pytest.fixture(scope="module")
def random_guide():
    built = guide(layers=[oracle()] * LAYERS, abstraction=skip_step(2))
    start, goal = worlds.pairs(NODES)

    @jax.jit
    def use(seed):
        state = built.init(jax.random.key(seed))
        memory = built.init_memory(NODES**2)
        alone = built.react(state, append(memory, start), goal)
        # Here, having been at the goal before.
        after = built.react(state, append(append(memory, goal), start), goal)
        return state.layers[0], built.think(state, start, goal, max_hops=HOPS), alone, after

    return lambda seed: jax.device_get(use(seed))


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_thinking_is_nested_unrolling_with_a_new_memory_for_every_segment(random_guide, seed):
    tables, plan, _, _ = random_guide(seed)
    for row, (start, goal) in enumerate(zip(*worlds.pairs(NODES), strict=True)):
        states, pursued = unrolled(tables, int(start), int(goal))
        hops = len(states) - 1
        assert plan.hops[row] == hops
        assert plan.states[row].tolist() == states + [states[-1]] * (HOPS - hops)
        assert plan.arrived[row] == (states[-1] == goal)
        for layer in range(LAYERS):
            assert plan.targets[layer][row, :hops].tolist() == [goals[LAYERS - 1 - layer] for goals in pursued]


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_reacting_asks_every_layer_with_one_memory_and_chains_the_targets(random_guide, seed):
    tables, _, *reactions = random_guide(seed)
    for been_at_goal, reaction in enumerate(reactions):
        for row, (start, goal) in enumerate(zip(*(side.tolist() for side in worlds.pairs(NODES)), strict=True)):
            history, chain = [goal] * been_at_goal + [start], [goal]
            for layer in range(LAYERS - 1, -1, -1):
                chain.append(answer(tables[layer], history, chain[-1], layer > 0))
            assert [int(targets[row]) for targets in reaction.targets] == chain[-2::-1]
            assert reaction.value[row] == chain[-1]


def test_layers_without_entries_pass_the_goal_on():
    built = worlds.table_guide(NODES)
    start, goal = worlds.pairs(NODES)

    @jax.jit
    def react():
        return built.react(built.init(jax.random.key(0)), append(built.init_memory(NODES**2), start), goal)

    reaction = react()
    for output in (*reaction.targets, reaction.value):
        np.testing.assert_array_equal(output, goal)


def test_while_thinking_a_layer_reads_its_states_of_the_segment():
    """Steps of one below segments of two below segments of four: the contexts are known."""
    read = {1: [], 2: [], 4: []}

    def strider(stride):
        def record(items, length, target):
            query = items[0, len(items[0]) - length[0] :].tolist(), int(target[0])
            if query not in read[stride][-1:]:  # an unfinished segment's query is repeated at every hop
                read[stride].append(query)

        def infer(state, context, target):
            jax.debug.callback(record, context.items, context.length, target, ordered=True)
            return Hypothesis(jnp.minimum(context.items[:, -1] + stride, target), jnp.ones(target.shape))

        space = Discrete(8)
        return Kernel(lambda key: (), lambda state, batch: (state, {}), infer, Spaces(space, space, space), 3)

    built = guide(layers=[strider(stride) for stride in (1, 2, 4)], abstraction=skip_step(2))
    state = built.init(jax.random.key(0))
    plan = jax.jit(lambda start, goal: built.think(state, start, goal, max_hops=9))(
        np.array([0], np.int32), np.array([7], np.int32)
    )
    jax.effects_barrier()
    assert plan.states[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert read[4] == [([0], 7), ([0, 4], 7)]
    assert read[2] == [([0], 4), ([0, 2], 4), ([4], 7), ([4, 6], 7)]
    assert read[1] == [([0], 2), ([0, 1], 2), ([2], 4), ([2, 3], 4), ([4], 6), ([4, 5], 6), ([6], 7)]


def test_actions_are_thought_through_with_the_tasks_own_model():
    cells, states = 6, 12
    space = Discrete(cells)
    upper = table(input=space, value=space, target=space)
    lowest = table(input=space, value=Discrete(2), target=space)
    built = guide(layers=[lowest, upper], abstraction=skip_step(2))

    def move(cell, action):  # 0 is left, 1 is right; a wall stands at both ends
        return jnp.clip(cell + 2 * action - 1, 0, cells - 1)

    rng = np.random.default_rng(0)
    actions = rng.integers(0, 2, (200, states), np.int32)
    history = np.empty((200, states), np.int32)
    history[:, 0] = rng.integers(0, cells, 200)
    for t in range(1, states):
        history[:, t] = np.clip(history[:, t - 1] + 2 * actions[:, t - 1] - 1, 0, cells - 1)
    start, goal = worlds.pairs(cells)

    @jax.jit
    def learn_and_think(paths):
        state, _ = built.observe(built.init(jax.random.key(0)), paths)
        return built.think(state, start, goal, max_hops=cells, apply=move)

    plan = learn_and_think(Path(history, np.full(200, states, np.int32), actions))
    assert plan.arrived.all()
    np.testing.assert_array_equal(plan.hops, abs(start - goal))
    steps = np.diff(plan.states, axis=1)
    hop = np.arange(cells) < np.asarray(plan.hops)[:, None]
    np.testing.assert_array_equal(steps, np.where(hop, np.sign(goal - start)[:, None], 0))
