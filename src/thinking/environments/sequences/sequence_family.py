"""Sequence problems: a label at some tokens of a row, for any length.

Axes: T tokens of a row.
"""

from collections.abc import Callable
from typing import NamedTuple

from thinking.types import Array


class LabelledSequence(NamedTuple):
    """A row, or a batch of rows with the leading axis B.

    Attributes:
        tokens: [T] int32.
        targets: [T] int32, the label of each token, which depends on this and earlier tokens of its segment.
        weights: [T] float32, 1 where a label is asked for, otherwise 0.
        segments: [T] int32 from 1; several problems of one row do not depend on each other.
    """

    tokens: Array
    targets: Array
    weights: Array
    segments: Array


class SequenceFamily(NamedTuple):
    """Problems of one kind, of all sizes.

    Attributes:
        name: of the family.
        sample: `sample(key, max_size, size) -> LabelledSequence`; consumes the key. `max_size`, a Python integer, fixes
            the number of tokens. `size`, an int32 scalar from 2 to `max_size`, is that of each problem packed into the
            row; families whose rows hold one problem ignore it.
        count_tokens: `count_tokens(max_size) -> T`.
        vocab_size: tokens and targets are 0 to `vocab_size - 1`.
    """

    name: str
    sample: Callable[[Array, int, Array], LabelledSequence]
    count_tokens: Callable[[int], int]
    vocab_size: int
