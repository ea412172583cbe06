"""A stack of kernels as one: adjacent layers that share a kernel are stacked, and learn in one vmapped fit.

Axes: B rows. A group is a run of adjacent layers that are the same kernel object.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Context, Hypothesis, Kernel, Transition
from thinking.types import Array, Metrics, State


class LayerStack(NamedTuple):
    """The kernels of a guide, the lowest first.

    Attributes:
        kernels: one for each layer.
        init: `init(key) -> states`, one stacked state for each group; consumes the key.
        fit: `fit(states, batches) -> (states, metrics)`, batches of equal size, one for each layer; metrics
            `layer_N/NAME`.
        infer: `infer(states, layer, context, target) -> Hypothesis`.
    """

    kernels: tuple[Kernel, ...]
    init: Callable[[Array], tuple[State, ...]]
    fit: Callable[[tuple[State, ...], Sequence[Transition]], tuple[tuple[State, ...], Metrics]]
    infer: Callable[[tuple[State, ...], int, Context, Array], Hypothesis]


def stack_layers(kernels: Sequence[Kernel]) -> LayerStack:
    """Group kernels into runs of the same object, and map over each run."""
    groups: list[tuple[Kernel, int]] = []  # the kernel and its number of layers
    group_index: list[tuple[int, int]] = []  # of each layer: its group, and its index there
    for kernel in kernels:
        if groups and groups[-1][0] is kernel:
            groups[-1] = (kernel, groups[-1][1] + 1)
        else:
            groups.append((kernel, 1))
        group_index.append((len(groups) - 1, groups[-1][1] - 1))

    def init(key: Array) -> tuple[State, ...]:
        keys = jax.random.split(key, len(kernels))
        states, start = [], 0
        for kernel, count in groups:
            states.append(jax.vmap(kernel.init)(keys[start : start + count]))
            start += count
        return tuple(states)

    def fit(states: tuple[State, ...], batches: Sequence[Transition]) -> tuple[tuple[State, ...], Metrics]:
        fitted, metrics, start = [], {}, 0
        for (kernel, count), state in zip(groups, states, strict=True):
            batch = jax.tree.map(lambda *rows: jnp.stack(rows), *batches[start : start + count])
            state, group_metrics = jax.vmap(kernel.fit)(state, batch)
            fitted.append(state)
            metrics |= {
                f"layer_{start + i}/{name}": value[i] for name, value in group_metrics.items() for i in range(count)
            }
            start += count
        return tuple(fitted), metrics

    def infer(states: tuple[State, ...], layer: int, context: Context, target: Array) -> Hypothesis:
        group, index = group_index[layer]
        state = jax.tree.map(lambda leaf: leaf[index], states[group])
        return groups[group][0].infer(state, context, target)

    return LayerStack(tuple(kernels), init, fit, infer)
