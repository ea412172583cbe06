"""Ways to spend tokens on a problem: what is chosen against plain Python, what is written against other ways to it."""

from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.generation.completions import Completions
from thinking.generation.prompts import concat_completion
from thinking.generation.sampling import Sampling
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search import strategies
from thinking.reasoning.search.step_tree import solve_by_step_tree
from thinking.text.vocabulary import ANSWER, BACK, END, END_THINK, MARKS, STEP

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
WORDS, NEW, PROBLEMS = len(MARKS) + 3, 16, 4
PROMPTS = np.asarray(jax.random.randint(jax.random.key(1), (PROBLEMS, 4), len(MARKS), WORDS), np.int32)
LENGTHS = np.asarray([2, 4, 3, 1], np.int32)
CHOOSE = {
    "log_prob": strategies.choose_by_log_prob,
    "value": strategies.choose_by_value,
    "vote": strategies.choose_by_vote,
}
choose_all = jit(lambda generated: {name: choose(generated) for name, choose in CHOOSE.items()})


@pytest.fixture(scope="module")
def model():
    block = BlockConfig(16, 4)
    network = decoder(vocab_size=WORDS, context_length=32, block=block, num_layers=1, value_head=True)
    # An untrained model is indifferent; one with a louder voice has steps of which it is more and less certain.
    return network, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), jit(network.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def method(model):
    """The greedy answer, as a method that may go in chunks."""
    options = {"num_samples": 1, "max_new_tokens": NEW, "sampling": Sampling(temperature=0)}

    def solve(key, prompts, lengths):
        return strategies.choose_solution(
            strategies.sample_completions(*model, key, prompts, lengths, **options), strategies.choose_by_vote
        )

    return jit(solve)


@pytest.fixture(scope="module")
def greedy(method):
    return jax.device_get(method(jax.random.key(0), PROMPTS, LENGTHS))


@pytest.fixture(scope="module")
def samples(model):
    network, params = model

    @jit
    def write(params):
        return strategies.sample_completions(
            network, params, jax.random.key(2), PROMPTS, LENGTHS, num_samples=3, max_new_tokens=NEW
        )

    return jax.device_get(write(params))


attempt = st.tuples(
    st.integers(0, 3), st.integers(-30, 0).map(float), st.integers(-2, 8).map(lambda x: x / 8), st.booleans()
)


@QUICK
@given(st.lists(attempt, min_size=5, max_size=5))
def test_the_choice_is_that_of_plain_python(samples):
    """An answer of 0 means that none was given; a text that is not stopped has no end, and so no answer."""
    generated = Completions(
        np.zeros((1, 5, 6), np.int32),
        np.zeros((1, 5), np.int32),
        *np.zeros((2, 1, 5, 6), np.float32),
        np.zeros((1, 5), bool),
    )
    answers = []
    for index, (answer, log_prob, value, stopped) in enumerate(samples):
        text = [ANSWER] * (answer > 0) + [len(MARKS)] * answer + [END] * stopped
        generated.tokens[0, index, : len(text)] = text
        generated.length[0, index], generated.stopped[0, index] = len(text), stopped
        generated.log_prob[0, index, 0] = log_prob
        generated.value[0, index, max(len(text) - 1, 0)] = value
        answers.append(answer if answer and stopped else None)
    result = {name: int(best[0]) for name, best in choose_all(generated).items()}

    ended = [index for index, each in enumerate(samples) if each[3]]
    valid = [index for index, answer in enumerate(answers) if answer]
    if ended:
        assert samples[result["log_prob"]][1] == max(samples[index][1] for index in ended)
        assert samples[result["value"]][2] == max(samples[index][2] for index in ended)
    if valid:
        votes = Counter(answers[index] for index in valid)
        assert votes[answers[result["vote"]]] == max(votes.values())
    else:
        assert result["vote"] == 0


def test_attempts_cost_what_they_wrote_and_fewer_are_the_first_of_them(samples):
    choose = jit(strategies.choose_solution, static_argnums=(1, 2))
    assert samples.completions.tokens.shape == (PROBLEMS, 3, NEW)
    assert len({tuple(tokens) for tokens in samples.completions.tokens[0]}) > 1
    for count in (1, 3):
        result = choose(samples, strategies.choose_by_log_prob, count)
        np.testing.assert_array_equal(result.num_tokens, samples.completions.length[:, :count].sum(axis=1))
    np.testing.assert_array_equal(
        choose(samples, strategies.choose_by_vote, 1).tokens, samples.completions.tokens[:, 0]
    )


def test_a_rewritten_attempt_keeps_the_one_before_up_to_its_least_likely_step_that_was_not_tried(model, greedy):
    network, params = model
    write = jit(
        lambda params: strategies.rewrite(
            network, params, jax.random.key(3), PROMPTS, LENGTHS, num_samples=12, max_new_tokens=NEW
        )
    )
    generated, spent = jax.device_get(write(params))
    np.testing.assert_array_equal(generated.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(spent[:, 0], greedy.length)
    places = set()
    for problem in range(PROBLEMS):
        tried = set()
        for before in range(11):
            tokens = generated.tokens[problem, before, : generated.length[problem, before]].tolist()
            kept = int(generated.length[problem, before + 1] - spent[problem, before + 1])
            assert generated.tokens[problem, before + 1, :kept].tolist() == tokens[:kept]
            begins = [0] + [
                index + 1 for index, token in enumerate(tokens[:-1]) if token in (STEP, BACK, END_THINK, END)
            ]
            likely = {
                begin: float(generated.log_prob[problem, before, begin:end].sum())
                for begin, end in zip(begins, [*begins[1:], len(tokens)], strict=True)
            }
            if set(begins) <= tried:
                tried = set()
            assert kept in set(begins) - tried
            assert likely[kept] == pytest.approx(min(likely[begin] for begin in set(begins) - tried), abs=1e-5)
            tried = {begin for begin in tried if begin < kept} | {kept}
            places.add(kept)
    assert len(places) > 3


def step_tree(network, params, key, prompts, lengths, temperature):
    """Trees of 4 simulations over 4 proposals."""
    limits = {"max_new_tokens": NEW, "max_step_tokens": NEW, "max_steps": NEW}
    options = {"num_proposals": 4, "num_simulations": 4, "temperature": temperature, **limits}
    return solve_by_step_tree(network, params, key, prompts, lengths, **options)


@pytest.fixture(scope="module")
def search(model):
    """`search(params, key, temperature)`."""
    return jit(lambda params, key, temperature: step_tree(model[0], params, key, PROMPTS, LENGTHS, temperature))


def test_a_tree_of_the_likeliest_steps_writes_the_greedy_answer_and_counts_every_token(model, greedy, search):
    result = jax.device_get(search(model[1], jax.random.key(4), 1e-4))
    np.testing.assert_array_equal(result.tokens, greedy.tokens)
    np.testing.assert_array_equal(result.length, greedy.length)
    for tokens, length, spent in zip(greedy.tokens, greedy.length, result.num_tokens, strict=True):
        text = tokens[:length].tolist()
        ends = [index + 1 for index, token in enumerate(text) if token in (STEP, BACK, END_THINK, END)]
        steps = np.diff(sorted({0, *ends, int(length)})).tolist()
        # Four proposals at the root. Then every decision tries the next four steps, one below the other, and takes the
        # first of them; wherever a step leads, the one behind it is proposed four times.
        after = [*steps, *[0] * 5]
        decisions = [
            sum(after[at + ahead] + 4 * after[at + ahead + 1] for ahead in (0, 1, 2, 3, 0)) for at in range(len(steps))
        ]
        assert spent == 4 * steps[0] + sum(decisions)


def test_a_tree_finds_texts_of_which_the_value_head_thinks_more(model, search, samples):
    network, params = model
    # The head was not trained: where it is raised, an end is always worth something.
    params = {**params, "judge": {**params["judge"], "bias": params["judge"]["bias"] + 4}}
    apply = jit(network.apply)

    def worth(tokens, length):
        """The mean value of texts right before their end; nothing where there is none."""
        rows = np.asarray(jit(concat_completion)(PROMPTS, LENGTHS, tokens))
        last = LENGTHS + length - 1
        value = np.asarray(apply(params, rows).value)
        return np.mean(np.where(rows[np.arange(PROBLEMS), last] == END, value[np.arange(PROBLEMS), last - 1], 0))

    plain = np.mean([worth(samples.completions.tokens[:, at], samples.completions.length[:, at]) for at in range(3)])
    trees = jax.device_get([search(params, jax.random.key(seed), 1.0) for seed in range(3)])
    assert np.mean([worth(tree.tokens, tree.length) for tree in trees]) > plain + 0.5


def test_a_beam_of_one_writes_the_greedy_answer(model, greedy):
    result = jit(
        lambda params: strategies.solve_by_beam(model[0], params, PROMPTS, LENGTHS, width=1, max_new_tokens=NEW)
    )(model[1])
    np.testing.assert_array_equal(result.tokens, greedy.tokens)
    np.testing.assert_array_equal(result.length, greedy.length)
    np.testing.assert_array_equal(result.num_tokens, greedy.length)


def test_problems_may_be_solved_in_chunks_and_the_last_one_is_filled_up(method, greedy):
    order = [0, 1, 2, 3, 3, 1]
    result = strategies.solve_in_batches(method, jax.random.key(7), PROMPTS[order], LENGTHS[order], 4)
    for one, other in zip(result, greedy, strict=True):
        np.testing.assert_array_equal(one, other[order])


@pytest.mark.parametrize("name", ["samples", "revisions", "tree"])
def test_a_problem_is_solved_alike_alone_and_in_batches_of_any_size(model, name):
    options = {"num_samples": 3, "max_new_tokens": NEW}
    solve = {
        "samples": lambda *inputs: strategies.sample_completions(*model, *inputs, **options).completions.tokens,
        "revisions": lambda *inputs: strategies.rewrite(*model, *inputs, **options).completions.tokens,
        "tree": lambda *inputs: step_tree(model[0], model[1], *inputs, 1.0).tokens,
    }[name]
    solve, keys = jit(solve), jax.random.split(jax.random.key(7), PROBLEMS)
    together = np.asarray(solve(keys, PROMPTS, LENGTHS))
    np.testing.assert_array_equal(strategies.solve_in_batches(solve, keys, PROMPTS, LENGTHS, 1), together)
    one_key = jax.random.key(9)
    parts = [strategies.solve_in_batches(solve, one_key, PROMPTS, LENGTHS, size) for size in (1, 4)]
    np.testing.assert_array_equal(*parts)


def test_fewer_samples_are_the_first_of_more(model, samples):
    draw = jit(
        lambda: strategies.sample_completions(
            *model, jax.random.key(2), PROMPTS, LENGTHS, num_samples=2, max_new_tokens=NEW
        )
    )
    np.testing.assert_array_equal(draw().completions.tokens, samples.completions.tokens[:, :2])


@pytest.mark.parametrize("count", [0, 4])
def test_attempts_that_were_not_made_cannot_be_chosen_from(count):
    generated = Completions(*np.zeros((5, 2, 3, 6), np.int32))
    with pytest.raises(ValueError, match=f"num_samples {count} is out of range; give 1 to 3"):
        strategies.choose_solution(
            strategies.Samples(generated, np.zeros((2, 3), np.int32)), strategies.choose_by_vote, count
        )


@pytest.mark.parametrize("method", [strategies.sample_completions, strategies.rewrite])
def test_no_attempts_are_refused(model, method):
    with pytest.raises(ValueError, match="num_samples 0"):
        method(*model, jax.random.key(0), PROMPTS, LENGTHS, num_samples=0, max_new_tokens=NEW)
