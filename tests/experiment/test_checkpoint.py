"""Checkpoints: exact, refused where they do not fit, and never the only hope when one is damaged."""

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
from tests.experiment.conftest import digest_of, one_line

from thinking.errors import RunError
from thinking.experiment import checkpoint
from thinking.trees import digest


def write(folder, step, state, figures=None):
    with checkpoint.Saver(folder) as saver:
        saver.save(step, state, figures or {})


def state_of(width=3, seed=0):
    state = toy.init(toy.Config(width=width, seed=seed))
    return jax.tree.map(jnp.asarray, {**state, "count": 7, "keys": jax.random.split(jax.random.key(seed), 2)})


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_every_kind_of_leaf_comes_back_bit_by_bit(tmp_path):
    saved = state_of()
    write(tmp_path, 12, saved, {"seconds": 1.5})
    restored = checkpoint.restore(tmp_path, jax.tree.map(lambda leaf: leaf, state_of(seed=5)))
    assert (restored.step, restored.figures) == (12, {"seconds": 1.5})
    assert digest(restored.state) == digest(saved)
    assert jax.tree.structure(restored.state) == jax.tree.structure(saved)
    assert restored.state["key"].dtype == saved["key"].dtype
    assert restored.state["half"].dtype == jnp.bfloat16


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    assert checkpoint.restore(tmp_path / "none", state_of()) is None


def test_the_newest_three_are_kept(tmp_path):
    state = {"x": jnp.ones(2)}
    with checkpoint.Saver(tmp_path) as saver:
        for step in (1, 2, 10, 9, 30):
            saver.save(step, state, {})
    assert checkpoint.list_saved_steps(tmp_path) == [9, 10, 30]


def test_a_state_that_is_donated_while_it_is_written_is_written_as_it_was(tmp_path):
    state = {"x": jnp.arange(100_000.0)}
    before = digest(state)
    copied, _ = checkpoint.snapshot(state)
    double = jax.jit(lambda s: {"x": s["x"] * 2}, donate_argnums=0)
    with checkpoint.Saver(tmp_path) as saver:
        saver.save(1, copied, {})
        for _ in range(20):
            state = double(state)
    assert digest(checkpoint.restore(tmp_path, copied).state) == before


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"x": jnp.ones(3)}, "['x'] is float32[2] saved, float32[3] given"),
        ({"x": jnp.ones(2, jnp.int32)}, "['x'] is float32[2] saved, int32[2] given"),
        ({"y": jnp.ones(2)}, "['y'] is nothing saved, float32[2] given"),
        ({"x": jnp.ones(2), "y": jnp.ones(1)}, "['y'] is nothing saved"),
        ({"x": jax.random.key(0)}, "['x'] is float32[2] saved, key<fry>[2] given"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, like, message):
    write(tmp_path, 1, {"x": jnp.ones(2)})
    with pytest.raises(RunError) as caught:
        checkpoint.restore(tmp_path, like)
    assert message in str(caught.value)
    assert "--clear" in str(caught.value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_done_to_its_files_a_checkpoint_is_exact_or_refused(tmp_path, data):
    good = tmp_path / "good"
    state = state_of()
    if not good.exists():
        write(good, 2, state)
    shutil.rmtree(tmp_path / "bad", ignore_errors=True)
    shutil.copytree(good, tmp_path / "bad")
    files = sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file())
    path = tmp_path / "bad" / data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    how = data.draw(st.sampled_from(["cut", "overwrite", "delete"]))
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:at])
    else:
        path.write_bytes(content[:at] + data.draw(st.binary(max_size=8)) + content[at + 8 :])
    try:
        restored = checkpoint.restore(tmp_path / "bad", state).state
    except RunError as error:
        restored, message = None, str(error)
    assert digest(restored) == digest(state) if restored else re.search("damaged.*--clear", message)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(command, eager, tmp_path, caplog):
    whole = command("--steps", "60", artifacts=tmp_path / "whole")
    done = command("--steps", "60")
    steps = checkpoint.list_saved_steps(done.folder / "checkpoints" / "fit")
    (done.folder / "checkpoints" / "fit" / "60" / "state" / "manifest.ocdbt").write_bytes(b"every array is lost")
    again = command("--steps", "60")
    assert again.code == 0
    gc.collect()
    assert not caplog.records
    message = one_line(again.err)
    assert "warning" in message
    assert "fit/60 is damaged" in message
    assert f"continuing from step {steps[-2]}" in message
    assert digest_of(done.folder) == digest_of(whole.folder)
    assert (done.folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()
    assert command("--steps", "60").err == ""


def test_when_all_are_damaged_nothing_is_started_anew_without_a_word(command, eager):
    done = command("--steps", "60")
    for path in (done.folder / "checkpoints" / "fit").iterdir():
        largest_file(path).write_bytes(b"")
    again = command("--steps", "60")
    assert again.code == 1
    assert "all checkpoints" in one_line(again.err)
    assert "--clear" in again.err


def test_a_full_disk_is_one_line_and_older_checkpoints_stay(command, eager, small_disk):
    # Three checkpoints of two megabytes do not fit on a disk of three.
    flags = "--ballast", "500000", "--steps"
    assert command(*flags, "10", artifacts=small_disk.path).code == 0
    done = command(*flags, "4000", artifacts=small_disk.path)
    assert done.code == 1
    message = one_line(done.err)
    assert "No space left on device" in message
    assert "the checkpoint of step 10 is kept" in message
    assert checkpoint.list_saved_steps(done.folder / "checkpoints" / "fit") == [10]
    assert not list(done.folder.glob("checkpoints/fit/*tmp*"))
    assert "finished before, at step 10" in command(*flags, "10", artifacts=small_disk.path).out


def test_a_write_that_fails_is_one_line_and_older_checkpoints_stay(tmp_path):
    write(tmp_path, 1, {"x": jnp.ones(2)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"File too large; the checkpoint of step 1 is kept"):
            write(tmp_path, 2, {"x": jax.random.normal(jax.random.key(0), (200_000,))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.list_saved_steps(tmp_path) == [1]
