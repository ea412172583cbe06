"""Text embedders: unit vectors whose inner products are cosine similarities.

Axes: N texts, D dimensions.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

EmbedFn = Callable[[Sequence[str]], np.ndarray]
"""`embed(texts) -> [N, D]`."""


class Embedder(NamedTuple):
    """A named embedding function.

    Attributes:
        name: of the embedding; vectors of different names are not comparable.
        dims: D.
        embed: `embed(texts) -> [N, D]` float32 unit vectors; no texts give [0, D]. Raises ValueError for an empty or
            blank text.
    """

    name: str
    dims: int
    embed: EmbedFn


def make_embedder(name: str, dims: int, embed_fn: EmbedFn) -> Embedder:
    """Add checks and normalisation to an embedding function.

    Args:
        name: of the embedder.
        dims: D.
        embed_fn: `embed(texts) -> [N, D]` for at least one text; no vector is zero.

    Raises:
        ValueError: on embedding, for empty or blank texts, and for vectors that are not [N, D], not finite, or zero.
    """

    def embed_checked(texts: Sequence[str]) -> np.ndarray:
        check_texts(texts)
        if not len(texts):
            return np.zeros((0, dims), np.float32)
        vectors = np.asarray(embed_fn(texts), np.float32)
        if vectors.shape != (len(texts), dims):
            raise ValueError(
                f"{name}: vectors of shape {vectors.shape} came out, but {(len(texts), dims)} was promised"
            )
        return normalize(vectors)

    return Embedder(name, dims, embed_checked)


def check_texts(texts: Sequence[str]) -> None:
    """Raises ValueError for a single string, and for a text that is empty or blank."""
    if isinstance(texts, str):
        raise ValueError("texts: one text is given where a list of texts is meant; put it into a list")
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"texts: text {index} is {'blank' if text else 'empty'}; leave it out")


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors [N, D] to unit length; raises ValueError for a zero or non-finite one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    is_invalid = ~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0))
    if is_invalid.any():
        index = int(np.argmax(is_invalid))
        raise ValueError(
            f"vector {index} has length {lengths[index, 0]}; only one of a finite length above 0 has a direction"
        )
    return vectors / lengths


def hashing_embedder(dims: int = 64) -> Embedder:
    """An embedder without weights: hashed counts of words and character trigrams, ignoring case.

    Each feature adds 1 to, or subtracts 1 from, the dimension given by its hash (Weinberger et al. 2009). Texts that
    share words or parts of words are similar. Vectors are the same on every machine.

    Args:
        dims: D; with fewer dimensions more features collide.

    Raises:
        ValueError: for less than one dimension.
    """
    if dims < 1:
        raise ValueError(f"hashing_embedder: dims {dims}: a vector has at least 1 dimension")

    def embed(texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), dims), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for feature, weight in _features(text):
                code = zlib.crc32(feature.encode())
                row[(code >> 1) % dims] += weight if code & 1 else -weight
        return vectors

    return make_embedder(f"hashed-{dims}", dims, embed)


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = text.lower().split()
    # Integer counts may cancel out to a zero vector; the weight 0.5 prevents that.
    yield " ".join(words), 0.5
    for word in words:
        yield word, 1.0
        framed = f" {word} "
        for start in range(len(framed) - 2):
            yield framed[start : start + 3], 1.0


def minilm_embedder(folder: Path | None = None, report_progress: Callable[[int, int], None] | None = None) -> Embedder:
    """The sentence embedder all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019), or another small BERT.

    Args:
        folder: with config.json, tokenizer.json and model.safetensors; by default the weights of an installed package,
            or downloaded ones.
        report_progress: called after each part with the number of texts done and the total.

    Raises:
        UserError: if there are no weights, or not of a BERT.
    """
    from thinking.text.minilm import (
        embed_texts,
        load_encoder,
    )  # JAX is slow to import, and other embedders do not need it

    encoder = load_encoder(folder)
    return make_embedder(encoder.name, encoder.dims, lambda texts: embed_texts(encoder, texts, report_progress))
