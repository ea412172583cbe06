"""Supervised fine-tuning on packed texts.

Axes: R packed rows, B rows of a batch, T tokens of a row, L levels, V tokens of the vocabulary, K coordinates.
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
"""`coordinate_fn(key, tokens [B, T], segments [B, T]) -> coordinates [B, T, K]`; consumes the key."""


def init_fine_tuning(
    decoder: Decoder, optimizer: optax.GradientTransformation, sampler: IndexSampler, key: Array
) -> RunnerState:
    """A newly initialised model; consumes the key."""
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
    """`step(runner_state, index) -> (runner_state, metrics)`, a pure function of both.

    A text is an exact match if the argmax is correct at every weighted token, so that greedy decoding would generate
    it. The share of exact matches is the success passed to the sampler, and the metric `exact_match`.

    Args:
        decoder: a decoder.
        optimizer: an optax transformation.
        data: rows [R, T], each of one level.
        sampler: chooses the rows of a step.
        batch_size: B.
        num_levels: L.
        coordinate_fn: coordinates of tokens, for position encodings that use them.
        attend_across_texts: whether texts attend to earlier texts of their row.
    """
    update = make_supervised_update(_make_loss(decoder, num_levels, coordinate_fn, attend_across_texts), optimizer)

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        sample_key, update_key = jax.random.split(runner_state.key)
        rows, level = sampler.sample(runner_state.sampler, sample_key, index, batch_size)
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
        train_state, metrics = update(runner_state.train_state, (batch, level), jax.random.fold_in(update_key, index))
        # The update divides every metric by the total weight; counts are whole numbers.
        texts, exact = (jnp.round(metrics.pop(name) * metrics["num_tokens"]) for name in ("texts", "exact_match"))
        success = exact / jnp.maximum(texts, 1)
        sampler_state = sampler.update(runner_state.sampler, jnp.arange(num_levels), success, texts)
        metrics |= {
            "exact_match": jnp.sum(exact) / jnp.sum(texts),
            "curriculum/num_unlocked": sampler.num_unlocked(sampler_state),
        }
        return runner_state._replace(train_state=train_state, sampler=sampler_state), metrics

    return step


def _make_loss(
    decoder: Decoder, num_levels: int, coordinate_fn: CoordinateFn | None, attend_across_texts: bool
) -> LossFn:
    """Next-token loss, with the metrics `texts` and `exact_match`: numbers of texts and of exact matches, [L] each."""

    def loss(params: Params, batch: tuple[PackedRows, Array], key: Array) -> LossSums:
        packed, level = batch
        coordinate_key, dropout_key = jax.random.split(key)
        coordinates = None if coordinate_fn is None else coordinate_fn(coordinate_key, packed.tokens, packed.segments)
        segments = (packed.segments > 0).astype(jnp.int32) if attend_across_texts else packed.segments
        output = decoder.apply(params, packed.tokens, segments=segments, coordinates=coordinates, key=dropout_key)
        sums = next_token_sums(output.logits, packed.tokens, packed.weights, packed.segments)
        texts, exact = count_exact_match(output.logits, packed)
        num_texts, num_exact = (jnp.zeros(num_levels).at[level].add(counts) for counts in (texts, exact))
        return sums._replace(metrics=sums.metrics | {"texts": num_texts, "exact_match": num_exact})

    return loss


def count_exact_match(logits: Array, packed: PackedRows) -> tuple[Array, Array]:
    """Number of weighted texts and of exact matches in each row, [B] float32 each.

    Args:
        logits: [B, T, V], at t of the token at t + 1.
        packed: rows [B, T].
    """
    rows, width = packed.tokens.shape
    weight = packed.weights[:, 1:] * (packed.segments[:, 1:] == packed.segments[:, :-1])
    target_logits = jnp.take_along_axis(logits[:, :-1], packed.tokens[:, 1:, None], axis=-1)[..., 0]
    is_weighted = weight > 0
    is_wrong = is_weighted & (target_logits < jnp.max(logits[:, :-1], axis=-1))
    segment_index = jnp.arange(rows)[:, None], packed.segments[:, 1:]

    def count_texts(flags: Array) -> Array:
        return jnp.sum(jnp.zeros((rows, width + 1)).at[segment_index].max(flags.astype(jnp.float32))[:, 1:], axis=1)

    texts = count_texts(is_weighted)
    return texts, texts - count_texts(is_wrong)
