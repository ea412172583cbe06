"""The loss of the next token against a loop and optax, split batches against whole ones, training against entropy."""

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
from thinking.experiment.config import RunConfig
from thinking.experiment.folder import Run
from thinking.experiment.training import train
from thinking.learning.optimizers import adamw, warmup_cosine, warmup_stable_decay
from thinking.learning.supervised import LossSums, make_supervised_update, mean_metrics, next_token_sums
from thinking.text.packing import PackedRows, batch_rows, pack
from thinking.train_state import init_train_state
from thinking.trees import digest

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
B, T, V = 4, 6, 5


def mean_loss(logits, tokens, weights, segments=None):
    metrics = mean_metrics(next_token_sums(logits, tokens, weights, segments))
    return metrics["loss"], metrics


both = jit(jax.value_and_grad(mean_loss, has_aux=True))


def random_batch(seed, dtype=np.float32):
    """Logits [B, T, V], tokens, and two sequences packed into most rows, with weights."""
    numbers = np.random.default_rng(seed)
    # Few different logits, so that the likeliest token is often one of several.
    logits = numbers.integers(-3, 4, (B, T, V)).astype(dtype)
    ends = np.sort(numbers.integers(0, T + 1, (B, 2)), axis=1)
    place = np.arange(T)[None]
    segments = np.where(place < ends[:, :1], 1, np.where(place < ends[:, 1:], 2, 0)).astype(np.int32)
    tokens = numbers.integers(0, V, (B, T)).astype(np.int32)
    return logits, tokens, numbers.choice([0, 0.5, 1, 2], (B, T)).astype(np.float32), segments


@given(st.integers(0, 2**31))
@QUICK
def test_the_loss_is_that_of_a_loop_over_pairs_within_segments(seed):
    logits, tokens, weights, segments = random_batch(seed)
    loss = hits = total = 0.0
    for b in range(B):
        for t in range(T - 1):
            if segments[b, t] == segments[b, t + 1] != 0:
                weight, word = float(weights[b, t + 1]), tokens[b, t + 1]
                chances = np.exp(logits[b, t].astype(np.float64))
                loss -= weight * np.log(chances[word] / chances.sum())
                hits += weight * (np.argmax(logits[b, t]) == word)
                total += weight
    (result, metrics), gradient = both(logits, tokens, weights, segments)
    assert float(metrics["tokens"]) == total
    assert float(result) == float(metrics["loss"]) == pytest.approx(loss / max(total, 1e-9), rel=1e-5, abs=1e-6)
    assert float(metrics["accuracy"]) == pytest.approx(hits / max(total, 1e-9), rel=1e-6)
    assert np.isfinite(gradient).all()


def test_without_segments_loss_and_gradient_are_those_of_optax():
    logits, tokens, weights, _ = random_batch(0)
    (result, _), gradient = both(logits, tokens, weights, None)

    def expected(logits):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
        return jnp.average(losses, weights=weights[:, 1:])

    value, slope = jit(jax.value_and_grad(expected))(logits)
    np.testing.assert_allclose(result, value, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=1e-7)


def test_half_precision_logits_are_summed_in_single_precision():
    logits, tokens, weights, segments = random_batch(1, jnp.bfloat16)  # whole numbers, which bfloat16 holds exactly
    (result, metrics), gradient = both(logits, tokens, weights, segments)
    assert {figure.dtype for figure in metrics.values()} == {jnp.dtype("float32")}
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(result, both(logits.astype(np.float32), tokens, weights, segments)[0][0], rtol=1e-6)


def test_without_weight_loss_and_gradient_are_zero_whatever_the_tokens():
    logits, tokens, weights, segments = random_batch(2)
    for nothing in ((weights * 0, segments), (weights, segments * 0)):
        (loss, metrics), gradient = both(logits, tokens * 0 - 100, *nothing)
        assert (float(loss), *map(float, metrics.values())) == (0, 0, 0, 0)
        assert not gradient.any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"logits": (B, V)}, r"logits have shape \(4, 5\); give \[B, T, V\]"),
        ({"tokens": (B, T - 1)}, r"tokens have shape \(4, 5\); give \(4, 6\), as the logits have"),
        ({"segments": (B, 1)}, r"segments have shape \(4, 1\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changed, said):
    shapes = {"logits": (B, T, V), "tokens": (B, T), "weights": (B, T), "segments": (B, T)} | changed
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda given: next_token_sums(**given), {name: jnp.zeros(s, int) for name, s in shapes.items()})


def bigram(params, batch, key):
    """A model of which word follows which: an embedding, and a linear map from it to logits."""
    del key
    logits = params["embedding"][batch.tokens] @ params["weight"] + params["bias"][None, None]
    return next_token_sums(logits, batch.tokens, batch.weights, batch.segments)


def beginning(optimizer):
    numbers = np.random.default_rng(0)
    params = {
        "embedding": numbers.normal(size=(V, 8)).astype(np.float32),
        "weight": 0.1 * numbers.normal(size=(8, V)).astype(np.float32),
        "bias": np.zeros(V, np.float32),
    }
    params = jax.tree.map(jnp.asarray, params)
    return jit(lambda params: init_train_state(params, optimizer))(params)


def test_a_batch_in_parts_teaches_what_the_whole_batch_teaches():
    optimizer = optax.sgd(1.0)  # whose step is the gradient
    _, tokens, weights, segments = random_batch(3)
    segments = np.maximum(segments, 1)
    weights = weights * np.array([[1.0], [0.0], [3.0], [0.1]], np.float32)  # one part has much weight, one none
    batch, train_state, key = PackedRows(tokens, segments, weights), beginning(optimizer), jax.random.key(0)
    mean, gradient = jit(jax.value_and_grad(lambda params: mean_of(bigram(params, batch, key))))(train_state.params)
    for parts in (1, 2, B):
        new_state, metrics = jit(make_supervised_update(bigram, optimizer, accumulation_steps=parts))(
            train_state, batch, key
        )
        steps = jax.tree.map(lambda after, before: before - after, new_state.params, train_state.params)
        jax.tree.map(lambda step, expected: np.testing.assert_allclose(step, expected, atol=1e-6), steps, gradient)
        assert float(metrics["loss"]) == pytest.approx(float(mean), rel=1e-6)
        assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)
        assert set(metrics) == {"loss", "accuracy", "tokens", "gradient_norm"}
        assert {(figure.shape, figure.dtype.name) for figure in metrics.values()} == {((), "float32")}


def mean_of(sums):
    return sums.loss / sums.weight


def test_each_part_draws_with_a_key_of_its_own():
    def chance(params, batch, key):
        del batch
        return LossSums(params * jax.random.normal(key), jnp.ones(()), {})

    update = make_supervised_update(chance, optax.sgd(1.0), accumulation_steps=2)
    train_state, _ = jit(update)(init_train_state(jnp.zeros(()), optax.sgd(1.0)), jnp.zeros(2), jax.random.key(5))
    each = [float(jax.random.normal(key)) for key in jax.random.split(jax.random.key(5))]
    assert float(train_state.params) == pytest.approx(-np.mean(each))


def test_the_gradient_norm_is_that_before_clipping_and_no_weight_is_no_gradient():
    optimizer = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    _, tokens, weights, segments = random_batch(4)
    train_state, update = beginning(optimizer), jit(make_supervised_update(bigram, optimizer))
    new_state, metrics = update(train_state, PackedRows(tokens, segments, weights), jax.random.key(0))
    step = jax.tree.map(lambda after, before: after - before, new_state.params, train_state.params)
    assert float(optax.tree.norm(step)) == pytest.approx(1e-3, rel=1e-3)
    assert float(metrics["gradient_norm"]) > 0.01
    new_state, metrics = update(train_state, PackedRows(tokens, segments, weights * 0), jax.random.key(0))
    assert set(map(float, metrics.values())) == {0.0}
    assert digest(new_state.params) == digest(train_state.params)


def test_parts_must_divide_the_rows():
    with pytest.raises(ValueError, match="accumulation_steps 3 does not divide 4 rows; take a divisor"):
        jax.eval_shape(
            make_supervised_update(bigram, optax.sgd(1.0), accumulation_steps=3),
            beginning(optax.sgd(1.0)),
            random_batch(0),
            jax.random.key(0),
        )
    with pytest.raises(ValueError, match="accumulation_steps 0 is out of range"):
        make_supervised_update(bigram, optax.sgd(1.0), accumulation_steps=0)


STEPS, CHUNK = 120, 40


def source():
    """Chances [V, V] of each word after each, and how often each word is met in the long run, [V]."""
    chances = np.random.default_rng(0).dirichlet(np.full(V, 0.5), V)
    met = np.linalg.matrix_power(chances, 1000)[0]
    return chances, met


def texts(count):
    """Texts of 4 to 16 words, begun in the long run's way and packed into rows of 32."""
    chances, met = source()
    numbers, sequences = np.random.default_rng(1), []
    for _ in range(count):
        words = [numbers.choice(V, p=met)]
        while len(words) < numbers.integers(4, 17):
            words.append(numbers.choice(V, p=chances[words[-1]]))
        sequences.append(words)
    return pack(sequences, 32)


@pytest.fixture(scope="module")
def learn():
    """`learn(folder, until=STEPS, at=None)`: train in a folder; where `at` is given a signal comes then."""
    optimizer = adamw(warmup_cosine(0.1, STEPS, 10), weight_decay=0.0)
    update, rows = (
        make_supervised_update(bigram, optimizer, accumulation_steps=2),
        jax.tree.map(jnp.asarray, texts(1200)),
    )

    def step(train_state, number):
        chosen = batch_rows(jax.random.key(2), number, len(rows.tokens), 64)
        return update(train_state, jax.tree.map(lambda leaf: leaf[chosen], rows), jax.random.key(0))

    def start(folder, at=None):
        return run_training(folder, at, lambda: beginning(optimizer), step, STEPS, CHUNK)

    return start


def run_training(folder, at, init, step, steps, chunk):
    """Train a stage; a signal comes when step `at` is told. The final state, or None where training was ended."""

    def mirror(stage, number, figures):
        if number == at:
            os.kill(os.getpid(), signal.SIGINT)

    run = Run(folder=folder, config=RunConfig(), mirrors=(mirror,))
    try:
        with interruption.catch_signals():
            return train(
                run, "model", init=init, step=step, num_steps=steps, chunk_size=chunk, progress_metric="loss"
            ).state
    except interruption.Interrupted:
        return None


@pytest.fixture(scope="module")
def undisturbed(learn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return learn(folder), [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_bigram_model_learns_its_source_down_to_the_entropy(undisturbed):
    train_state, lines = undisturbed
    chances, met = source()
    entropy = -np.sum(met[:, None] * chances * np.log(np.maximum(chances, 1e-300)))
    params = jax.tree.map(np.asarray, train_state.params)
    logits = params["embedding"] @ params["weight"] + params["bias"]
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert entropy <= -np.sum(met[:, None] * chances * logs) < 1.02 * entropy  # over all that the source may say
    assert lines[-1]["loss"] == pytest.approx(entropy, rel=0.02)
    assert lines[-1]["accuracy"] == pytest.approx(np.sum(met * chances.max(axis=1)), rel=0.05)
    assert lines[0]["loss"] > 1.05 * entropy


def test_training_that_was_interrupted_ends_with_the_same_bits(learn, undisturbed, tmp_path):
    assert learn(tmp_path, at=CHUNK) is None
    assert digest(learn(tmp_path)) == digest(undisturbed[0])


def test_the_learning_rate_goes_on_where_it_stood(tmp_path):
    # Under a constant gradient each step of Adam is as long as the rate, so that what is left is minus their sum.
    optimizer = adamw(warmup_stable_decay(0.1, num_steps=30, warmup_steps=10, decay_steps=10), weight_decay=0.0)
    update = make_supervised_update(lambda params, batch, key: LossSums(params, jnp.ones(()), {}), optimizer)

    def step(train_state, number):
        return update(train_state, jnp.zeros(1), jax.random.key(0))

    def start(at=None):
        return run_training(tmp_path, at, lambda: init_train_state(params, optimizer), step, steps=30, chunk=3)

    params = jnp.zeros(())
    assert start(at=12) is None
    train_state = start()
    assert float(train_state.params) == pytest.approx(-(0.45 + 1.0 + 0.55), rel=1e-4)


def test_what_has_no_weight_may_be_impossible():
    logits = np.float32([[[-np.inf, 0, 0]] * 3])
    tokens, weights = np.int32([[1, 1, 0]]), np.float32([[1, 1, 0]])
    loss, _ = jit(mean_loss)(logits, tokens, weights)
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)
    slope = jit(jax.grad(lambda scale: mean_loss(scale * jnp.zeros((1, 3, 3)), tokens, weights)[0]))(1.0)
    assert np.isfinite(slope)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_without_weight_change_neither_loss_nor_gradient(bad):
    logits, tokens, weights, segments = random_batch(6)
    is_weighted = (np.roll(weights, -1, axis=1) > 0) & (np.roll(segments, -1, axis=1) == segments) & (segments > 0)
    is_weighted[:, -1] = False
    corrupted = np.where(is_weighted[..., None], logits, np.float32(bad))
    clean, other = (both(given, tokens, weights, segments) for given in (logits, corrupted))
    assert is_weighted.any()
    assert np.isfinite(clean[1]).all()
    jax.tree.map(np.testing.assert_array_equal, clean, other)
