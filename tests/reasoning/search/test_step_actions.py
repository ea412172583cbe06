"""Search over steps of several tokens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit
from tests.reasoning.search.trees import follow_path, make_root, make_step_fn, random_trees

from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_of_n
from thinking.reasoning.search.mcts import gumbel, plan_by_tree
from thinking.reasoning.search.step_actions import concat_steps, make_step_model
from thinking.trees import take_rows

STOP_TOKEN, MAX_STEP_TOKENS, NUM_PROPOSALS, MAX_STEPS = 0, 2, 3, 3
TREES = random_trees()
STEP_FN, ROOT = make_step_fn(TREES), make_root(TREES)


@partial(jit, static_argnums=0)
def search_over_steps(search, problems, key):
    root = make_root(TREES, problems)
    step_fn, root = make_step_model(
        STEP_FN, root, key, num_proposals=NUM_PROPOSALS, max_step_tokens=MAX_STEP_TOKENS, stop_tokens=(STOP_TOKEN,)
    )
    candidates = search(step_fn, root, jax.random.fold_in(key, 1))
    return root, candidates, concat_steps(candidates)


def run_best_of_n(step_fn, root, key):
    return best_of_n(step_fn, root, key, num_samples=1, max_steps=MAX_STEPS)


def run_beam(step_fn, root, _):
    return beam(step_fn, root, width=4, max_steps=MAX_STEPS)


def run_plan(step_fn, root, key):
    policy = partial(gumbel, max_num_considered_actions=NUM_PROPOSALS)
    return plan_by_tree(step_fn, root, key, num_simulations=8, max_steps=MAX_STEPS, policy=policy)


@pytest.mark.parametrize("search", [run_beam, run_plan])
def test_searches_over_steps_return_paths_of_tokens(search):
    problems = np.arange(3)
    _, candidates, sequences = jax.device_get(search_over_steps(search, problems, jax.random.key(3)))
    check_steps(problems, candidates, *sequences)


def check_steps(problems, candidates, tokens, length):
    """Check that the tokens of each candidate are a path with equal log-probability, reward and value."""
    assert tokens.shape == (*candidates.length.shape, MAX_STEPS * MAX_STEP_TOKENS)
    assert candidates.length[0].min() > 0
    for row, index in zip(*np.nonzero(np.isfinite(candidates.log_prob)), strict=True):
        path_tokens = tokens[row, index, : length[row, index]].tolist()
        assert (tokens[row, index, length[row, index] :] == -1).all()
        path = follow_path(TREES, problems[row], path_tokens)
        extras = jax.tree.map(lambda leaf: leaf[row, index], candidates.extras)  # noqa: B023
        np.testing.assert_allclose(extras.log_prob.sum(), path.log_prob, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(candidates.reward[row, index], path.reward, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(candidates.value[row, index], path.value)
        assert bool(candidates.done[row, index]) == path.done
        # Steps end with the stop token, at the maximum length, or when the path is done.
        steps = [extras.tokens[time, : extras.length[time]].tolist() for time in range(candidates.length[row, index])]
        assert [token for step in steps for token in step] == path_tokens
        assert all(STOP_TOKEN not in step[:-1] for step in steps)
        assert all(
            step[-1] == STOP_TOKEN or len(step) == MAX_STEP_TOKENS for step in steps[: -1 if path.done else None]
        )


def test_steps_are_sampled_by_probability_from_distinct_proposals():
    num_rows = 3000
    (state, step_output), candidates, sequences = search_over_steps(
        run_best_of_n, np.zeros(num_rows, np.int32), jax.random.key(0)
    )
    candidates, sequences = jax.device_get((candidates, sequences))
    first_rows = jax.tree.map(lambda leaf: leaf[:30], (candidates, *sequences))
    check_steps(np.zeros(30, np.int32), *first_rows)
    counts = np.exp(np.asarray(step_output.logits))
    np.testing.assert_allclose(counts.sum(axis=1), NUM_PROPOSALS, rtol=1e-5)
    proposals = np.asarray(state.proposals.tokens)
    for row in range(50):
        distinct_proposals = [tuple(tokens) for tokens, count in zip(proposals[row], counts[row], strict=True) if count]
        assert len(set(distinct_proposals)) == len(distinct_proposals)
        assert set(distinct_proposals) == {tuple(tokens) for tokens in proposals[row]}
    chosen_steps = [tuple(tokens) for tokens in candidates.extras.tokens[:, 0, 0].tolist()]
    for step in set(chosen_steps):
        probability = np.exp(follow_path(TREES, 0, [token for token in step if token >= 0]).log_prob)
        assert chosen_steps.count(step) / num_rows == pytest.approx(probability, abs=4 * np.sqrt(0.25 / num_rows))


def test_proposals_depend_only_on_the_history_of_their_row():
    @jit
    def step(rows, action):
        step_fn, (state, _) = make_step_model(
            STEP_FN,
            ROOT,
            jax.random.key(0),
            num_proposals=NUM_PROPOSALS,
            max_step_tokens=MAX_STEP_TOKENS,
            stop_tokens=(STOP_TOKEN,),
        )
        return step_fn(take_rows(state, rows), jnp.full(3, action))[0]

    calls = (np.arange(3), 0), (np.array([1, 1, 0]), 0), (np.arange(3), 1)
    states, permuted_states, other_action_states = (step(*call) for call in calls)
    for row, other_row in [(1, 0), (1, 1), (0, 2)]:
        tokens = (np.asarray(step_state.proposals.tokens) for step_state in (states, permuted_states))
        np.testing.assert_array_equal(next(tokens)[row], next(tokens)[other_row])
    keys = [np.asarray(jax.random.key_data(step_state.key)) for step_state in (other_action_states, states)]
    assert not (keys[0] == keys[1]).all(axis=1).any()


def test_greedy_first_proposal_is_greedy_and_logits_are_the_prior():
    problems = np.array([0, 1, 1, 0])
    root = make_root(TREES, problems)
    options = {
        "num_proposals": 6,
        "max_step_tokens": MAX_STEP_TOKENS,
        "stop_tokens": (STOP_TOKEN,),
        "temperature": 2.0,
    }
    make_step_root = jit(lambda key: make_step_model(STEP_FN, root, key, greedy_first=True, **options)[1])
    state, step_output = jax.device_get(make_step_root(jax.random.key(2)))
    for row, problem in enumerate(problems):
        steps = [[token for token in step if token >= 0] for step in state.proposals.tokens[row].tolist()]
        greedy_step = []
        while not greedy_step or (greedy_step[-1] != STOP_TOKEN and len(greedy_step) < MAX_STEP_TOKENS):
            path = follow_path(TREES, problem, greedy_step)
            if path.done:
                break
            greedy_step.append(int(np.argmax(TREES.logits[problem, (0, *path.nodes)[-1]])))
        assert steps[0] == greedy_step
        for index, step in enumerate(steps):
            expected = follow_path(TREES, problem, step).log_prob if step not in steps[:index] else -np.inf
            np.testing.assert_allclose(step_output.logits[row, index], expected, rtol=1e-4, atol=1e-5)


def test_proposals_are_equal_alone_and_in_a_batch():
    keys = jax.random.split(jax.random.key(3), 3)

    def propose(problems):
        options = {
            "num_proposals": NUM_PROPOSALS,
            "max_step_tokens": MAX_STEP_TOKENS,
            "stop_tokens": (STOP_TOKEN,),
        }
        root = make_root(TREES, problems)
        run = jit(lambda key: make_step_model(STEP_FN, root, key, **options)[1][0].proposals.tokens)
        return run(keys[problems])

    np.testing.assert_array_equal(propose(np.array([1])), propose(np.arange(3))[1:2])
