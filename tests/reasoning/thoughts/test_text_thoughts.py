"""Thoughts before text: their tokens, log-probabilities, training and evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.learning.optimizers import adamw
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.thoughts.text_thought_training import (
    normalize_gains_by_group,
    policy_loss,
    sample_windows,
    select_best_of_group,
)
from thinking.reasoning.thoughts.text_thoughts import (
    LogProbs,
    ThoughtVocabulary,
    make_fixed_thought,
    make_thought_policy,
)
from thinking.recipes.lm_think import evaluation
from thinking.recipes.lm_think.evaluation import WindowScores, compute_metrics, evaluate_windows, held_out_windows
from thinking.train_state import apply_gradients, init_train_state

VOCABULARY = ThoughtVocabulary(num_text_tokens=5, num_thought_tokens=4)
CONTEXT_LENGTH, MAX_THOUGHT_LENGTH, CONTINUATION_LENGTH = 3, 3, 2
MODEL = decoder(
    vocab_size=VOCABULARY.vocab_size,
    context_length=CONTEXT_LENGTH + MAX_THOUGHT_LENGTH + 1 + CONTINUATION_LENGTH,
    block=BlockConfig(width=16, num_heads=2, gated=True),
    num_layers=1,
)


@functools.cache
def get_params():
    return jax.jit(MODEL.init)(jax.random.key(0))


def make_contexts(num_rows, seed=1):
    return np.random.default_rng(seed).integers(0, VOCABULARY.num_text_tokens, (num_rows, CONTEXT_LENGTH), np.int32)


@functools.cache
def make_policy(kind):
    """The policy of a kind, with jitted functions."""
    policy = make_thought_policy(kind, MODEL, VOCABULARY, MAX_THOUGHT_LENGTH)
    return policy._replace(think=jax.jit(policy.think), compute_log_probs=jax.jit(policy.compute_log_probs))


@functools.cache
def split_keys(num_keys=64):
    return jax.random.split(jax.random.key(2), num_keys)


@functools.cache
def sample_thought(kind):
    return jax.device_get(make_policy(kind).think(get_params(), split_keys(), make_contexts(64)))


def score_windows(kind, params, windows):
    return evaluate_windows(make_policy(kind), VOCABULARY, params, windows, CONTEXT_LENGTH, jax.random.key(1))


def test_none_thought_is_empty_and_pause_thought_is_constant():
    assert sample_thought("none").tokens.shape == (64, 0)
    pause = sample_thought("pause")
    assert {tuple(tokens) for tokens in pause.tokens.tolist()} == {(5, 5, 5, VOCABULARY.end_token)}
    assert set(pause.length.tolist()) == {MAX_THOUGHT_LENGTH + 1}
    assert not pause.num_sampled.any()


@pytest.mark.parametrize("kind", ["random_filler", "reinforced", "expert_iteration"])
def test_thought_depends_only_on_its_key_and_context(kind):
    order, is_kept = np.random.default_rng(0).permutation(64), np.arange(64) % 2 == 0
    # Half of the rows are those of the batch in another order; the others have other contexts.
    contexts = np.where(is_kept[:, None], make_contexts(64)[order], make_contexts(64, seed=2))
    thought = jax.device_get(make_policy(kind).think(get_params(), split_keys()[order], contexts))
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x[is_kept], y[order][is_kept]), thought, sample_thought(kind)
    )


def test_thoughts_of_windows_do_not_depend_on_the_batch_size(monkeypatch):
    windows = np.random.default_rng(5).integers(
        0, VOCABULARY.num_text_tokens, (6, CONTEXT_LENGTH + CONTINUATION_LENGTH), np.int32
    )
    expected = score_windows("expert_iteration", get_params(), windows)
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 2)
    result = score_windows("expert_iteration", get_params(), windows)
    np.testing.assert_array_equal(result.thoughts, expected.thoughts)


def test_random_filler_thought_is_empty_or_random():
    thought = sample_thought("random_filler")
    assert set(thought.length.tolist()) == {0, 1, 2, 3, 4}
    assert 0.3 < np.mean(thought.length == 0) < 0.7
    for tokens, length in zip(thought.tokens.tolist(), thought.length.tolist(), strict=True):
        assert tokens[max(length - 1, 0) :] == ([VOCABULARY.end_token] if length else []) + [0] * (
            MAX_THOUGHT_LENGTH + 1 - length
        )
        assert all(VOCABULARY.num_text_tokens <= token < VOCABULARY.end_token for token in tokens[: max(length - 1, 0)])
    assert not thought.num_sampled.any()


def test_reinforced_thought_has_fixed_length_and_sampled_tokens():
    thought = sample_thought("reinforced")
    assert set(thought.tokens[:, :MAX_THOUGHT_LENGTH].ravel().tolist()) == {5, 6, 7, 8}
    assert (thought.tokens[:, MAX_THOUGHT_LENGTH] == VOCABULARY.end_token).all()
    assert set(thought.length.tolist()) == {MAX_THOUGHT_LENGTH + 1}
    assert set(thought.num_sampled.tolist()) == {MAX_THOUGHT_LENGTH}


def test_expert_iteration_thought_ends_with_a_sampled_or_forced_token():
    thought = sample_thought("expert_iteration")
    for tokens, length, num_sampled in zip(*(leaf.tolist() for leaf in thought), strict=True):
        assert tokens.index(VOCABULARY.end_token) == length - 1
        assert all(VOCABULARY.num_text_tokens <= token < VOCABULARY.end_token for token in tokens[: length - 1])
        assert not any(tokens[length:])
        assert num_sampled == min(length, MAX_THOUGHT_LENGTH)
    assert set(thought.length.tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["none", "expert_iteration"])
def test_log_probs_equal_token_by_token_evaluation(kind):
    """Each token is scored separately, given the tokens before it, among the tokens allowed at its position."""
    thought = jax.tree.map(lambda leaf: leaf[:6], sample_thought(kind))
    prompts, continuation = make_contexts(64)[:6], make_contexts(6, seed=3)[:, :CONTINUATION_LENGTH]
    log_probs = jax.device_get(make_policy(kind).compute_log_probs(get_params(), prompts, thought, continuation))
    stop_token = VOCABULARY.end_token + (kind == "expert_iteration")
    apply = jax.jit(MODEL.apply)

    def log_prob(row, position, start, stop):
        prefix = np.zeros((1, MODEL.context_length), np.int32)
        prefix[0, :position] = row[:position]
        logits = np.asarray(apply(get_params(), prefix).logits, np.float64)[0, position - 1, start:stop]
        return logits[row[position] - start] - np.log(np.exp(logits).sum())

    for index in range(6):
        length = int(thought.length[index])
        row = [*prompts[index].tolist(), *thought.tokens[index, :length].tolist(), *continuation[index].tolist()]
        text_log_probs = [
            log_prob(row, position, 0, VOCABULARY.num_text_tokens)
            for position in range(1, len(row))
            if row[position] < VOCABULARY.num_text_tokens
        ]
        np.testing.assert_allclose(log_probs.context[index], sum(text_log_probs[: CONTEXT_LENGTH - 1]), atol=1e-4)
        np.testing.assert_allclose(log_probs.continuation[index], sum(text_log_probs[CONTEXT_LENGTH - 1 :]), atol=1e-4)
        sampled_positions = range(CONTEXT_LENGTH, CONTEXT_LENGTH + int(thought.num_sampled[index]))
        thought_log_probs = [
            log_prob(row, position, VOCABULARY.num_text_tokens, stop_token) for position in sampled_positions
        ]
        np.testing.assert_allclose(
            log_probs.thought[index, CONTEXT_LENGTH - 1 :][: len(thought_log_probs)], thought_log_probs, atol=1e-4
        )
        assert log_probs.sampled_mask[index].sum() == len(thought_log_probs) == (log_probs.thought[index] != 0).sum()


def train_thoughts(kind, reward_fn, advantage_fn, num_steps=60, num_generations=8):
    """Thoughts after training on the policy loss alone."""
    policy, optimizer = make_thought_policy(kind, MODEL, VOCABULARY, MAX_THOUGHT_LENGTH), adamw(0.01, weight_decay=0.0)
    prompts = np.repeat(make_contexts(8), num_generations, axis=0)
    continuation = np.zeros((len(prompts), CONTINUATION_LENGTH), np.int32)

    def step(train_state, key):
        thought = policy.think(train_state.params, key, prompts)
        advantage = advantage_fn(reward_fn(thought), num_generations)
        grad_fn = jax.grad(
            lambda params: policy_loss(policy.compute_log_probs(params, prompts, thought, continuation), advantage)
        )
        return apply_gradients(train_state, optimizer, grad_fn(train_state.params)), None

    @jax.jit
    def run(params, key):
        train_key, sample_key = jax.random.split(key)
        train_state = init_train_state(params, optimizer)
        train_state, _ = jax.lax.scan(step, train_state, jax.random.split(train_key, num_steps))
        return policy.think(train_state.params, sample_key, prompts)

    return jax.device_get(run(get_params(), jax.random.key(0)))


@jax.jit
def loss_and_gradient(log_probs, advantage):
    def loss(thought):
        return policy_loss(log_probs._replace(thought=thought), advantage)

    return jax.value_and_grad(loss)(log_probs.thought)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, -200.0])
def test_masked_log_probs_do_not_change_policy_loss_or_gradient(bad):
    mask = np.float32([[1, 1, 0], [0, 0, 0], [0, 1, 1]])
    log_probs = LogProbs(np.zeros(3), np.zeros(3), np.where(mask > 0, np.float32(-1.5), 0), np.zeros((3, 3)), mask)
    advantage = np.float32([1, 0.5, -3])

    expected = loss_and_gradient(log_probs, advantage)
    bad_thought = np.where(mask > 0, log_probs.thought, np.float32(bad))
    actual = loss_and_gradient(log_probs._replace(thought=bad_thought), np.float32([1, bad, -3]))
    assert float(expected[0]) == pytest.approx((2 * 1 - 2 * 3) * 1.5 / 8)
    jax.tree.map(np.testing.assert_array_equal, expected, actual)


def test_group_relative_training_finds_the_rewarded_token():
    def reward_fn(thought):
        return jnp.sum((thought.tokens == 7).astype(jnp.float32), axis=1)

    result = train_thoughts("reinforced", reward_fn, normalize_gains_by_group)
    assert np.mean(result.tokens[:, :MAX_THOUGHT_LENGTH] == 7) > 0.9


def test_imitation_learns_the_rewarded_length():
    def reward_fn(thought):
        return jnp.where(thought.length == 2, 1.0, -1.0)

    result = train_thoughts("expert_iteration", reward_fn, select_best_of_group)
    assert np.mean(result.length == 2) > 0.9


def test_gains_are_normalized_by_group_or_its_best_is_selected():
    gain = np.float32([1, 3, -1, -3])
    normalize, select_best = (
        jax.jit(advantage_fn, static_argnums=1) for advantage_fn in (normalize_gains_by_group, select_best_of_group)
    )
    np.testing.assert_allclose(normalize(gain, 2), [-1, 1, 1, -1], atol=1e-6)
    # A group of one is normalised over all windows.
    np.testing.assert_allclose(normalize(gain, 1), (gain - gain.mean()) / gain.std(), atol=1e-6)
    # The best thought of the second window has a negative gain.
    assert select_best(gain, 2).tolist() == [0, 1, 0, 0]


def test_windows_are_contiguous_parts_of_the_text():
    text = np.arange(100, 150)
    result = np.asarray(jax.jit(sample_windows, static_argnums=(2, 3))(text, jax.random.key(0), 500, 10))
    assert set((result[:, 0]).tolist()) == set(range(100, 141))
    assert (result - result[:, :1] == np.arange(10)[None]).all()
    even_windows = held_out_windows(np.arange(100, 150), 5, 10)
    assert even_windows[:, 0].tolist() == [100, 110, 120, 130, 140]
    assert len(held_out_windows(np.arange(12), 50, 10)) == 3


@pytest.fixture
def windows(monkeypatch):
    """More windows than a batch, and not a multiple of its size."""
    monkeypatch.setattr("thinking.recipes.lm_think.evaluation.BATCH_SIZE", 4)
    return np.random.default_rng(0).integers(
        0, VOCABULARY.num_text_tokens, (10, CONTEXT_LENGTH + CONTINUATION_LENGTH), np.int32
    )


def test_uniform_model_needs_log2_of_the_vocabulary_size(windows):
    zero_params = jax.tree.map(np.zeros_like, jax.device_get(get_params()))
    scores = score_windows("pause", zero_params, windows)
    result = compute_metrics(scores, windows[:, CONTEXT_LENGTH:], np.ones(VOCABULARY.num_text_tokens, int), scores)
    assert result["bits_per_byte"] == pytest.approx(np.log2(VOCABULARY.num_text_tokens), abs=1e-5)
    assert result["bits_per_byte_with_shuffled_thoughts"] == pytest.approx(
        np.log2(VOCABULARY.num_text_tokens), abs=1e-5
    )
    assert (result["bits_per_byte_saved"], result["bits_per_byte_saved_stderr"], result["fraction_improved"]) == (
        0,
        0,
        0,
    )
    assert (result["mean_thought_length"], result["positions_per_token"]) == (
        MAX_THOUGHT_LENGTH,
        (MAX_THOUGHT_LENGTH + 1 + CONTINUATION_LENGTH) / CONTINUATION_LENGTH,
    )


def test_each_window_is_evaluated_once(windows):
    scores = score_windows("pause", get_params(), windows)
    compute_log_probs = make_policy("pause").compute_log_probs
    for thought, result in {
        (5,) * MAX_THOUGHT_LENGTH + (VOCABULARY.end_token,): scores.own_thought,
        (VOCABULARY.end_token,): scores.empty_thought,
    }.items():
        log_probs = compute_log_probs(
            get_params(), windows[:, :CONTEXT_LENGTH], make_fixed_thought(thought, 10), windows[:, CONTEXT_LENGTH:]
        )
        np.testing.assert_allclose(result, log_probs.continuation, atol=1e-5)
    np.testing.assert_allclose(scores.other_thought, scores.own_thought, atol=1e-5)


def test_metrics_compare_with_the_baseline():
    log2 = np.log(2)
    thoughts = np.full((2, 3), VOCABULARY.num_text_tokens)
    scores = WindowScores(
        -log2 * np.array([2, 4]), -log2 * np.array([3, 3]), -log2 * np.array([8, 8]), thoughts, np.array([3, 2])
    )
    baseline = WindowScores(-log2 * np.array([4, 4]), *scores[1:3], thoughts[:, :0], np.array([0, 0]))
    continuation, token_bytes = np.array([[0], [1]]), np.array([1, 3])
    result = compute_metrics(scores, continuation, token_bytes, baseline)
    # Windows of 1 and 3 bytes take 6 bits, 8 without thoughts, and 16 after the thoughts of each other.
    assert result["bits_per_byte"] == pytest.approx(6 / 4)
    assert result["bits_per_byte_saved"] == pytest.approx(2 / 4)
    assert result["bits_per_byte_saved_stderr"] == pytest.approx(np.sqrt(2) / 4)
    assert result["bits_per_byte_with_shuffled_thoughts"] == pytest.approx(16 / 4)
    assert (result["fraction_improved"], result["mean_thought_length"], result["positions_per_token"]) == (
        0.5,
        1.5,
        3.5,
    )
    baseline_metrics = compute_metrics(baseline, continuation, token_bytes, None)
    assert (
        baseline_metrics["bits_per_byte_saved"],
        baseline_metrics["fraction_improved"],
        baseline_metrics["bits_per_byte_with_shuffled_thoughts"],
    ) == (
        None,
        None,
        None,
    )
    assert (baseline_metrics["mean_thought_length"], baseline_metrics["positions_per_token"]) == (0, 1)
