"""Greedy search, best-of-n and beam search against all paths of small trees."""

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
    check_candidates,
    follow_path,
    list_paths,
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

MAX_STEPS, PROBLEM_INDICES = 4, range(3)
TREES = random_trees()
STEP_FN, ROOT = make_step_fn(TREES), make_root(TREES)
QUICK = settings(max_examples=50, deadline=None, derandomize=True)
run_greedy = jit(lambda root: greedy(STEP_FN, root, max_steps=MAX_STEPS))
run_best_of_n = jit(
    lambda root, key, temperature: best_of_n(
        STEP_FN, root, key, num_samples=2000, max_steps=MAX_STEPS, temperature=temperature
    )
)
run_widest_beam = jit(
    lambda root, penalty: beam(STEP_FN, root, width=3**MAX_STEPS, max_steps=MAX_STEPS, length_penalty=penalty)
)
run_majority_vote = jit(majority_vote)
get_value = operator.attrgetter("value")


def compute_penalised_score(path, penalty):
    return path.log_prob / ((5 + len(path.actions)) / 6) ** penalty


def reference_beam(problem, width):
    """Beam search with lists. Also returns the number of model calls."""
    beams, num_model_calls = [follow_path(TREES, problem, ())], 0
    for _ in range(MAX_STEPS):
        expansions = []
        for path in beams:
            expansions += (
                [path] if path.done else [follow_path(TREES, problem, (*path.actions, action)) for action in range(3)]
            )
        next_beams = sorted(expansions, key=lambda path: -path.log_prob)[:width]
        num_model_calls += sum(path not in beams for path in next_beams)
        beams = next_beams
    return beams, num_model_calls


def test_greedy_takes_the_argmax_until_done():
    candidates = jax.device_get(run_greedy(ROOT))
    check_candidates(TREES, candidates, PROBLEM_INDICES)
    for problem in PROBLEM_INDICES:
        actions = ()
        while len(actions) < MAX_STEPS and not follow_path(TREES, problem, actions).done:
            node = (0, *follow_path(TREES, problem, actions).nodes)[-1]
            actions += (int(np.argmax(TREES.logits[problem, node])),)
        assert tuple(candidates.actions[problem, 0][: len(actions)].tolist()) == actions
        assert candidates.length[problem, 0] == candidates.num_model_calls[problem] == len(actions)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_widest_beam_finds_every_path_in_order(penalty):
    candidates = jax.device_get(run_widest_beam(ROOT, penalty))
    check_candidates(TREES, candidates, PROBLEM_INDICES)
    for problem in PROBLEM_INDICES:
        paths = sorted(list_paths(TREES, problem, MAX_STEPS), key=lambda path: -compute_penalised_score(path, penalty))
        num_paths = int(np.isfinite(candidates.log_prob[problem]).sum())
        assert num_paths == len(paths)
        np.testing.assert_allclose(
            candidates.score[problem, :num_paths], [compute_penalised_score(path, penalty) for path in paths], rtol=1e-4
        )
        assert best_path(candidates)[0][problem, : len(paths[0].actions)].tolist() == list(paths[0].actions)
        nodes = {node for path in paths for node in path.nodes}
        assert candidates.num_model_calls[problem] == len(nodes)  # one call for each node


def test_beam_search_matches_list_implementation():
    candidates = jax.device_get(jit(lambda root: beam(STEP_FN, root, width=4, max_steps=MAX_STEPS))(ROOT))
    check_candidates(TREES, candidates, PROBLEM_INDICES)
    for problem in PROBLEM_INDICES:
        beams, num_model_calls = reference_beam(problem, 4)
        actual = [
            candidates.actions[problem, index, : candidates.length[problem, index]].tolist()
            for index in range(len(beams))
        ]
        assert actual == [list(path.actions) for path in beams]
        assert candidates.num_model_calls[problem] == num_model_calls
        assert np.isneginf(candidates.score[problem, len(beams) :]).all()


def test_beam_of_width_one_equals_greedy():
    beam_candidates, greedy_candidates = (
        jit(lambda root: beam(STEP_FN, root, width=1, max_steps=MAX_STEPS))(ROOT),
        run_greedy(ROOT),
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), beam_candidates, greedy_candidates)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sample_frequencies_equal_path_probabilities(temperature):
    candidates = jax.device_get(run_best_of_n(ROOT, jax.random.key(0), temperature))
    check_candidates(TREES, jax.tree.map(lambda x: x[:, :50] if x.ndim > 1 else x, candidates), PROBLEM_INDICES)
    np.testing.assert_array_equal(candidates.num_model_calls, candidates.length.sum(axis=1))
    for problem in (0, 1):
        probabilities = np.exp(log_softmax(TREES.logits[problem, 0] / temperature))
        frequencies = np.bincount(candidates.actions[problem, :, 0], minlength=3) / 2000
        np.testing.assert_allclose(frequencies, probabilities, atol=4 * np.sqrt(0.25 / 2000))
    assert not candidates.length[2].any()
    assert not candidates.num_model_calls[2]
    if temperature == 1:
        counts = Counter(tuple(actions) for actions in candidates.actions[0].tolist())
        for path in list_paths(TREES, 0, MAX_STEPS):
            probability = np.exp(path.log_prob)
            frequency = counts[(*path.actions, *[-1] * (MAX_STEPS - len(path.actions)))] / 2000
            assert frequency == pytest.approx(probability, abs=5 * np.sqrt(probability / 2000) + 1 / 2000)


def test_best_candidate_has_the_highest_score():
    candidates = jax.device_get(run_best_of_n(ROOT, jax.random.key(0), 1.0))
    np.testing.assert_array_equal(candidates.best, np.argmax(candidates.log_prob, axis=1))
    for score_fn, expected in [
        (get_value, candidates.value),
        (operator.attrgetter("reward"), candidates.reward),
        (lambda c: -c.length, -candidates.length),
    ]:
        ranked_candidates = jax.device_get(jit(rank_candidates, static_argnums=1)(candidates, score_fn))
        np.testing.assert_array_equal(ranked_candidates.score, expected)
        np.testing.assert_array_equal(ranked_candidates.best, np.argmax(expected, axis=1))
        np.testing.assert_array_equal(
            best_path(ranked_candidates)[1], candidates.length[np.arange(3), ranked_candidates.best]
        )


def test_impossible_paths_are_never_the_best():
    candidates = jax.device_get(
        jit(lambda candidates: rank_candidates(candidates, lambda each: -each.log_prob))(run_widest_beam(ROOT, 0.0))
    )
    assert np.isfinite(candidates.log_prob[np.arange(3), candidates.best]).all()


def test_samples_are_equal_alone_and_the_first_of_more():
    keys = jax.random.split(jax.random.key(4), 3)

    def sample_actions(problems, num_samples):
        run = jit(lambda root, key: best_of_n(STEP_FN, root, key, num_samples=num_samples, max_steps=MAX_STEPS))
        return np.asarray(run(make_root(TREES, problems), keys[np.array(problems)]).actions)

    batch_actions = sample_actions([0, 1, 2], 5)
    np.testing.assert_array_equal(sample_actions([1], 5), batch_actions[1:2])
    np.testing.assert_array_equal(sample_actions([1, 0], 3), batch_actions[[1, 0], :3])


def test_best_of_n_maps_over_keys():
    keys = jax.vmap(jax.random.key)(np.int32([1, 2, 1]))
    candidates = jit(
        jax.vmap(lambda key: best_of_n(STEP_FN, ROOT, key, num_samples=4, max_steps=MAX_STEPS, score_fn=get_value))
    )(keys)
    candidates = jax.device_get(candidates)
    first, second, third = (jax.tree.map(lambda leaf: leaf[index], candidates) for index in range(3))  # noqa: B023
    check_candidates(TREES, first, PROBLEM_INDICES)
    check_candidates(TREES, second, PROBLEM_INDICES)
    assert (first.actions != second.actions).any()
    jax.tree.map(np.testing.assert_array_equal, first, third)


answer_lists = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=10, max_size=10)
flag_lists = st.lists(st.booleans(), min_size=10, max_size=10)


@given(
    answer_lists,
    flag_lists,
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=10, max_size=10),
    st.sampled_from([0, -110, -2000]),
)
@QUICK
def test_majority_vote_breaks_ties_by_weight_then_index(answers, valid, weight, shift):
    """Weights count relative to each other, also where all of them are 0 in float32."""
    winners = run_majority_vote(
        np.array(answers, np.int32).reshape(2, 5, 2),
        np.array(valid).reshape(2, 5),
        np.log(np.array(weight, np.float32)).reshape(2, 5) + np.float32(shift),
    )
    for row in range(2):
        valid_votes = [
            (answers[5 * row + index], weight[5 * row + index]) for index in range(5) if valid[5 * row + index]
        ]
        if not valid_votes:
            assert winners[row] == 0
            continue
        counts = Counter(answer for answer, _ in valid_votes)
        winner = max(counts, key=lambda answer: (counts[answer], sum(w for other, w in valid_votes if other == answer)))
        # Counter and max both keep the first of equal elements.
        assert winners[row] == next(
            index for index in range(5) if valid[5 * row + index] and answers[5 * row + index] == winner
        )


def test_majority_vote_among_unlikely_texts_prefers_the_likelier():
    log_prob = np.float32([[-121, -120, -119.5, -125]])
    answers = np.int32([[[3], [5], [3], [5]]])
    assert run_majority_vote(answers, np.ones((1, 4), bool), log_prob).tolist() == [0]
    assert run_majority_vote(answers, np.ones((1, 4), bool), log_prob[:, ::-1]).tolist() == [1]


def test_majority_vote_without_weights_breaks_ties_by_index():
    answers = np.int32([[[3], [5], [5], [3], [9]]])
    assert run_majority_vote(answers, np.ones((1, 5), bool)).tolist() == [0]
    assert run_majority_vote(answers, np.array([[False, True, True, True, True]])).tolist() == [1]


ROOT_STATE, ROOT_OUTPUT = ROOT
KEY = jax.random.key(0)
EMPTY_ROOT = jax.tree.map(lambda x: x[:0], ROOT)
SEARCHES = {
    "greedy": lambda root, budget: greedy(STEP_FN, root, max_steps=budget),
    "beam": lambda root, budget: beam(STEP_FN, root, width=budget, max_steps=MAX_STEPS),
    "best_of_n": lambda root, budget: best_of_n(STEP_FN, root, KEY, num_samples=budget, max_steps=MAX_STEPS),
    "tree_search": lambda root, budget: tree_search(STEP_FN, root, KEY, num_simulations=budget),
    "plan_by_tree": lambda root, budget: plan_by_tree(STEP_FN, root, KEY, num_simulations=4, max_steps=budget),
    "make_step_model": lambda root, budget: make_step_model(
        STEP_FN, root, KEY, num_proposals=budget, max_step_tokens=2, stop_tokens=()
    ),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_invalid_roots_and_budgets_raise_errors(search):
    run_search = SEARCHES[search]
    with pytest.raises(ValueError, match=rf"^{search}: .* 0 is out of range; give at least 1"):
        run_search(ROOT, 0)
    with pytest.raises(ValueError, match=rf"^{search}: the root's logits are of shape \(0, 3\)"):
        run_search(EMPTY_ROOT, 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root: value has shape \(2,\)"):
        run_search((ROOT_STATE, ROOT_OUTPUT._replace(value=ROOT_OUTPUT.value[:2])), 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root's step output has 3 problems, but .* shape \(2,\)"):
        run_search((ROOT_STATE._replace(node=ROOT_STATE.node[:2]), ROOT_OUTPUT), 2)
    with pytest.raises(ValueError, match=rf"^{search}: the root: done is float32"):
        run_search((ROOT_STATE, ROOT_OUTPUT._replace(done=ROOT_OUTPUT.value)), 2)


def test_invalid_arguments_raise_errors():
    with pytest.raises(ValueError, match="width 82: 3 actions and 4 steps make 81 paths"):
        beam(STEP_FN, ROOT, width=82, max_steps=MAX_STEPS)
    with pytest.raises(ValueError, match="temperature 0: sampling needs more than 0"):
        best_of_n(STEP_FN, ROOT, KEY, num_samples=1, max_steps=MAX_STEPS, temperature=0)
    with pytest.raises(ValueError, match="max_depth 0"):
        tree_search(STEP_FN, ROOT, KEY, num_simulations=4, max_depth=0)
    with pytest.raises(ValueError, match=r"stop_tokens \(3,\): the tokens are 0 to 2"):
        make_step_model(STEP_FN, ROOT, KEY, num_proposals=2, max_step_tokens=2, stop_tokens=(3,))
    with pytest.raises(ValueError, match=r"answers \(1, 2\) and valid \(1, 2\) do not agree"):
        majority_vote(jnp.zeros((1, 2)), jnp.ones((1, 2), bool))
    with pytest.raises(ValueError, match=r"weight has shape \(2,\)"):
        majority_vote(jnp.zeros((1, 2, 1)), jnp.ones((1, 2), bool), jnp.ones(2))


def test_step_fn_with_wrong_output_shapes_raises_an_error():
    def step_fn_with_two_logits(state, action):
        state, step_output = STEP_FN(state, action)
        return state, StepOutput(step_output.logits[:, :2], *step_output[1:])

    def step_fn_with_other_extra(state, action):
        state, step_output = STEP_FN(state, action)
        return state, step_output._replace(extra=(step_output.extra, action))

    with pytest.raises(ValueError, match="extra is not built as the root's"):
        greedy(step_fn_with_other_extra, ROOT, max_steps=1)
    with pytest.raises(ValueError, match=r"the output of step_fn: logits has shape \(3, 2\), but .* need \(3, 3\)"):
        greedy(step_fn_with_two_logits, ROOT, max_steps=1)
