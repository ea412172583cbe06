"""Best-first search of the tree of completions, with greedy rollouts.

A completion leaves an earlier one where it first takes another token, and is greedy from there on. Of all branches not
yet taken, the one whose tokens so far are likeliest is next. So no completion comes twice. Lawler (1972) splits a tree
in this way, and finds the exact order of the best; here a rollout stands for its branch. At each position the
`MAX_ALTERNATIVES` likeliest other tokens are branches.

Axes: B problems, P tokens of the longest prompt, M completions of each, N tokens of a completion, V vocabulary size,
K alternatives to a token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.generation.completions import Completions, generate
from thinking.generation.prompts import concat_completion
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.search.interface import check_budgets
from thinking.reasoning.search.strategies import Samples
from thinking.text.vocabulary import END
from thinking.types import Array, Params

MAX_ALTERNATIVES = 8
"""Tokens beside the chosen one that a completion may take at each position."""


class _Tree(NamedTuple):
    """Completions so far, and the ways to leave them.

    Attributes:
        tokens: [B, M, N] int32, of the completions.
        branch_tokens: [B, M, N, K] int32, by which a completion can be left at each position.
        branch_scores: [B, M, N, K] float32, log-probability of all tokens up to and including the branch token; -inf
            for what is no branch or was taken.
    """

    tokens: Array
    branch_tokens: Array
    branch_scores: Array


def search_best_first(
    decoder: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    *,
    num_samples: int,
    max_new_tokens: int,
) -> Samples:
    """Distinct completions, the greedy one first; the tokens that one shares with its parent are not counted.

    Where a tree has fewer completions than asked for, the others are greedy once more, at no cost.

    Args:
        decoder: a decoder.
        params: its parameters.
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, from 1.
        num_samples: M.
        max_new_tokens: N.
    """
    check_budgets("search_best_first", num_samples=num_samples)
    num_alternatives = min(MAX_ALTERNATIVES, decoder.vocab_size - 1)

    def roll_out(forced: Array) -> Completions:
        """Greedy completions that begin with the forced tokens [B, N]; -1 for none."""
        return generate(
            decoder,
            params,
            jax.random.key(0),  # unused
            prompts,
            lengths,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_tokens=(END,),
            forced_tokens=forced,
        )

    def add(tree: _Tree, index: Array | int, completions: Completions, num_shared: Array) -> _Tree:
        """The tree with one more completion of each problem, and the branches after its first tokens [B]."""
        tokens, scores = _find_branches(decoder, params, prompts, lengths, completions, num_shared, num_alternatives)
        return _Tree(
            tree.tokens.at[:, index].set(completions.tokens),
            tree.branch_tokens.at[:, index].set(tokens),
            tree.branch_scores.at[:, index].set(scores),
        )

    def branch(tree: _Tree, index: Array) -> tuple[_Tree, Samples]:
        tree, forced, num_shared = _take_best_branch(tree)
        completions = roll_out(forced)
        # Its own branches begin behind the branch token; those before it are its parent's.
        return add(tree, index, completions, num_shared + 1), Samples(
            completions, jnp.maximum(completions.length - num_shared, 0)
        )

    shape = (len(prompts), num_samples, max_new_tokens)
    tree = _Tree(
        jnp.zeros(shape, jnp.int32),
        jnp.zeros((*shape, num_alternatives), jnp.int32),
        jnp.full((*shape, num_alternatives), -jnp.inf),
    )
    greedy = roll_out(jnp.full((len(prompts), max_new_tokens), -1, jnp.int32))
    tree = add(tree, 0, greedy, jnp.zeros(len(prompts), jnp.int32))
    others = jax.lax.scan(branch, tree, jnp.arange(1, num_samples))[1]
    return jax.tree.map(
        lambda one, more: jnp.moveaxis(jnp.concatenate([one[None], more]), 0, 1), Samples(greedy, greedy.length), others
    )


def _take_best_branch(tree: _Tree) -> tuple[_Tree, Array, Array]:
    """The tree without its likeliest branches, their tokens [B, N] with -1 behind, and how many are a parent's [B].

    Where there is no branch, no token is given, and all N count as a parent's.
    """
    rows, (_, _, max_tokens, _) = jnp.arange(len(tree.tokens)), tree.branch_scores.shape
    best = jnp.argmax(tree.branch_scores.reshape(len(rows), -1), axis=1)
    parent, position, alternative = jnp.unravel_index(best, tree.branch_scores.shape[1:])
    where = rows, parent, position, alternative
    has_branch = jnp.isfinite(tree.branch_scores[where])
    offset = jnp.arange(max_tokens)[None] - position[:, None]
    branch_token = jnp.where(offset == 0, tree.branch_tokens[where][:, None], -1)
    forced = jnp.where(offset < 0, tree.tokens[rows, parent], branch_token)
    return (
        tree._replace(branch_scores=tree.branch_scores.at[where].set(-jnp.inf)),
        jnp.where(has_branch[:, None], forced, -1),
        jnp.where(has_branch, position, max_tokens),
    )


def _find_branches(
    decoder: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    completions: Completions,
    num_shared: Array,
    num_alternatives: int,
) -> tuple[Array, Array]:
    """Tokens [B, N, K] by which completions can be left after their first tokens [B], and the scores of doing so."""
    whole = concat_completion(prompts, lengths, completions.tokens)
    position = jnp.arange(completions.tokens.shape[1])[None]
    # The logits before token n of a completion are those of the token before it in the whole row.
    logits = decoder.apply(params, whole).logits
    logits = jnp.take_along_axis(logits, (lengths[:, None] - 1 + position)[:, :, None], axis=1)
    is_chosen = jax.nn.one_hot(completions.tokens, decoder.vocab_size, dtype=bool)
    log_probs = jnp.where(is_chosen, -jnp.inf, jax.nn.log_softmax(logits))
    log_probs, tokens = jax.lax.top_k(log_probs, num_alternatives)
    before = jnp.cumsum(completions.log_prob, axis=1) - completions.log_prob
    is_branch = (position >= num_shared[:, None]) & (position < completions.length[:, None])
    return tokens, jnp.where(is_branch[:, :, None], before[:, :, None] + log_probs, -jnp.inf)
