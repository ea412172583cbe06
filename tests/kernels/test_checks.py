"""The check of a kernel: all kernels of the package pass, and a broken rule is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinking import kernels
from thinking.kernels import Box, Discrete, Hypothesis, Spaces, check_kernel, checked_kernel

SPACES = Spaces(Discrete(3), Discrete(4), Discrete(2))
NAMES = {"input": SPACES.input, "value": SPACES.value, "target": SPACES.target}


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.table(**NAMES, context_length=2, capacity=20),
        kernels.linear(input=Box(2), value=Box(3), target=Box(1), optimizer=optax.adam(0.1), context_length=2),
    ],
)
def test_kernels_of_the_package_pass(kernel):
    check_kernel(kernel)


def count_values(length=2):
    """A kernel that counts the values that followed each newest item."""

    def fit(state, batch):
        return state.at[batch.context.items[:, -1], batch.value].add(batch.mask), {"rows": jnp.sum(batch.mask)}

    def infer(state, context, target):
        counts = state[context.items[:, -1]]
        share = counts.max(axis=1) / jnp.maximum(counts.sum(axis=1), 1)
        return Hypothesis(jnp.argmax(counts, axis=1).astype(jnp.int32), share)

    return checked_kernel("counts", lambda key: jnp.zeros((3, 4)), fit, infer, SPACES, length)


def test_a_sound_kernel_passes():
    check_kernel(count_values())


def change_fit(wrap):
    kernel = count_values()
    return kernel._replace(fit=lambda state, batch: wrap(kernel.fit, state, batch))


def change_infer(wrap):
    kernel = count_values()
    return kernel._replace(infer=lambda *query: wrap(kernel.infer, *query))


def widen(fit, state, batch):
    state, metrics = fit(state, batch)
    return jnp.pad(state, ((0, 1), (0, 0))), metrics


def count_rows(fit, state, batch):
    return fit(state, batch)[0] + len(batch.mask), {}


def read_masked(fit, state, batch):
    state, metrics = fit(state, batch)
    return state, metrics | {"score": jnp.sum(batch.score)}


def read_padding(fit, state, batch):
    is_legal = (batch.context.items[:, -1:] < SPACES.input.size) & (batch.mask[:, None] > 0)
    state, metrics = fit(state, batch)
    return state, metrics | {"items": jnp.sum(jnp.where(is_legal, batch.context.items, 0))}


def keep_rows(fit, state, batch):
    state, metrics = fit(state, batch)
    return state, metrics | {"mask": batch.mask}


def read_illegal(fit, state, batch):
    state, metrics = fit(state, batch)
    return state, metrics | {"seen": jnp.sum(batch.mask)}


def name_others(infer, state, context, target):
    hypothesis = infer(state, context, target)
    return hypothesis._replace(score=jnp.where(jnp.any(hypothesis.score < 0), 0 * hypothesis.score, hypothesis.score))


def spoil_one_value(infer, *query):
    hypothesis = infer(*query)
    return hypothesis._replace(value=hypothesis.value.at[1].set(4))


def spoil_one_score(infer, *query):
    hypothesis = infer(*query)
    return hypothesis._replace(score=hypothesis.score.at[1].set(1.5))


def answer_one_illegal_query(infer, *query):
    hypothesis = infer(*query)
    is_illegal = hypothesis.score == -jnp.inf
    is_first = is_illegal & (jnp.cumsum(is_illegal) == 1)
    return hypothesis._replace(score=jnp.where(is_first, 0.5, hypothesis.score))


def answer_the_first(infer, *query):
    hypothesis = infer(*query)
    is_legal = hypothesis.score > -jnp.inf
    first = jnp.argmax(is_legal)
    return Hypothesis(
        jnp.full(6, hypothesis.value[first]), jnp.where(is_legal, jnp.full(6, hypothesis.score[first]), -jnp.inf)
    )


def make_weakly_typed():
    kernel = count_values()
    weak = jax.eval_shape(lambda: jnp.full(2, 1.0)).weak_type
    assert weak
    return kernel._replace(
        init=lambda key: (kernel.init(key), jnp.full(2, 1.0)),
        fit=lambda state, batch: ((kernel.fit(state[0], batch)[0], state[1] + jnp.zeros(2)), {}),
    )


def test_answers_of_another_shape_are_refused_with_their_name():
    kernel = checked_kernel(
        "scalars",
        lambda key: jnp.zeros(()),
        lambda state, batch: (state, {}),
        lambda state, context, target: Hypothesis(jnp.int32(1), jnp.ones(target.shape)),
        SPACES,
        1,
    )
    with pytest.raises(ValueError, match="scalars: value of infer"):
        check_kernel(kernel)


@pytest.mark.parametrize(
    ("kernel", "rule"),
    [
        (change_fit(widen), r"of the state: itself from float32 \[3, 4\] to float32 \[4, 4\]"),
        (change_fit(lambda fit, *inputs: (fit(*inputs)[0] * 1.0 > 0, {})), "from float32 .* to bool"),
        (change_fit(lambda fit, *inputs: ((fit(*inputs)[0],), {})), "the structure of the state"),
        (change_fit(lambda fit, *inputs: fit(*inputs)[0]), "something else than .state, metrics."),
        (change_fit(lambda fit, *inputs: (fit(*inputs)[0], jnp.zeros(()))), "no dict of scalars"),
        (change_infer(lambda infer, *query: tuple(infer(*query))), "something else than a Hypothesis"),
        (change_infer(answer_the_first), "depend on the order of the queries"),
        (make_weakly_typed(), "weakly typed to float32"),
        (change_fit(keep_rows), "a metric that is no scalar"),
        (change_fit(count_rows), "changes the state by rows of weight 0"),
        (change_fit(read_masked), "reads rows of weight 0"),
        (change_fit(read_illegal), "reads illegal rows"),
        (change_fit(read_padding), "fit reads the padding"),
        (change_infer(lambda infer, *query: infer(*query)._replace(value=jnp.zeros(6))), "infer gives value and score"),
        (change_infer(lambda infer, *query: infer(*query)._replace(value=jnp.full(6, 4))), "a value outside its space"),
        (change_infer(lambda infer, *query: infer(*query)._replace(score=jnp.full(6, 1.5))), "neither in"),
        (
            change_infer(
                lambda infer, state, context, target: Hypothesis(
                    context.items[:, 0] % 4, infer(state, context, target).score
                )
            ),
            "infer reads the padding",
        ),
        (change_infer(lambda infer, *query: infer(*query)._replace(score=jnp.full(6, 0.5))), "a score above -inf"),
        (change_infer(spoil_one_value), "a value outside its space"),
        (change_infer(spoil_one_score), "neither in"),
        (change_infer(answer_one_illegal_query), "a score above -inf"),
        (change_infer(name_others), "above -inf|change the answers"),
    ],
)
def test_a_broken_rule_is_named(kernel, rule):
    with pytest.raises(ValueError, match=rule):
        check_kernel(kernel)


def test_a_kernel_that_draws_random_numbers_of_its_own_is_refused():
    rng = np.random.default_rng(0)

    def draw(fit, state, batch):
        noise = jax.pure_callback(lambda: np.float32(rng.normal()), jax.ShapeDtypeStruct((), jnp.float32))
        return fit(state, batch)[0] + noise, {}

    with pytest.raises(ValueError, match="fit is not pure"):
        check_kernel(change_fit(draw))
