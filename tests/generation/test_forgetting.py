"""What was thought leaves no trace in a cache from which it is dropped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tests.kernels.quick import jit

from thinking.generation.completions import Completions
from thinking.generation.forgetting import forget_thoughts
from thinking.generation.prompts import read_prompts
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("0123456789+="))
MODEL = decoder(vocabulary=len(VOCABULARY), context_length=24, block=BlockConfig(16, 2), layers=1, value_head=True)
ASKED = ["<begin>7+8=", "<begin>1+12="]
SAID = ["<think>7+8=15<step>0+1</think><answer>15<end>", "<think></think><answer>13<end>"]


def rows(texts):
    tokens = [VOCABULARY.encode(text) for text in texts]
    padded = np.zeros((len(tokens), max(map(len, tokens))), np.int32)
    for row, each in zip(padded, tokens, strict=True):
        row[: len(each)] = each
    return jnp.asarray(padded), jnp.array([len(each) for each in tokens])


def test_what_follows_depends_on_questions_and_answers_alone():
    params = jit(MODEL.init)(jax.random.key(0))
    (prompts, lengths), (tokens, written) = rows(ASKED), rows(SAID)
    blank = jnp.zeros(tokens.shape)
    completions = Completions(tokens, written, blank, blank, jnp.ones(2, bool))
    forget = jit(functools.partial(forget_thoughts, MODEL, answer=4, new=2))
    cache, logits, value = forget(params, prompts, lengths, completions)
    plain, count = rows([f"{asked}<answer>{said}<end>" for asked, said in zip(ASKED, ("15", "13"), strict=True)])
    np.testing.assert_array_equal(cache.length, count)
    assert cache.length.max() <= prompts.shape[1] + 4
    wanted = jit(functools.partial(read_prompts, MODEL, capacity=plain.shape[1] + 2, new=2))(params, plain, count)
    np.testing.assert_allclose(logits, wanted[1], atol=1e-5)
    np.testing.assert_allclose(value, wanted[2], atol=1e-5)
    following = jnp.array([[3], [4]])
    extend = jit(MODEL.extend)
    after = [extend(params, made, following)[0].logits for made in (cache, wanted[0])]
    np.testing.assert_allclose(*after, atol=1e-5)
