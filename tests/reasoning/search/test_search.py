"""Greedy, sampled and beam search, against all paths of small trees."""

import operator
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit
from tests.reasoning.search.trees import (
    all_paths,
    check_against,
    follow,
    log_softmax,
    make_root,
    make_step_fn,
    random_trees,
)

from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_of_n, best_path, greedy, majority_vote, rank_candidates
from thinking.reasoning.search.interface import StepOutput
from thinking.reasoning.search.mcts import plan_by_tree, tree_search
from thinking.reasoning.search.step_actions import make_step_model

T, PROBLEMS = 4, range(3)
TREES = random_trees()
ADVANCE, ROOT = make_step_fn(TREES), make_root(TREES)
QUICK = settings(max_examples=50, deadline=None, derandomize=True)
greedily = jit(lambda root: greedy(ADVANCE, root, max_steps=T))
sampled = jit(
    lambda root, key, temperature: best_of_n(ADVANCE, root, key, num_samples=2000, max_steps=T, temperature=temperature)
)
widest = jit(lambda root, penalty: beam(ADVANCE, root, width=3**T, max_steps=T, length_penalty=penalty))
vote = jit(majority_vote)
value = operator.attrgetter("value")


def penalised(path, penalty):
    return path.log_prob / ((5 + len(path.actions)) / 6) ** penalty


def reference_beam(problem, width):
    """Beam search with lists; also how many nodes it looked at."""
    beams, spent = [follow(TREES, problem, ())], 0
    for _ in range(T):
        grown = []
        for path in beams:
            grown += [path] if path.ended else [follow(TREES, problem, (*path.actions, a)) for a in range(3)]
        kept = sorted(grown, key=lambda path: -path.log_prob)[:width]
        spent += sum(path not in beams for path in kept)
        beams = kept
    return beams, spent


def test_greedy_takes_the_likeliest_action_until_the_end():
    candidates = jax.device_get(greedily(ROOT))
    check_against(TREES, candidates, PROBLEMS)
    for problem in PROBLEMS:
        actions = ()
        while len(actions) < T and not follow(TREES, problem, actions).ended:
            node = (0, *follow(TREES, problem, actions).nodes)[-1]
            actions += (int(np.argmax(TREES.logits[problem, node])),)
        assert tuple(candidates.actions[problem, 0][: len(actions)].tolist()) == actions
        assert candidates.length[problem, 0] == candidates.num_model_calls[problem] == len(actions)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_widest_beam_finds_every_path_in_order(penalty):
    candidates = jax.device_get(widest(ROOT, penalty))
    check_against(TREES, candidates, PROBLEMS)
    for problem in PROBLEMS:
        paths = sorted(all_paths(TREES, problem, T), key=lambda path: -penalised(path, penalty))
        count = int(np.isfinite(candidates.log_prob[problem]).sum())
        assert count == len(paths)
        np.testing.assert_allclose(candidates.score[problem, :count], [penalised(p, penalty) for p in paths], rtol=1e-4)
        assert best_path(candidates)[0][problem, : len(paths[0].actions)].tolist() == list(paths[0].actions)
        nodes = {node for path in paths for node in path.nodes}
        assert candidates.num_model_calls[problem] == len(nodes)  # each was looked at once


def test_a_narrow_beam_keeps_and_spends_what_one_written_with_lists_does():
    candidates = jax.device_get(jit(lambda root: beam(ADVANCE, root, width=4, max_steps=T))(ROOT))
    check_against(TREES, candidates, PROBLEMS)
    for problem in PROBLEMS:
        beams, spent = reference_beam(problem, 4)
        kept = [candidates.actions[problem, n, : candidates.length[problem, n]].tolist() for n in range(len(beams))]
        assert kept == [list(path.actions) for path in beams]
        assert candidates.num_model_calls[problem] == spent
        assert np.isneginf(candidates.score[problem, len(beams) :]).all()


def test_a_beam_of_one_is_greedy():
    one, other = jit(lambda root: beam(ADVANCE, root, width=1, max_steps=T))(ROOT), greedily(ROOT)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), one, other)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_paths_are_sampled_as_often_as_they_are_likely(temperature):
    candidates = jax.device_get(sampled(ROOT, jax.random.key(0), temperature))
    check_against(TREES, jax.tree.map(lambda x: x[:, :50] if x.ndim > 1 else x, candidates), PROBLEMS)
    np.testing.assert_array_equal(candidates.num_model_calls, candidates.length.sum(axis=1))
    for problem in (0, 1):
        chances = np.exp(log_softmax(TREES.logits[problem, 0] / temperature))
        shares = np.bincount(candidates.actions[problem, :, 0], minlength=3) / 2000
        np.testing.assert_allclose(shares, chances, atol=4 * np.sqrt(0.25 / 2000))
    assert not candidates.length[2].any()
    assert not candidates.num_model_calls[2]
    if temperature == 1:
        drawn = Counter(tuple(actions) for actions in candidates.actions[0].tolist())
        for path in all_paths(TREES, 0, T):
            chance = np.exp(path.log_prob)
            share = drawn[(*path.actions, *[-1] * (T - len(path.actions)))] / 2000
            assert share == pytest.approx(chance, abs=5 * np.sqrt(chance / 2000) + 1 / 2000)


def test_the_best_of_several_is_that_which_ranks_highest():
    candidates = jax.device_get(sampled(ROOT, jax.random.key(0), 1.0))
    np.testing.assert_array_equal(candidates.best, np.argmax(candidates.log_prob, axis=1))
    for rank, expected in [
        (value, candidates.value),
        (operator.attrgetter("reward"), candidates.reward),
        (lambda c: -c.length, -candidates.length),
    ]:
        again = jax.device_get(jit(rank_candidates, static_argnums=1)(candidates, rank))
        np.testing.assert_array_equal(again.score, expected)
        np.testing.assert_array_equal(again.best, np.argmax(expected, axis=1))
        np.testing.assert_array_equal(best_path(again)[1], candidates.length[np.arange(3), again.best])


def test_what_was_impossible_is_never_the_best():
    candidates = jax.device_get(
        jit(lambda candidates: rank_candidates(candidates, lambda each: -each.log_prob))(widest(ROOT, 0.0))
    )
    assert np.isfinite(candidates.log_prob[np.arange(3), candidates.best]).all()


def test_a_problem_has_the_same_samples_alone_and_the_first_of_them_among_more():
    keys = jax.random.split(jax.random.key(4), 3)

    def sample(problems, num_samples):
        draw = jit(lambda root, key: best_of_n(ADVANCE, root, key, num_samples=num_samples, max_steps=T))
        return np.asarray(draw(make_root(TREES, problems), keys[np.array(problems)]).actions)

    together = sample([0, 1, 2], 5)
    np.testing.assert_array_equal(sample([1], 5), together[1:2])
    np.testing.assert_array_equal(sample([1, 0], 3), together[[1, 0], :3])


def test_sampling_maps_over_keys():
    keys = jax.vmap(jax.random.key)(np.int32([1, 2, 1]))
    candidates = jit(jax.vmap(lambda key: best_of_n(ADVANCE, ROOT, key, num_samples=4, max_steps=T, score_fn=value)))(
        keys
    )
    candidates = jax.device_get(candidates)
    first, second, third = (jax.tree.map(lambda leaf: leaf[n], candidates) for n in range(3))  # noqa: B023
    check_against(TREES, first, PROBLEMS)
    check_against(TREES, second, PROBLEMS)
    assert (first.actions != second.actions).any()
    jax.tree.map(np.testing.assert_array_equal, first, third)


answers = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=10, max_size=10)
flags = st.lists(st.booleans(), min_size=10, max_size=10)


@given(
    answers, flags, st.lists(st.sampled_from([1, 2, 4, 8]), min_size=10, max_size=10), st.sampled_from([0, -110, -2000])
)
@QUICK
def test_the_vote_is_for_the_commonest_answer_then_the_heavier_then_the_earlier(answers, valid, weight, shift):
    """Weights count relative to each other, also where all of them are 0 in float32."""
    candidates = vote(
        np.array(answers, np.int32).reshape(2, 5, 2),
        np.array(valid).reshape(2, 5),
        np.log(np.array(weight, np.float32)).reshape(2, 5) + np.float32(shift),
    )
    for b in range(2):
        given = [(answers[5 * b + n], weight[5 * b + n]) for n in range(5) if valid[5 * b + n]]
        if not given:
            assert candidates[b] == 0
            continue
        counts = Counter(answer for answer, _ in given)
        winner = max(counts, key=lambda answer: (counts[answer], sum(w for other, w in given if other == answer)))
        # Counter and max both keep the earlier of equals.
        assert candidates[b] == next(n for n in range(5) if valid[5 * b + n] and answers[5 * b + n] == winner)


def test_a_vote_among_unlikely_texts_goes_to_the_likelier():
    log_prob = np.float32([[-121, -120, -119.5, -125]])
    answers = np.int32([[[3], [5], [3], [5]]])
    assert vote(answers, np.ones((1, 4), bool), log_prob).tolist() == [0]
    assert vote(answers, np.ones((1, 4), bool), log_prob[:, ::-1]).tolist() == [1]


def test_without_weights_the_earlier_of_equally_common_answers_wins():
    answers = np.int32([[[3], [5], [5], [3], [9]]])
    assert vote(answers, np.ones((1, 5), bool)).tolist() == [0]
    assert vote(answers, np.array([[False, True, True, True, True]])).tolist() == [1]


STATE, STEP_OUTPUT = ROOT
KEY = jax.random.key(0)
EMPTY = jax.tree.map(lambda x: x[:0], ROOT)
SEARCHES = {
    "greedy": lambda root, budget: greedy(ADVANCE, root, max_steps=budget),
    "beam": lambda root, budget: beam(ADVANCE, root, width=budget, max_steps=T),
    "best_of_n": lambda root, budget: best_of_n(ADVANCE, root, KEY, num_samples=budget, max_steps=T),
    "tree_search": lambda root, budget: tree_search(ADVANCE, root, KEY, num_simulations=budget),
    "plan_by_tree": lambda root, budget: plan_by_tree(ADVANCE, root, KEY, num_simulations=4, max_steps=budget),
    "make_step_model": lambda root, budget: make_step_model(
        ADVANCE, root, KEY, num_proposals=budget, max_step_tokens=2, stop_tokens=()
    ),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_bad_roots_and_budgets_are_refused(search):
    call = SEARCHES[search]
    with pytest.raises(ValueError, match=rf"^{search}: .* 0 is out of range; give at least 1"):
        call(ROOT, 0)
    with pytest.raises(ValueError, match=rf"^{search}: the root's logits are of shape \(0, 3\)"):
        call(EMPTY, 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root: value has shape \(2,\)"):
        call((STATE, STEP_OUTPUT._replace(value=STEP_OUTPUT.value[:2])), 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root's step output has 3 problems, but .* shape \(2,\)"):
        call((STATE._replace(node=STATE.node[:2]), STEP_OUTPUT), 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root: done is float32"):
        call((STATE, STEP_OUTPUT._replace(done=STEP_OUTPUT.value)), 2)


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(ValueError, match="width 82: 3 actions and 4 steps make 81 paths"):
        beam(ADVANCE, ROOT, width=82, max_steps=T)
    with pytest.raises(ValueError, match="temperature 0: sampling needs more than 0"):
        best_of_n(ADVANCE, ROOT, KEY, num_samples=1, max_steps=T, temperature=0)
    with pytest.raises(ValueError, match="max_depth 0"):
        tree_search(ADVANCE, ROOT, KEY, num_simulations=4, max_depth=0)
    with pytest.raises(ValueError, match=r"stop_tokens \(3,\): the tokens are 0 to 2"):
        make_step_model(ADVANCE, ROOT, KEY, num_proposals=2, max_step_tokens=2, stop_tokens=(3,))
    with pytest.raises(ValueError, match=r"answers \(1, 2\) and valid \(1, 2\) do not agree"):
        majority_vote(jnp.zeros((1, 2)), jnp.ones((1, 2), bool))
    with pytest.raises(ValueError, match=r"weight has shape \(2,\)"):
        majority_vote(jnp.zeros((1, 2, 1)), jnp.ones((1, 2), bool), jnp.ones(2))


def test_a_model_that_answers_in_another_shape_is_refused():
    def askew(state, action):
        state, step_output = ADVANCE(state, action)
        return state, StepOutput(step_output.logits[:, :2], *step_output[1:])

    def noting(state, action):
        state, step_output = ADVANCE(state, action)
        return state, step_output._replace(extra=(step_output.extra, action))

    with pytest.raises(ValueError, match="extra is not built as the root's"):
        greedy(noting, ROOT, max_steps=1)
    with pytest.raises(ValueError, match=r"the output of step_fn: logits has shape \(3, 2\), but .* need \(3, 3\)"):
        greedy(askew, ROOT, max_steps=1)
