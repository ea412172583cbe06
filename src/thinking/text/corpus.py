"""Text corpora as tokens, with a held-out part at the end.

Axes: N tokens of a text, V vocabulary.
"""

import ast
import functools
import itertools
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thinking.errors import UserError

PYTHON, HUB_PREFIX = "python", "hf:"
"""The bundled source, and the prefix of data sets of Hugging Face."""

HELD_OUT_FRACTION = 0.1
"""Fraction of the characters, at the end, that are held out."""

NUM_BYTES = 256


class Corpus(NamedTuple):
    """A tokenised text.

    Attributes:
        train: [N] int32.
        held_out: [N] int32, of the text after `train`.
        token_bytes: [V] int32, bytes of each token; losses of two vocabularies compare in bits per byte.
        decode: tokens to text; an incomplete character becomes a replacement mark.
    """

    train: np.ndarray
    held_out: np.ndarray
    token_bytes: np.ndarray
    decode: Callable[[Sequence[int]], str]


@functools.lru_cache(maxsize=4)
def load_corpus(source: str, max_characters: int, bpe_vocab_size: int | None) -> Corpus:
    """Read a text, split it and tokenise it.

    Args:
        source: `python`, the path of a UTF-8 file, or `hf:NAME[:COLUMN]`.
        max_characters: the text is cut to this length.
        bpe_vocab_size: vocabulary of a byte-level BPE (Sennrich et al. 2016) fitted to the training part; None: bytes.

    Raises:
        ValueError: if there is no such text, or it is too short to split.
        UserError: if the package that reads it is not installed.
    """
    text = drop_repeated_paragraphs(read_text(source, max_characters))[:max_characters]
    cut = round(len(text) * (1 - HELD_OUT_FRACTION))
    if not 0 < cut < len(text):
        raise ValueError(
            f"source {source}: {len(text)} characters are too few to split into "
            "training and held-out parts; give a longer text"
        )
    train, held_out = text[:cut], text[cut:]
    encode, decode, token_bytes = _byte_codec() if bpe_vocab_size is None else _bpe_codec(train, bpe_vocab_size)
    return Corpus(encode(train), encode(held_out), token_bytes, decode)


def drop_repeated_paragraphs(text: str) -> str:
    """Keep only the first occurrence of each paragraph.

    Otherwise parts of the held-out text would also stand in the training part (Lee et al. 2022): topics of the language
    reference quote each other at length.
    """
    return "\n\n".join(dict.fromkeys(text.split("\n\n")))


def read_text(source: str, min_characters: int) -> str:
    """Read a text by name, at least `min_characters` of it where it has as many.

    Raises:
        ValueError: if there is no such text.
        UserError: if the package that reads it is not installed.
    """
    if source == PYTHON:
        return "\n\n".join(python_documentation())
    if source.startswith(HUB_PREFIX):
        return _read_from_hub(source, min_characters)
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(
            f"source {source}: {reason}; give a text file, {PYTHON}, or {HUB_PREFIX}NAME[:COLUMN]"
        ) from None


def python_documentation() -> list[str]:
    """Texts of the Python installation: the language reference and the docstrings of the standard library.

    They are in a fixed pseudo-random order, so that training and held-out parts are alike. They depend on the Python
    version.
    """
    from pydoc_data.topics import topics

    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    documents = [*topics.values(), *("\n\n".join(_docstrings(path)) for path in modules)]
    return sorted(filter(None, documents), key=lambda text: zlib.crc32(text.encode()))


def _docstrings(path: Path) -> Iterator[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def _read_from_hub(source: str, min_characters: int) -> str:
    name, _, column = source.removeprefix(HUB_PREFIX).partition(":")
    column = column or "text"
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source} needs datasets, which is not installed: pip install datasets") from None
    try:
        rows = iter(datasets.load_dataset(name, split="train", streaming=True))
        first = next(rows)
    # The hub, its cache and the network raise many kinds of errors.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"source {source}: {reason}; give a data set with texts") from error
    if not isinstance(first.get(column), str):
        raise ValueError(
            f"source {source}: it has no texts {column!r}; give {HUB_PREFIX}NAME:COLUMN, of {', '.join(first)}"
        )
    texts, total = [], 0
    for row in itertools.chain([first], rows):
        if total >= min_characters:
            break
        texts.append(row[column])
        total += len(row[column])
    return "\n\n".join(texts)


TextCodec = tuple[Callable[[str], np.ndarray], Callable[[Sequence[int]], str], np.ndarray]
"""`encode`, `decode`, and the bytes of each token [V]."""


def _byte_codec() -> TextCodec:
    def encode(text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def decode(tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    return encode, decode, np.ones(NUM_BYTES, np.int32)


def _bpe_codec(train: str, vocab_size: int) -> TextCodec:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Each byte is a token, so that any text can be encoded.
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([train], trainer)

    def encode(text: str) -> np.ndarray:
        return np.array(tokenizer.encode(text).ids, np.int32)

    def decode(tokens: Sequence[int]) -> str:
        return tokenizer.decode(list(tokens))

    # The name of a byte-level token has one character per byte.
    token_bytes = [len(tokenizer.id_to_token(token)) for token in range(tokenizer.get_vocab_size())]
    return encode, decode, np.array(token_bytes, np.int32)
