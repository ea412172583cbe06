"""Models that think: what they may look at, what thoughts carry, and that they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking.environments.automata import make_automaton, sample_words
from thinking.learning.curriculum import curriculum
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import ThinkingOutput, convert_params, probing, thinking_model
from thinking.reasoning.thoughts.steps import compute_end_log_probs
from thinking.reasoning.thoughts.training import (
    Reinforcement,
    init_thought_training,
    make_thinking_step,
    policy_loss,
    record_thoughts,
)

BLOCK = BlockConfig(width=16, num_heads=2, gated=True)
KINDS = ("none", "pause", "discrete", "continuous")


@functools.cache
def model(kind, **changed):
    return thinking_model(kind=kind, num_symbols=6, num_answers=6, block=BLOCK, **changed)


@functools.cache
def params():
    return jax.jit(model("discrete").init)(jax.random.key(1))


@functools.cache
def words(length=4, count=8, seed=0, machine="s3", longest=None):
    """NumPy arrays, since JAX would compile for each thing that a test does with them."""
    lengths = np.full(count, length, np.int32)
    draw = jax.jit(lambda key: sample_words(make_automaton(machine), key, lengths, longest or length))
    return jax.tree.map(np.asarray, draw(jax.random.key(seed)))


def read(thinker, params, hidden):
    """What the answers' head says."""
    return np.asarray(jax.jit(thinker.read_answer)(params, hidden))


def answers(kind, batch, lengths=None):
    think = jax.jit(model(kind).think)
    return np.asarray(think(params(), batch.symbols, batch.lengths if lengths is None else lengths).answer_logits)


def test_all_kinds_have_the_same_weights():
    shapes = [jax.tree.map(jnp.shape, jax.eval_shape(model(kind).init, jax.random.key(0))) for kind in KINDS]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_depends_on_the_symbols_of_its_word_and_on_none_behind_it(kind):
    batch = words()
    lengths = np.int32([1, 2, 3, 4] * 2)
    changed = np.arange(4)[None] >= lengths[:, None]
    padded = batch._replace(symbols=np.where(changed, 5 - batch.symbols, batch.symbols))
    assert np.allclose(answers(kind, batch, lengths), answers(kind, padded, lengths), atol=1e-5)
    for place in range(4):
        other = batch._replace(symbols=(batch.symbols + (np.arange(4) == place)[None]) % 6)
        assert (np.abs(answers(kind, batch) - answers(kind, other)).max(axis=1) > 1e-4).all()


def test_empty_steps_choose_nothing():
    batch = words()
    think = jax.jit(model("pause").think)
    thinking = think(params(), batch.symbols, batch.lengths)
    assert (np.asarray(thinking.thoughts) == 0).all()
    assert (np.asarray(thinking.logits) == 0).all()


def test_a_thought_is_the_likeliest_token_of_the_answers_head():
    batch = words()
    thinking = jax.jit(model("discrete").think)(params(), batch.symbols, batch.lengths)
    answer_head_logits = read(model("discrete"), params(), thinking.hidden)
    assert np.allclose(answer_head_logits[:, :-1], thinking.logits, atol=1e-5)
    assert (np.asarray(thinking.thoughts) == np.asarray(answer_head_logits[:, :-1].argmax(-1))).all()
    assert np.allclose(answer_head_logits[:, -1], thinking.answer_logits, atol=1e-5)


def test_a_thought_that_is_put_in_changes_all_that_comes_after_it_and_nothing_before():
    batch = words()
    think = jax.jit(model("discrete").think)
    own = jax.device_get(think(params(), batch.symbols, batch.lengths))
    changed = np.where(np.arange(3)[None] == 1, (own.thoughts + 1) % 6, -1)
    other = jax.device_get(think(params(), batch.symbols, batch.lengths, forced_tokens=changed))
    moved = np.abs(own.hidden - other.hidden).max(axis=(0, 2))
    assert (moved[:2] == 0).all()
    assert (moved[2:] > 1e-4).all()


def test_half_of_the_hidden_states_are_fed_back_while_a_model_learns_and_all_of_them_afterwards():
    batch = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 1000, axis=0), words(length=2))
    think = jax.jit(model("continuous").think)
    learning = np.asarray(think(params(), batch.symbols, batch.lengths, jax.random.key(3)).answer_logits)
    after = np.asarray(think(params(), batch.symbols, batch.lengths).answer_logits)
    assert np.allclose(after, after[0], atol=1e-5)
    whole = np.abs(learning - after).max(axis=1) < 1e-5
    assert 400 < whole.sum() < 600
    assert np.allclose(learning[~whole], learning[~whole][0], atol=1e-5)


def test_drawn_thoughts_follow_their_probabilities():
    sampled = model("discrete", gradient="drawn")
    batch = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 4000, axis=0), words(length=2))
    thinking = jax.device_get(jax.jit(sampled.think)(params(), batch.symbols, batch.lengths, jax.random.key(3)))
    shares = np.bincount(thinking.thoughts[:, 0], minlength=6) / 4000
    expected = np.asarray(jax.nn.softmax(thinking.logits[0, 0]))
    assert np.abs(shares - expected).max() < 0.03
    assert np.allclose(thinking.log_probs[:, 0], np.log(expected)[thinking.thoughts[:, 0]], atol=1e-4)
    assert float(thinking.entropy[0, 0]) == pytest.approx(-np.sum(expected * np.log(expected)), abs=1e-4)


@pytest.mark.parametrize(("choice", "crosses"), [("straight_through", True), ("gumbel", True), ("drawn", False)])
def test_gradients_cross_a_choice_unless_it_is_drawn(choice, crosses):
    batch = words(length=2)
    thinker = model("discrete", gradient=choice, num_thought_tokens=5)

    def loss(params):
        return thinker.think(params, batch.symbols, batch.lengths, jax.random.key(0)).answer_logits[:, 0].sum()

    slopes = jax.jit(jax.grad(loss))(jax.jit(thinker.init)(jax.random.key(1)))
    assert np.any(slopes["choose"]["kernel"]) == crosses
    assert np.any(slopes["thoughts"]["embedding"])


@pytest.mark.parametrize("split", [False, True])
def test_a_blind_answer_sees_the_thoughts_alone(split):
    batch, lengths = words(), np.int32([1, 2, 3, 4] * 2)
    other = (batch.symbols + 1) % 6
    spoken = np.random.default_rng(5).integers(0, 6, (8, 4), np.int32)
    for blind in (True, False):
        thinker = model("discrete", blind=blind, split=split)
        if not blind and not split:
            continue
        think = jax.jit(functools.partial(thinker.think, jax.jit(thinker.init)(jax.random.key(1)), lengths=lengths))
        one, two = (
            think(batch.symbols, forced_tokens=spoken).answer_logits,
            think(other, forced_tokens=spoken).answer_logits,
        )
        assert np.allclose(one, two, atol=1e-5) is blind
        assert not np.allclose(one, think(batch.symbols, forced_tokens=(spoken + 1) % 6).answer_logits, atol=1e-3)
        unmade = np.arange(4)[None] >= lengths[:, None]  # thoughts past a word's length are none
        again = think(batch.symbols, forced_tokens=np.where(unmade, (spoken + 1) % 6, spoken)).answer_logits
        assert np.allclose(one, again, atol=1e-5)


def test_thinking_ends_by_chance_or_at_the_first_step_that_would_rather_end():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    ends = jax.jit(compute_end_log_probs, static_argnames="is_sampled")
    sampled = np.exp(ends(logits, is_sampled=True))
    ending = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    ending[:, -1] = 1
    for row, expected in zip(sampled, ending, strict=True):
        alive = 1.0
        for step, end in enumerate(expected):
            assert row[step] == pytest.approx(alive * end, abs=1e-6)
            alive *= 1 - end
    chosen = np.asarray(ends(logits, is_sampled=False)).argmax(axis=1)
    assert chosen.tolist() == [next(step for step, end in enumerate(row) if end > 0.5) for row in ending]


def test_an_answer_is_that_of_all_ends_and_what_comes_after_the_end_is_not_made():
    batch, thinker = words(), model("discrete", end_thought=True)
    params = jax.jit(thinker.init)(jax.random.key(1))
    # So that words end apart.
    end = {"kernel": 50 * np.asarray(params["end"]["kernel"]), "bias": np.full(1, -0.5, np.float32)}
    params["end"] = end
    think = jax.jit(thinker.think)
    thinking = think(params, batch.symbols, batch.lengths, jax.random.key(0))
    ends = np.asarray(thinking.hidden) @ end["kernel"] + end["bias"]
    weights = np.exp(jax.jit(compute_end_log_probs, static_argnames="is_sampled")(ends[:, :, 0], is_sampled=True))
    expected = np.einsum("bn,bna->ba", weights, jax.nn.softmax(read(thinker, params, thinking.hidden)))
    assert np.allclose(np.exp(thinking.answer_logits), expected, atol=1e-5)
    assert np.allclose(thinking.num_steps, weights @ [1, 2, 3, 4], atol=1e-4)
    asked_again = think(params, batch.symbols, batch.lengths)
    steps = np.asarray(asked_again.num_steps).round().astype(int)
    assert len(set(steps.tolist())) > 1
    assert (np.asarray(asked_again.thought_mask).sum(axis=1) == steps - 1).all()
    free = np.arange(8) % 2 == 0
    three = np.full(8, 3, np.int32)
    whole = jax.device_get(think(params, batch.symbols, three))
    some = jax.device_get(think(params, batch.symbols, three, can_end=free))
    assert np.allclose(some.answer_logits[free], whole.answer_logits[free], atol=1e-5)
    answer_head_logits = jax.nn.log_softmax(read(thinker, params, some.hidden)[:, 2])
    assert np.allclose(some.answer_logits[~free], np.asarray(answer_head_logits)[~free], atol=1e-5)
    assert some.thought_mask[~free].tolist() == [[True, True, False]] * 4
    assert some.num_steps[~free].tolist() == [3] * 4
    with pytest.raises(ValueError, match="end_thought=True goes with neither blind nor split"):
        model("discrete", end_thought=True, blind=True)


def test_a_converted_model_thinks_at_first_what_it_would_answer():
    own = model("discrete", num_thought_tokens=6)
    before = jax.jit(own.init)(jax.random.key(1))
    after = jax.device_get(convert_params(before))
    assert np.array_equal(after["choose"]["kernel"], before["answer"]["kernel"])
    assert not np.array_equal(after["choose"]["kernel"], before["choose"]["kernel"])
    batch = words()
    thinking = jax.jit(own.think)(after, batch.symbols, batch.lengths)
    answer_head_logits = read(own, after, thinking.hidden)
    assert (np.asarray(thinking.thoughts) == np.asarray(answer_head_logits[:, :-1].argmax(-1))).all()
    with pytest.raises(ValueError, match="a head of their own"):
        convert_params(params())
    apart = jax.jit(model("discrete", num_thought_tokens=6, split=True).init)(jax.random.key(1))
    for name in ("reader", "answerer"):
        assert jax.tree.all(jax.tree.map(np.array_equal, convert_params(apart)[name], apart["reader"]))


def test_a_search_raises_the_best_thoughts_of_a_group_alone():
    batch = words()
    thinking = jax.jit(model("discrete").think)(params(), batch.symbols, batch.lengths)
    reward = np.float32([0, 3, 1, 2, 9, 8, 8, 8])

    def loss(log_probs):
        how = Reinforcement(num_generations=4, imitate_best=True, entropy_weight=0.0)
        return policy_loss(thinking._replace(log_probs=log_probs), reward, how)[0]

    slopes = np.asarray(jax.jit(jax.grad(loss))(thinking.log_probs))
    assert (slopes[[1, 4]] < 0).all()
    assert (slopes[[0, 2, 3, 5, 6, 7]] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf, -200.0])
def test_thoughts_that_are_masked_change_neither_the_loss_nor_its_gradient(bad):
    mask = np.array([[True, True, False], [True, False, False]] * 2)
    log_probs = np.where(mask, np.float32(-1.5), 0).astype(np.float32)
    blank, thoughts = np.zeros((4, 3), np.float32), np.arange(12).reshape(4, 3)
    output = ThinkingOutput(blank, blank, thoughts, log_probs, blank, blank, mask, blank[:, 0])
    how = Reinforcement(num_generations=2, repetition_penalty=0.1)

    @jax.jit
    def loss_and_slope(log_probs, entropy):
        def loss(log_probs, entropy):
            return policy_loss(
                output._replace(log_probs=log_probs, entropy=entropy), jnp.array([0.0, -1.0, -1.0, -3.0]), how
            )[0]

        return jax.value_and_grad(loss, (0, 1))(log_probs, entropy)

    clean = loss_and_slope(log_probs, np.where(mask, 1, 0).astype(np.float32))
    other = loss_and_slope(*(np.where(mask, x, bad).astype(np.float32) for x in (log_probs, 1)))
    assert np.isfinite(clean[1][0]).all()
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_thoughts_are_looked_at_now_and_then_and_in_the_end():
    batch = words()
    thinker = model("discrete")
    lengths = curriculum(4, threshold=0.9, decay_attempts=256.0, min_attempts=128)
    initial_state = init_thought_training(thinker, optax.sgd(0.0), lengths, jax.random.key(0), params())
    step = record_thoughts(lambda state, index: (state, {"loss": index}), thinker, batch, interval=2, num_steps=5)
    _, sample = jax.jit(
        lambda: jax.lax.scan(lambda state, index: step(state, index)[::2], initial_state, jnp.arange(5))
    )()
    sample = jax.device_get(sample)
    thinking = jax.device_get(jax.jit(thinker.think)(params(), batch.symbols, batch.lengths))
    assert [bool((look >= 0).any()) for look in sample] == [False, True, False, True, True]
    answer_head_logits, thoughts = sample[-1]
    assert (thoughts[:, :-1] == thinking.thoughts).all()
    assert (thoughts[:, -1] == -1).all()
    assert (answer_head_logits[:, -1] == thinking.answer_logits.argmax(-1)).all()


def run_training(kind, steps, how=None, machine="parity", length=3, chains=0.0, mastery=0.9, **changed):
    """The last metrics of a short training, and the model with its weights."""
    automaton = make_automaton(machine)
    states, symbols = automaton.table.shape
    thinker = thinking_model(kind=kind, num_symbols=symbols, num_answers=states, **{"block": BLOCK} | changed)
    lengths = curriculum(length, threshold=0.9, decay_attempts=256.0, min_attempts=128)
    optimizer = optax.adam(0.01)
    step = make_thinking_step(
        thinker,
        optimizer,
        lambda key, batch: sample_words(automaton, key, batch, length),
        lengths,
        batch_size=64,
        reinforcement=how,
        chain_weight=chains,
        threshold=mastery,
    )

    @jax.jit
    def learn(key):
        return jax.lax.scan(step, init_thought_training(thinker, optimizer, lengths, key), jnp.arange(steps))

    state, metrics = learn(jax.random.key(0))
    return thinker, state, {name: float(values[-1]) for name, values in metrics.items()}


def test_discrete_thoughts_carry_parity_over_words_longer_than_any_in_training():
    thinker, state, metrics = run_training("discrete", 300)
    assert metrics["length"] == 3
    batch = words(6, 200, seed=9, machine="parity")
    assert float(jax.jit(functools.partial(probing.compute_accuracy, thinker))(state.train_state.params, batch)) > 0.95


def test_drawn_thoughts_learn_from_what_they_were_worth():
    how = Reinforcement(num_generations=4, entropy_weight=0.01, discount=0.9, repetition_penalty=0.01)
    thinker, state, metrics = run_training("discrete", 300, how, gradient="drawn", num_thought_tokens=2, length=2)
    batch = words(2, 200, seed=9, machine="parity")
    assert float(jax.jit(functools.partial(probing.compute_accuracy, thinker))(state.train_state.params, batch)) > 0.95
    assert metrics["entropy"] <= np.log(2) + 1e-5
    assert 0 <= metrics["repeated"] <= 1


def test_thoughts_come_with_the_symbols_until_a_length_is_mastered():
    assert run_training("discrete", 1, end_thought=True)[2]["steps"] == 1  # the first words have one symbol
    assert (
        run_training("discrete", 1, end_thought=True, mastery=0.0)[2]["steps"] > 2
    )  # free ends are late ones at first


def test_models_that_end_their_thoughts_learn_parity():
    thinker, state, metrics = run_training(
        "discrete", 300, end_thought=True, block=BlockConfig(width=32, num_heads=4, gated=True)
    )
    assert metrics["length"] == 3
    batch = words(2, 200, seed=9, machine="parity", longest=3)
    assert float(jax.jit(functools.partial(probing.compute_accuracy, thinker))(state.train_state.params, batch)) > 0.95


def test_given_chains_become_the_thoughts():
    thinker, state, metrics = run_training("discrete", 200, chains=1.0)
    batch = words(3, 100, seed=9, machine="parity")

    @jax.jit
    def confused(params):
        return probing.compute_confusion(thinker.think(params, batch.symbols, batch.lengths), batch.states, 2)

    counts = np.asarray(confused(state.train_state.params))
    assert np.trace(counts) > 0.95 * counts.sum()
    assert metrics["chain_loss"] < 0.2
