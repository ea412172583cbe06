"""Checkpoints: exact restoration, refusal of mismatched states, and fallback from damaged files."""

import gc
import re
import resource
import shutil

import jax
import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line, read_digest, read_untimed_metrics

from thinking.errors import RunError
from thinking.experiment import checkpoint
from thinking.trees import digest


def save_checkpoint(folder, step, state, figures=None):
    with checkpoint.Saver(folder) as saver:
        saver.save(step, state, figures or {})


def make_state(width=3, seed=0):
    state = toy.init(toy.Config(width=width, seed=seed))
    return jax.tree.map(jnp.asarray, {**state, "count": 7, "keys": jax.random.split(jax.random.key(seed), 2)})


def find_largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_restore_returns_every_kind_of_leaf_bit_for_bit(tmp_path):
    state = make_state()
    save_checkpoint(tmp_path, 12, state, {"seconds": 1.5})
    result = checkpoint.restore(tmp_path, jax.tree.map(lambda leaf: leaf, make_state(seed=5)))
    assert (result.step, result.figures) == (12, {"seconds": 1.5})
    assert digest(result.state) == digest(state)
    assert jax.tree.structure(result.state) == jax.tree.structure(state)
    assert result.state["key"].dtype == state["key"].dtype
    assert result.state["half"].dtype == jnp.bfloat16


def test_restore_returns_none_without_a_checkpoint(tmp_path):
    assert checkpoint.restore(tmp_path / "none", make_state()) is None


def test_saver_keeps_the_newest_three_checkpoints(tmp_path):
    state = {"x": jnp.ones(2)}
    with checkpoint.Saver(tmp_path) as saver:
        for step in (1, 2, 10, 9, 30):
            saver.save(step, state, {})
    assert checkpoint.list_saved_steps(tmp_path) == [9, 10, 30]


def test_snapshot_is_saved_unchanged_when_the_state_is_donated(tmp_path):
    state = {"x": jnp.arange(100_000.0)}
    expected = digest(state)
    copy, _ = checkpoint.snapshot(state)
    double = jax.jit(lambda s: {"x": s["x"] * 2}, donate_argnums=0)
    with checkpoint.Saver(tmp_path) as saver:
        saver.save(1, copy, {})
        for _ in range(20):
            state = double(state)
    assert digest(checkpoint.restore(tmp_path, copy).state) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"x": jnp.ones(3)}, "['x'] is float32[2] saved, float32[3] given"),
        ({"x": jnp.ones(2, jnp.int32)}, "['x'] is float32[2] saved, int32[2] given"),
        ({"y": jnp.ones(2)}, "['y'] is nothing saved, float32[2] given"),
        ({"x": jnp.ones(2), "y": jnp.ones(1)}, "['y'] is nothing saved"),
        ({"x": jax.random.key(0)}, "['x'] is float32[2] saved, key<fry>[2] given"),
    ],
)
def test_restore_names_leaves_that_do_not_match_the_template(tmp_path, template, message):
    save_checkpoint(tmp_path, 1, {"x": jnp.ones(2)})
    with pytest.raises(RunError) as error:
        checkpoint.restore(tmp_path, template)
    assert message in str(error.value)
    assert "--clear" in str(error.value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corrupted_checkpoint_is_restored_exactly_or_refused(tmp_path, data):
    intact_folder = tmp_path / "good"
    state = make_state()
    if not intact_folder.exists():
        save_checkpoint(intact_folder, 2, state)
    shutil.rmtree(tmp_path / "bad", ignore_errors=True)
    shutil.copytree(intact_folder, tmp_path / "bad")
    files = sorted(path.relative_to(intact_folder) for path in intact_folder.rglob("*") if path.is_file())
    path = tmp_path / "bad" / data.draw(st.sampled_from(files))
    content = path.read_bytes()
    offset = data.draw(st.integers(0, len(content)))
    damage = data.draw(st.sampled_from(["cut", "overwrite", "delete"]))
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:offset])
    else:
        path.write_bytes(content[:offset] + data.draw(st.binary(max_size=8)) + content[offset + 8 :])
    try:
        restored_state = checkpoint.restore(tmp_path / "bad", state).state
    except RunError as error:
        restored_state, message = None, str(error)
    assert digest(restored_state) == digest(state) if restored_state else re.search("damaged.*--clear", message)


def test_damaged_newest_checkpoint_falls_back_to_the_previous_one(run_command, frequent_saves, tmp_path, caplog):
    reference = run_command("--steps", "60", artifacts=tmp_path / "whole")
    result = run_command("--steps", "60")
    steps = checkpoint.list_saved_steps(result.folder / "checkpoints" / "fit")
    (result.folder / "checkpoints" / "fit" / "60" / "state" / "manifest.ocdbt").write_bytes(b"every array is lost")
    resumed_result = run_command("--steps", "60")
    assert resumed_result.code == 0
    gc.collect()
    assert not caplog.records
    message = assert_one_line(resumed_result.err)
    assert "warning" in message
    assert "fit/60 is damaged" in message
    assert f"continuing from step {steps[-2]}" in message
    assert read_digest(result.folder) == read_digest(reference.folder)
    assert read_untimed_metrics(result.folder) == read_untimed_metrics(reference.folder)
    assert run_command("--steps", "60").err == ""


def test_copy_of_a_checkpoint_under_another_step_is_not_restored(tmp_path):
    state = {"x": jnp.arange(3.0)}
    with checkpoint.Saver(tmp_path) as saver:
        saver.save(10, state, {})
    shutil.copytree(tmp_path / "10", tmp_path / "20")
    assert checkpoint.restore(tmp_path, state, set_aside=False).step == 10
    assert checkpoint.list_saved_steps(tmp_path) == [10, 20], "the folder of another run stays as it is"
    assert checkpoint.restore(tmp_path, state).step == 10
    assert checkpoint.list_saved_steps(tmp_path) == [10]


def test_unreadable_checkpoint_is_not_called_damaged(tmp_path, monkeypatch):
    state = {"x": jnp.arange(3.0)}
    with checkpoint.Saver(tmp_path) as saver:
        saver.save(10, state, {})

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "_load", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "10")
    with pytest.raises(RunError, match=r"cannot read .*10, as its owner or mode forbid it"):
        checkpoint.restore(tmp_path, state)
    assert checkpoint.list_saved_steps(tmp_path) == [10]


def test_training_does_not_restart_when_all_checkpoints_are_damaged(run_command, frequent_saves):
    result = run_command("--steps", "60")
    for path in (result.folder / "checkpoints" / "fit").iterdir():
        find_largest_file(path).write_bytes(b"")
    second_result = run_command("--steps", "60")
    assert second_result.code == 1
    assert "all checkpoints" in assert_one_line(second_result.err)
    assert "--clear" in second_result.err


def test_full_disk_is_a_one_line_error_and_keeps_older_checkpoints(run_command, frequent_saves, small_disk):
    # Three checkpoints of two megabytes do not fit on a disk of three.
    flags = "--ballast", "500000", "--steps"
    assert run_command(*flags, "10", artifacts=small_disk.path).code == 0
    result = run_command(*flags, "4000", artifacts=small_disk.path)
    assert result.code == 1
    message = assert_one_line(result.err)
    assert "No space left on device" in message
    assert "the checkpoint of step 10 is kept" in message
    assert checkpoint.list_saved_steps(result.folder / "checkpoints" / "fit") == [10]
    assert not list(result.folder.glob("checkpoints/fit/*tmp*"))
    assert "finished before, at step 10" in run_command(*flags, "10", artifacts=small_disk.path).out


def test_failed_write_is_a_one_line_error_and_keeps_older_checkpoints(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": jnp.ones(2)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"File too large; the checkpoint of step 1 is kept"):
            save_checkpoint(tmp_path, 2, {"x": jax.random.normal(jax.random.key(0), (200_000,))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.list_saved_steps(tmp_path) == [1]


def test_a_part_is_read_without_the_rest_of_the_structure(tmp_path):
    state = make_state()
    save_checkpoint(tmp_path, 3, {**state, "nested": {"part": {"weights": state["weights"] * 2}}})
    template = {"weights": jax.ShapeDtypeStruct(state["weights"].shape, state["weights"].dtype)}
    assert digest(checkpoint.read_part(tmp_path, template)) == digest({"weights": state["weights"]})
    assert digest(checkpoint.read_part(tmp_path, template, "['nested']['part']")) == digest(
        {"weights": state["weights"] * 2}
    )


def test_a_part_that_does_not_fit_is_missing_or_damaged_is_refused(tmp_path):
    state = make_state()
    save_checkpoint(tmp_path, 3, state)
    shape = state["weights"].shape
    for template, line in (
        ({"weights": jax.ShapeDtypeStruct((*shape, 2), "float32")}, "['weights'] is float32"),
        ({"other": jax.ShapeDtypeStruct(shape, "float32")}, "['other'] is nothing saved"),
    ):
        with pytest.raises(RunError, match=re.escape(line)):
            checkpoint.read_part(tmp_path, template)
    with pytest.raises(RunError, match="there is no checkpoint in"):
        checkpoint.read_part(tmp_path / "none", {})
    largest = find_largest_file(tmp_path)
    largest.write_bytes(largest.read_bytes()[:-20] + bytes(20))
    with pytest.raises(RunError, match="are damaged"):
        checkpoint.read_part(tmp_path, {"weights": jax.ShapeDtypeStruct(shape, "float32")})
    assert checkpoint.list_saved_steps(tmp_path) == [3]
