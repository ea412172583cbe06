"""A transformer kernel: causal self-attention over the context, conditioned on the target, projected to slots."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from thinking.kernels.contract import Context, Kernel, Spaces, check_context_length
from thinking.kernels.gradient import Network, gradient_kernel
from thinking.kernels.slots import INITIAL_SCORE_LOGIT, Learning, Slots, value_access
from thinking.networks.attention.patterns import Window
from thinking.networks.attention.sparse import attention
from thinking.networks.blocks import Block, BlockConfig, PositionalEncoding
from thinking.networks.positions import Position, rotary
from thinking.networks.pure import make_pure
from thinking.types import Array, Discrete, Space, State, value_width


def transformer(
    *,
    input: Space,
    value: Space,
    target: Space,
    optimizer: optax.GradientTransformation,
    context_length: int = 1,
    window: int | None = None,
    width: int = 128,
    num_heads: int = 4,
    num_blocks: int = 1,
    num_slots: int = 32,
    dropout: float = 0.0,
    position: Position = rotary(),
    learning: Learning = value_access(),
) -> Kernel:
    """A gradient kernel that attends over its context.

    Args:
        input: space of the context items.
        value: space of the predicted values.
        target: space of the targets.
        optimizer: an optax transformation.
        context_length: C.
        window: number of items each item sees, itself included; the whole context by default.
        width: D, dimensions of a token.
        num_heads: H, a divisor of the width.
        num_blocks: transformer blocks.
        num_slots: S, hypotheses per query.
        dropout: dropout rate in `fit`, in [0, 1).
        position: an encoding of `thinking.networks.positions`.
        learning: slot selection and asymmetry.

    Raises:
        ValueError: if a size is below 1, the heads do not divide the width, or the dropout is out of range.
    """
    check_context_length(context_length)
    window = context_length if window is None else window
    _check_sizes(width=width, num_blocks=num_blocks, num_slots=num_slots, window=window)
    spaces = Spaces(input, value, target)

    block = BlockConfig(width, num_heads, position=position, dropout=dropout)

    def build(key: Array) -> _SlotNetwork:
        return _SlotNetwork(spaces, context_length, window, block, num_blocks, num_slots, nnx.Rngs(key))

    init, network = make_pure(build)

    def apply(params: State, context: Context, target: Array, dropout_key: Array | None) -> Slots:
        rngs = None if dropout_key is None or dropout == 0 else nnx.Rngs(dropout=dropout_key)
        return network(params)(context, target, rngs)

    _check_builds(init, apply, spaces, context_length)
    return gradient_kernel(
        "transformer",
        Network(init, apply),
        spaces=spaces,
        context_length=context_length,
        optimizer=optimizer,
        learning=learning,
    )


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"transformer: {name} {size} must be at least 1")


def _check_builds(init: Callable, apply: Callable, spaces: Spaces, context_length: int) -> None:
    """Raise now, and not in the first fit, if the sizes do not fit together (such as an odd width for sinusoids)."""

    def build_and_apply() -> Slots:
        items = jnp.zeros((1, context_length, *spaces.input.shape), spaces.input.dtype)
        target = jnp.zeros((1, *spaces.target.shape), spaces.target.dtype)
        return apply(init(jax.random.key(0)), Context(items, jnp.ones(1, jnp.int32)), target, None)

    jax.eval_shape(build_and_apply)


class _SlotNetwork(nnx.Module):
    """The network of the kernel."""

    def __init__(
        self,
        spaces: Spaces,
        context_length: int,
        window: int,
        block: BlockConfig,
        num_blocks: int,
        num_slots: int,
        rngs: nnx.Rngs,
    ) -> None:
        width = block.width
        self.pattern, self.num_slots = Window(window), num_slots
        self.item_encoder = _make_encoder(spaces.input, width, rngs)
        self.target_encoder = _make_encoder(spaces.target, width, rngs)
        self.positional_encoding = PositionalEncoding(block, context_length, rngs)
        self.blocks = nnx.List([Block(block, rngs) for _ in range(num_blocks)])
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

        # Only the newest token's output of the last block is used.
        attend_fns = [attend] * (len(self.blocks) - 1) + [attend_to_newest]
        for block, attend_fn in zip(self.blocks, attend_fns, strict=True):
            tokens, _ = block(tokens, positions, attend_fn, rngs)
        newest = self.norm(tokens[:, -1])
        values = self.value_head(newest)
        return Slots(values.reshape(*values.shape[:1], self.num_slots, -1), self.score_head(newest))


def _make_encoder(space: Space, width: int, rngs: nnx.Rngs) -> nnx.Module:
    if isinstance(space, Discrete):
        return nnx.Embed(space.size, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
    return nnx.Linear(space.dims, width, rngs=rngs)
