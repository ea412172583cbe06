"""A decoder under search: what a search says of a path is what the decoder says of the whole row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.networks.attention.patterns import Dense, Global, TopK, Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search.beam_search import beam
from thinking.reasoning.search.candidates import best_of_n, greedy
from thinking.reasoning.search.mcts import tree_search
from thinking.reasoning.search.step_actions import concat_steps, make_step_model
from thinking.reasoning.search.token_model import make_token_model

WORDS, NEW, STOP = 7, 5, 3
PROMPTS = np.asarray(jax.random.randint(jax.random.key(1), (2, 6), 0, WORDS), np.int32)
LENGTHS = np.asarray([2, 6], np.int32)


@functools.cache
def build(pattern=Dense()):
    block = BlockConfig(16, 4, num_kv_heads=2)
    model = decoder(vocab_size=WORDS, context_length=12, block=block, num_layers=1, pattern=pattern, value_head=True)
    params = jit(model.init)(jax.random.key(0))
    # An untrained model is indifferent; one with a louder voice has something to search for.
    return model, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), params), jit(model.apply)


def judged(apply, params, row, tokens):
    """Log-probability and last value of a path of NumPy's, by reading the whole row."""
    whole = np.concatenate([PROMPTS[row, : LENGTHS[row]], tokens])
    reading = jax.device_get(apply(params, np.pad(whole, (0, 12 - len(whole)))[None]))
    logs = np.asarray(jax.nn.log_softmax(reading.logits[0]))
    begin = LENGTHS[row]
    return sum(logs[at - 1, whole[at]] for at in range(begin, len(whole))), reading.value[0, len(whole) - 1]


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_candidates_are_as_likely_and_worth_as_much_as_the_decoder_says_of_whole_rows(pattern):
    model, params, apply = build(pattern)

    @jit
    def search(params):
        advance, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=NEW, stop_tokens=(STOP,))
        return (
            greedy(advance, root, max_steps=NEW),
            best_of_n(advance, root, jax.random.key(2), num_samples=3, max_steps=NEW),
            beam(advance, root, width=3, max_steps=NEW),
        )

    for result in jax.device_get(search(params)):
        for row in range(2):
            for tokens, length, log_prob, value, ended in zip(
                result.actions[row],
                result.length[row],
                result.log_prob[row],
                result.value[row],
                result.done[row],
                strict=True,
            ):
                expected = judged(apply, params, row, tokens[:length])
                np.testing.assert_allclose((log_prob, value), expected, atol=1e-4)
                assert ended == (length == NEW or tokens[length - 1] == STOP)


def test_a_tree_tries_what_the_decoder_would_write_and_reads_it_right():
    model, params, apply = build()

    @jit
    def search(params):
        advance, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=4)
        return tree_search(advance, root, jax.random.key(2), num_simulations=8, max_depth=4)

    result = search(params)
    actions, parents, raw = (
        np.asarray(x)
        for x in (result.search_tree.action_from_parent, result.search_tree.parents, result.search_tree.raw_values)
    )
    deepest = 0
    for row in range(2):
        for node in range(1, 9):
            path, at = [], node
            while at:
                path.insert(0, actions[row, at])
                at = parents[row, at]
            deepest = max(deepest, len(path))
            _, value = judged(apply, params, row, np.asarray(path))
            np.testing.assert_allclose(raw[row, node], value, atol=1e-4)
    assert deepest > 1


def test_steps_of_several_tokens_are_searched_alike():
    model, params, apply = build()

    @jit
    def search(params):
        advance, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=6, stop_tokens=(STOP,))
        advance, root = make_step_model(
            advance, root, jax.random.key(3), num_proposals=3, max_step_tokens=2, stop_tokens=(0,)
        )
        result = beam(advance, root, width=2, max_steps=3)
        return result, concat_steps(result)

    result, (tokens, lengths) = jax.device_get(search(params))
    for row in range(2):
        for way in range(2):
            if np.isfinite(result.log_prob[row, way]):
                _, value = judged(apply, params, row, tokens[row, way, : lengths[row, way]])
                np.testing.assert_allclose(result.value[row, way], value, atol=1e-4)


def test_a_path_has_ended_where_it_has_no_more_room():
    model, params, apply = build()

    @jit
    def search(params):
        advance, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=3)
        return greedy(advance, root, max_steps=5), tree_search(advance, root, jax.random.key(2), num_simulations=8)

    result, decision = jax.device_get(search(params))
    assert np.array_equal(result.length, [[3], [3]])
    assert np.all(result.done)
    for row in range(2):
        expected = judged(apply, params, row, result.actions[row, 0, :3])
        np.testing.assert_allclose((result.log_prob[row, 0], result.value[row, 0]), expected, atol=1e-4)
    assert np.all(np.isfinite(decision.action_weights))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": PROMPTS[:0], "lengths": LENGTHS[:0]}, "at least one row"),
        ({"max_new_tokens": 0}, "max_new_tokens 0 .*at least 1"),
        ({"max_new_tokens": 7}, "6 tokens and 7 new ones.*context of 12"),
        ({"stop_tokens": (7,)}, "stop_tokens holds 7: allowed is 0 to 6"),
    ],
    ids=["nothing", "no room", "too long", "no word"],
)
def test_what_cannot_be_searched_is_refused_with_one_line(change, message):
    model, params, _ = build()
    batch = {"prompts": PROMPTS, "lengths": LENGTHS, "max_new_tokens": NEW, **change}
    with pytest.raises(ValueError, match=message) as refusal:
        make_token_model(model, params, jnp.asarray(batch.pop("prompts")), jnp.asarray(batch.pop("lengths")), **batch)
    assert "\n" not in str(refusal.value)
