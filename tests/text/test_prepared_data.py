"""Prepared texts: numbering, embedding, round trips, and errors of damaged files."""

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
CANONICAL_STEPS = {"cut": "saw", "saw": "saw", "stick": "glue", "glue": "glue"}

BOAT_TEXTS = (
    Text("building a boat", (Section("hull", ("saw", "glue")), Section("mast", ("cut", "saw")))),
    Text("building a raft", ("stick", "launch")),
    Text("building a ship", ("saw", "cut", "launch", "sing"), "held_out"),
)


@pytest.fixture
def boat_data(tmp_path):
    """Prepared boat texts, saved in `tmp_path`."""
    prepared = prepared_data.prepare_texts(BOAT_TEXTS, CANONICAL_STEPS, hashing_embedder(8), {"text": "a test"})
    prepared_data.save(tmp_path, prepared)
    return prepared


def get_error_message(folder) -> str:
    with pytest.raises(UserError) as error:
        prepared_data.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@given(TEXTS)
def test_steps_and_goals_are_numbered_in_text_order_and_embedded(texts):
    embedder = hashing_embedder(8)
    prepared = prepared_data.prepare_texts(texts, CANONICAL_STEPS, embedder, {})
    all_steps = [step for text in texts for step in iter_steps(text.steps)]
    assert [step for step in prepared.steps if step in all_steps] == sorted(set(all_steps), key=all_steps.index)
    assert set(prepared.steps) == set(all_steps) | {CANONICAL_STEPS.get(step, step) for step in all_steps}
    assert [prepared.steps[index] for index in prepared.canonical_index] == [
        CANONICAL_STEPS.get(step, step) for step in prepared.steps
    ]
    assert list(prepared.goals) == sorted({text.goal for text in texts}, key=[text.goal for text in texts].index)
    for sentence, vector in zip(
        (*prepared.steps, *prepared.goals), (*prepared.step_vectors, *prepared.goal_vectors), strict=True
    ):
        np.testing.assert_array_equal(vector, embedder.embed([sentence])[0])


@given(TEXTS)
@settings(max_examples=20, deadline=None)
def test_prepared_data_round_trips(tmp_path_factory, texts):
    folder = tmp_path_factory.getbasetemp() / "again"
    saved_data = prepared_data.prepare_texts(
        texts, CANONICAL_STEPS, hashing_embedder(8), {"text": "made up", "model": None}
    )
    prepared_data.save(folder, saved_data)
    loaded_data = prepared_data.load(folder)
    for name in ("texts", "steps", "goals", "embedder"):
        assert getattr(loaded_data, name) == getattr(saved_data, name)
    for name in ("canonical_index", "step_vectors", "goal_vectors"):
        np.testing.assert_array_equal(getattr(loaded_data, name), getattr(saved_data, name))
        assert getattr(loaded_data, name).dtype == getattr(saved_data, name).dtype
    assert saved_data.manifest.items() <= loaded_data.manifest.items()
    assert loaded_data.manifest["dims"] == 8


def test_embedding_in_batches_reports_progress():
    progress = []
    texts = [Text("counting", tuple(str(number) for number in range(2500)))]
    prepared = prepared_data.prepare_texts(texts, {}, hashing_embedder(8), {}, progress.append)
    assert progress == [1024, 2048, 2501]
    np.testing.assert_array_equal(prepared.step_vectors[2000], hashing_embedder(8).embed(["2000"])[0])


def test_summary_counts_overlap_with_training(boat_data):
    train, held_out = prepared_data.summarize_splits(boat_data)
    assert train == {
        "split": "train", "num_goals": 2, "num_texts": 2, "num_steps": 6, "mean_steps": 3.0, "max_steps": 4,
        "in_training_fraction": 1.0, "in_training_any_wording_fraction": 1.0,
    }  # fmt: skip
    assert (held_out["num_steps"], held_out["in_training_fraction"]) == (4, 0.75)


def test_summary_counts_other_wordings_of_training_steps():
    texts = [Text("a", ("saw", "wait")), Text("b", ("cut", "sing"), "held_out")]
    _, row = prepared_data.summarize_splits(
        prepared_data.prepare_texts(texts, CANONICAL_STEPS, hashing_embedder(8), {})
    )
    assert (row["in_training_fraction"], row["in_training_any_wording_fraction"]) == (0, 0.5)


def test_manifest_describes_the_data(boat_data, tmp_path):
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert manifest["text"] == "a test"
    assert manifest["embedder"] == "hashed-8"
    assert manifest["date"].endswith("+00:00")
    assert (manifest["distinct_steps"], manifest["distinct_goals"]) == (6, 3)
    assert manifest["splits"] == prepared_data.summarize_splits(boat_data)
    assert set(manifest["sha256"]) == {path.name for path in tmp_path.iterdir()} - {"manifest.json"}


def test_missing_data_error_names_the_previous_task(tmp_path):
    assert get_error_message(tmp_path / "nowhere").endswith(
        "nowhere has no prepared data: run tasks/lm_data_prepare.py first"
    )


@pytest.mark.parametrize("name", prepared_data.FILES)
def test_edited_or_missing_file_raises(boat_data, tmp_path, name):
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert get_error_message(tmp_path) == (
        f"{path} is not as it was written, but damaged or edited: run tasks/lm_data_prepare.py again"
    )
    path.unlink()
    assert get_error_message(tmp_path) == f"{path} is missing: run tasks/lm_data_prepare.py again"


def test_edited_manifest_raises(boat_data, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text("utf-8").replace("a test", "another"), "utf-8")
    assert "manifest.json is not as it was written" in get_error_message(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"sha256": {}}', b'{"sha256": 3}', b"\xff", b"[" * 100_000, b"7" * 5000],
    ids=lambda content: str(content[:20]),
)
def test_damaged_manifest_raises(boat_data, tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    message = get_error_message(tmp_path)
    assert "manifest.json is damaged (" in message
    assert message.endswith("): run tasks/lm_data_prepare.py again")


def test_wrong_type_in_a_manifest_is_named(boat_data, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"embedder": 5}))
    assert "manifest.json is damaged (embedder: Input should be a valid string)" in get_error_message(tmp_path)


def test_failed_save_leaves_no_loadable_data(boat_data, tmp_path):
    (tmp_path / "embeddings.safetensors").unlink()
    (tmp_path / "embeddings.safetensors").mkdir()  # blocks the file
    with pytest.raises(OSError, match=r"embeddings\.safetensors"):
        prepared_data.save(tmp_path, boat_data)
    assert "has no prepared data" in get_error_message(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_saving_again_changes_only_the_date(boat_data, tmp_path):
    prepared_data.save(tmp_path / "second", boat_data)
    for name in prepared_data.FILES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    first, second = (prepared_data.load(folder).manifest for folder in (tmp_path, tmp_path / "second"))
    assert first | {"date": None} == second | {"date": None}
