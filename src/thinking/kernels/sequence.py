"""Kernels whose network reads a context in order, conditioned on the target; any mixer will do."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from thinking.kernels.contract import Context, Kernel, Spaces
from thinking.kernels.gradient import SlotNetwork, gradient_kernel
from thinking.kernels.slots import INITIAL_SCORE_LOGIT, Learning, Slots
from thinking.networks.attention.patterns import Dense, Pattern
from thinking.networks.attention.sparse import attention
from thinking.networks.blocks import Block, BlockConfig, PositionalEncoding
from thinking.networks.mixers import Mixer, RecurrentInputs
from thinking.networks.pure import make_pure
from thinking.types import Array, Discrete, Space, State, value_width


def sequence_kernel(
    name: str,
    mixers: Sequence[Mixer],
    *,
    spaces: Spaces,
    block: BlockConfig,
    optimizer: optax.GradientTransformation,
    context_length: int,
    num_slots: int,
    learning: Learning,
    pattern: Pattern = Dense(),
) -> Kernel:
    """A gradient kernel whose network reads the items of its context in order.

    Args:
        name: of the kernel, for errors.
        mixers: of each block, what mixes the items.
        spaces: of context items, values and targets.
        block: the shape of a block.
        optimizer: an optax transformation.
        context_length: C.
        num_slots: S, hypotheses per query.
        learning: slot selection and asymmetry.
        pattern: of attention.

    Raises:
        ValueError: if a size is out of range, or sizes do not fit together.
    """
    _check_sizes(name, num_blocks=len(mixers), num_slots=num_slots)

    def build(key: Array) -> _Network:
        return _Network(spaces, context_length, pattern, mixers, block, num_slots, nnx.Rngs(key))

    init, network = make_pure(build)

    def apply(params: State, context: Context, target: Array, dropout_key: Array | None) -> Slots:
        rngs = None if dropout_key is None or block.dropout == 0 else nnx.Rngs(dropout=dropout_key)
        return network(params)(context, target, rngs)

    _check_builds(init, apply, spaces, context_length)
    return gradient_kernel(
        name,
        SlotNetwork(init, apply),
        spaces=spaces,
        context_length=context_length,
        optimizer=optimizer,
        learning=learning,
    )


def _check_sizes(kernel: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{kernel}: {name} {size} is out of range; give at least 1")


def _check_builds(init: Callable, apply: Callable, spaces: Spaces, context_length: int) -> None:
    """Raise now, and not in the first fit, if the sizes do not fit together (such as an odd width for sinusoids)."""

    def build_and_apply() -> Slots:
        items = jnp.zeros((1, context_length, *spaces.input.shape), spaces.input.dtype)
        target = jnp.zeros((1, *spaces.target.shape), spaces.target.dtype)
        return apply(init(jax.random.key(0)), Context(items, jnp.ones(1, jnp.int32)), target, None)

    jax.eval_shape(build_and_apply)


class _Network(nnx.Module):
    """The network of the kernel."""

    def __init__(
        self,
        spaces: Spaces,
        context_length: int,
        pattern: Pattern,
        mixers: Sequence[Mixer],
        block: BlockConfig,
        num_slots: int,
        rngs: nnx.Rngs,
    ) -> None:
        width = block.width
        self.pattern, self.mixers, self.block, self.num_slots = pattern, tuple(mixers), block, num_slots
        self.item_encoder = _make_encoder(spaces.input, width, rngs)
        self.target_encoder = _make_encoder(spaces.target, width, rngs)
        self.positional_encoding = PositionalEncoding(block, context_length, rngs)
        self.blocks = nnx.List([Block(block, rngs, mixer.build) for mixer in mixers])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.value_head = nnx.Linear(width, num_slots * value_width(spaces.value), rngs=rngs)
        self.score_head = nnx.Linear(
            width, num_slots, bias_init=nnx.initializers.constant(INITIAL_SCORE_LOGIT), rngs=rngs
        )

    def __call__(self, context: Context, target: Array, rngs: nnx.Rngs | None) -> Slots:
        segments = context.valid.astype(jnp.int32)
        positions = jnp.arange(segments.shape[1])[None]
        coordinates = context.items[..., None] if context.items.ndim == 2 else context.items
        tokens = self.item_encoder(context.items) + self.target_encoder(target)[:, None]
        tokens = self.positional_encoding(tokens, positions, coordinates)

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, None]:
            return attention(q, k, v, pattern=self.pattern, segments=segments), None

        def attend_to_newest(q: Array, k: Array, v: Array) -> tuple[Array, None]:
            return attend(q, k, v)[0][:, -1:], None

        for index, (block, mixer) in enumerate(zip(self.blocks, self.mixers, strict=True)):
            if mixer.init_state is None:
                # Only the newest token's output of the last block is used.
                inputs = attend_to_newest if index == len(self.blocks) - 1 else attend
            else:
                state = mixer.init_state(self.block, len(tokens))
                inputs = RecurrentInputs(state, jnp.zeros_like(context.valid), context.valid)
            tokens, _ = block(tokens, positions, inputs, rngs)
        newest = self.norm(tokens[:, -1])
        values = self.value_head(newest)
        return Slots(values.reshape(*values.shape[:1], self.num_slots, -1), self.score_head(newest))


def _make_encoder(space: Space, width: int, rngs: nnx.Rngs) -> nnx.Module:
    if isinstance(space, Discrete):
        return nnx.Embed(space.size, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
    return nnx.Linear(space.dims, width, rngs=rngs)
