"""Flax NNX modules as pure functions over a plain PyTree of parameters."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

from thinking.types import Array, Params

Module = TypeVar("Module", bound=nnx.Module)


def make_pure(build: Callable[[Array], Module]) -> tuple[Callable[[Array], Params], Callable[[Params], Module]]:
    """Split a module into static structure and parameters, which are nested dicts of arrays.

    `build` makes the module from a key, which it consumes. Returns `init(key) -> params`, and `network(params)`, the
    module with these parameters for one call.
    """
    structure, template = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key: Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def network(params: Params) -> Module:
        state = jax.tree.map(lambda leaf: leaf, template)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(structure, state)

    return init, network
