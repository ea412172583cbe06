"""Models with thoughts between input and answer: none, pauses, tokens or vectors, all with the same parameters.

A step has the position of a symbol; its input is the thought of the step before. A word of n symbols takes n steps:
n - 1 have a thought, the last has the answer. Alternatively the model chooses its number of steps, or it has n thoughts
and the answer is computed in a separate context.

Axes: B words, N symbols of the longest, T thoughts, A answers, K thought tokens, D width.
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
    ThinkingNetwork,
    answer_at_once,
    marginalize_over_ends,
    take_steps,
)
from thinking.types import Array, Params


class ThinkingOutput(NamedTuple):
    """Answers and thoughts.

    Attributes:
        answer_logits: [B, A] float32; log-probabilities, marginalised over all ends, if the model chooses its end.
        hidden: [B, N, D], after each step; for kind `none` only the last is not 0.
        thoughts: [B, T] int32, thought tokens; 0 for other kinds. T is N if the answer has a separate context, else
            N - 1.
        log_probs: [B, T] float32, of the tokens, in nats; 0 for other kinds.
        entropy: [B, T] float32, of the token distribution, in nats.
        logits: [B, T, K] float32, of the tokens.
        thought_mask: [B, T] bool, thoughts before the answer; with a sampled end, all up to the last possible end.
        num_steps: [B] float32, number of steps, expected if the end is sampled.
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
        think: `think(params, symbols [B, N] int32, lengths [B] int32, key=None, *, forced_tokens=None, can_end=None) ->
            ThinkingOutput`. Consumes the key. With a key, tokens and ends are chosen as in training, without one by
            argmax. `forced_tokens` [B, T] int32 replace chosen tokens where not negative. `can_end` [B] bool: where a
            model with `end_thought` chooses its end; elsewhere a word of n symbols takes n steps. None: everywhere.
        read_answer: `read_answer(params, hidden [..., D]) -> [..., A]`, logits of the answer head.
        kind: kind of thoughts.
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
    hide_word: bool = False,
    separate_blocks: bool = False,
) -> ThinkingModel:
    """A model that thinks before it answers.

    Args:
        kind: kind of thoughts.
        num_symbols: size of the input vocabulary.
        num_answers: A.
        block: shape of the transformer blocks.
        num_layers: number of blocks.
        gradient: estimator of the gradient through chosen thought tokens.
        num_thought_tokens: K, with a separate head; None: K = A, with the head of the answers.
        thought_width: dimensions of thought embeddings, projected to D; None: D, without a projection.
        end_thought: whether the model chooses when to end, after at most N steps. Training marginalises the answer over
            all ends (PonderNet, Banino et al. 2021, as one likelihood).
        hide_word: whether the answer attends to the thoughts only.
        separate_blocks: whether separate blocks compute the answer from the word (unless it is hidden) and the
            thoughts. Kind `none` ignores `end_thought`, `hide_word` and `separate_blocks`.

    Raises:
        ValueError: if `end_thought` is combined with `hide_word` or `separate_blocks`, which would need a context for
            each end.
    """
    is_separate = (hide_word or separate_blocks) and kind != "none"
    if end_thought and (hide_word or separate_blocks):
        raise ValueError(
            "thinking_model: end_thought=True goes with neither hide_word nor separate_blocks; leave one of them out"
        )
    num_tokens = num_answers if num_thought_tokens is None else num_thought_tokens

    def build(key: Array) -> ThinkingNetwork:
        has_own_head, rngs = num_thought_tokens is not None, nnx.Rngs(key)
        return ThinkingNetwork(
            num_symbols,
            num_answers,
            num_tokens,
            block,
            num_layers,
            has_own_head,
            thought_width,
            end_thought,
            separate_blocks,
            rngs,
        )

    init, network = make_pure(build)

    def think(
        params: Params,
        symbols: Array,
        lengths: Array,
        key: Array | None = None,
        *,
        forced_tokens: Array | None = None,
        can_end: Array | None = None,
    ) -> ThinkingOutput:
        modules, max_length = network(params), symbols.shape[1]
        embedded, indices = modules.symbol_embedding(symbols), jnp.arange(max_length, dtype=jnp.int32)
        positions = jnp.broadcast_to(indices[None], symbols.shape)
        cache = modules.reader.read(embedded, positions, positions < lengths[:, None], max_length)
        num_thoughts = max_length if is_separate else max_length - 1
        if kind == "none":
            hidden, thought_output = answer_at_once(modules, cache, lengths, max_length, num_tokens)
        else:
            keys = None if key is None else jax.random.split(key, max_length)
            forced = jnp.full((len(symbols), num_thoughts), -1) if forced_tokens is None else forced_tokens
            forced = jnp.pad(forced, ((0, 0), (0, max_length - num_thoughts)), constant_values=-1).T
            num_needed = jnp.int32(max_length) if end_thought else jnp.max(lengths)
            hidden, thoughts, thought_output = take_steps(
                modules, kind, gradient, cache, num_needed, keys, forced, num_tokens
            )
        thought_mask = indices[None, :num_thoughts] < (lengths if is_separate else lengths - 1)[:, None]
        num_steps = jnp.ones(len(lengths)) if kind == "none" else lengths.astype(jnp.float32)
        if end_thought and kind != "none":
            answers, num_steps = marginalize_over_ends(modules, hidden, lengths, can_end, is_sampled=key is not None)
            is_before_end = (indices[None, :num_thoughts] + 1 < num_steps[:, None]) | (key is not None)
            thought_mask = (
                is_before_end if can_end is None else jnp.where(can_end[:, None], is_before_end, thought_mask)
            )
        elif is_separate:
            answers = modules.answer_head(
                modules.compute_final_hidden(thoughts, lengths, None if hide_word else embedded)
            )
        else:
            answers = modules.answer_head(jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0])
        return ThinkingOutput(
            answers, hidden, *(leaf[:, :num_thoughts] for leaf in thought_output), thought_mask, num_steps
        )

    def read_answer(params: Params, hidden: Array) -> Array:
        return network(params).answer_head(hidden)

    return ThinkingModel(init, think, read_answer, kind, num_tokens)


def init_from_model_without_thoughts(params: Params) -> Params:
    """Initial parameters of a thinking model from a model of kind `none`: the thought head starts as the answer head.

    If separate blocks compute the answer, they start as a copy of the others.

    Args:
        params: of a model with a separate thought head and K = A.

    Raises:
        ValueError: if the heads differ in shape, or there is only one.
    """
    if "thought_head" not in params or params["thought_head"]["kernel"].shape != params["answer_head"]["kernel"].shape:
        raise ValueError(
            "init_from_model_without_thoughts: tokens need a head of their own and one token for each answer; give "
            "num_thought_tokens"
        )
    new_params = {**params, "thought_head": jax.tree.map(jnp.copy, params["answer_head"])}
    if params.get("answer_reader"):
        new_params["answer_reader"] = jax.tree.map(jnp.copy, params["reader"])
    return new_params
