"""Models that think before they answer: no steps, empty steps, chosen tokens, or vectors, all of the same weights.

Each step stands where a symbol stands, and its input is what the step before it thought. A word of n symbols takes n
steps, of which the last gives the answer, so there are n - 1 thoughts between them; or the model ends its thoughts by
itself; or n thoughts are made, and the answer is found in a context of its own.

Axes: B words, N symbols of the longest, T thoughts, A answers, K kinds of thoughts, D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig
from thinking.networks.pure import make_pure
from thinking.reasoning.thoughts.steps import (
    GradientEstimator,
    Kind,
    Network,
    answer_at_once,
    marginalize_over_ends,
    take_steps,
)
from thinking.types import Array, Params


class ThinkingOutput(NamedTuple):
    """What came of words.

    Attributes:
        answer_logits: [B, A] float32, logits. Where thinking ends at random they are log-probabilities, over all its ends.
        hidden: [B, N, D], after each step; of `none` the last alone is not 0.
        thoughts: [B, T] int32, the tokens chosen; 0 where thoughts are no tokens. T is N where the answer is found in a
            context of its own, else N - 1.
        log_probs: [B, T] float32, of the tokens, in nats; 0 where thoughts are no tokens.
        entropy: [B, T] float32, of what they were chosen from, in nats.
        logits: [B, T, K] float32, what they were chosen from.
        thought_mask: [B, T] bool, which thoughts came before the answer; where thinking ends at random, which might have.
        num_steps: [B] float32, how many were taken, those that ended at random in the mean.
    """

    answer_logits: Array
    hidden: Array
    thoughts: Array
    log_probs: Array
    entropy: Array
    logits: Array
    thought_mask: Array
    num_steps: Array


class ThinkingModel(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        think: `think(params, symbols [B, N] int32, lengths [B] int32, key=None, *, changed=None, free=None) ->
            Thinking`. With a key, which is consumed, tokens and ends are chosen as in training; without one each is the
            likeliest. `changed` [B, T] int32 puts tokens in place of those chosen, where it is not negative. `free` [B]
            bool says where a model that ends its thoughts by itself may do so; elsewhere they end with the word. None:
            everywhere.
        read_answer: `read(params, hidden [..., D]) -> [..., A]`, the answers' logits.
        kind: of its thoughts.
        num_thought_tokens: K.
    """

    init: Callable[[Array], Params]
    think: Callable[..., ThinkingOutput]
    read_answer: Callable[[Params, Array], Array]
    kind: Kind
    num_thought_tokens: int


def thinking_model(
    *,
    kind: Kind,
    num_symbols: int,
    num_answers: int,
    block: BlockConfig,
    num_layers: int = 1,
    gradient: GradientEstimator = "straight_through",
    num_thought_tokens: int | None = None,
    thought_width: int | None = None,
    end_thought: bool = False,
    blind: bool = False,
    split: bool = False,
) -> ThinkingModel:
    """A model that thinks.

    Args:
        kind: of its thoughts.
        num_symbols: how many there are.
        num_answers: A.
        block: the shape of its blocks.
        num_layers: how many blocks.
        gradient: how tokens are chosen while it trains.
        num_thought_tokens: K, of tokens with a head of their own; None: one for each answer, chosen by the head of the answers.
        thought_width: dimensions of the tokens' embeddings, which a linear map widens; None: D, without a map.
        end_thought: whether the model says after each step if it thinks on, up to N steps. In training the answer's likelihood
            is that over all ends (PonderNet, Banino et al. 2021, as one likelihood).
        blind: whether the answer sees the thoughts alone.
        split: whether other blocks than those that think find the answer, from the word (unless blind) and the
            thoughts. `none` has no thoughts, so that it is neither blind nor split, and has no ends.

    Raises:
        ValueError: ends go with neither blind nor split, for which each end would need a context of its own.
    """
    apart = (blind or split) and kind != "none"
    if end_thought and (blind or split):
        raise ValueError("thinking_model: end_thought=True goes with neither blind nor split; leave one of them out")
    count = num_answers if num_thought_tokens is None else num_thought_tokens

    def build(key: Array) -> Network:
        own_head, rngs = num_thought_tokens is not None, nnx.Rngs(key)
        return Network(
            num_symbols, num_answers, count, block, num_layers, own_head, thought_width, end_thought, split, rngs
        )

    init, network = make_pure(build)

    def think(
        params: Params,
        words: Array,
        lengths: Array,
        key: Array | None = None,
        *,
        forced_tokens: Array | None = None,
        can_end: Array | None = None,
    ) -> ThinkingOutput:
        built, longest = network(params), words.shape[1]
        symbols, numbers = built.words(words), jnp.arange(longest, dtype=jnp.int32)
        places = jnp.broadcast_to(numbers[None], words.shape)
        memory = built.reader.read(symbols, places, places < lengths[:, None], longest)
        thoughts = longest if apart else longest - 1
        if kind == "none":
            hidden, told = answer_at_once(built, memory, lengths, longest, count)
        else:
            keys = None if key is None else jax.random.split(key, longest)
            fixed = jnp.full((len(words), thoughts), -1) if forced_tokens is None else forced_tokens
            fixed = jnp.pad(fixed, ((0, 0), (0, longest - thoughts)), constant_values=-1).T
            needed = jnp.int32(longest) if end_thought else jnp.max(lengths)
            hidden, given, told = take_steps(built, kind, gradient, memory, needed, keys, fixed, count)
        made = numbers[None, :thoughts] < (lengths if apart else lengths - 1)[:, None]
        steps = jnp.ones(len(lengths)) if kind == "none" else lengths.astype(jnp.float32)
        if end_thought and kind != "none":
            answers, steps = marginalize_over_ends(built, hidden, lengths, can_end, is_sampled=key is not None)
            by_itself = (numbers[None, :thoughts] + 1 < steps[:, None]) | (key is not None)
            made = by_itself if can_end is None else jnp.where(can_end[:, None], by_itself, made)
        elif apart:
            answers = built.answer(built.compute_final_hidden(given, lengths, None if blind else symbols))
        else:
            answers = built.answer(jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0])
        return ThinkingOutput(answers, hidden, *(leaf[:, :thoughts] for leaf in told), made, steps)

    def read_answer(params: Params, hidden: Array) -> Array:
        return network(params).answer(hidden)

    return ThinkingModel(init, think, read_answer, kind, count)


def convert_params(params: Params) -> Params:
    """A model that learned to answer at once as one that thinks: its thoughts begin as what it would answer.

    Where other blocks find the answer than those that think, both begin as those that found it at once.

    Args:
        params: of a model whose tokens have a head of their own, one for each answer.

    Raises:
        ValueError: the heads differ in shape, or are one.
    """
    if "choose" not in params or params["choose"]["kernel"].shape != params["answer"]["kernel"].shape:
        raise ValueError(
            "convert_params: tokens need a head of their own and one kind for each answer; give as many kinds"
        )
    thinking = {**params, "choose": jax.tree.map(jnp.copy, params["answer"])}
    if params.get("answerer"):
        thinking["answerer"] = jax.tree.map(jnp.copy, params["reader"])
    return thinking
