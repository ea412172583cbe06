"""The token model: log-probabilities and values of a search equal those of the decoder on full rows."""

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

VOCAB_SIZE, MAX_NEW_TOKENS, STOP_TOKEN = 7, 5, 3
PROMPTS = np.asarray(jax.random.randint(jax.random.key(1), (2, 6), 0, VOCAB_SIZE), np.int32)
LENGTHS = np.asarray([2, 6], np.int32)


@functools.cache
def make_model(pattern=Dense()):
    block = BlockConfig(16, 4, num_kv_heads=2)
    model = decoder(
        vocab_size=VOCAB_SIZE, context_length=12, block=block, num_layers=1, pattern=pattern, value_head=True
    )
    if pattern != Dense():  # patterns have no parameters of their own
        return model, make_model()[1], jit(model.apply)
    params = jit(model.init)(jax.random.key(0))
    # An untrained model is nearly uniform. Larger weights make paths differ.
    return model, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), params), jit(model.apply)


def evaluate_path(apply, params, row, tokens):
    """Log-probability and last value of a path, from a forward pass over the full row."""
    sequence = np.concatenate([PROMPTS[row, : LENGTHS[row]], tokens])
    output = jax.device_get(apply(params, np.pad(sequence, (0, 12 - len(sequence)))[None]))
    log_probs = np.asarray(jax.nn.log_softmax(output.logits[0]))
    start = LENGTHS[row]
    return sum(log_probs[position - 1, sequence[position]] for position in range(start, len(sequence))), output.value[
        0, len(sequence) - 1
    ]


@pytest.mark.parametrize("pattern", [Dense(), Window(4) | Global(2), TopK(4, 2)], ids=["dense", "ring", "top k"])
def test_candidate_log_probs_and_values_equal_the_decoder(pattern):
    model, params, apply = make_model(pattern)

    @jit
    def search(params):
        step_fn, root = make_token_model(
            model, params, PROMPTS, LENGTHS, max_new_tokens=MAX_NEW_TOKENS, stop_tokens=(STOP_TOKEN,)
        )
        return (
            greedy(step_fn, root, max_steps=MAX_NEW_TOKENS),
            best_of_n(step_fn, root, jax.random.key(2), num_samples=3, max_steps=MAX_NEW_TOKENS),
            beam(step_fn, root, width=3, max_steps=MAX_NEW_TOKENS),
        )

    for result in jax.device_get(search(params)):
        for row in range(2):
            for tokens, length, log_prob, value, done in zip(
                result.actions[row],
                result.length[row],
                result.log_prob[row],
                result.value[row],
                result.done[row],
                strict=True,
            ):
                expected = evaluate_path(apply, params, row, tokens[:length])
                np.testing.assert_allclose((log_prob, value), expected, atol=1e-4)
                assert done == (length == MAX_NEW_TOKENS or tokens[length - 1] == STOP_TOKEN)


@functools.cache
def search_beyond_the_end():
    """The greedy candidates and a tree search, both with more steps than the three new tokens."""
    model, params, _ = make_model()

    @jit
    def search(params):
        step_fn, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=3)
        return greedy(step_fn, root, max_steps=5), tree_search(step_fn, root, jax.random.key(2), num_simulations=8)

    return jax.device_get(search(params))


def test_tree_search_node_values_equal_the_decoder():
    _, params, apply = make_model()
    _, result = search_beyond_the_end()
    actions, parents, raw_values = (
        np.asarray(array)
        for array in (result.search_tree.action_from_parent, result.search_tree.parents, result.search_tree.raw_values)
    )
    max_path_length = 0
    for row in range(2):
        for node in range(1, 9):
            path, ancestor = [], node
            while ancestor:
                path.insert(0, actions[row, ancestor])
                ancestor = parents[row, ancestor]
            max_path_length = max(max_path_length, len(path))
            _, value = evaluate_path(apply, params, row, np.asarray(path))
            value = value if len(path) < 3 else 0  # nothing follows an end
            np.testing.assert_allclose(raw_values[row, node], value, atol=1e-4)
    assert max_path_length > 1


def test_step_model_values_equal_the_decoder():
    model, params, apply = make_model()

    @jit
    def search(params):
        step_fn, root = make_token_model(model, params, PROMPTS, LENGTHS, max_new_tokens=6, stop_tokens=(STOP_TOKEN,))
        step_fn, root = make_step_model(
            step_fn, root, jax.random.key(3), num_proposals=3, max_step_tokens=2, stop_tokens=(0,)
        )
        result = beam(step_fn, root, width=2, max_steps=3)
        return result, concat_steps(result)

    result, (tokens, lengths) = jax.device_get(search(params))
    for row in range(2):
        for index in range(2):
            if np.isfinite(result.log_prob[row, index]):
                _, value = evaluate_path(apply, params, row, tokens[row, index, : lengths[row, index]])
                np.testing.assert_allclose(result.value[row, index], value, atol=1e-4)


def test_paths_are_done_at_max_new_tokens():
    _, params, apply = make_model()
    result, tree_result = search_beyond_the_end()
    assert np.array_equal(result.length, [[3], [3]])
    assert np.all(result.done)
    for row in range(2):
        expected = evaluate_path(apply, params, row, result.actions[row, 0, :3])
        np.testing.assert_allclose((result.log_prob[row, 0], result.value[row, 0]), expected, atol=1e-4)
    assert np.all(np.isfinite(tree_result.action_weights))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"prompts": PROMPTS[:0], "lengths": LENGTHS[:0]}, "at least one row"),
        ({"max_new_tokens": 0}, "max_new_tokens 0 .*at least 1"),
        ({"max_new_tokens": 7}, "6 tokens and 7 new ones.*context of 12"),
        ({"stop_tokens": (7,)}, "stop_tokens holds 7: allowed is 0 to 6"),
    ],
    ids=["no rows", "no new tokens", "too long", "unknown token"],
)
def test_invalid_arguments_raise_a_one_line_error(overrides, message):
    model, params, _ = make_model()
    arguments = {"prompts": PROMPTS, "lengths": LENGTHS, "max_new_tokens": MAX_NEW_TOKENS, **overrides}
    with pytest.raises(ValueError, match=message) as error:
        make_token_model(
            model, params, jnp.asarray(arguments.pop("prompts")), jnp.asarray(arguments.pop("lengths")), **arguments
        )
    assert "\n" not in str(error.value)
