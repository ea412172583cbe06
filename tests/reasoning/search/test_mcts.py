"""Tree search, on trees whose best path is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit
from tests.reasoning.search.trees import ACTIONS, NODES, Trees, check_against, make_root, make_step_fn, random_trees

from thinking.reasoning.search.interface import StepOutput
from thinking.reasoning.search.mcts import plan_by_tree, tree_search
from thinking.reasoning.search.tree_policies import complete_unscaled, gumbel, muzero

SIMULATIONS, T = 48, 3
POLICIES = {"gumbel": gumbel, "muzero": muzero}
"""As they are shipped."""
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
    plan = jit(lambda: plan_by_tree(counted, root, KEY, num_simulations=SIMULATIONS, max_steps=T))
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
    policy = partial(gumbel, max_num_considered_actions=4)
    output = jit(lambda: tree_search(advance, root, KEY, num_simulations=16, policy=policy))()
    assert output.action.tolist() == [40, 40]
    assert (np.asarray(output.search_tree.children_visits[:, 0] > 0).sum(axis=1) == 4).all()


def choose(rewards, num_simulations, *, logits=None, value=0.5, key=KEY, policy=gumbel):
    """The action chosen in each problem among actions that end with `rewards` [B, A]."""
    rewards = jnp.asarray(rewards, jnp.float32)
    problems = jnp.arange(len(rewards))
    logits = jnp.zeros(rewards.shape) if logits is None else jnp.asarray(logits, jnp.float32)
    zeros = jnp.zeros(len(rewards))
    root = problems, StepOutput(logits, zeros + value, zeros, zeros.astype(bool))

    def step_fn(problem, action):
        return problem, StepOutput(logits, zeros, rewards[problem, action], ~zeros.astype(bool))

    search = partial(tree_search, step_fn, root, num_simulations=num_simulations, policy=policy)
    return np.asarray(jit(lambda key: search(key).action)(key))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_simulations", [4, 64])
def test_of_known_values_the_highest_is_chosen_always(policy, num_simulations):
    rewards = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0.9, 1], [0, 1, 0.9]] * 16)
    chosen = choose(rewards, num_simulations, policy=POLICIES[policy])
    np.testing.assert_array_equal(chosen, np.argmax(rewards, axis=1))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_action_of_the_best_path_of_a_tree_is_found(policy):
    """Twenty trees of two steps with a random prior; one of nine ends has reward 1, the others up to 0.7."""
    rng = np.random.default_rng(3)
    logits, reward = 0.5 * rng.normal(size=(20, NODES, ACTIONS)), np.zeros((20, NODES))
    reward[:, 4:13] = 0.7 * rng.random((20, 9))
    reward[np.arange(20), 4 + rng.integers(0, 9, 20)] = 1
    ended = np.broadcast_to(np.arange(NODES) > 3, (20, NODES))
    trees = Trees(logits.astype(np.float32), np.full((20, NODES), 0.5, np.float32), reward.astype(np.float32), ended)
    search = partial(tree_search, num_simulations=256, policy=POLICIES[policy])
    chosen = np.asarray(jit(lambda key: search(make_step_fn(trees), make_root(trees), key).action)(KEY))
    np.testing.assert_array_equal(chosen, np.argmax(reward[:, 4:13], axis=1) // ACTIONS)


def test_a_single_simulation_changes_the_action_if_it_disappoints_and_only_then():
    logits = np.log([[0.5, 0.4, 0.1]] * 3)
    rewards = [[0, 1, 1], [1, 0, 0], [0.49, 1, 1]]
    policy = partial(gumbel, qtransform=complete_unscaled)
    assert choose(rewards, 1, logits=logits, policy=policy).tolist() == [1, 0, 0]


def test_small_differences_of_values_do_not_outweigh_the_prior_where_they_are_not_scaled():
    logits, rewards = np.log([[0.6, 0.3, 0.1]]), [[0.5, 0.51, 0.49]]
    assert choose(rewards, 6, logits=logits, policy=partial(gumbel, qtransform=complete_unscaled)).tolist() == [0]
    assert choose(rewards, 6, logits=logits).tolist() == [1]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_decision_depends_neither_on_the_key_nor_on_the_other_problems(policy):
    rng = np.random.default_rng(0)
    rewards = rng.integers(0, 3, (8, 4)) / 2  # with ties
    chosen = choose(rewards, 6, policy=POLICIES[policy])
    np.testing.assert_array_equal(choose(rewards, 6, key=jax.random.key(1), policy=POLICIES[policy]), chosen)
    np.testing.assert_array_equal(choose(rewards[5:], 6, policy=POLICIES[policy]), chosen[5:])


@pytest.mark.parametrize(
    "policy",
    [partial(gumbel, gumbel_scale=1.0), partial(muzero, temperature=1.0, dirichlet_fraction=0.25)],
    ids=["gumbel", "muzero"],
)
def test_exploration_draws_other_actions_and_each_problem_by_its_own_key(policy):
    rewards, keys = np.full((64, 3), 0.5), jax.random.split(KEY, 64)
    chosen = choose(rewards, 4, key=keys, policy=policy)
    assert set(chosen.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(choose(rewards[:3], 4, key=keys[20:23], policy=policy), chosen[20:23])


def test_rounding_of_equal_values_outweighs_no_prior():
    logits = np.log([[0.2, 0.5, 0.3]] * 8)
    rewards = 0.7 + 1e-7 * np.random.default_rng(1).normal(size=(8, 3))
    assert (choose(rewards, 3, logits=logits, value=0.7) == 1).all()
