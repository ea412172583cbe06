"""Thinking models: dependence of answers and thoughts, gradients, ends, and training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.environments.automata import make_automaton, sample_words
from thinking.learning.curriculum import curriculum
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import ThinkingOutput, init_from_model_without_thoughts, probing, thinking_model
from thinking.reasoning.thoughts.steps import compute_end_log_probs
from thinking.reasoning.thoughts.thought_training import (
    Reinforcement,
    init_thought_training,
    make_symbol_thought_step,
    policy_loss,
    with_thought_records,
)

BLOCK = BlockConfig(width=16, num_heads=2, gated=True)
KINDS = ("none", "pause", "discrete", "continuous")


@functools.cache
def make_model(kind, **options):
    return thinking_model(kind=kind, num_symbols=6, num_answers=6, block=BLOCK, **options)


@functools.cache
def get_params():
    return jax.jit(make_model("discrete").init)(jax.random.key(1))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def draw_params(model):
    """Random matrices, and scales of 1, without compiling `init`."""
    rng = np.random.default_rng(1)

    def draw(leaf):
        return rng.normal(int(leaf.ndim == 1), BLOCK.width**-0.5 * (leaf.ndim > 1), leaf.shape).astype(np.float32)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))


@functools.cache
def make_words(length=4, num_words=8, seed=0, automaton_name="s3", max_length=None):
    """NumPy arrays, since JAX would compile every operation of a test on them."""
    lengths = np.full(num_words, length, np.int32)
    sample_fn = jax.jit(lambda key: sample_words(make_automaton(automaton_name), key, lengths, max_length or length))
    return jax.tree.map(np.asarray, sample_fn(jax.random.key(seed)))


def think_of_words(kind, batch, lengths=None, forced_tokens=None):
    """The output for words of up to four symbols."""
    lengths = batch.lengths if lengths is None else lengths
    options = {}
    if kind == "discrete":  # one program, whether tokens are forced or not
        options["forced_tokens"] = np.full((8, 3), -1) if forced_tokens is None else forced_tokens
    return jax.device_get(jax.jit(make_model(kind).think)(get_params(), batch.symbols, lengths, **options))


def compute_answers(kind, batch, lengths=None):
    return think_of_words(kind, batch, lengths).answer_logits


def test_all_kinds_have_equal_parameter_shapes():
    shapes = [jax.tree.map(jnp.shape, jax.eval_shape(make_model(kind).init, jax.random.key(0))) for kind in KINDS]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_answer_depends_on_all_symbols_of_its_word_and_not_on_padding(kind):
    batch = make_words()
    lengths = np.int32([1, 2, 3, 4] * 2)
    is_padding = np.arange(4)[None] >= lengths[:, None]
    padded_batch = batch._replace(symbols=np.where(is_padding, 5 - batch.symbols, batch.symbols))
    assert np.allclose(compute_answers(kind, batch, lengths), compute_answers(kind, padded_batch, lengths), atol=1e-5)
    for position in range(4):
        other_batch = batch._replace(symbols=(batch.symbols + (np.arange(4) == position)[None]) % 6)
        assert (np.abs(compute_answers(kind, batch) - compute_answers(kind, other_batch)).max(axis=1) > 1e-4).all()


def test_pause_steps_choose_no_token():
    batch = make_words()
    output = think_of_words("pause", batch)
    assert (output.thoughts == 0).all()
    assert (output.logits == 0).all()


def test_thought_is_the_argmax_of_the_answer_head():
    batch = make_words()
    output = think_of_words("discrete", batch)
    answer_head_logits = np.asarray(jax.jit(make_model("discrete").read_answer)(get_params(), output.hidden))
    assert np.allclose(answer_head_logits[:, :-1], output.logits, atol=1e-5)
    assert (output.thoughts == answer_head_logits[:, :-1].argmax(-1)).all()
    assert np.allclose(answer_head_logits[:, -1], output.answer_logits, atol=1e-5)


def test_forced_thought_changes_only_later_hidden_states():
    batch = make_words()
    output = think_of_words("discrete", batch)
    forced_tokens = np.where(np.arange(3)[None] == 1, (output.thoughts + 1) % 6, -1)
    forced_output = think_of_words("discrete", batch, forced_tokens=forced_tokens)
    difference = np.abs(output.hidden - forced_output.hidden).max(axis=(0, 2))
    assert (difference[:2] == 0).all()
    assert (difference[2:] > 1e-4).all()


def test_hidden_states_are_fed_back_with_probability_half_in_training():
    symbols = np.repeat(make_words().symbols[:1], 1000, axis=0)
    think = jax.jit(make_model("continuous").think)
    lengths = np.full(1000, 2, np.int32)
    training_logits = np.asarray(think(get_params(), symbols[:, :2], lengths, jax.random.key(3)).answer_logits)
    evaluation_logits = compute_answers("continuous", make_words()._replace(symbols=symbols[:8]), lengths[:8])
    assert np.allclose(evaluation_logits, evaluation_logits[0], atol=1e-5)
    is_equal = np.abs(training_logits - evaluation_logits[0]).max(axis=1) < 1e-5
    assert 400 < is_equal.sum() < 600
    assert np.allclose(training_logits[~is_equal], training_logits[~is_equal][0], atol=1e-5)


def test_sampled_thoughts_follow_their_probabilities():
    model = make_model("discrete", gradient="sampled")
    batch = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 4000, axis=0), make_words(length=2))
    output = jax.device_get(jax.jit(model.think)(get_params(), batch.symbols, batch.lengths, jax.random.key(3)))
    frequencies = np.bincount(output.thoughts[:, 0], minlength=6) / 4000
    expected = np.asarray(jax.nn.softmax(output.logits[0, 0]))
    assert np.abs(frequencies - expected).max() < 0.03
    assert np.allclose(output.log_probs[:, 0], np.log(expected)[output.thoughts[:, 0]], atol=1e-4)
    assert float(output.entropy[0, 0]) == pytest.approx(-np.sum(expected * np.log(expected)), abs=1e-4)


@pytest.mark.parametrize(("gradient", "expected"), [("straight_through", True), ("gumbel", True), ("sampled", False)])
def test_thought_head_has_gradients_unless_thoughts_are_sampled(gradient, expected):
    batch = make_words(length=2)
    model = make_model("discrete", gradient=gradient, num_thought_tokens=5)

    def loss(params):
        return model.think(params, batch.symbols, batch.lengths, jax.random.key(0)).answer_logits[:, 0].sum()

    grads = jax.jit(jax.grad(loss))(draw_params(model))
    assert np.any(grads["thought_head"]["kernel"]) == expected
    assert np.any(grads["thought_embedding"]["embedding"])


@pytest.mark.parametrize("separate_blocks", [False, True])
def test_answer_without_the_word_depends_on_the_thoughts_alone(separate_blocks):
    batch, lengths = make_words(), np.int32([1, 2, 3, 4] * 2)
    other_symbols = (batch.symbols + 1) % 6
    thoughts = np.random.default_rng(5).integers(0, 6, (8, 4), np.int32)
    for hide_word in (True, False):
        model = make_model("discrete", hide_word=hide_word, separate_blocks=separate_blocks)
        if not hide_word and not separate_blocks:
            continue
        think = jax.jit(functools.partial(model.think, draw_params(model), lengths=lengths))
        answer_logits, other_answer_logits = (
            think(batch.symbols, forced_tokens=thoughts).answer_logits,
            think(other_symbols, forced_tokens=thoughts).answer_logits,
        )
        assert np.allclose(answer_logits, other_answer_logits, atol=1e-5) is hide_word
        assert not np.allclose(
            answer_logits, think(batch.symbols, forced_tokens=(thoughts + 1) % 6).answer_logits, atol=1e-3
        )
        is_past_end = np.arange(4)[None] >= lengths[:, None]  # thoughts past the length of a word are ignored
        masked_answer_logits = think(
            batch.symbols, forced_tokens=np.where(is_past_end, (thoughts + 1) % 6, thoughts)
        ).answer_logits
        assert np.allclose(answer_logits, masked_answer_logits, atol=1e-5)


jit_end_log_probs = jax.jit(compute_end_log_probs, static_argnames="is_sampled")


def test_end_log_probs_are_sequential_or_the_first_likely_end():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    end_probs = np.exp(jit_end_log_probs(logits, is_sampled=True))
    stop_probs = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    stop_probs[:, -1] = 1
    for row, stop_probs_row in zip(end_probs, stop_probs, strict=True):
        survival_prob = 1.0
        for step, stop_prob in enumerate(stop_probs_row):
            assert row[step] == pytest.approx(survival_prob * stop_prob, abs=1e-6)
            survival_prob *= 1 - stop_prob
    end_steps = np.asarray(jit_end_log_probs(logits, is_sampled=False)).argmax(axis=1)
    assert end_steps.tolist() == [
        next(step for step, stop_prob in enumerate(row) if stop_prob > 0.5) for row in stop_probs
    ]


def test_answer_is_marginalized_over_ends_in_training():
    batch, model = make_words(), make_model("discrete", end_thought=True)
    params = draw_params(model)
    think = jax.jit(model.think)
    # Half of the steps before the last one would end, so words end at different steps.
    hidden = np.asarray(think(params, batch.symbols, batch.lengths).hidden)[:, :-1]
    bias = -np.median(hidden @ params["end_head"]["kernel"])
    end_head = params["end_head"] = {**params["end_head"], "bias": np.full(1, bias, np.float32)}
    output = think(params, batch.symbols, batch.lengths, jax.random.key(0))
    end_logits = np.asarray(output.hidden) @ end_head["kernel"] + end_head["bias"]
    end_probs = np.exp(jit_end_log_probs(np.resize(end_logits[:, :, 0], (50, 4)), is_sampled=True))[:8]
    answer_probs = np.exp(log_softmax(output.hidden @ params["answer_head"]["kernel"]))
    expected = np.einsum("bn,bna->ba", end_probs, answer_probs)
    assert np.allclose(np.exp(output.answer_logits), expected, atol=1e-5)
    assert np.allclose(output.num_steps, end_probs @ [1, 2, 3, 4], atol=1e-4)
    greedy_output = think(params, batch.symbols, batch.lengths)
    num_steps = np.asarray(greedy_output.num_steps).round().astype(int)
    assert len(set(num_steps.tolist())) > 1
    assert (np.asarray(greedy_output.thought_mask).sum(axis=1) == num_steps - 1).all()
    can_end = np.arange(8) % 2 == 0
    lengths = np.full(8, 3, np.int32)
    expected_output = jax.device_get(think(params, batch.symbols, lengths))
    mixed_output = jax.device_get(think(params, batch.symbols, lengths, can_end=can_end))
    assert np.allclose(mixed_output.answer_logits[can_end], expected_output.answer_logits[can_end], atol=1e-5)
    answer_log_probs = log_softmax(mixed_output.hidden[:, 2] @ params["answer_head"]["kernel"])
    assert np.allclose(mixed_output.answer_logits[~can_end], answer_log_probs[~can_end], atol=1e-5)
    assert mixed_output.thought_mask[~can_end].tolist() == [[True, True, False]] * 4
    assert mixed_output.num_steps[~can_end].tolist() == [3] * 4
    with pytest.raises(ValueError, match="end_thought=True goes with neither hide_word nor separate_blocks"):
        make_model("discrete", end_thought=True, hide_word=True)


def test_converted_params_think_the_argmax_answer():
    model = make_model("discrete", num_thought_tokens=6)
    params_before = draw_params(model)
    params_after = jax.device_get(init_from_model_without_thoughts(params_before))
    assert np.array_equal(params_after["thought_head"]["kernel"], params_before["answer_head"]["kernel"])
    assert not np.array_equal(params_after["thought_head"]["kernel"], params_before["thought_head"]["kernel"])
    batch = make_words()
    output = jax.device_get(jax.jit(model.think)(params_after, batch.symbols, batch.lengths))
    answer_head_logits = output.hidden @ params_after["answer_head"]["kernel"]
    assert (output.thoughts == answer_head_logits[:, :-1].argmax(-1)).all()
    with pytest.raises(ValueError, match="a head of their own"):
        init_from_model_without_thoughts(get_params())
    params = draw_params(make_model("discrete", num_thought_tokens=6, separate_blocks=True))
    for name in ("reader", "answer_reader"):
        assert jax.tree.all(
            jax.tree.map(np.array_equal, init_from_model_without_thoughts(params)[name], params["reader"])
        )


def test_imitate_best_raises_only_the_best_sample_of_a_group():
    output = think_of_words("discrete", make_words())
    reward = np.float32([0, 3, 1, 2, 9, 8, 8, 8])

    def loss(log_probs):
        reinforcement = Reinforcement(num_generations=4, expert_iteration=True, entropy_weight=0.0)
        return policy_loss(output._replace(log_probs=log_probs), reward, reinforcement)[0]

    grads = np.asarray(jax.jit(jax.grad(loss))(output.log_probs))
    assert (grads[[1, 4]] < 0).all()
    assert (grads[[0, 2, 3, 5, 6, 7]] == 0).all()


@jax.jit
def policy_loss_and_gradients(output):
    def loss(log_probs, entropy):
        reinforcement = Reinforcement(num_generations=2, repetition_penalty=0.1)
        reward = jnp.array([0.0, -1.0, -1.0, -3.0])
        return policy_loss(output._replace(log_probs=log_probs, entropy=entropy), reward, reinforcement)[0]

    return jax.value_and_grad(loss, (0, 1))(output.log_probs, output.entropy)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, -200.0])
def test_masked_thoughts_do_not_change_policy_loss_or_gradient(bad):
    mask = np.array([[True, True, False], [True, False, False]] * 2)
    log_probs, entropy = np.where(mask, np.float32([-1.5, 1])[:, None, None], 0)
    zeros, thoughts = np.zeros((4, 3), np.float32), np.arange(12).reshape(4, 3)
    output = ThinkingOutput(zeros, zeros, thoughts, log_probs, entropy, zeros, mask, zeros[:, 0])
    bad_values = {name: np.where(mask, getattr(output, name), np.float32(bad)) for name in ("log_probs", "entropy")}
    expected = policy_loss_and_gradients(output)
    actual = policy_loss_and_gradients(output._replace(**bad_values))
    assert np.isfinite(expected[1][0]).all()
    jax.tree.map(np.testing.assert_array_equal, expected, actual)


def test_record_thoughts_at_intervals_and_at_the_last_step():
    batch = make_words()
    model = make_model("discrete")
    length_curriculum = curriculum(4, threshold=0.9, decay_attempts=256.0, min_attempts=128)
    initial_state = init_thought_training(model, optax.sgd(0.0), length_curriculum, jax.random.key(0), get_params())
    step = with_thought_records(lambda state, index: (state, {"loss": index}), model, batch, interval=2, num_steps=5)
    _, samples = jax.jit(
        lambda: jax.lax.scan(lambda state, index: step(state, index)[::2], initial_state, jnp.arange(5))
    )()
    samples = jax.device_get(samples)
    output = think_of_words("discrete", batch)
    assert [bool((tokens >= 0).any()) for tokens in samples] == [False, True, False, True, True]
    answer_head_logits, thoughts = samples[-1]
    assert (thoughts[:, :-1] == output.thoughts).all()
    assert (thoughts[:, -1] == -1).all()
    assert (answer_head_logits[:, -1] == output.answer_logits.argmax(-1)).all()


@functools.cache
def make_training(kind, num_steps, reinforcement=None, max_length=3, chain_weight=0.0, **options):
    """The model, and a function that trains it on parity from a threshold and gives the last state and the metrics."""
    automaton = make_automaton("parity")
    model = thinking_model(kind=kind, num_symbols=2, num_answers=2, **{"block": BLOCK} | options)
    length_curriculum = curriculum(max_length, threshold=0.9, decay_attempts=256.0, min_attempts=128)
    optimizer = optax.adam(0.01)

    @jax.jit
    def train(key, threshold):
        step = make_symbol_thought_step(
            model,
            optimizer,
            lambda key, batch: sample_words(automaton, key, batch, max_length),
            length_curriculum,
            batch_size=64,
            reinforcement=reinforcement,
            chain_weight=chain_weight,
            threshold=threshold,
        )
        initial_state = init_thought_training(model, optimizer, length_curriculum, key)
        return jax.lax.scan(step, initial_state, jnp.arange(num_steps))

    return model, train


def run_training(*args, threshold=0.9, **options):
    """The model, the final state and all metrics of a short training on parity."""
    model, train = make_training(*args, **options)
    return model, *jax.device_get(train(jax.random.key(0), np.float32(threshold)))


def compute_accuracy(model, state, length, max_length=None):
    """The accuracy on new words of parity."""
    batch = make_words(length, 200, seed=9, automaton_name="parity", max_length=max_length)
    return float(jax.jit(functools.partial(probing.compute_accuracy, model))(state.train_state.params, batch))


def test_discrete_thoughts_generalize_parity_to_longer_words():
    model, state, metrics = run_training("discrete", 300)
    assert metrics["curriculum/num_unlocked"][-1] == 3
    assert compute_accuracy(model, state, 6) > 0.95


def test_sampled_thoughts_learn_parity_by_reinforcement():
    reinforcement = Reinforcement(num_generations=4, entropy_weight=0.01, discount=0.9, repetition_penalty=0.01)
    model, state, metrics = run_training(
        "discrete", 300, reinforcement, gradient="sampled", num_thought_tokens=2, max_length=2
    )
    assert compute_accuracy(model, state, 2) > 0.95
    assert metrics["entropy"][-1] <= np.log(2) + 1e-5
    assert 0 <= metrics["thoughts/repeated_fraction"][-1] <= 1


@functools.cache
def run_training_with_ends(threshold):
    block = BlockConfig(width=32, num_heads=4, gated=True)
    return run_training("discrete", 300, end_thought=True, block=block, threshold=threshold)


def test_number_of_steps_is_fixed_until_a_length_reaches_the_threshold():
    num_steps = [run_training_with_ends(threshold)[2]["thoughts/num_steps"][0] for threshold in (0.9, 0.0)]
    assert num_steps[0] == 1  # the first words have one symbol
    assert num_steps[1] > 2  # chosen ends are late at first


def test_model_that_ends_its_thoughts_learns_parity():
    model, state, metrics = run_training_with_ends(0.9)
    assert metrics["curriculum/num_unlocked"][-1] == 3
    assert compute_accuracy(model, state, 2, max_length=3) > 0.95


def test_chain_loss_teaches_the_state_chain():
    model, state, metrics = run_training("discrete", 200, chain_weight=1.0)
    batch = make_words(3, 100, seed=9, automaton_name="parity")

    @jax.jit
    def compute_confusion(params):
        return probing.compute_confusion(model.think(params, batch.symbols, batch.lengths), batch.states, 2)

    counts = np.asarray(compute_confusion(state.train_state.params))
    assert np.trace(counts) > 0.95 * counts.sum()
    assert metrics["loss/chain"][-1] < 0.2
