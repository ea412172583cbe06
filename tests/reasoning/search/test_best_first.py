"""Best-first search against a plain search with a heap, and against the set of all completions."""

import heapq
import itertools

import jax
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.search import best_first
from thinking.reasoning.search.best_first import search_best_first
from thinking.text.vocabulary import END

PROMPTS, LENGTHS = np.int32([[3, 1, 0], [0, 3, 3], [1, 0, 0]]), np.int32([2, 3, 1])
VOCAB_SIZE = 4
assert END < VOCAB_SIZE


@pytest.fixture(scope="module")
def model():
    network = decoder(vocab_size=VOCAB_SIZE, context_length=8, block=BlockConfig(16, 2), num_layers=1)
    return network, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), jit(network.init)(jax.random.key(3)))


def search(model, num_samples, max_new_tokens):
    network, params = model
    run = jit(
        lambda params: search_best_first(
            network, params, PROMPTS, LENGTHS, num_samples=num_samples, max_new_tokens=max_new_tokens
        )
    )
    return jax.device_get(run(params))


def compute_log_probs(model, max_new_tokens):
    """For each problem, the log-probabilities [V] of the next token by the tokens of a completion so far."""
    network, params = model
    apply = jit(lambda tokens: jax.nn.log_softmax(network.apply(params, tokens).logits))
    prefixes = [
        prefix for length in range(max_new_tokens) for prefix in itertools.product(range(VOCAB_SIZE), repeat=length)
    ]
    tables = []
    for prompt, length in zip(PROMPTS, LENGTHS, strict=True):
        rows = np.zeros((len(prefixes), 8), np.int32)
        for row, prefix in zip(rows, prefixes, strict=True):
            row[: length + len(prefix)] = [*prompt[:length], *prefix]
        log_probs = np.asarray(apply(rows))
        tables.append({prefix: log_probs[i, length + len(prefix) - 1] for i, prefix in enumerate(prefixes)})
    return tables


def search_with_a_heap(log_probs, num_samples, max_new_tokens, num_alternatives):
    """Completions and the numbers of their own tokens."""
    heap, found = [(0.0, ())], []
    while heap and len(found) < num_samples:
        _, prefix = heapq.heappop(heap)
        tokens = list(prefix)
        total = sum(log_probs[prefix[:n]][token] for n, token in enumerate(prefix))
        while len(tokens) < max_new_tokens and (not tokens or tokens[-1] != END):
            row = log_probs[tuple(tokens)]
            greedy, *others = np.argsort(-row)
            for other in others[:num_alternatives]:
                heapq.heappush(heap, (-(total + row[other]), (*tokens, int(other))))
            tokens.append(int(greedy))
            total += row[greedy]
        found.append((tokens, len(tokens) - max(len(prefix) - 1, 0)))
    return found


@pytest.mark.parametrize("num_alternatives", [1, 3])
def test_completions_come_in_the_order_of_a_search_with_a_heap(model, monkeypatch, num_alternatives):
    monkeypatch.setattr(best_first, "MAX_ALTERNATIVES", num_alternatives)
    samples = search(model, 9, 4)
    for row, log_probs in enumerate(compute_log_probs(model, 4)):
        expected = search_with_a_heap(log_probs, 9, 4, num_alternatives)
        for index, (tokens, num_tokens) in enumerate(expected):
            length = samples.completions.length[row, index]
            assert samples.completions.tokens[row, index, :length].tolist() == tokens
            assert samples.num_tokens[row, index] == num_tokens
            assert samples.completions.stopped[row, index] == (tokens[-1] == END)


def test_all_completions_come_once_and_then_the_greedy_one_at_no_cost(model):
    count = 1 + 3 * (1 + 3)  # the end token, or one of three others and then any of four tokens
    samples = search(model, count + 4, 2)
    assert count == 13
    for tokens, lengths, costs in zip(
        samples.completions.tokens, samples.completions.length, samples.num_tokens, strict=True
    ):
        found = [tuple(row[:length]) for row, length in zip(tokens, lengths, strict=True)]
        assert len(set(found[:count])) == count
        assert set(found[count:]) == {found[0]}
        assert costs[:count].min() > 0
        assert costs[count:].max() == 0


def test_a_budget_of_nothing_is_refused(model):
    with pytest.raises(ValueError, match="num_samples 0"):
        search_best_first(*model, PROMPTS, LENGTHS, num_samples=0, max_new_tokens=2)
