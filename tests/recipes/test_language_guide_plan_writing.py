"""Plans as text: nearest sentences, rewriting by a model, and steered generation."""

import numpy as np
import pytest
from tests.text.test_plans import SHELF_PLAN

from thinking.recipes.language_guide import plan_writing
from thinking.text import huggingface
from thinking.text.embedders import hashing_embedder
from thinking.text.plans import PlanNode

NEAREST_TEXT = """## the boards

### felling an oak
1. Go to the forest.
2. Take the axe.

### sawing [bold]planks[/bold]
3. Saw the log.

## the shelf
4. Nail it."""


def test_nearest_sentences_are_numbered_under_their_headings():
    assert plan_writing.write_nearest(SHELF_PLAN) == NEAREST_TEXT
    assert (
        plan_writing.write_nearest(SHELF_PLAN._replace(nodes=SHELF_PLAN.steps[:2]))
        == "1. Go to the forest.\n2. Take the axe."
    )
    assert plan_writing.write_nearest(SHELF_PLAN._replace(nodes=())) == ""


def test_multiline_sentence_becomes_one_line():
    assert (
        plan_writing.write_nearest(SHELF_PLAN._replace(nodes=(PlanNode(0, "Saw\n\nthe log.", 1.0, 0),)))
        == "1. Saw the log."
    )


def test_rewriter_prompt_has_goal_and_nearest_sentences():
    prompts = []
    rewrite = plan_writing.make_rewriter(lambda prompt: prompts.append(prompt) or "  First, fell an oak.\n")
    plan = SHELF_PLAN._replace(goal="building a {shelf}")
    assert rewrite(plan) == "First, fell an oak."
    assert plan.goal in prompts[0]
    assert plan_writing.write_nearest(plan) in prompts[0]


def test_rewriter_drops_think_blocks():
    assert (
        plan_writing.make_rewriter(lambda prompt: "<think>\noak?\n</think>\n\n1. Fell it.")(SHELF_PLAN) == "1. Fell it."
    )
    assert plan_writing.make_rewriter(lambda prompt: "Say </think> aloud.")(SHELF_PLAN) == "Say </think> aloud."


@pytest.fixture(scope="module")
def causal_model(tmp_path_factory):
    """A random causal model with a vocabulary of two steps and the line break."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    vocabulary = {word: token for token, word in enumerate(("<end>", "<unk>", "Saw", "log", "Nail", "shelf", "\n"))}
    word_tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    word_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer, eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary), n_positions=1024, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("causal")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return huggingface.load(str(folder))


def test_each_step_is_steered_toward_its_vector(causal_model):
    embedder = hashing_embedder()
    vectors = embedder.embed(["Saw log", "Nail shelf"])
    nodes = (PlanNode(1, "shelf", 1.0, 0), PlanNode(0, "saw it", 1.0, 0), PlanNode(0, "nail it", 1.0, 1))
    lines = plan_writing.make_steered_writer(causal_model, embedder, vectors, 1000.0)(
        SHELF_PLAN._replace(nodes=nodes)
    ).split("\n")
    assert [line[:3] for line in lines] == ["1. ", "2. "]
    similarities = embedder.embed([line[3:] for line in lines]) @ vectors.T
    np.testing.assert_array_equal(similarities.argmax(axis=1), [0, 1])
    assert similarities.diagonal().min() > 0.6


def test_steered_writer_limits_the_number_of_steps(causal_model):
    nodes = (PlanNode(0, "saw it", 1.0, 0),) * (plan_writing.MAX_STEPS + 3)
    vectors = hashing_embedder().embed(["Saw log"])
    text = plan_writing.make_steered_writer(causal_model, hashing_embedder(), vectors, 100.0)(
        SHELF_PLAN._replace(nodes=nodes)
    )
    assert text.split("\n")[-1].startswith(f"{plan_writing.MAX_STEPS}. ")
