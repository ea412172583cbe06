"""Monte Carlo tree search on trees whose best path is known."""

import functools
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
from thinking.reasoning.search.tree_policies import complete_qvalues_without_rescaling, gumbel, muzero

NUM_SIMULATIONS, FEW_SIMULATIONS, MAX_STEPS = 64, 4, 3
POLICIES = {"gumbel": gumbel, "muzero": muzero}
"""With default options."""
NUM_ROWS = 64
KEYS = jax.jit(lambda: jax.random.split(jax.random.key(0), NUM_ROWS))()


@functools.cache
def make_search(policy, num_simulations):
    """One program for all problems."""

    def search(trees, keys, discount, noise):
        return tree_search(
            make_step_fn(trees),
            make_root(trees),
            keys,
            num_simulations=num_simulations,
            policy=policy if noise is None else partial(policy, **noise),
            discount=discount,
        )

    return jit(search)


def run_search(policy, trees, num_simulations=NUM_SIMULATIONS, keys=KEYS, discount=1.0, noise=None):
    """The output for `trees`, which are repeated up to the number of rows that all searches have."""
    num_trees = len(trees.value)
    trees = Trees(*(np.resize(table, (NUM_ROWS, *table.shape[1:])) for table in trees))
    output = make_search(policy, num_simulations)(trees, keys, np.float32(discount), noise)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:num_trees], output)


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
    output = run_search(POLICIES[policy], trees)
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

    num_simulations = 48
    plan = partial(plan_by_tree, counting_step_fn, num_simulations=num_simulations, max_steps=MAX_STEPS)
    output = jax.block_until_ready(jit(lambda: plan(make_root(trees), jax.random.key(0)))())
    jax.effects_barrier()
    check_candidates(trees, output, range(3))
    np.testing.assert_array_equal(output.actions[:, 0, :2], best_actions)
    np.testing.assert_array_equal(output.reward, np.ones((3, 1)))
    assert (output.num_model_calls == 2 * (num_simulations + 1)).all()
    assert len(calls) == 2 * (num_simulations + 1)  # and none after all rows are done


def test_discount_prefers_immediate_reward():
    trees, best_actions = make_rewarded_trees(0.0)
    trees.reward[:, 1] = 0.2
    assert (run_search(gumbel, trees, discount=0.1).action == 0).all()
    np.testing.assert_array_equal(run_search(gumbel, trees).action, best_actions[:, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_forbidden_actions_and_done_states_are_not_searched(policy):
    trees = random_trees(forbidden_fraction=0.4)
    output = run_search(POLICIES[policy], trees)
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

    logits = np.zeros((2, num_actions), np.float32)
    logits[:, 40:44] = 3
    zeros = np.zeros(2, np.float32)
    root = np.zeros(2, np.int32), StepOutput(logits, zeros, zeros, np.zeros(2, bool))
    policy = partial(gumbel, max_num_considered_actions=4)
    output = jit(lambda key: tree_search(step_fn, root, key, num_simulations=16, policy=policy))(jax.random.key(0))
    assert output.action.tolist() == [40, 40]
    assert ((np.asarray(output.search_tree.children_visits)[:, 0] > 0).sum(axis=1) == 4).all()


def search_ends(rewards, num_simulations, *, logits=None, value=0.5, policy=gumbel, **options):
    """The output of a search among three actions that end with `rewards` [B, A]."""
    shape = len(rewards), NUM_NODES
    tables = np.full(shape, value, np.float32), np.zeros(shape, np.float32), np.ones(shape, bool)
    trees = Trees(np.zeros((*shape, NUM_ACTIONS), np.float32), *tables)
    trees.logits[:, 0] = 0 if logits is None else logits
    trees.reward[:, 1:4] = rewards
    trees.done[:, 0] = False
    return run_search(policy, trees, num_simulations, **options)


def choose_actions(*args, **options):
    return search_ends(*args, **options).action


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("num_simulations", [FEW_SIMULATIONS, NUM_SIMULATIONS])
def test_highest_of_known_values_is_always_chosen(policy, num_simulations):
    rewards = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0.9, 1], [0, 1, 0.9]] * 16)
    actions = choose_actions(rewards, num_simulations, policy=POLICIES[policy])
    np.testing.assert_array_equal(actions, np.argmax(rewards, axis=1))


@pytest.mark.parametrize("policy", POLICIES)
def test_first_action_of_the_best_path_is_found(policy):
    """Twenty trees of two steps with a random prior; one of nine ends has reward 1, the others up to 0.7."""
    rng, shape = np.random.default_rng(3), (20, NUM_NODES)
    logits, reward = 0.5 * rng.normal(size=(*shape, NUM_ACTIONS)), np.zeros(shape)
    reward[:, 4:13] = 0.7 * rng.random((20, 9))
    reward[np.arange(20), 4 + rng.integers(0, 9, 20)] = 1
    done = np.broadcast_to(np.arange(NUM_NODES) > 3, shape)
    trees = Trees(logits.astype(np.float32), np.full(shape, 0.5, np.float32), reward.astype(np.float32), done)
    actions = run_search(POLICIES[policy], trees).action
    np.testing.assert_array_equal(actions, np.argmax(reward[:, 4:13], axis=1) // NUM_ACTIONS)


gumbel_unscaled = partial(gumbel, qtransform=complete_qvalues_without_rescaling)


def test_one_simulation_changes_the_action_only_if_it_disappoints():
    logits = np.log([[0.5, 0.4, 0.1]] * 3)
    rewards = [[0, 1, 1], [1, 0, 0], [0.49, 1, 1]]
    assert choose_actions(rewards, 1, logits=logits, policy=gumbel_unscaled).tolist() == [1, 0, 0]


def test_unscaled_small_value_differences_do_not_outweigh_the_prior():
    logits, rewards = np.log([[0.6, 0.3, 0.1]]), [[0.5, 0.51, 0.49]]
    actions = choose_actions(rewards, FEW_SIMULATIONS, logits=logits, policy=gumbel_unscaled)
    assert actions.tolist() == [0]
    assert choose_actions(rewards, FEW_SIMULATIONS, logits=logits).tolist() == [1]


@pytest.mark.parametrize("policy", POLICIES)
def test_actions_depend_neither_on_the_key_nor_on_the_other_problems(policy):
    rng = np.random.default_rng(0)
    rewards, other_rewards = rng.integers(0, 3, (2, NUM_ROWS, NUM_ACTIONS)) / 2  # with ties
    search = partial(search_ends, num_simulations=FEW_SIMULATIONS, policy=POLICIES[policy])
    output = search(rewards)
    other_key_output = search(rewards, keys=KEYS[::-1])
    other_problems_output = search(np.concatenate([rewards[5:40], other_rewards[:29]]))
    for name in ("action", "action_weights"):
        expected = getattr(output, name)
        np.testing.assert_array_equal(getattr(other_key_output, name), expected)
        np.testing.assert_array_equal(getattr(other_problems_output, name)[:35], expected[5:40])


@pytest.mark.parametrize(
    ("policy", "noise"),
    [(gumbel, {"gumbel_scale": 1.0}), (partial(muzero, temperature=1.0), {"dirichlet_fraction": 0.25})],
    ids=["gumbel", "muzero"],
)
def test_exploration_samples_actions_by_the_key_of_each_problem(policy, noise):
    choose = partial(choose_actions, np.full((NUM_ROWS, 3), 0.5), FEW_SIMULATIONS, policy=policy, noise=noise)
    actions = choose()
    assert set(actions.tolist()) == {0, 1, 2}
    other_keys = np.r_[20:23, np.zeros(NUM_ROWS - 3, int)]
    np.testing.assert_array_equal(choose(keys=KEYS[other_keys])[:3], actions[20:23])


def test_rounding_of_equal_values_does_not_outweigh_the_prior():
    logits = np.log([[0.2, 0.5, 0.3]] * 8)
    rewards = 0.7 + 1e-7 * np.random.default_rng(1).normal(size=(8, 3))
    assert (choose_actions(rewards, FEW_SIMULATIONS, logits=logits, value=0.7) == 1).all()
