"""Search over steps of several tokens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit
from tests.reasoning.search.trees import follow, make_root, make_step_fn, random_trees

from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_of_n
from thinking.reasoning.search.mcts import gumbel, plan_by_tree
from thinking.reasoning.search.step_actions import concat_steps, make_step_model
from thinking.trees import take_rows

STOP, S, K, T = 0, 2, 3, 3
TREES = random_trees()
ADVANCE, ROOT = make_step_fn(TREES), make_root(TREES)


@partial(jit, static_argnums=0)
def over_steps_with(search, problems, key):
    root = make_root(TREES, problems)
    step_fn, root = make_step_model(ADVANCE, root, key, num_proposals=K, max_step_tokens=S, stop_tokens=(STOP,))
    candidates = search(step_fn, root, jax.random.fold_in(key, 1))
    return root, candidates, concat_steps(candidates)


def samples(step_fn, root, key):
    return best_of_n(step_fn, root, key, num_samples=1, max_steps=T)


def beams(step_fn, root, _):
    return beam(step_fn, root, width=4, max_steps=T)


def plans(step_fn, root, key):
    policy = partial(gumbel, max_num_considered_actions=K)
    return plan_by_tree(step_fn, root, key, num_simulations=8, max_steps=T, policy=policy)


@pytest.mark.parametrize("search", [beams, plans])
def test_a_search_runs_over_steps_and_its_actions_stand_for_tokens(search):
    problems = np.arange(3)
    _, candidates, generated = jax.device_get(over_steps_with(search, problems, jax.random.key(3)))
    check_steps(problems, candidates, *generated)


def check_steps(problems, candidates, tokens, length):
    """What the tokens say is what is said of the candidates."""
    assert tokens.shape == (*candidates.length.shape, T * S)
    assert candidates.length[0].min() > 0
    for b, n in zip(*np.nonzero(np.isfinite(candidates.log_prob)), strict=True):
        generated = tokens[b, n, : length[b, n]].tolist()
        assert (tokens[b, n, length[b, n] :] == -1).all()
        path = follow(TREES, problems[b], generated)
        notes = jax.tree.map(lambda leaf: leaf[b, n], candidates.extras)  # noqa: B023
        np.testing.assert_allclose(notes.log_prob.sum(), path.log_prob, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(candidates.reward[b, n], path.reward, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(candidates.value[b, n], path.value)
        assert bool(candidates.done[b, n]) == path.ended
        # Steps end with the stop token, when they are full, or when nothing follows.
        steps = [notes.tokens[t, : notes.length[t]].tolist() for t in range(candidates.length[b, n])]
        assert [token for step in steps for token in step] == generated
        assert all(STOP not in step[:-1] for step in steps)
        assert all(step[-1] == STOP or len(step) == S for step in steps[: -1 if path.ended else None])


def test_a_step_is_chosen_as_often_as_the_model_would_write_it_and_none_is_offered_twice():
    rows = 3000
    (places, step_output), candidates, generated = over_steps_with(samples, np.zeros(rows, np.int32), jax.random.key(0))
    candidates, generated = jax.device_get((candidates, generated))
    some = jax.tree.map(lambda leaf: leaf[:30], (candidates, *generated))
    check_steps(np.zeros(30, np.int32), *some)
    drawn = np.exp(np.asarray(step_output.logits))
    np.testing.assert_allclose(drawn.sum(axis=1), K, rtol=1e-5)
    proposals = np.asarray(places.proposals.tokens)
    for row in range(50):
        offered = [tuple(tokens) for tokens, count in zip(proposals[row], drawn[row], strict=True) if count]
        assert len(set(offered)) == len(offered)
        assert set(offered) == {tuple(tokens) for tokens in proposals[row]}
    taken = [tuple(tokens) for tokens in candidates.extras.tokens[:, 0, 0].tolist()]
    for step in set(taken):
        chance = np.exp(follow(TREES, 0, [token for token in step if token >= 0]).log_prob)
        assert taken.count(step) / rows == pytest.approx(chance, abs=4 * np.sqrt(0.25 / rows))


def test_proposals_depend_on_a_rows_own_past_alone():
    @jit
    def step(rows, action):
        step_fn, (state, _) = make_step_model(
            ADVANCE, ROOT, jax.random.key(0), num_proposals=K, max_step_tokens=S, stop_tokens=(STOP,)
        )
        return step_fn(take_rows(state, rows), jnp.full(3, action))[0]

    calls = (np.arange(3), 0), (np.array([1, 1, 0]), 0), (np.arange(3), 1)
    candidates, elsewhere, otherwise = (step(*call) for call in calls)
    for row, other in [(1, 0), (1, 1), (0, 2)]:
        tokens = (np.asarray(each.proposals.tokens) for each in (candidates, elsewhere))
        np.testing.assert_array_equal(next(tokens)[row], next(tokens)[other])
    keys = [np.asarray(jax.random.key_data(each.key)) for each in (otherwise, candidates)]
    assert not (keys[0] == keys[1]).all(axis=1).any()


def test_the_first_of_steps_to_decide_among_is_greedy_and_likelihoods_are_the_prior():
    problems = np.array([0, 1, 1, 0])
    root = make_root(TREES, problems)
    options = {"num_proposals": 6, "max_step_tokens": S, "stop_tokens": (STOP,), "temperature": 2.0}
    make = jit(lambda key: make_step_model(ADVANCE, root, key, greedy_first=True, **options)[1])
    state, step_output = jax.device_get(make(jax.random.key(2)))
    for row, problem in enumerate(problems):
        steps = [[token for token in step if token >= 0] for step in state.proposals.tokens[row].tolist()]
        greedy_step = []
        while not greedy_step or (greedy_step[-1] != STOP and len(greedy_step) < S):
            path = follow(TREES, problem, greedy_step)
            if path.ended:
                break
            greedy_step.append(int(np.argmax(TREES.logits[problem, (0, *path.nodes)[-1]])))
        assert steps[0] == greedy_step
        for at, step in enumerate(steps):
            expected = follow(TREES, problem, step).log_prob if step not in steps[:at] else -np.inf
            np.testing.assert_allclose(step_output.logits[row, at], expected, rtol=1e-4, atol=1e-5)


def test_proposals_are_the_same_alone_and_among_others():
    keys = jax.random.split(jax.random.key(3), 3)

    def propose(problems):
        options = {"num_proposals": K, "max_step_tokens": S, "stop_tokens": (STOP,)}
        root = make_root(TREES, problems)
        return jit(lambda key: make_step_model(ADVANCE, root, key, **options)[1][0].proposals.tokens)(keys[problems])

    np.testing.assert_array_equal(propose(np.array([1])), propose(np.arange(3))[1:2])
