"""Search strategies: choices against plain Python, completions against equivalent methods."""

import functools
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
from thinking.text.vocabulary import ANSWER, BACK, END, END_THINK, SPECIAL_TOKENS, STEP

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
VOCAB_SIZE, MAX_NEW_TOKENS, NUM_PROBLEMS = len(SPECIAL_TOKENS) + 3, 16, 4
PROMPTS = np.asarray(
    jax.random.randint(jax.random.key(1), (NUM_PROBLEMS, 4), len(SPECIAL_TOKENS), VOCAB_SIZE), np.int32
)
LENGTHS = np.asarray([2, 4, 3, 1], np.int32)
CHOOSE_FNS = {
    "log_prob": strategies.choose_by_log_prob,
    "value": strategies.choose_by_value,
    "vote": strategies.choose_by_vote,
}
apply_choose_fns = jit(lambda completions: {name: choose_fn(completions) for name, choose_fn in CHOOSE_FNS.items()})


@pytest.fixture(scope="module")
def model():
    block = BlockConfig(16, 4)
    network = decoder(vocab_size=VOCAB_SIZE, context_length=32, block=block, num_layers=1, value_head=True)
    # An untrained model is nearly uniform. Larger weights give steps of different certainty.
    return network, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), jit(network.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def solve_greedy(model):
    """Greedy decoding, as a function for `solve_in_batches`."""
    options = {"num_samples": 1, "max_new_tokens": MAX_NEW_TOKENS, "sampling": Sampling(temperature=0)}

    def solve(key, prompts, lengths):
        return strategies.choose_solution(
            strategies.sample_completions(*model, key, prompts, lengths, **options), strategies.choose_by_vote
        )

    return jit(solve)


@pytest.fixture(scope="module")
def greedy(solve_greedy):
    return jax.device_get(solve_greedy(jax.random.key(0), PROMPTS, LENGTHS))


@functools.cache
def split_key(seed):
    """A key for each problem."""
    return jax.random.split(jax.random.key(seed), NUM_PROBLEMS)


@pytest.fixture(scope="module")
def solve_fns(model):
    """Methods as jitted functions of keys, prompts and lengths."""
    options = {"max_new_tokens": MAX_NEW_TOKENS}
    return {
        "sample_completions": jit(lambda *args: strategies.sample_completions(*model, *args, num_samples=3, **options)),
        "rewrite": jit(lambda *args: strategies.rewrite(*model, *args, num_samples=12, **options)),
    }


@pytest.fixture(scope="module")
def samples(solve_fns):
    return jax.device_get(solve_fns["sample_completions"](split_key(2), PROMPTS, LENGTHS))


sample_strategy = st.tuples(
    st.integers(0, 3), st.integers(-30, 0).map(float), st.integers(-2, 8).map(lambda x: x / 8), st.booleans()
)


@QUICK
@given(st.lists(sample_strategy, min_size=5, max_size=5))
def test_choices_equal_plain_python_reference(samples):
    """Answer 0 stands for no answer. A completion that is not stopped has no end token, and so no answer."""
    completions = Completions(
        np.zeros((1, 5, 6), np.int32),
        np.zeros((1, 5), np.int32),
        *np.zeros((2, 1, 5, 6), np.float32),
        np.zeros((1, 5), bool),
    )
    answers = []
    for index, (answer, log_prob, value, stopped) in enumerate(samples):
        tokens = [ANSWER] * (answer > 0) + [len(SPECIAL_TOKENS)] * answer + [END] * stopped
        completions.tokens[0, index, : len(tokens)] = tokens
        completions.length[0, index], completions.stopped[0, index] = len(tokens), stopped
        completions.log_prob[0, index, 0] = log_prob
        completions.value[0, index, max(len(tokens) - 1, 0)] = value
        answers.append(answer if answer and stopped else None)
    result = {name: int(index_array[0]) for name, index_array in apply_choose_fns(completions).items()}

    stopped_indices = [index for index, sample in enumerate(samples) if sample[3]]
    valid_indices = [index for index, answer in enumerate(answers) if answer]
    if stopped_indices:
        assert samples[result["log_prob"]][1] == max(samples[index][1] for index in stopped_indices)
        assert samples[result["value"]][2] == max(samples[index][2] for index in stopped_indices)
    if valid_indices:
        votes = Counter(answers[index] for index in valid_indices)
        assert votes[answers[result["vote"]]] == max(votes.values())
    else:
        assert result["vote"] == 0


def test_choose_solution_counts_tokens_of_the_first_samples(samples):
    choose_solution = jit(strategies.choose_solution, static_argnums=(1, 2))
    assert samples.completions.tokens.shape == (NUM_PROBLEMS, 3, MAX_NEW_TOKENS)
    assert len({tuple(tokens) for tokens in samples.completions.tokens[0]}) > 1
    for num_samples in (1, 3):
        result = choose_solution(samples, strategies.choose_by_log_prob, num_samples)
        np.testing.assert_array_equal(result.num_tokens, samples.completions.length[:, :num_samples].sum(axis=1))
    np.testing.assert_array_equal(
        choose_solution(samples, strategies.choose_by_vote, 1).tokens, samples.completions.tokens[:, 0]
    )


def test_rewrite_resamples_from_the_least_likely_unvisited_step(solve_fns, greedy):
    completions, num_tokens = jax.device_get(solve_fns["rewrite"](split_key(3), PROMPTS, LENGTHS))
    np.testing.assert_array_equal(completions.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(num_tokens[:, 0], greedy.length)
    resampled_positions = set()
    for problem in range(NUM_PROBLEMS):
        visited = set()
        for sample in range(11):
            tokens = completions.tokens[problem, sample, : completions.length[problem, sample]].tolist()
            num_kept = int(completions.length[problem, sample + 1] - num_tokens[problem, sample + 1])
            assert completions.tokens[problem, sample + 1, :num_kept].tolist() == tokens[:num_kept]
            step_starts = [0] + [
                index + 1 for index, token in enumerate(tokens[:-1]) if token in (STEP, BACK, END_THINK, END)
            ]
            step_log_probs = {
                start: float(completions.log_prob[problem, sample, start:end].sum())
                for start, end in zip(step_starts, [*step_starts[1:], len(tokens)], strict=True)
            }
            if set(step_starts) <= visited:
                visited = set()
            assert num_kept in set(step_starts) - visited
            assert step_log_probs[num_kept] == pytest.approx(
                min(step_log_probs[start] for start in set(step_starts) - visited), abs=1e-5
            )
            visited = {start for start in visited if start < num_kept} | {num_kept}
            resampled_positions.add(num_kept)
    assert len(resampled_positions) > 3


def run_step_trees(network, params, key, prompts, lengths, temperature):
    """Step trees with 4 simulations over 4 proposals."""
    limits = {"max_new_tokens": MAX_NEW_TOKENS, "max_step_tokens": MAX_NEW_TOKENS, "max_steps": MAX_NEW_TOKENS}
    options = {"num_proposals": 4, "num_simulations": 4, "temperature": temperature, **limits}
    return solve_by_step_tree(network, params, key, prompts, lengths, **options)


@pytest.fixture(scope="module")
def search(model):
    """`search(params, keys, temperature)` runs `run_step_trees`, by default on all prompts."""
    run = jit(functools.partial(run_step_trees, model[0]))
    return lambda params, keys, temperature, prompts=PROMPTS, lengths=LENGTHS: run(
        params, keys, prompts, lengths, np.float32(temperature)
    )


def test_step_tree_at_low_temperature_equals_greedy_and_counts_tokens(model, greedy, search):
    result = jax.device_get(search(model[1], split_key(4), 1e-4))
    np.testing.assert_array_equal(result.tokens, greedy.tokens)
    np.testing.assert_array_equal(result.length, greedy.length)
    for tokens, length, num_tokens in zip(greedy.tokens, greedy.length, result.num_tokens, strict=True):
        completion = tokens[:length].tolist()
        step_ends = [index + 1 for index, token in enumerate(completion) if token in (STEP, BACK, END_THINK, END)]
        steps = np.diff(sorted({0, *step_ends, int(length)})).tolist()
        # Four proposals at the root. Each decision then simulates the next four steps, each below the one before, and
        # takes the first. Every new node proposes four steps.
        step_lengths = [*steps, *[0] * 5]
        decisions = [
            sum(step_lengths[step + offset] + 4 * step_lengths[step + offset + 1] for offset in (0, 1, 2, 3, 0))
            for step in range(len(steps))
        ]
        assert num_tokens == 4 * steps[0] + sum(decisions)


def test_step_tree_finds_completions_of_higher_value(model, search, samples):
    network, params = model
    # The value head is untrained. A larger bias gives every end a positive value.
    params = {**params, "value_head": {**params["value_head"], "bias": params["value_head"]["bias"] + 4}}
    apply = jit(network.apply)

    def compute_mean_end_value(tokens, length):
        """The mean value before the end token; 0 for completions without one."""
        rows = np.asarray(jit(concat_completion)(PROMPTS, LENGTHS, tokens))
        last = LENGTHS + length - 1
        value = np.asarray(apply(params, rows).value)
        return np.mean(
            np.where(rows[np.arange(NUM_PROBLEMS), last] == END, value[np.arange(NUM_PROBLEMS), last - 1], 0)
        )

    sample_value = np.mean(
        [
            compute_mean_end_value(samples.completions.tokens[:, index], samples.completions.length[:, index])
            for index in range(3)
        ]
    )
    results = jax.device_get([search(params, split_key(seed), 1.0) for seed in range(3)])
    assert np.mean([compute_mean_end_value(result.tokens, result.length) for result in results]) > sample_value + 0.5


def test_beam_of_width_one_equals_greedy(model, greedy):
    result = jit(
        lambda params: strategies.solve_by_beam(
            model[0], params, PROMPTS, LENGTHS, width=1, max_new_tokens=MAX_NEW_TOKENS
        )
    )(model[1])
    np.testing.assert_array_equal(result.tokens, greedy.tokens)
    np.testing.assert_array_equal(result.length, greedy.length)
    np.testing.assert_array_equal(result.num_tokens, greedy.length)


def test_solve_in_batches_pads_the_last_batch(solve_greedy, greedy):
    order = [0, 1, 2, 3, 3, 1]
    result = strategies.solve_in_batches(solve_greedy, jax.random.key(7), PROMPTS[order], LENGTHS[order], 4)
    for actual, expected in zip(result, greedy, strict=True):
        np.testing.assert_array_equal(actual, expected[order])


@pytest.mark.parametrize("method", ["sample_completions", "rewrite", "step_tree"])
def test_solutions_are_equal_alone_and_in_batches_of_any_size(model, solve_fns, search, method):
    def solve(keys, prompts, lengths):
        if method == "step_tree":
            return search(model[1], keys, 1.0, prompts, lengths).tokens
        return solve_fns[method](keys, prompts, lengths).completions.tokens

    keys = split_key(7)
    batch_tokens = np.asarray(solve(keys, PROMPTS, LENGTHS))
    np.testing.assert_array_equal(strategies.solve_in_batches(solve, keys, PROMPTS, LENGTHS, 1), batch_tokens)
    key = jax.random.key(9)
    results = [strategies.solve_in_batches(solve, key, PROMPTS, LENGTHS, batch_size) for batch_size in (1, 4)]
    np.testing.assert_array_equal(*results)


def test_fewer_samples_are_the_first_of_more(model, samples):
    run = jit(
        lambda: strategies.sample_completions(
            *model, split_key(2), PROMPTS, LENGTHS, num_samples=2, max_new_tokens=MAX_NEW_TOKENS
        )
    )
    np.testing.assert_array_equal(run().completions.tokens, samples.completions.tokens[:, :2])


@pytest.mark.parametrize("num_samples", [0, 4])
def test_choose_solution_refuses_invalid_num_samples(num_samples):
    completions = Completions(*np.zeros((5, 2, 3, 6), np.int32))
    with pytest.raises(ValueError, match=f"num_samples {num_samples} is out of range; give 1 to 3"):
        strategies.choose_solution(
            strategies.Samples(completions, np.zeros((2, 3), np.int32)), strategies.choose_by_vote, num_samples
        )


@pytest.mark.parametrize("sample_fn", [strategies.sample_completions, strategies.rewrite])
def test_zero_samples_are_refused(model, sample_fn):
    with pytest.raises(ValueError, match="num_samples 0"):
        sample_fn(*model, jax.random.key(0), PROMPTS, LENGTHS, num_samples=0, max_new_tokens=MAX_NEW_TOKENS)
