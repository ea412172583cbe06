"""Monte Carlo tree search on trees whose best path is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit
from tests.reasoning.search.trees import (
    NUM_ACTIONS,
    NUM_NODES,
    Trees,
    check_candidates,
    make_root,
    make_step_fn,
    random_trees,
)

from thinking.reasoning.search.interface import StepOutput
from thinking.reasoning.search.mcts import gumbel, muzero, plan_by_tree, tree_search

NUM_SIMULATIONS, MAX_STEPS = 48, 3
POLICIES = {
    "gumbel": partial(gumbel, gumbel_scale=0.0),
    "muzero": partial(muzero, dirichlet_fraction=0.0, temperature=0.0),
}
KEY = jax.random.key(0)
SEARCH = {
    name: jit(
        lambda trees, discount, policy=policy: tree_search(
            make_step_fn(trees),
            make_root(trees),
            KEY,
            num_simulations=NUM_SIMULATIONS,
            policy=policy,
            discount=discount,
        )
    )
    for name, policy in POLICIES.items()
}


def make_rewarded_trees(base_reward: float) -> tuple[Trees, np.ndarray]:
    """In each of three trees, one pair of actions earns 1 more than `base_reward`, against the prior."""
    problems, best_actions = np.arange(3), np.array([(0, 2), (1, 1), (2, 0)])
    logits = np.zeros((3, NUM_NODES, NUM_ACTIONS), np.float32)
    logits[problems, 0, (best_actions[:, 0] + 1) % NUM_ACTIONS] = 1.5
    reward = np.zeros((3, NUM_NODES), np.float32)
    reward[:, 4:13] = base_reward
    reward[problems, 4 + NUM_ACTIONS * best_actions[:, 0] + best_actions[:, 1]] += 1
    # The value does not depend on the actions, and that of a done node must be ignored.
    value = np.zeros((3, NUM_NODES), np.float32)
    value[:, :4] = base_reward
    value[:, 4:13] = 100
    done = np.zeros((3, NUM_NODES), bool)
    done[:, 4:] = True
    return Trees(logits, value, reward, done), best_actions


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("base_reward", [0.0, -10.0])
def test_tree_search_finds_the_reward_against_the_prior(policy, base_reward):
    trees, best_actions = make_rewarded_trees(base_reward)
    output = SEARCH[policy](trees, 1.0)
    np.testing.assert_array_equal(output.action, best_actions[:, 0])
    np.testing.assert_array_equal(np.argmax(output.action_weights, axis=1), best_actions[:, 0])
    np.testing.assert_allclose(output.action_weights.sum(axis=1), 1, rtol=1e-5)
    # The value of the root rises, at most to the optimum.
    assert ((output.value > base_reward) & (output.value <= base_reward + 1)).all()
    assert (output.num_model_calls == NUM_SIMULATIONS).all()
    assert (np.argmax(trees.logits[:, 0], axis=1) != best_actions[:, 0]).all()


def test_plan_by_tree_earns_the_optimum_and_counts_model_calls():
    trees, best_actions = make_rewarded_trees(0.0)
    calls = []

    def counting_step_fn(state, action):
        jax.debug.callback(lambda: calls.append(1))
        return make_step_fn(trees)(state, action)

    root = make_root(trees)
    run_plan = jit(
        lambda: plan_by_tree(
            counting_step_fn, root, KEY, num_simulations=NUM_SIMULATIONS, max_steps=MAX_STEPS, policy=POLICIES["gumbel"]
        )
    )
    output = jax.block_until_ready(run_plan())
    jax.effects_barrier()
    check_candidates(trees, output, range(3))
    np.testing.assert_array_equal(output.actions[:, 0, :2], best_actions)
    np.testing.assert_array_equal(output.reward, np.ones((3, 1)))
    assert (output.num_model_calls == 2 * (NUM_SIMULATIONS + 1)).all()
    assert len(calls) == 2 * (NUM_SIMULATIONS + 1)  # and none after all rows are done


def test_discount_prefers_immediate_reward():
    trees, best_actions = make_rewarded_trees(0.0)
    trees.reward[:, 1] = 0.2
    assert (SEARCH["gumbel"](trees, 0.1).action == 0).all()
    np.testing.assert_array_equal(SEARCH["gumbel"](trees, 1.0).action, best_actions[:, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_forbidden_actions_and_done_states_are_not_searched(policy):
    trees = random_trees(forbidden_fraction=0.4)
    output = SEARCH[policy](trees, 1.0)
    tree, (state, done) = output.search_tree, output.search_tree.embeddings
    is_forbidden = np.isneginf(trees.logits[state.problem, state.node])
    is_visited = np.asarray(tree.children_visits) > 0
    is_active = ~np.asarray(done)[..., None]
    assert (is_visited & is_active).sum() > 20
    assert (is_forbidden & is_active & (np.asarray(tree.node_visits) > 0)[..., None]).sum() > 10
    assert not (is_visited & is_forbidden & is_active).any()
    assert not np.asarray(output.action_weights)[np.isneginf(trees.logits[:2, 0]).nonzero()].any()
    assert output.num_model_calls.tolist() == [NUM_SIMULATIONS, NUM_SIMULATIONS, 0]
    # A done node has value 0, and there are no rewards below it.
    assert not np.asarray(tree.raw_values)[:2][np.asarray(done)[:2]].any()
    is_below_done = np.asarray(done)[..., None] & is_visited
    assert not np.asarray(tree.children_rewards)[is_below_done].any()
    assert not np.asarray(tree.children_discounts)[is_below_done].any()
    discounts = np.take_along_axis(~np.asarray(done), np.asarray(tree.children_index).reshape(3, -1), axis=1)
    np.testing.assert_array_equal(
        np.asarray(tree.children_discounts)[is_visited], discounts.reshape(is_visited.shape)[is_visited]
    )
    assert np.isfinite(tree.node_values).all()


def test_gumbel_visits_only_the_considered_actions():
    num_actions = 64

    def step_fn(state, action):
        return action, root[1]._replace(value=jnp.where(action == 40, 1.0, 0.0))

    logits = jnp.zeros((2, num_actions)).at[:, 40:44].set(3.0)
    root = jnp.zeros(2, jnp.int32), StepOutput(logits, jnp.zeros(2), jnp.zeros(2), jnp.zeros(2, bool))
    policy = partial(gumbel, max_num_considered_actions=4, gumbel_scale=0.0)
    output = jit(lambda: tree_search(step_fn, root, KEY, num_simulations=16, policy=policy))()
    assert output.action.tolist() == [40, 40]
    assert (np.asarray(output.search_tree.children_visits[:, 0] > 0).sum(axis=1) == 4).all()
