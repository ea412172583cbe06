"""The run's folder: what is written there, who may write, and how it is emptied."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.experiment.conftest import one_line

from thinking.experiment import folder
from thinking.experiment.config import RunConfig

FORMAT = folder.FORMAT_VERSION


def nothing(config, run):
    """A task that does nothing."""


def test_config_json_tells_what_ran(command):
    done = command("--width", "3", run=nothing)
    record = json.loads((done.folder / "config.json").read_text())
    assert record["format"] == folder.FORMAT_VERSION
    assert record["task"] == "toy"
    assert record["config"]["width"] == 3
    for package in ("python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "thinking"):
        assert record["versions"][package]
    assert record["device"]["platform"] == "cpu"
    assert record["cpu_count"] >= 1


def test_config_json_tells_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    monkeypatch.setattr("sys.argv", [str(tmp_path / "task.py")])
    assert folder._git_status() is None
    (tmp_path / "task.py").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert folder._git_status() == {"commit": commit, "dirty": False}
    (tmp_path / "task.py").write_text("2")
    assert folder._git_status() == {"commit": commit, "dirty": True}


def test_a_config_that_does_not_fit_is_refused_and_clear_makes_room(command):
    assert command("--steps", "20").code == 0
    refused = command("--steps", "20", "--width", "5")
    assert refused.code == 1
    assert "(--width: 4 saved, 5 given)" in one_line(refused.err)
    assert "--clear" in refused.err
    assert command("--clear").code == 0
    assert command("--steps", "20", "--width", "5").code == 0


def test_a_folder_without_weights_takes_any_config(command):
    assert command("--width", "3", run=nothing).code == 0
    assert command("--width", "4", run=nothing).code == 0


def test_four_differences_are_told_and_the_rest_are_counted(command):
    assert command("--steps", "20").code == 0
    flags = ["--width", "5", "--seed", "3", "--edge-probability", "0.5", "--kind", "sum", "--aliased", "--ballast", "2"]
    line = one_line(command(*flags).err)
    assert line.count("saved") == 4
    assert "--edge-probability: 0.1 saved, 0.5 given" in line
    assert "; and 2 more)" in line
    assert len(line) < 400


@pytest.mark.parametrize("number", [None, FORMAT - 1, FORMAT + 1, str(FORMAT)])
def test_a_folder_of_another_version_is_refused_in_a_line_of_its_own(command, number):
    done = command("--steps", "20")
    record = json.loads((done.folder / "config.json").read_text())
    changed = {name: value for name, value in record.items() if name not in ("format", "config")}
    changed |= {} if number is None else {"format": number}
    (done.folder / "config.json").write_text(json.dumps(changed))
    line = one_line(command("--width", "5").err)
    for part in (str(done.folder), "was written by another version of the program", "--clear", "--artifacts"):
        assert part in line
    assert "saved" not in line
    assert command("--clear").code == 0
    assert command("--steps", "20").code == 0


@pytest.mark.parametrize("content", ["{", "[]", f'{{"format": {FORMAT}}}', f'{{"format": {FORMAT}, "config": 3}}'])
def test_a_damaged_config_is_named(command, content):
    done = command("--steps", "20")
    (done.folder / "config.json").write_text(content)
    assert "config.json is damaged" in one_line(command().err)


def test_clear_empties_the_folder_and_nothing_else(command, tmp_path):
    done = command("--steps", "20")
    (tmp_path / "other").mkdir()
    assert any(done.folder.iterdir())
    cleared = command("--clear")
    assert (cleared.code, cleared.err) == (0, "")
    assert not any(done.folder.iterdir())
    assert (tmp_path / "other").exists()


def test_clear_of_what_does_not_exist_is_done_at_once(command, tmp_path):
    assert command("--clear", artifacts=tmp_path / "none").code == 0
    assert not (tmp_path / "none").exists()


def test_clear_follows_no_link_and_takes_no_file(command, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "toy").symlink_to(tmp_path / "precious")
    assert "is a link" in one_line(command("--clear").err)
    assert (tmp_path / "precious" / "file").exists()
    (tmp_path / "toy").unlink()
    (tmp_path / "toy").touch()
    assert "is a file" in one_line(command("--clear").err)


def test_a_link_within_the_folder_is_removed_and_not_followed(command, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "link").symlink_to(tmp_path / "precious")
    assert command("--clear").code == 0
    assert (tmp_path / "precious" / "file").exists()


def test_a_folder_has_one_run_at_a_time_under_any_of_its_names(command, tmp_path):
    def nested(config, run):
        (tmp_path / "alias").symlink_to(tmp_path)
        for flags in ([], ["--clear"]):
            for place in (tmp_path, tmp_path / "alias"):
                second = command(*flags, artifacts=place)
                assert second.code == 1
                assert "in use by another run" in one_line(second.err)
        assert command(artifacts=tmp_path / "elsewhere", run=nothing).code == 0

    assert command(run=nested).code == 0
    assert command(run=nothing).code == 0


@pytest.mark.parametrize("place", ["/proc", "/dev/null", "/dev/null/below"])
def test_a_place_that_cannot_be_written_is_named(command, place):
    done = command(artifacts=Path(place))
    assert done.code == 1
    assert place in one_line(done.err)
    assert "--artifacts" in done.err


def test_a_read_only_disk_is_named(command, small_disk):
    assert command("--steps", "20", artifacts=small_disk.path).code == 0
    small_disk.make_read_only()
    done = command("--steps", "40", artifacts=small_disk.path)
    assert done.code == 1
    assert "Read-only file system" in one_line(done.err)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.json"
    folder.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        folder.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_no_config_flag_takes_a_secret():
    assert not [name for name in RunConfig.__dataclass_fields__ if "key" in name or "token" in name or "secret" in name]
