"""Texts that models write, and writing that is steered: with models that a test made up."""

import sys
import zlib

import numpy as np
import pytest

from thinking.errors import UserError
from thinking.text import huggingface
from thinking.text.providers import PROMPT_TEMPLATE, generate_texts
from thinking.text.records import Text

GOALS = ["building a shelf", "sleeping", "building a boat", "{curly}"]


def ask(prompt: str) -> str:
    return "Just do it." if "sleeping" in prompt else f"1. begin {prompt}\n2. end"


def test_every_goal_is_asked_about_and_cut_into_steps(capsys):
    seen = []
    texts = list(
        generate_texts(ask, GOALS, "({goal})", num_parallel=2, report_progress=lambda *told: seen.append(told))
    )
    assert texts == [Text(goal, (f"begin ({goal})", "end")) for goal in GOALS if goal != "sleeping"]
    assert seen == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert "warning: 1 of 4 goals gave fewer than 2 steps, such as `sleeping`" in capsys.readouterr().err


def test_the_usual_prompt_names_the_goal():
    [text] = generate_texts(lambda prompt: f"- {prompt}\n- done", ["a goal"])
    assert text.steps[0] == PROMPT_TEMPLATE.format(goal="a goal")


def test_when_no_goal_gives_steps_that_is_an_error():
    with pytest.raises(UserError, match="1 of 1 goals"):
        list(generate_texts(ask, ["sleeping"]))
    assert list(generate_texts(ask, [])) == []


def test_a_prompt_without_its_goal_is_refused():
    with pytest.raises(ValueError, match="where the goal goes"):
        list(generate_texts(ask, GOALS, "write steps"))


WORDS = ("dig", "pour", "wait", "sing", "<end>")
END = 4


def decode(tokens) -> str:
    return " ".join(WORDS[token] for token in tokens if token != END)


def embed(texts) -> np.ndarray:
    """Counts of words, hashed; of length 1."""
    rows = np.zeros((len(texts), 32), np.float32)
    for row, text in zip(rows, texts, strict=True):
        assert text.strip()
        for word in text.split():
            row[zlib.crc32(word.encode()) % 32] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def next_scores(tokens) -> np.ndarray:
    """Digs, pours, waits, and ends; singing is the second choice at first."""
    likely = np.array([-3.0, -3.0, -3.0, -2.5, -3.0])
    likely[(0, 1, 2, END)[min(len(tokens), 3)]] = 0.0
    return likely


SING = embed(["sing"])[0]


def steer(strength, target=SING, top=5, most=10):
    tokens = huggingface.steer_tokens(
        next_scores, decode, embed, target, strength=strength, top_k=top, max_new_tokens=most, end_tokens={END}
    )
    return decode(tokens)


def test_the_test_words_have_vectors_of_their_own():
    assert len({int(row.argmax()) for row in embed(WORDS)}) == len(WORDS)


def test_without_strength_the_likeliest_words_are_written():
    assert steer(0.0) == "dig pour wait"


def test_a_plan_draws_the_words_toward_it():
    assert steer(4.0).startswith("sing")
    assert steer(4.0, target=10 * embed(["sing"])[0]) == steer(4.0)  # its length does not count
    assert steer(4.0, target=embed(["dig"])[0]).startswith("dig")


def test_every_token_is_the_best_of_the_candidates():
    strength, target = 3.0, embed(["sing wait"])[0]
    tokens = huggingface.steer_tokens(
        next_scores, decode, embed, target, strength=strength, top_k=3, max_new_tokens=4, end_tokens={END}
    )
    assert len(tokens) > 1
    for place, token in enumerate(tokens):
        before = tokens[:place]
        scores = next_scores(before) - np.log(np.exp(next_scores(before)).sum())
        near = float(embed([decode(before)])[0] @ target) if before else 0.0
        total = {
            word: scores[word]
            + strength * (near if word == END else float(embed([decode([*before, word])])[0] @ target))
            for word in np.argsort(-scores, kind="stable")[:3]
        }
        assert token == max(total, key=total.get)


def test_only_the_likeliest_are_candidates_and_only_so_many_are_written():
    assert steer(100.0, top=1) == "dig pour wait"
    assert len(steer(4.0, most=2).split()) == 2


def test_nothing_is_written_where_all_is_blank():
    assert huggingface.steer_tokens(lambda tokens: np.zeros(2), lambda tokens: " ", embed, np.ones(32),
                             strength=1.0, top_k=2, max_new_tokens=3) == [0, 0, 0]  # fmt: skip


@pytest.mark.parametrize(("top", "target"), [(0, np.ones(32)), (1, np.zeros(32))])
def test_steering_without_candidates_or_a_target_is_refused(top, target):
    with pytest.raises(ValueError, match="steer"):
        steer(1.0, target=target, top=top)


def test_without_pytorch_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="pip install torch transformers") as caught:
        huggingface.load("any")
    assert "torch-cpu" in str(caught.value)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A causal model of no knowledge, saved and loaded again."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    words = {word: number for number, word in enumerate(("<end>", "<unk>", "dig", "pour", "wait", "sing"))}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_positions=32, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("causal")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return huggingface.load(str(folder))


def test_a_local_model_answers_greedily_with_the_new_words_alone(causal):
    answer = huggingface.make_answer_fn(causal, max_new_tokens=5)("dig pour")
    from thinking.text.embedders import Embedder

    # Steering of no strength is greedy decoding, computed without a cache.
    plan = embed(["sing"])[0]
    embedder = Embedder("words", 32, embed)
    assert answer == huggingface.generate_steered(causal, embedder, plan, "dig pour", strength=0.0, max_new_tokens=5)
    assert "sing" in huggingface.generate_steered(causal, embedder, plan, "dig pour", strength=50.0, max_new_tokens=5)


def test_a_chat_template_is_used_where_there_is_one(causal):
    causal.tokenizer.chat_template = "sing {{ messages[0]['content'] }} wait"
    try:
        assert causal.tokenizer.decode(huggingface._encode_prompt(causal, "dig")) == "sing dig wait"
    finally:
        causal.tokenizer.chat_template = None


def test_what_is_no_model_is_told_in_one_line(causal, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not a causal model") as caught:
        huggingface.load(str(tmp_path))
    assert "hf_very_secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
