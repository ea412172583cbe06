"""Thoughts before text: rows read as if word by word, thoughts that end as they should, and planted rewards found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.learning.optimizers import adamw
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.thoughts.text_thought_training import best_of_group, group_relative, policy_loss, sample_windows
from thinking.reasoning.thoughts.text_thoughts import ThoughtVocabulary, make_fixed_thought, make_thought_policy
from thinking.recipes.lm_think import evaluation
from thinking.recipes.lm_think.evaluation import WindowScores, compute_metrics, evaluate_windows, held_out_windows
from thinking.train_state import apply_gradients, init_train_state

WORDS = ThoughtVocabulary(num_text_tokens=5, num_thought_tokens=4)
CONTEXT, MOST, AHEAD = 3, 3, 2
MODEL = decoder(
    vocab_size=WORDS.vocab_size,
    context_length=CONTEXT + MOST + 1 + AHEAD,
    block=BlockConfig(width=16, num_heads=2, gated=True),
    num_layers=1,
)


@functools.cache
def params():
    return jax.jit(MODEL.init)(jax.random.key(0))


def contexts(rows, seed=1):
    return np.random.default_rng(seed).integers(0, WORDS.num_text_tokens, (rows, CONTEXT), np.int32)


@functools.cache
def sample_thought(kind):
    policy = make_thought_policy(kind, MODEL, WORDS, MOST)
    thought = jax.jit(policy.think)(params(), jax.random.key(2), contexts(64))
    return jax.tree.map(np.asarray, thought)


def score_windows(kind, params, windows):
    policy, key = make_thought_policy(kind, MODEL, WORDS, MOST), jax.random.key(1)
    return evaluate_windows(policy, WORDS, params, windows, CONTEXT, key)


def test_a_plain_thought_is_none_and_a_pause_is_always_the_same():
    assert sample_thought("plain").tokens.shape == (64, 0)
    pause = sample_thought("pause")
    assert {tuple(tokens) for tokens in pause.tokens.tolist()} == {(5, 5, 5, WORDS.end_token)}
    assert set(pause.length.tolist()) == {MOST + 1}
    assert not pause.num_sampled.any()


@pytest.mark.parametrize("kind", ["idle", "judged", "supervised"])
def test_a_thought_depends_on_its_own_key_and_context_alone(kind):
    think = jax.jit(make_thought_policy(kind, MODEL, WORDS, MOST).think)
    keys, order = jax.random.split(jax.random.key(8), 6), np.array([4, 1])
    together = think(params(), keys, contexts(6))
    apart = think(params(), keys[order], contexts(6)[order])
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, other[order]), apart, together)


def test_windows_think_alike_in_batches_of_any_size(monkeypatch):
    windows = np.random.default_rng(5).integers(0, WORDS.num_text_tokens, (6, CONTEXT + AHEAD), np.int32)
    at_once = score_windows("supervised", params(), windows)
    monkeypatch.setattr(evaluation, "BATCH_SIZE", 2)
    in_parts = score_windows("supervised", params(), windows)
    np.testing.assert_array_equal(in_parts.thoughts, at_once.thoughts)


def test_an_idle_thought_is_none_or_anything():
    thought = sample_thought("idle")
    assert set(thought.length.tolist()) == {0, 1, 2, 3, 4}
    assert 0.3 < np.mean(thought.length == 0) < 0.7
    for tokens, length in zip(thought.tokens.tolist(), thought.length.tolist(), strict=True):
        assert tokens[max(length - 1, 0) :] == ([WORDS.end_token] if length else []) + [0] * (MOST + 1 - length)
        assert all(WORDS.num_text_tokens <= token < WORDS.end_token for token in tokens[: max(length - 1, 0)])
    assert not thought.num_sampled.any()


def test_a_judged_thought_has_its_length_and_its_own_tokens():
    thought = sample_thought("judged")
    assert set(thought.tokens[:, :MOST].ravel().tolist()) == {5, 6, 7, 8}
    assert (thought.tokens[:, MOST] == WORDS.end_token).all()
    assert set(thought.length.tolist()) == {MOST + 1}
    assert set(thought.num_sampled.tolist()) == {MOST}


def test_a_supervised_thought_ends_itself_or_is_ended():
    thought = sample_thought("supervised")
    for tokens, length, chosen in zip(*(leaf.tolist() for leaf in thought), strict=True):
        assert tokens.index(WORDS.end_token) == length - 1
        assert all(WORDS.num_text_tokens <= token < WORDS.end_token for token in tokens[: length - 1])
        assert not any(tokens[length:])
        assert chosen == min(length, MOST)
    assert set(thought.length.tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["plain", "supervised"])
def test_rows_are_read_as_word_by_word(kind):
    """Each word is told by itself, from what stands before it, among the words that may stand there."""
    thought = jax.tree.map(lambda leaf: leaf[:6], sample_thought(kind))
    prompts, continuation = contexts(64)[:6], contexts(6, seed=3)[:, :AHEAD]
    log_probs = jax.device_get(
        jax.jit(make_thought_policy(kind, MODEL, WORDS, MOST).compute_log_probs)(
            params(), prompts, thought, continuation
        )
    )
    last = WORDS.end_token + (kind == "supervised")
    apply = jax.jit(MODEL.apply)

    def log_prob(row, place, start, stop):
        before = np.zeros((1, MODEL.context_length), np.int32)
        before[0, :place] = row[:place]
        logits = np.asarray(apply(params(), before).logits, np.float64)[0, place - 1, start:stop]
        return logits[row[place] - start] - np.log(np.exp(logits).sum())

    for index in range(6):
        length = int(thought.length[index])
        row = [*prompts[index].tolist(), *thought.tokens[index, :length].tolist(), *continuation[index].tolist()]
        text = [
            log_prob(row, place, 0, WORDS.num_text_tokens)
            for place in range(1, len(row))
            if row[place] < WORDS.num_text_tokens
        ]
        np.testing.assert_allclose(log_probs.context[index], sum(text[: CONTEXT - 1]), atol=1e-4)
        np.testing.assert_allclose(log_probs.continuation[index], sum(text[CONTEXT - 1 :]), atol=1e-4)
        chosen = range(CONTEXT, CONTEXT + int(thought.num_sampled[index]))
        each = [log_prob(row, place, WORDS.num_text_tokens, last) for place in chosen]
        np.testing.assert_allclose(log_probs.thought[index, CONTEXT - 1 :][: len(each)], each, atol=1e-4)
        assert log_probs.sampled_mask[index].sum() == len(each) == (log_probs.thought[index] != 0).sum()


def train_thoughts(kind, reward_fn, advantage_fn, steps=60, group=8):
    """Thoughts after learning from a worth of their own: nothing but the policy's loss is descended."""
    policy, optimizer = make_thought_policy(kind, MODEL, WORDS, MOST), adamw(0.01, weight_decay=0.0)
    prompts = np.repeat(contexts(8), group, axis=0)
    continuation = np.zeros((len(prompts), AHEAD), np.int32)

    def step(train_state, key):
        thought = policy.think(train_state.params, key, prompts)
        advantage = advantage_fn(reward_fn(thought), group)
        slope = jax.grad(
            lambda params: policy_loss(policy.compute_log_probs(params, prompts, thought, continuation), advantage)
        )
        return apply_gradients(train_state, optimizer, slope(train_state.params)), None

    @jax.jit
    def run(params, key):
        train_key, sample_key = jax.random.split(key)
        train_state = init_train_state(params, optimizer)
        train_state, _ = jax.lax.scan(step, train_state, jax.random.split(train_key, steps))
        return policy.think(train_state.params, sample_key, prompts)

    return jax.device_get(run(params(), jax.random.key(0)))


def test_a_thought_whose_reward_is_planted_is_found():
    def reward_fn(thought):
        return jnp.sum((thought.tokens == 7).astype(jnp.float32), axis=1)

    result = train_thoughts("judged", reward_fn, group_relative)
    assert np.mean(result.tokens[:, :MOST] == 7) > 0.9


def test_imitation_learns_when_to_stop():
    def reward_fn(thought):
        return jnp.where(thought.length == 2, 1.0, -1.0)

    result = train_thoughts("supervised", reward_fn, best_of_group)
    assert np.mean(result.length == 2) > 0.9


def test_credit_is_told_within_groups_and_against_the_reference():
    gain = np.float32([1, 3, -1, -3])
    by_group_of, by_best_of = (
        jax.jit(advantage_fn, static_argnums=1) for advantage_fn in (group_relative, best_of_group)
    )
    np.testing.assert_allclose(by_group_of(gain, 2), [-1, 1, 1, -1], atol=1e-6)
    # Without others in its group a thought is told from all windows.
    np.testing.assert_allclose(by_group_of(gain, 1), (gain - gain.mean()) / gain.std(), atol=1e-6)
    # The best of the second window was worth less than no thought.
    assert by_best_of(gain, 2).tolist() == [0, 1, 0, 0]


def test_windows_are_parts_of_the_text():
    text = np.arange(100, 150)
    result = np.asarray(jax.jit(sample_windows, static_argnums=(2, 3))(text, jax.random.key(0), 500, 10))
    assert set((result[:, 0]).tolist()) == set(range(100, 141))
    assert (result - result[:, :1] == np.arange(10)[None]).all()
    even = held_out_windows(np.arange(100, 150), 5, 10)
    assert even[:, 0].tolist() == [100, 110, 120, 130, 140]
    assert len(held_out_windows(np.arange(12), 50, 10)) == 3


@pytest.fixture
def windows(monkeypatch):
    """More of them than are read together, and not a multiple of that."""
    monkeypatch.setattr("thinking.recipes.lm_think.evaluation.BATCH_SIZE", 4)
    return np.random.default_rng(0).integers(0, WORDS.num_text_tokens, (10, CONTEXT + AHEAD), np.int32)


def test_a_uniform_model_needs_the_logarithm_of_its_words(windows):
    silent = jax.tree.map(np.zeros_like, jax.device_get(params()))
    scores = score_windows("pause", silent, windows)
    result = compute_metrics(scores, windows[:, CONTEXT:], np.ones(WORDS.num_text_tokens, int), scores)
    assert result["bits_per_byte"] == pytest.approx(np.log2(WORDS.num_text_tokens), abs=1e-5)
    assert result["others_thought"] == pytest.approx(np.log2(WORDS.num_text_tokens), abs=1e-5)
    assert (result["saved"], result["saved_error"], result["helped"]) == (0, 0, 0)
    assert (result["thought_tokens"], result["computed_per_token"]) == (MOST, (MOST + 1 + AHEAD) / AHEAD)


def test_each_window_is_examined_once(windows):
    scores = score_windows("pause", params(), windows)
    read = jax.jit(make_thought_policy("pause", MODEL, WORDS, MOST).compute_log_probs)
    for thought, result in {(5,) * MOST + (WORDS.end_token,): scores.own, (WORDS.end_token,): scores.empty}.items():
        log_probs = read(params(), windows[:, :CONTEXT], make_fixed_thought(thought, 10), windows[:, CONTEXT:])
        np.testing.assert_allclose(result, log_probs.continuation, atol=1e-5)
    np.testing.assert_allclose(scores.other, scores.own, atol=1e-5)


def test_what_thoughts_are_worth_is_told_against_the_plain_model():
    log2 = np.log(2)
    thoughts = np.full((2, 3), WORDS.num_text_tokens)
    scores = WindowScores(
        -log2 * np.array([2, 4]), -log2 * np.array([3, 3]), -log2 * np.array([8, 8]), thoughts, np.array([3, 2])
    )
    plain = WindowScores(-log2 * np.array([4, 4]), *scores[1:3], thoughts[:, :0], np.array([0, 0]))
    continuation, sizes = np.array([[0], [1]]), np.array([1, 3])
    result = compute_metrics(scores, continuation, sizes, plain)
    # Windows of 1 and 3 bytes took 6 bits; they take 8 without thinking, and 16 behind thoughts about each other.
    assert result["bits_per_byte"] == pytest.approx(6 / 4)
    assert result["saved"] == pytest.approx(2 / 4)
    assert result["saved_error"] == pytest.approx(np.sqrt(2) / 4)
    assert result["others_thought"] == pytest.approx(16 / 4)
    assert (result["helped"], result["thought_tokens"], result["computed_per_token"]) == (0.5, 1.5, 3.5)
    alone = compute_metrics(plain, continuation, sizes, None)
    assert (alone["saved"], alone["helped"], alone["others_thought"]) == (None, None, None)
    assert (alone["thought_tokens"], alone["computed_per_token"]) == (0, 1)
