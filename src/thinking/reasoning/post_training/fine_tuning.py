"""Supervised training on worked texts: how a policy begins.

Axes: R packed rows, B of them in a batch, T tokens of a row, L levels of a syllabus.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from thinking.learning.curriculum import Syllabus
from thinking.learning.supervised import Loss, Sums, next_token_sums, supervised
from thinking.networks.decoder import Decoder
from thinking.text.packing import Packed
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Metrics, Params

Places = Callable[[Array, Array, Array], Array]
"""`places(key, tokens [B, T], segments [B, T]) -> where [B, T, K]`, what location positions read; consumes the key."""


def init_fine_tuning(
    model: Decoder, optimizer: optax.GradientTransformation, syllabus: Syllabus, key: Array
) -> RunnerState:
    """A model that has learned nothing; consumes the key."""
    init_key, key = jax.random.split(key)
    return RunnerState(init_train_state(model.init(init_key), optimizer), key, sampler=syllabus.init())


def supervised_step(
    model: Decoder,
    optimizer: optax.GradientTransformation,
    data: Packed,
    syllabus: Syllabus,
    *,
    batch: int,
    levels: int = 1,
    places: Places | None = None,
    mixed: bool = False,
) -> Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]:
    """`step(state, index) -> (state, metrics)`, a pure function of both.

    A text is mastered where the likeliest token is right at every place that has weight: written by itself it would
    come out the same. That is what the syllabus is told, and the metric `exact`.

    Args:
        model: a decoder.
        optimizer: an optax transformation.
        data: rows [R, T], each of one level.
        syllabus: which of them a step learns from.
        batch: B.
        levels: L.
        places: of tokens, where the model reads locations; by default it does not.
        mixed: whether the texts of a row see those before them, which makes it harder to find one's own.
    """
    update = supervised(_loss(model, levels, places, mixed), optimizer)

    def step(state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        draw_key, learn_key = jax.random.split(state.key)
        rows, level = syllabus.draw(state.sampler, draw_key, index, batch)
        drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], data)
        train_state, metrics = update(state.train_state, (drawn, level), jax.random.fold_in(learn_key, index))
        # Sums were divided by the weight, as means are.
        texts, exact = (metrics.pop(name) * metrics["tokens"] for name in ("texts", "exact"))
        success = exact / jnp.maximum(texts, 1)
        sampler = syllabus.observe(state.sampler, jnp.arange(levels), success, texts)
        metrics |= {"exact": jnp.sum(exact) / jnp.sum(texts), "levels_open": syllabus.opened(sampler)}
        return state._replace(train_state=train_state, sampler=sampler), metrics

    return step


def _loss(model: Decoder, levels: int, places: Places | None, mixed: bool) -> Loss:
    """The loss of the next token, with how many texts of each level there are, and how many are mastered, [L]."""

    def loss(params: Params, batch: tuple[Packed, Array], key: Array) -> Sums:
        packed, level = batch
        where_key, drop_key = jax.random.split(key)
        where = None if places is None else places(where_key, packed.tokens, packed.segments)
        seen = (packed.segments > 0).astype(jnp.int32) if mixed else packed.segments
        reading = model.apply(params, packed.tokens, segments=seen, where=where, key=drop_key)
        sums = next_token_sums(reading.logits, packed.tokens, packed.weights, packed.segments)
        texts, exact = mastered(reading.logits, packed)
        met, right = (jnp.zeros(levels).at[level].add(each) for each in (texts, exact))
        return sums._replace(metrics=sums.metrics | {"texts": met, "exact": right})

    return loss


def mastered(logits: Array, packed: Packed) -> tuple[Array, Array]:
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
