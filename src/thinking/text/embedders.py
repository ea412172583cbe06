"""From texts to vectors of length 1, whose products say how alike the texts are.

Axes: N texts, D dimensions.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

EmbedFn = Callable[[Sequence[str]], np.ndarray]


class Embedder(NamedTuple):
    """What turns texts into vectors.

    Attributes:
        name: what made the vectors; those of two names do not compare.
        dims: D.
        embed: `embed(texts) -> [N, D]` float32, each of length 1; no texts give [0, D]. Raises ValueError for a text
            that is empty or blank.
    """

    name: str
    dims: int
    embed: EmbedFn


def make_embedder(name: str, dims: int, embed_fn: EmbedFn) -> Embedder:
    """An embedder made of a function that need not check texts, nor know an empty list, nor normalise.

    Args:
        name: of the embedder.
        dims: D.
        embed_fn: `embed(texts) -> [N, D]` for at least one text; no vector is zero.

    Raises:
        ValueError: when it embeds, for texts that are refused, or vectors that are not [N, D] or not finite and
            longer than zero.
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
    """Raises ValueError for one text where several are meant, and for a text that is empty or blank."""
    if isinstance(texts, str):
        raise ValueError("texts: one text is given where a list of texts is meant; put it into a list")
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"texts: text {index} is {'blank' if text else 'empty'}; leave it out")


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1; raises ValueError for one that has no direction."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    aimless = ~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0))
    if aimless.any():
        index = int(np.argmax(aimless))
        raise ValueError(
            f"vector {index} has length {lengths[index, 0]}; only one of a finite length above 0 has a direction"
        )
    return vectors / lengths


def hashing_embedder(dims: int = 64) -> Embedder:
    """An embedder that knows nothing and needs no weights: counts of words and of three letters in a row, hashed.

    Each feature adds 1 to, or takes 1 from, the dimension that its hash says (Weinberger et al. 2009). Texts that share
    words or parts of words come out alike; equal texts come out equal, on every machine. Case does not count.

    Args:
        dims: D; the fewer, the more features fall together.

    Raises:
        ValueError: if there is no dimension.
    """
    if dims < 1:
        raise ValueError(f"hashed: dims {dims}: a vector has at least 1 dimension")

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
    # Whole numbers may cancel out to a vector of zeros; with half of one they cannot.
    yield " ".join(words), 0.5
    for word in words:
        yield word, 1.0
        framed = f" {word} "
        for start in range(len(framed) - 2):
            yield framed[start : start + 3], 1.0


def minilm_embedder(folder: Path | None = None, report_progress: Callable[[int, int], None] | None = None) -> Embedder:
    """The sentence embedder all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019), or another small BERT.

    Args:
        folder: with config.json, tokenizer.json and model.safetensors; by default the weights are looked for among
            installed packages, and then fetched.
        report_progress: told after each part of the texts how many are done, of how many.

    Raises:
        UserError: if there are no weights, or not of a BERT.
    """
    from thinking.text.minilm import embed_texts, load_encoder  # JAX starts slowly, and other embedders do without it

    encoder = load_encoder(folder)
    return make_embedder(encoder.name, encoder.dims, lambda texts: embed_texts(encoder, texts, report_progress))
