"""The kernel for TPUs, interpreted, and lowered for a device that need not be there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.networks.attention.patterns import Dense, Global, Strided, TopK, Window
from thinking.networks.attention.reference import dense_mask, masked_attention
from thinking.networks.attention.splash import LONGEST, splash_attention, splash_can

B, T, H, G, E = 1, 150, 2, 1, 8
PATTERN = Window(20) | Global(3)


def test_it_computes_what_the_mask_keeps_and_zeros_for_padding():
    generator = np.random.default_rng(0)
    q, k, v, pull = (np.float32(generator.normal(size=(B, T, heads, E))) for heads in (H, G, G, H))
    segments = np.int32([[0] * 20 + [1] * 60 + [2] * 70])

    def both(attend):
        mixed, back = jax.vjp(attend, q, k, v)
        return mixed, *back(pull)

    found = jit(lambda: both(lambda *qkv: splash_attention(*qkv, PATTERN, True, segments, interpret=True)))()
    mask = dense_mask(PATTERN, q, k, True, segments)
    for one, other in zip(found, jit(lambda: both(lambda *qkv: masked_attention(*qkv, mask)))(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_it_compiles_for_a_tpu_with_its_gradient():
    q, k = (jax.ShapeDtypeStruct((B, T, heads, E), jnp.bfloat16) for heads in (H, G))

    def loss(q, k, v):
        return jnp.sum(splash_attention(q, k, v, PATTERN, True, None).astype(jnp.float32))

    exported = jax.export.export(jax.jit(jax.grad(loss, (0, 1, 2))), platforms=["tpu"])(q, k, k)
    assert exported.platforms == ("tpu",)
    assert exported.out_avals[0].shape == q.shape


@pytest.mark.parametrize(
    ("pattern", "tokens", "can"),
    [
        (Dense(), T, True),
        (PATTERN, T, True),
        (Strided(3), T, True),
        (Global(3), T, False),
        (TopK(4, 2) | Window(3), T, False),
        (Dense(), LONGEST + 1, False),
    ],
    ids=str,
)
def test_it_is_for_places_at_which_every_query_sees_itself(pattern, tokens, can):
    assert splash_can(pattern, tokens) == can
