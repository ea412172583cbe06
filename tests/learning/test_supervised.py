"""The next-token loss against a loop and optax, gradient accumulation, and training against the source's entropy."""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.experiment import interruption
from thinking.experiment.config_fields import RunConfig
from thinking.experiment.folder import Run
from thinking.experiment.training_loop import train
from thinking.learning.optimizers import adamw, warmup_cosine, warmup_stable_decay
from thinking.learning.supervised import LossSums, make_supervised_update, mean_metrics, next_token_sums
from thinking.text.packing import PackedRows, pack, sample_row_indices
from thinking.train_state import init_train_state
from thinking.trees import digest

hypothesis_settings = settings(max_examples=25, deadline=None, derandomize=True)
B, T, V = 4, 6, 5


def mean_loss(logits, tokens, weights, segments=None):
    metrics = mean_metrics(next_token_sums(logits, tokens, weights, segments))
    return metrics["loss"], metrics


loss_and_gradient = jit(jax.value_and_grad(mean_loss, has_aux=True))


def random_batch(seed, dtype=np.float32):
    """Logits [B, T, V], tokens, and two sequences packed into most rows, with weights."""
    rng = np.random.default_rng(seed)
    # Few different logits, so that the argmax is often tied.
    logits = rng.integers(-3, 4, (B, T, V)).astype(dtype)
    ends = np.sort(rng.integers(0, T + 1, (B, 2)), axis=1)
    position = np.arange(T)[None]
    segments = np.where(position < ends[:, :1], 1, np.where(position < ends[:, 1:], 2, 0)).astype(np.int32)
    tokens = rng.integers(0, V, (B, T)).astype(np.int32)
    return logits, tokens, rng.choice([0, 0.5, 1, 2], (B, T)).astype(np.float32), segments


@given(st.integers(0, 2**31))
@hypothesis_settings
def test_loss_matches_a_loop_over_pairs_within_segments(seed):
    logits, tokens, weights, segments = random_batch(seed)
    loss = num_correct = total = 0.0
    for b in range(B):
        for t in range(T - 1):
            if segments[b, t] == segments[b, t + 1] != 0:
                weight, token = float(weights[b, t + 1]), tokens[b, t + 1]
                unnormalised = np.exp(logits[b, t].astype(np.float64))
                loss -= weight * np.log(unnormalised[token] / unnormalised.sum())
                num_correct += weight * (np.argmax(logits[b, t]) == token)
                total += weight
    (actual, metrics), gradient = loss_and_gradient(logits, tokens, weights, segments)
    assert float(metrics["num_tokens"]) == total
    assert float(actual) == float(metrics["loss"]) == pytest.approx(loss / max(total, 1e-9), rel=1e-5, abs=1e-6)
    assert float(metrics["mean_token_accuracy"]) == pytest.approx(num_correct / max(total, 1e-9), rel=1e-6)
    assert np.isfinite(gradient).all()


def test_loss_and_gradient_without_segments_match_optax():
    logits, tokens, weights, _ = random_batch(0)
    (actual, _), gradient = loss_and_gradient(logits, tokens, weights, None)

    def optax_loss(logits):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
        return jnp.average(losses, weights=weights[:, 1:])

    expected, expected_gradient = jit(jax.value_and_grad(optax_loss))(logits)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)


def test_bfloat16_logits_are_summed_in_float32():
    logits, tokens, weights, segments = random_batch(1, jnp.bfloat16)  # integers, which are exact in bfloat16
    (actual, metrics), gradient = loss_and_gradient(logits, tokens, weights, segments)
    assert {metric.dtype for metric in metrics.values()} == {jnp.dtype("float32")}
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        actual, loss_and_gradient(logits.astype(np.float32), tokens, weights, segments)[0][0], rtol=1e-6
    )


def test_zero_weights_give_zero_loss_and_gradient():
    logits, tokens, weights, segments = random_batch(2)
    for weights_and_segments in ((weights * 0, segments), (weights, segments * 0)):
        (loss, metrics), gradient = loss_and_gradient(logits, tokens * 0 - 100, *weights_and_segments)
        assert (float(loss), *map(float, metrics.values())) == (0, 0, 0, 0)
        assert not gradient.any()


@pytest.mark.parametrize(
    ("shape_change", "message"),
    [
        ({"logits": (B, V)}, r"logits have shape \(4, 5\); give \[B, T, V\]"),
        ({"tokens": (B, T - 1)}, r"tokens have shape \(4, 5\); give \(4, 6\), as the logits have"),
        ({"segments": (B, 1)}, r"segments have shape \(4, 1\)"),
    ],
)
def test_mismatched_shapes_are_rejected(shape_change, message):
    shapes = {"logits": (B, T, V), "tokens": (B, T), "weights": (B, T), "segments": (B, T)} | shape_change
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda arguments: next_token_sums(**arguments), {name: jnp.zeros(s, int) for name, s in shapes.items()}
        )


def bigram(params, batch, key):
    """A bigram model: an embedding, and a linear map from it to logits."""
    del key
    logits = params["embedding"][batch.tokens] @ params["weight"] + params["bias"][None, None]
    return next_token_sums(logits, batch.tokens, batch.weights, batch.segments)


def init_bigram_state(optimizer):
    rng = np.random.default_rng(0)
    params = {
        "embedding": rng.normal(size=(V, 8)).astype(np.float32),
        "weight": 0.1 * rng.normal(size=(8, V)).astype(np.float32),
        "bias": np.zeros(V, np.float32),
    }
    params = jax.tree.map(jnp.asarray, params)
    return init_train_state(params, optimizer)


def test_gradient_accumulation_equals_the_whole_batch():
    optimizer = optax.sgd(1.0)  # its step is the gradient
    _, tokens, weights, segments = random_batch(3)
    segments = np.maximum(segments, 1)
    weights = weights * np.array([[1.0], [0.0], [3.0], [0.1]], np.float32)  # one step has much weight, one has none
    batch, train_state, key = PackedRows(tokens, segments, weights), init_bigram_state(optimizer), jax.random.key(0)
    expected_loss, expected_gradient = jit(
        jax.value_and_grad(lambda params: weighted_mean(bigram(params, batch, key)))
    )(train_state.params)
    for accumulation_steps in (1, 2, B):
        new_state, metrics = jit(make_supervised_update(bigram, optimizer, accumulation_steps=accumulation_steps))(
            train_state, batch, key
        )
        steps = jax.tree.map(lambda after, before: before - after, new_state.params, train_state.params)
        jax.tree.map(
            lambda step, expected: np.testing.assert_allclose(step, expected, atol=1e-6), steps, expected_gradient
        )
        assert float(metrics["loss"]) == pytest.approx(float(expected_loss), rel=1e-6)
        assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(expected_gradient)), rel=1e-5)
        assert set(metrics) == {"loss", "mean_token_accuracy", "num_tokens", "grad_norm"}
        assert {(metric.shape, metric.dtype.name) for metric in metrics.values()} == {((), "float32")}


def weighted_mean(sums):
    return sums.loss / sums.weight


def test_each_accumulation_step_has_its_own_key():
    def random_loss(params, batch, key):
        del batch
        return LossSums(params * jax.random.normal(key), jnp.ones(()), {})

    update = make_supervised_update(random_loss, optax.sgd(1.0), accumulation_steps=2)
    train_state, _ = jit(update)(init_train_state(jnp.zeros(()), optax.sgd(1.0)), jnp.zeros(2), jax.random.key(5))
    samples = [float(jax.random.normal(key)) for key in jax.random.split(jax.random.key(5))]
    assert float(train_state.params) == pytest.approx(-np.mean(samples))


def test_grad_norm_is_before_clipping_and_zero_without_weight():
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    _, tokens, weights, segments = random_batch(4)
    train_state, update = init_bigram_state(optimizer), jit(make_supervised_update(bigram, optimizer))
    new_state, metrics = update(train_state, PackedRows(tokens, segments, weights), jax.random.key(0))
    step = jax.tree.map(lambda after, before: after - before, new_state.params, train_state.params)
    assert float(optax.tree.norm(step)) == pytest.approx(1e-3, rel=1e-3)
    assert float(metrics["grad_norm"]) > 0.01
    new_state, metrics = update(train_state, PackedRows(tokens, segments, weights * 0), jax.random.key(0))
    assert set(map(float, metrics.values())) == {0.0}
    assert digest(new_state.params) == digest(train_state.params)


def test_accumulation_steps_must_divide_the_rows():
    with pytest.raises(ValueError, match="accumulation_steps 3 does not divide 4 rows; take a divisor"):
        jax.eval_shape(
            make_supervised_update(bigram, optax.sgd(1.0), accumulation_steps=3),
            init_bigram_state(optax.sgd(1.0)),
            random_batch(0),
            jax.random.key(0),
        )
    with pytest.raises(ValueError, match="accumulation_steps 0 is out of range"):
        make_supervised_update(bigram, optax.sgd(1.0), accumulation_steps=0)


STEPS, CHUNK = 120, 40


def make_markov_chain():
    """Transition probabilities [V, V] of words, and their stationary distribution [V]."""
    transition_probs = np.random.default_rng(0).dirichlet(np.full(V, 0.5), V)
    stationary_probs = np.linalg.matrix_power(transition_probs, 1000)[0]
    return transition_probs, stationary_probs


def sample_packed_texts(num_texts):
    """Texts of 4 to 16 words, started from the stationary distribution, packed into rows of 32."""
    transition_probs, stationary_probs = make_markov_chain()
    rng, sequences = np.random.default_rng(1), []
    for _ in range(num_texts):
        words = [rng.choice(V, p=stationary_probs)]
        while len(words) < rng.integers(4, 17):
            words.append(rng.choice(V, p=transition_probs[words[-1]]))
        sequences.append(words)
    return pack(sequences, 32)


@pytest.fixture(scope="module")
def train_in_folder():
    """`train_in_folder(folder, interrupt_step=None)`: trains in a folder; a signal interrupts it at that step."""
    optimizer = adamw(warmup_cosine(0.1, STEPS, 10), weight_decay=0.0)
    update, rows = (
        make_supervised_update(bigram, optimizer, accumulation_steps=2),
        jax.tree.map(jnp.asarray, sample_packed_texts(1200)),
    )

    def step(train_state, index):
        indices = sample_row_indices(jax.random.key(2), index, len(rows.tokens), 64)
        return update(train_state, jax.tree.map(lambda leaf: leaf[indices], rows), jax.random.key(0))

    def run(folder, interrupt_step=None):
        return run_training(folder, interrupt_step, lambda: init_bigram_state(optimizer), step, STEPS, CHUNK)

    return run


def run_training(folder, interrupt_step, init, step, num_steps, chunk_size):
    """Trains a stage; a signal comes at `interrupt_step`. Returns the final state, or None if interrupted."""

    def mirror(stage, step_number, metrics):
        if step_number == interrupt_step:
            os.kill(os.getpid(), signal.SIGINT)

    run = Run(folder=folder, config=RunConfig(), metric_writers=(mirror,))
    try:
        with interruption.catch_signals():
            return train(
                run, "model", init=init, step=step, num_steps=num_steps, chunk_size=chunk_size, progress_metric="loss"
            ).state
    except interruption.Interrupted:
        return None


@pytest.fixture(scope="module")
def uninterrupted_run(train_in_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return train_in_folder(folder), [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_bigram_model_reaches_the_entropy_of_its_source(uninterrupted_run):
    train_state, metrics = uninterrupted_run
    transition_probs, stationary_probs = make_markov_chain()
    entropy = -np.sum(stationary_probs[:, None] * transition_probs * np.log(np.maximum(transition_probs, 1e-300)))
    params = jax.tree.map(np.asarray, train_state.params)
    logits = params["embedding"] @ params["weight"] + params["bias"]
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    # The cross-entropy over the whole distribution of the source.
    assert entropy <= -np.sum(stationary_probs[:, None] * transition_probs * log_probs) < 1.02 * entropy
    assert metrics[-1]["loss"] == pytest.approx(entropy, rel=0.02)
    assert metrics[-1]["mean_token_accuracy"] == pytest.approx(
        np.sum(stationary_probs * transition_probs.max(axis=1)), rel=0.05
    )
    assert metrics[0]["loss"] > 1.05 * entropy


def test_interrupted_training_ends_with_identical_params(train_in_folder, uninterrupted_run, tmp_path):
    assert train_in_folder(tmp_path, interrupt_step=CHUNK) is None
    assert digest(train_in_folder(tmp_path)) == digest(uninterrupted_run[0])


def test_learning_rate_schedule_continues_after_an_interruption(tmp_path):
    # With a constant gradient each Adam step equals the learning rate, so the parameter is minus their sum.
    optimizer = adamw(warmup_stable_decay(0.1, num_steps=30, warmup_steps=10, decay_steps=10), weight_decay=0.0)
    update = make_supervised_update(lambda params, batch, key: LossSums(params, jnp.ones(()), {}), optimizer)

    def step(train_state, index):
        return update(train_state, jnp.zeros(1), jax.random.key(0))

    def run(interrupt_step=None):
        return run_training(
            tmp_path, interrupt_step, lambda: init_train_state(params, optimizer), step, num_steps=30, chunk_size=3
        )

    params = jnp.zeros(())
    assert run(interrupt_step=12) is None
    train_state = run()
    assert float(train_state.params) == pytest.approx(-(0.45 + 1.0 + 0.55), rel=1e-4)


def test_unweighted_tokens_may_have_zero_probability():
    logits = np.float32([[[-np.inf, 0, 0]] * 3])
    tokens, weights = np.int32([[1, 1, 0]]), np.float32([[1, 1, 0]])
    loss, _ = jit(mean_loss)(logits, tokens, weights)
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)
    gradient = jit(jax.grad(lambda scale: mean_loss(scale * jnp.zeros((1, 3, 3)), tokens, weights)[0]))(1.0)
    assert np.isfinite(gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_unweighted_logits_do_not_change_loss_or_gradient(bad):
    logits, tokens, weights, segments = random_batch(6)
    is_weighted = (np.roll(weights, -1, axis=1) > 0) & (np.roll(segments, -1, axis=1) == segments) & (segments > 0)
    is_weighted[:, -1] = False
    corrupted_logits = np.where(is_weighted[..., None], logits, np.float32(bad))
    expected, actual = (loss_and_gradient(values, tokens, weights, segments) for values in (logits, corrupted_logits))
    assert is_weighted.any()
    assert np.isfinite(expected[1]).all()
    jax.tree.map(np.testing.assert_array_equal, expected, actual)
