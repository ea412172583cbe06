"""Prepared texts: numbered and embedded, saved and loaded, and refused where they are not as they were written."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.errors import UserError
from thinking.text import prepared_data
from thinking.text.embedders import hashing_embedder
from thinking.text.records import SPLITS, Section, Text, iter_steps

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
STEPS = st.lists(WORDS | st.sampled_from(["saw", "cut", "glue"]), min_size=1, max_size=5).map(tuple)
TEXTS = st.lists(st.builds(Text, WORDS, STEPS, st.sampled_from(SPLITS)), min_size=1, max_size=5)
MEANT = {"cut": "saw", "saw": "saw", "stick": "glue", "glue": "glue"}

BOATS = (
    Text("building a boat", (Section("hull", ("saw", "glue")), Section("mast", ("cut", "saw")))),
    Text("building a raft", ("stick", "launch")),
    Text("building a ship", ("saw", "cut", "launch", "sing"), "held_out"),
)


@pytest.fixture
def boats(tmp_path):
    """Boats, and the folder where they are saved."""
    made = prepared_data.prepare_texts(BOATS, MEANT, hashing_embedder(8), {"text": "a test"})
    prepared_data.save(tmp_path, made)
    return made


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        prepared_data.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(TEXTS)
def test_steps_and_goals_are_numbered_in_the_order_of_the_texts_and_embedded_each(texts):
    embedder = hashing_embedder(8)
    made = prepared_data.prepare_texts(texts, MEANT, embedder, {})
    all_steps = [step for text in texts for step in iter_steps(text.steps)]
    assert [step for step in made.steps if step in all_steps] == sorted(set(all_steps), key=all_steps.index)
    assert set(made.steps) == set(all_steps) | {MEANT.get(step, step) for step in all_steps}
    assert [made.steps[means] for means in made.canonical_index] == [MEANT.get(step, step) for step in made.steps]
    assert list(made.goals) == sorted({text.goal for text in texts}, key=[text.goal for text in texts].index)
    for sentence, vector in zip((*made.steps, *made.goals), (*made.step_vectors, *made.goal_vectors), strict=True):
        np.testing.assert_array_equal(vector, embedder.embed([sentence])[0])


@given(TEXTS)
@settings(max_examples=20, deadline=None)
def test_what_is_saved_is_loaded(tmp_path_factory, texts):
    folder = tmp_path_factory.getbasetemp() / "again"
    made = prepared_data.prepare_texts(texts, MEANT, hashing_embedder(8), {"text": "made up", "model": None})
    prepared_data.save(folder, made)
    found = prepared_data.load(folder)
    for name in ("texts", "steps", "goals", "embedder"):
        assert getattr(found, name) == getattr(made, name)
    for name in ("canonical_index", "step_vectors", "goal_vectors"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
        assert getattr(found, name).dtype == getattr(made, name).dtype
    assert made.manifest.items() <= found.manifest.items()
    assert found.manifest["dims"] == 8


def test_many_sentences_are_embedded_in_parts_and_told_of():
    told = []
    texts = [Text("counting", tuple(str(number) for number in range(2500)))]
    made = prepared_data.prepare_texts(texts, {}, hashing_embedder(8), {}, told.append)
    assert told == [1024, 2048, 2501]
    np.testing.assert_array_equal(made.step_vectors[2000], hashing_embedder(8).embed(["2000"])[0])


def test_rows_tell_how_much_of_each_split_training_has_too(boats):
    train, held_out = prepared_data.summarize_splits(boats)
    assert train == {
        "split": "train", "num_goals": 2, "num_texts": 2, "num_steps": 6, "mean_steps": 3.0, "max_steps": 4,
        "in_training_fraction": 1.0, "in_training_any_wording_fraction": 1.0,
    }  # fmt: skip
    assert (held_out["num_steps"], held_out["in_training_fraction"]) == (4, 0.75)


def test_a_step_in_other_words_is_taught_but_not_in_training():
    texts = [Text("a", ("saw", "wait")), Text("b", ("cut", "sing"), "held_out")]
    _, row = prepared_data.summarize_splits(prepared_data.prepare_texts(texts, MEANT, hashing_embedder(8), {}))
    assert (row["in_training_fraction"], row["in_training_any_wording_fraction"]) == (0, 0.5)


def test_the_manifest_says_what_there_is_and_when_it_was_made(boats, tmp_path):
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert manifest["text"] == "a test"
    assert manifest["embedder"] == "hashed-8"
    assert manifest["date"].endswith("+00:00")
    assert (manifest["distinct_steps"], manifest["distinct_goals"]) == (6, 3)
    assert manifest["splits"] == prepared_data.summarize_splits(boats)
    assert set(manifest["sha256"]) == {path.name for path in tmp_path.iterdir()} - {"manifest.json"}


def test_where_nothing_was_prepared_the_task_before_is_named(tmp_path):
    assert refusal(tmp_path / "nowhere").endswith("nowhere has no prepared data: run tasks/lm_data_prepare.py first")


@pytest.mark.parametrize("name", prepared_data.FILES)
def test_a_file_that_is_edited_or_gone_is_refused(boats, tmp_path, name):
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert refusal(tmp_path) == (
        f"{path} is not as it was written, but damaged or edited: run tasks/lm_data_prepare.py again"
    )
    path.unlink()
    assert refusal(tmp_path) == f"{path} is missing: run tasks/lm_data_prepare.py again"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"sha256": {}}', b'{"sha256": 3}', b"\xff"])
def test_a_damaged_manifest_is_refused(boats, tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    assert refusal(tmp_path).endswith("manifest.json is damaged: run tasks/lm_data_prepare.py again")


def test_a_save_that_fails_leaves_nothing_that_is_taken_for_data(boats, tmp_path):
    (tmp_path / "embeddings.safetensors").unlink()
    (tmp_path / "embeddings.safetensors").mkdir()  # so that it cannot be written
    with pytest.raises(OSError, match=r"embeddings\.safetensors"):
        prepared_data.save(tmp_path, boats)
    assert "has no prepared data" in refusal(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_what_is_saved_again_is_the_same_but_for_the_date(boats, tmp_path):
    prepared_data.save(tmp_path / "second", boats)
    for name in prepared_data.FILES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    first, second = (prepared_data.load(folder).manifest for folder in (tmp_path, tmp_path / "second"))
    assert first | {"date": None} == second | {"date": None}
