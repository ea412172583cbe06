"""Plans as text: nearest sentences, a model that is told them, and a model that is steered."""

import numpy as np
import pytest
from tests.text.test_plans import SHELF

from thinking.recipes.language_guide import plan_writing
from thinking.text import huggingface
from thinking.text.embedders import hashing_embedder
from thinking.text.plans import PlanNode

NEAREST = """## the boards

### felling an oak
1. Go to the forest.
2. Take the axe.

### sawing [bold]planks[/bold]
3. Saw the log.

## the shelf
4. Nail it."""


def test_the_nearest_sentences_are_numbered_under_their_headings():
    assert plan_writing.write_nearest(SHELF) == NEAREST
    assert plan_writing.write_nearest(SHELF._replace(nodes=SHELF.steps[:2])) == "1. Go to the forest.\n2. Take the axe."
    assert plan_writing.write_nearest(SHELF._replace(nodes=())) == ""


def test_a_sentence_of_several_lines_becomes_one():
    assert (
        plan_writing.write_nearest(SHELF._replace(nodes=(PlanNode(0, "Saw\n\nthe log.", 1.0, 0),))) == "1. Saw the log."
    )


def test_a_model_is_told_the_goal_and_the_nearest_sentences():
    told = []
    write = plan_writing.make_rewriter(lambda prompt: told.append(prompt) or "  First, fell an oak.\n")
    plan = SHELF._replace(goal="building a {shelf}")
    assert write(plan) == "First, fell an oak."
    assert plan.goal in told[0]
    assert plan_writing.write_nearest(plan) in told[0]


def test_what_a_model_thinks_aloud_is_left_out():
    assert plan_writing.make_rewriter(lambda prompt: "<think>\noak?\n</think>\n\n1. Fell it.")(SHELF) == "1. Fell it."
    assert plan_writing.make_rewriter(lambda prompt: "Say </think> aloud.")(SHELF) == "Say </think> aloud."


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A causal model of no knowledge, whose words are those of two steps and the end of a line."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers

    words = {word: number for number, word in enumerate(("<end>", "<unk>", "Saw", "log", "Nail", "shelf", "\n"))}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_positions=1024, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("causal")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return huggingface.load(str(folder))


def test_every_step_is_steered_toward_its_own_vector(causal):
    embedder = hashing_embedder()
    vectors = embedder.embed(["Saw log", "Nail shelf"])
    nodes = (PlanNode(1, "shelf", 1.0, 0), PlanNode(0, "saw it", 1.0, 0), PlanNode(0, "nail it", 1.0, 1))
    lines = plan_writing.make_steered_writer(causal, embedder, vectors, 1000.0)(SHELF._replace(nodes=nodes)).split("\n")
    assert [line[:3] for line in lines] == ["1. ", "2. "]
    near = embedder.embed([line[3:] for line in lines]) @ vectors.T
    np.testing.assert_array_equal(near.argmax(axis=1), [0, 1])
    assert near.diagonal().min() > 0.6


def test_a_long_plan_is_steered_up_to_a_limit(causal):
    nodes = (PlanNode(0, "saw it", 1.0, 0),) * (plan_writing.MAX_STEPS + 3)
    vectors = hashing_embedder().embed(["Saw log"])
    text = plan_writing.make_steered_writer(causal, hashing_embedder(), vectors, 100.0)(SHELF._replace(nodes=nodes))
    assert text.split("\n")[-1].startswith(f"{plan_writing.MAX_STEPS}. ")
