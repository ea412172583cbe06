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
from thinking.reasoning.search.mcts import plan_by_tree, tree_search
from thinking.reasoning.search.tree_policies import complete_unscaled, gumbel, muzero

NUM_SIMULATIONS, MAX_STEPS = 48, 3
POLICIES = {"gumbel": gumbel, "muzero": muzero}
"""With default options."""
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
        lambda: plan_by_tree(counting_step_fn, root, KEY, num_simulations=NUM_SIMULATIONS, max_steps=MAX_STEPS)
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
    policy = partial(gumbel, max_num_considered_actions=4)
    output = jit(lambda: tree_search(step_fn, root, KEY, num_simulations=16, policy=policy))()
    assert output.action.tolist() == [40, 40]
    assert (np.asarray(output.search_tree.children_visits[:, 0] > 0).sum(axis=1) == 4).all()


def choose_actions(rewards, num_simulations, *, logits=None, value=0.5, key=KEY, policy=gumbel):
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
def test_highest_of_known_values_is_always_chosen(policy, num_simulations):
    rewards = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0.9, 1], [0, 1, 0.9]] * 16)
    actions = choose_actions(rewards, num_simulations, policy=POLICIES[policy])
    np.testing.assert_array_equal(actions, np.argmax(rewards, axis=1))


@pytest.mark.parametrize("policy", POLICIES)
def test_first_action_of_the_best_path_is_found(policy):
    """Twenty trees of two steps with a random prior; one of nine ends has reward 1, the others up to 0.7."""
    rng = np.random.default_rng(3)
    logits, reward = 0.5 * rng.normal(size=(20, NUM_NODES, NUM_ACTIONS)), np.zeros((20, NUM_NODES))
    reward[:, 4:13] = 0.7 * rng.random((20, 9))
    reward[np.arange(20), 4 + rng.integers(0, 9, 20)] = 1
    done = np.broadcast_to(np.arange(NUM_NODES) > 3, (20, NUM_NODES))
    trees = Trees(logits.astype(np.float32), np.full((20, NUM_NODES), 0.5, np.float32), reward.astype(np.float32), done)
    search = partial(tree_search, num_simulations=256, policy=POLICIES[policy])
    actions = np.asarray(jit(lambda key: search(make_step_fn(trees), make_root(trees), key).action)(KEY))
    np.testing.assert_array_equal(actions, np.argmax(reward[:, 4:13], axis=1) // NUM_ACTIONS)


def test_one_simulation_changes_the_action_only_if_it_disappoints():
    logits = np.log([[0.5, 0.4, 0.1]] * 3)
    rewards = [[0, 1, 1], [1, 0, 0], [0.49, 1, 1]]
    policy = partial(gumbel, qtransform=complete_unscaled)
    assert choose_actions(rewards, 1, logits=logits, policy=policy).tolist() == [1, 0, 0]


def test_unscaled_small_value_differences_do_not_outweigh_the_prior():
    logits, rewards = np.log([[0.6, 0.3, 0.1]]), [[0.5, 0.51, 0.49]]
    policy = partial(gumbel, qtransform=complete_unscaled)
    assert choose_actions(rewards, 6, logits=logits, policy=policy).tolist() == [0]
    assert choose_actions(rewards, 6, logits=logits).tolist() == [1]


@pytest.mark.parametrize("policy", POLICIES)
def test_actions_depend_neither_on_the_key_nor_on_the_other_problems(policy):
    rng = np.random.default_rng(0)
    rewards = rng.integers(0, 3, (8, 4)) / 2  # with ties
    actions = choose_actions(rewards, 6, policy=POLICIES[policy])
    other_key_actions = choose_actions(rewards, 6, key=jax.random.key(1), policy=POLICIES[policy])
    np.testing.assert_array_equal(other_key_actions, actions)
    np.testing.assert_array_equal(choose_actions(rewards[5:], 6, policy=POLICIES[policy]), actions[5:])


@pytest.mark.parametrize(
    "policy",
    [partial(gumbel, gumbel_scale=1.0), partial(muzero, temperature=1.0, dirichlet_fraction=0.25)],
    ids=["gumbel", "muzero"],
)
def test_exploration_samples_actions_by_the_key_of_each_problem(policy):
    rewards, keys = np.full((64, 3), 0.5), jax.random.split(KEY, 64)
    actions = choose_actions(rewards, 4, key=keys, policy=policy)
    assert set(actions.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(choose_actions(rewards[:3], 4, key=keys[20:23], policy=policy), actions[20:23])


def test_rounding_of_equal_values_does_not_outweigh_the_prior():
    logits = np.log([[0.2, 0.5, 0.3]] * 8)
    rewards = 0.7 + 1e-7 * np.random.default_rng(1).normal(size=(8, 3))
    assert (choose_actions(rewards, 3, logits=logits, value=0.7) == 1).all()
