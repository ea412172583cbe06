"""Supervised training on worked texts: how a policy begins.

Axes: R packed rows, B of them in a batch, T tokens of a row, L levels of a syllabus.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from thinking.learning.curriculum import IndexSampler
from thinking.learning.supervised import LossFn, LossSums, make_supervised_update, next_token_sums
from thinking.networks.decoder import Decoder
from thinking.text.packing import PackedRows
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Metrics, Params

CoordinateFn = Callable[[Array, Array, Array], Array]
"""`places(key, tokens [B, T], segments [B, T]) -> where [B, T, K]`, what location positions read; consumes the key."""


def init_fine_tuning(
    decoder: Decoder, optimizer: optax.GradientTransformation, sampler: IndexSampler, key: Array
) -> RunnerState:
    """A model that has learned nothing; consumes the key."""
    init_key, key = jax.random.split(key)
    return RunnerState(init_train_state(decoder.init(init_key), optimizer), key, sampler=sampler.init())


def make_fine_tuning_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    data: PackedRows,
    sampler: IndexSampler,
    *,
    batch_size: int,
    num_levels: int = 1,
    coordinate_fn: CoordinateFn | None = None,
    attend_across_texts: bool = False,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(state, index) -> (state, metrics)`, a pure function of both.

    A text is mastered where the likeliest token is right at every place that has weight: written by itself it would
    come out the same. That is what the syllabus is told, and the metric `compute_accuracy`.

    Args:
        decoder: a decoder.
        optimizer: an optax transformation.
        data: rows [R, T], each of one level.
        sampler: which of them a step learns from.
        batch_size: B.
        num_levels: L.
        coordinate_fn: of tokens, where the model reads locations; by default it does not.
        attend_across_texts: whether the texts of a row see those before them, which makes it harder to find one's own.
    """
    update = make_supervised_update(_make_loss(decoder, num_levels, coordinate_fn, attend_across_texts), optimizer)

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        draw_key, learn_key = jax.random.split(runner_state.key)
        rows, level = sampler.sample(runner_state.sampler, draw_key, index, batch_size)
        drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
        train_state, metrics = update(runner_state.train_state, (drawn, level), jax.random.fold_in(learn_key, index))
        # Sums were divided by the weight, as means are.
        texts, exact = (metrics.pop(name) * metrics["tokens"] for name in ("texts", "exact"))
        success = exact / jnp.maximum(texts, 1)
        sampler_state = sampler.update(runner_state.sampler, jnp.arange(num_levels), success, texts)
        metrics |= {"exact": jnp.sum(exact) / jnp.sum(texts), "levels_open": sampler.num_unlocked(sampler_state)}
        return runner_state._replace(train_state=train_state, sampler=sampler_state), metrics

    return step


def _make_loss(
    decoder: Decoder, num_levels: int, coordinate_fn: CoordinateFn | None, attend_across_texts: bool
) -> LossFn:
    """The loss of the next token, with how many texts of each level there are, and how many are mastered, [L]."""

    def loss(params: Params, batch: tuple[PackedRows, Array], key: Array) -> LossSums:
        packed, level = batch
        where_key, drop_key = jax.random.split(key)
        where = None if coordinate_fn is None else coordinate_fn(where_key, packed.tokens, packed.segments)
        seen = (packed.segments > 0).astype(jnp.int32) if attend_across_texts else packed.segments
        reading = decoder.apply(params, packed.tokens, segments=seen, coordinates=where, key=drop_key)
        sums = next_token_sums(reading.logits, packed.tokens, packed.weights, packed.segments)
        texts, exact = count_exact_match(reading.logits, packed)
        met, right = (jnp.zeros(num_levels).at[level].add(each) for each in (texts, exact))
        return sums._replace(metrics=sums.metrics | {"texts": met, "exact": right})

    return loss


def count_exact_match(logits: Array, packed: PackedRows) -> tuple[Array, Array]:
    """How many texts each row holds, and of how many the likeliest token is right everywhere, [B] float32 each.

    Args:
        logits: [B, T, V], at t of the token at t + 1.
        packed: rows [B, T].
    """
    rows, width = packed.tokens.shape
    weight = packed.weights[:, 1:] * (packed.segments[:, 1:] == packed.segments[:, :-1])
    said = jnp.take_along_axis(logits[:, :-1], packed.tokens[:, 1:, None], axis=-1)[..., 0]
    counts = weight > 0
    wrong = counts & (said < jnp.max(logits[:, :-1], axis=-1))
    spot = jnp.arange(rows)[:, None], packed.segments[:, 1:]

    def texts_with(any_of: Array) -> Array:
        return jnp.sum(jnp.zeros((rows, width + 1)).at[spot].max(any_of.astype(jnp.float32))[:, 1:], axis=1)

    texts = texts_with(counts)
    return texts, texts - texts_with(wrong)
