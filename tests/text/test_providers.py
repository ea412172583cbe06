"""Generated texts and steered generation, with stub models."""

import sys
import zlib

import numpy as np
import pytest

from thinking.errors import UserError
from thinking.text import huggingface
from thinking.text.providers import PROMPT_TEMPLATE, generate_texts
from thinking.text.records import Text

GOALS = ["building a shelf", "sleeping", "building a boat", "{curly}"]


def answer_fn(prompt: str) -> str:
    return "Just do it." if "sleeping" in prompt else f"1. begin {prompt}\n2. end"


def test_every_goal_is_answered_and_split_into_steps(capsys):
    progress = []
    texts = list(
        generate_texts(
            answer_fn, GOALS, "({goal})", num_parallel=2, report_progress=lambda *counts: progress.append(counts)
        )
    )
    assert texts == [Text(goal, (f"begin ({goal})", "end")) for goal in GOALS if goal != "sleeping"]
    assert progress == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert "warning: 1 of 4 goals gave fewer than 2 steps, such as `sleeping`" in capsys.readouterr().err


def test_default_prompt_contains_the_goal():
    [text] = generate_texts(lambda prompt: f"- {prompt}\n- done", ["a goal"])
    assert text.steps[0] == PROMPT_TEMPLATE.format(goal="a goal")


def test_no_usable_goal_raises():
    with pytest.raises(UserError, match="1 of 1 goals"):
        list(generate_texts(answer_fn, ["sleeping"]))
    assert list(generate_texts(answer_fn, [])) == []


def test_prompt_template_without_goal_raises():
    with pytest.raises(ValueError, match="where the goal goes"):
        list(generate_texts(answer_fn, GOALS, "write steps"))


VOCABULARY = ("dig", "pour", "wait", "sing", "<end>")
END = 4


def decode(tokens) -> str:
    return " ".join(VOCABULARY[token] for token in tokens if token != END)


def embed(texts) -> np.ndarray:
    """Normalized counts of hashed words."""
    rows = np.zeros((len(texts), 32), np.float32)
    for row, text in zip(rows, texts, strict=True):
        assert text.strip()
        for word in text.split():
            row[zlib.crc32(word.encode()) % 32] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def compute_next_scores(tokens) -> np.ndarray:
    """Scores of a model that writes dig, pour, wait, end. The second choice is always sing."""
    scores = np.array([-3.0, -3.0, -3.0, -2.5, -3.0])
    scores[(0, 1, 2, END)[min(len(tokens), 3)]] = 0.0
    return scores


SING_VECTOR = embed(["sing"])[0]


def steer(strength, target=SING_VECTOR, top_k=5, max_new_tokens=10):
    tokens = huggingface.steer_tokens(
        compute_next_scores,
        decode,
        embed,
        target,
        strength=strength,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        end_tokens={END},
    )
    return decode(tokens)


def test_words_have_distinct_vectors():
    assert len({int(row.argmax()) for row in embed(VOCABULARY)}) == len(VOCABULARY)


def test_zero_strength_is_greedy_decoding():
    assert steer(0.0) == "dig pour wait"


def test_steering_moves_words_toward_the_target():
    assert steer(4.0).startswith("sing")
    assert steer(4.0, target=10 * embed(["sing"])[0]) == steer(4.0)  # only the direction counts
    assert steer(4.0, target=embed(["dig"])[0]).startswith("dig")


def test_each_token_maximizes_the_steered_score():
    strength, target = 3.0, embed(["sing wait"])[0]
    tokens = huggingface.steer_tokens(
        compute_next_scores, decode, embed, target, strength=strength, top_k=3, max_new_tokens=4, end_tokens={END}
    )
    assert len(tokens) > 1
    for position, token in enumerate(tokens):
        prefix = tokens[:position]
        scores = compute_next_scores(prefix) - np.log(np.exp(compute_next_scores(prefix)).sum())
        similarity = float(embed([decode(prefix)])[0] @ target) if prefix else 0.0
        totals = {
            candidate: scores[candidate]
            + strength * (similarity if candidate == END else float(embed([decode([*prefix, candidate])])[0] @ target))
            for candidate in np.argsort(-scores, kind="stable")[:3]
        }
        assert token == max(totals, key=totals.get)


def test_top_k_and_max_new_tokens_are_respected():
    assert steer(100.0, top_k=1) == "dig pour wait"
    assert len(steer(4.0, max_new_tokens=2).split()) == 2


def test_blank_texts_do_not_steer():
    assert huggingface.steer_tokens(lambda tokens: np.zeros(2), lambda tokens: " ", embed, np.ones(32),
                             strength=1.0, top_k=2, max_new_tokens=3) == [0, 0, 0]  # fmt: skip


@pytest.mark.parametrize(("top_k", "target"), [(0, np.ones(32)), (1, np.zeros(32))])
def test_steering_without_candidates_or_target_raises(top_k, target):
    with pytest.raises(ValueError, match="steer"):
        steer(1.0, target=target, top_k=top_k)


def test_missing_pytorch_raises_with_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="pip install torch transformers") as error:
        huggingface.load("any")
    assert "torch-cpu" in str(error.value)


def test_token_0_may_end_an_answer():
    assert huggingface.find_end_tokens(0, 5) == {0}
    assert huggingface.find_end_tokens(None, 0) == {0}
    assert huggingface.find_end_tokens([7, 0], 5) == {7, 0}
    assert huggingface.find_end_tokens(None, None) == frozenset()


@pytest.fixture(scope="module")
def causal_model(tmp_path_factory):
    """A random causal model, saved and loaded."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    vocabulary = {word: token for token, word in enumerate(("<end>", "<unk>", "dig", "pour", "wait", "sing"))}
    word_tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    word_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer, eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary), n_positions=32, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("causal")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return huggingface.load(str(folder))


def test_local_model_answers_greedily_with_new_tokens_only(causal_model):
    answer = huggingface.make_answer_fn(causal_model, max_new_tokens=5)("dig pour")
    from thinking.text.embedders import Embedder

    # Steering of zero strength is greedy decoding, computed without a cache.
    target = embed(["sing"])[0]
    embedder = Embedder("words", 32, embed)
    assert answer == huggingface.generate_steered(
        causal_model, embedder, target, "dig pour", strength=0.0, max_new_tokens=5
    )
    assert "sing" in huggingface.generate_steered(
        causal_model, embedder, target, "dig pour", strength=50.0, max_new_tokens=5
    )


def test_chat_template_is_used_if_present(causal_model):
    causal_model.tokenizer.chat_template = "sing {{ messages[0]['content'] }} wait"
    try:
        assert causal_model.tokenizer.decode(huggingface._encode_prompt(causal_model, "dig")) == "sing dig wait"
    finally:
        causal_model.tokenizer.chat_template = None


def test_invalid_model_folder_raises_in_one_line(causal_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a causal model") as error:
        huggingface.load(str(tmp_path))
    assert "hf_very_secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1
