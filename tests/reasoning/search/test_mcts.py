"""Tree search, on trees whose best path is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit
from tests.reasoning.search.trees import ACTIONS, NODES, Trees, check_against, make_root, make_step_fn, random_trees

from thinking.reasoning.search.interface import StepOutput
from thinking.reasoning.search.mcts import gumbel, muzero, plan_by_tree, tree_search

SIMULATIONS, T = 48, 3
POLICIES = {
    "gumbel": partial(gumbel, gumbel_scale=0.0),
    "muzero": partial(muzero, dirichlet_fraction=0.0, temperature=0.0),
}
KEY = jax.random.key(0)
SEARCH = {
    name: jit(
        lambda trees, discount, policy=policy: tree_search(
            make_step_fn(trees), make_root(trees), KEY, num_simulations=SIMULATIONS, policy=policy, discount=discount
        )
    )
    for name, policy in POLICIES.items()
}


def treasure(level: float) -> tuple[Trees, np.ndarray]:
    """Three trees: each pays one more than `level` for one pair of actions, and the prior points elsewhere."""
    each, pairs = np.arange(3), np.array([(0, 2), (1, 1), (2, 0)])
    logits = np.zeros((3, NODES, ACTIONS), np.float32)
    logits[each, 0, (pairs[:, 0] + 1) % ACTIONS] = 1.5
    reward = np.zeros((3, NODES), np.float32)
    reward[:, 4:13] = level
    reward[each, 4 + ACTIONS * pairs[:, 0] + pairs[:, 1]] += 1
    # The value knows nothing of where it is, and that of an end is not read.
    value = np.zeros((3, NODES), np.float32)
    value[:, :4] = level
    value[:, 4:13] = 100
    ended = np.zeros((3, NODES), bool)
    ended[:, 4:] = True
    return Trees(logits, value, reward, ended), pairs


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("level", [0.0, -10.0])
def test_it_finds_what_pays_where_the_prior_points_elsewhere(policy, level):
    trees, pairs = treasure(level)
    output = SEARCH[policy](trees, 1.0)
    np.testing.assert_array_equal(output.action, pairs[:, 0])
    np.testing.assert_array_equal(np.argmax(output.action_weights, axis=1), pairs[:, 0])
    np.testing.assert_allclose(output.action_weights.sum(axis=1), 1, rtol=1e-5)
    # The root is worth more than before, and not more than there is.
    assert ((output.value > level) & (output.value <= level + 1)).all()
    assert (output.num_model_calls == SIMULATIONS).all()
    assert (np.argmax(trees.logits[:, 0], axis=1) != pairs[:, 0]).all()


def test_a_plan_earns_all_there_is_and_counts_its_calls():
    trees, pairs = treasure(0.0)
    calls = []

    def counted(place, action):
        jax.debug.callback(lambda: calls.append(1))
        return make_step_fn(trees)(place, action)

    root = make_root(trees)
    plan = jit(
        lambda: plan_by_tree(counted, root, KEY, num_simulations=SIMULATIONS, max_steps=T, policy=POLICIES["gumbel"])
    )
    output = jax.block_until_ready(plan())
    jax.effects_barrier()
    check_against(trees, output, range(3))
    np.testing.assert_array_equal(output.actions[:, 0, :2], pairs)
    np.testing.assert_array_equal(output.reward, np.ones((3, 1)))
    assert (output.num_model_calls == 2 * (SIMULATIONS + 1)).all()
    assert len(calls) == 2 * (SIMULATIONS + 1)  # and none after all had ended


def test_a_discount_prefers_what_pays_at_once():
    trees, pairs = treasure(0.0)
    trees.reward[:, 1] = 0.2
    assert (SEARCH["gumbel"](trees, 0.1).action == 0).all()
    np.testing.assert_array_equal(SEARCH["gumbel"](trees, 1.0).action, pairs[:, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_forbidden_actions_are_not_tried_nor_what_has_ended_searched(policy):
    trees = random_trees(forbidden=0.4)
    output = SEARCH[policy](trees, 1.0)
    tree, (place, ended) = output.search_tree, output.search_tree.embeddings
    forbidden = np.isneginf(trees.logits[place.problem, place.node])
    visited = np.asarray(tree.children_visits) > 0
    alive = ~np.asarray(ended)[..., None]
    assert (visited & alive).sum() > 20
    assert (forbidden & alive & (np.asarray(tree.node_visits) > 0)[..., None]).sum() > 10
    assert not (visited & forbidden & alive).any()
    assert not np.asarray(output.action_weights)[np.isneginf(trees.logits[:2, 0]).nonzero()].any()
    assert output.num_model_calls.tolist() == [SIMULATIONS, SIMULATIONS, 0]
    # An end is worth nothing, and nothing is earned below it.
    assert not np.asarray(tree.raw_values)[:2][np.asarray(ended)[:2]].any()
    below = np.asarray(ended)[..., None] & visited
    assert not np.asarray(tree.children_rewards)[below].any()
    assert not np.asarray(tree.children_discounts)[below].any()
    discounts = np.take_along_axis(~np.asarray(ended), np.asarray(tree.children_index).reshape(3, -1), axis=1)
    np.testing.assert_array_equal(
        np.asarray(tree.children_discounts)[visited], discounts.reshape(visited.shape)[visited]
    )
    assert np.isfinite(tree.node_values).all()


def test_of_many_actions_no_more_are_tried_than_are_considered():
    actions = 64

    def advance(last, action):
        return action, root[1]._replace(value=jnp.where(action == 40, 1.0, 0.0))

    logits = jnp.zeros((2, actions)).at[:, 40:44].set(3.0)
    root = jnp.zeros(2, jnp.int32), StepOutput(logits, jnp.zeros(2), jnp.zeros(2), jnp.zeros(2, bool))
    policy = partial(gumbel, max_num_considered_actions=4, gumbel_scale=0.0)
    output = jit(lambda: tree_search(advance, root, KEY, num_simulations=16, policy=policy))()
    assert output.action.tolist() == [40, 40]
    assert (np.asarray(output.search_tree.children_visits[:, 0] > 0).sum(axis=1) == 4).all()
