"""Networks of equal size."""

import functools

import jax

from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import Decoder, decoder
from thinking.networks.mixers import Mixer, delta, gru, make_mixer, memory
from thinking.recipes.light_networks.config import Config
from thinking.recipes.light_networks.problem_families import make_problem
from thinking.trees import count_parameters

_FEED_FORWARD_STEP = 4


def build_network(config: Config, name: str, problem_name: str) -> Decoder:
    """A network for a problem, with a feed-forward width that makes it as large as the largest without one.

    The largest mixers of the run get a feed-forward layer of twice the width.
    """
    target = max(_count(config, other, problem_name, 2 * config.model.width) for other in config.networks)
    low, high = 1, 64 * config.model.width // _FEED_FORWARD_STEP
    while low < high:  # the largest width at which the network does not exceed the target
        middle = (low + high + 1) // 2
        fits = _count(config, name, problem_name, middle * _FEED_FORWARD_STEP) <= target
        low, high = (middle, high) if fits else (low, middle - 1)
    return _build(config, name, problem_name, low * _FEED_FORWARD_STEP)


def _build(config: Config, name: str, problem_name: str, feed_forward: int) -> Decoder:
    model = config.model
    family, size, _ = make_problem(config, problem_name)
    return decoder(
        vocab_size=family.vocab_size,
        context_length=family.count_tokens(size * max(config.eval.factors)),
        block=BlockConfig(model.width, model.num_heads, feed_forward=feed_forward),
        num_layers=model.num_layers,
        mixers=[_make_mixer(config, mixer) for mixer in name.split("+")],
        tie_embeddings=False,
    )


def _make_mixer(config: Config, name: str) -> Mixer:
    match name:
        case "gru":
            return gru(config.model.state_noise)
        case "delta":
            return delta(config.model.delta_steps)
        case "memory":
            return memory(config.model.num_slots)
    return make_mixer(name)


@functools.cache
def _count(config: Config, name: str, problem_name: str, feed_forward: int) -> int:
    network = _build(config, name, problem_name, feed_forward)
    return count_parameters(jax.eval_shape(network.init, jax.random.key(0)))
