"""The folder of a run: its files, its lock, and `--clear`."""

import datetime
import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line

from thinking.errors import UserError
from thinking.experiment import folder
from thinking.experiment.config_fields import RunConfig
from thinking.experiment.run_folders import find_latest
from thinking.experiment.saved_config import FORMAT_VERSION

FORMAT = FORMAT_VERSION


def run_nothing(config, run):
    """A task that does nothing."""


def test_config_json_records_config_versions_and_device(run_command):
    result = run_command("--width", "3", run=run_nothing)
    record = json.loads((result.folder / "config.json").read_text())
    assert record["format"] == FORMAT_VERSION
    assert record["task"] == "toy"
    assert record["config"]["width"] == 3
    assert (record["preset"], record["changed"]) == ("default", {"--width": 3})
    assert record["command"].startswith("python tasks/toy.py --artifacts ")
    assert record["command"].endswith(" --width 3")
    assert abs(datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(record["date"])).seconds < 600
    for package in ("python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "thinking"):
        assert record["versions"][package]
    assert record["device"]["platform"] == "cpu"
    assert record["cpu_count"] >= 1


def test_git_status_gives_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    monkeypatch.setattr("sys.argv", [str(tmp_path / "task.py")])
    assert folder._git_status() is None
    (tmp_path / "task.py").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "m"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr("sys.argv", [str(tmp_path / "installed.py")])
    assert folder._git_status() is None
    monkeypatch.setattr("sys.argv", [str(tmp_path / "task.py")])
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert folder._git_status() == {"commit": commit, "dirty": False}
    (tmp_path / "task.py").write_text("2")
    assert folder._git_status() == {"commit": commit, "dirty": True}


def test_same_command_resumes_its_folder_and_another_config_has_another(run_command):
    first = run_command("--steps", "20")
    assert run_command("--steps", "30").folder == first.folder  # steps affect no weights that are saved
    other = run_command("--steps", "20", "--width", "5", "--seed", "3")
    assert (other.code, other.err) == (0, "")
    assert other.folder != first.folder
    assert other.folder.parent == first.folder.parent
    assert "continues" not in other.out
    assert os.readlink(first.folder.parent / "latest") == other.folder.name
    assert "finished before" in run_command("--steps", "30").out
    assert os.readlink(first.folder.parent / "latest") == first.folder.name


def test_a_folder_is_found_by_its_digest(run_command):
    result = run_command("--steps", "20")
    renamed = result.folder.with_name(f"my-best-{result.folder.name[-6:]}")
    result.folder.rename(renamed)
    again = run_command("--steps", "20")
    assert "finished before" in again.out
    assert again.folder == renamed


def test_saved_config_that_does_not_fit_is_refused(run_command):
    result = run_command("--steps", "20")
    path = result.folder / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"config": record["config"] | {"width": 5}}))
    result = run_command("--steps", "20")
    assert result.code == 1
    assert "(--width: 5 saved, 4 given)" in assert_one_line(result.err)
    assert "--clear" in result.err


def test_folder_without_checkpoints_accepts_any_config(run_command):
    assert run_command("--width", "3", run=run_nothing).code == 0
    assert run_command("--width", "4", run=run_nothing).code == 0


def test_error_lists_four_differences_and_counts_the_rest(run_command):
    result = run_command("--steps", "20")
    path = result.folder / "config.json"
    record = json.loads(path.read_text())
    others = {"width": 5, "seed": 3, "edge_probability": 0.5, "kind": "sum", "aliased": True, "ballast": 2}
    path.write_text(json.dumps(record | {"config": record["config"] | others}))
    message = assert_one_line(run_command("--steps", "20").err)
    assert message.count("saved") == 4
    assert "--edge-probability: 0.5 saved, 0.1 given" in message
    assert "; and 2 more)" in message
    assert len(message) < 500


@pytest.mark.parametrize("version", [None, FORMAT - 1, FORMAT + 1, str(FORMAT)])
def test_folder_of_another_format_version_is_refused(run_command, version):
    result = run_command("--steps", "20")
    record = json.loads((result.folder / "config.json").read_text())
    other_record = {name: value for name, value in record.items() if name not in ("format", "config")}
    other_record |= {} if version is None else {"format": version}
    (result.folder / "config.json").write_text(json.dumps(other_record))
    message = assert_one_line(run_command("--steps", "20").err)
    for part in (str(result.folder), "was written by another version of the program", "--clear", "--artifacts"):
        assert part in message
    assert "saved" not in message
    assert run_command("--clear").code == 0
    assert run_command("--steps", "20").code == 0


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "results.json"])
def test_folder_in_place_of_a_file_is_named(run_command, name):
    result = run_command("--steps", "20")
    (result.folder / name).unlink()
    (result.folder / name).mkdir()
    result = run_command("--steps", "20")
    assert result.code in (1, 2)
    assert f"{name}" in assert_one_line(result.err)
    assert "irectory" in result.err


def test_run_sweeps_what_a_killed_run_left(run_command):
    result = run_command("--steps", "20")
    left = [result.folder / ".1-2.tmp.config.json", result.folder / "plots" / ".1-2.tmp.curves.png"]
    unfinished = result.folder / "checkpoints" / "fit" / "30.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    (result.folder / "plots").mkdir()
    for path in left:
        path.touch()
    assert run_command("--steps", "30").code == 0
    assert not any(path.exists() for path in (*left, unfinished))


def test_artifacts_folder_with_a_name_beyond_all_limits_is_refused(run_command):
    result = run_command(artifacts="a" * 5000)
    assert result.code == 2
    assert "File name too long" in assert_one_line(result.err)
    assert len(result.err) < 300


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "[" * 100_000,
        f'{{"format": {FORMAT}}}',
        *(f'{{"format": {FORMAT}, "config": {config}, "inputs": {{}}, "versions": {{}}}}' for config in ("null", "3")),
        f'{{"format": {FORMAT}, "config": {{}}, "inputs": {{"--data": 5}}, "versions": {{}}}}',
        f'{{"format": {FORMAT}, "config": {{"seed": {"7" * 5000}}}, "inputs": {{}}, "versions": {{}}}}',
    ],
    ids=lambda content: content[:70],
)
def test_damaged_config_json_is_named(run_command, content):
    result = run_command("--steps", "20")
    (result.folder / "config.json").write_text(content)
    assert "config.json is damaged" in assert_one_line(run_command().err)


def test_clear_removes_only_the_run_of_the_same_flags(run_command, tmp_path):
    kept = run_command("--steps", "20")
    other = run_command("--steps", "20", "--width", "5")
    (tmp_path / "other").mkdir()
    result = run_command("--clear", "--width", "5")
    assert (result.code, result.out, result.err) == (0, f"cleared {other.folder}\n", "")
    assert not other.folder.exists()
    assert kept.folder.exists()
    assert (tmp_path / "other").exists()
    assert find_latest(kept.folder.parent) == kept.folder
    assert run_command("--clear", "--width", "5").out == f"there is no {other.folder}; runs there: {kept.folder.name}\n"
    assert run_command("--clear").folder is None
    assert not (kept.folder.parent / "latest").is_symlink()


def test_another_content_of_a_file_or_folder_of_data_is_another_run(run_command, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "graph.txt").write_text("a b")
    for path in (data, data / "graph.txt"):
        folder = run_command("--steps", "20", "--data", str(path)).folder
        assert run_command("--steps", "30", "--data", str(path)).folder == folder
        (data / "graph.txt").write_text(f"a c {path.name}")
        assert run_command("--steps", "30", "--data", str(path)).folder != folder


def test_weights_without_a_config_are_refused(run_command):
    result = run_command("--steps", "20")
    (result.folder / "config.json").unlink()
    assert "no config.json, so its task is unknown" in assert_one_line(run_command("--steps", "20").err)
    assert run_command("--clear").out.startswith("cleared ")
    assert run_command("--steps", "20").code == 0


def test_weights_of_another_version_of_jax_go_on_with_a_warning(run_command):
    result = run_command("--steps", "20")
    record = json.loads((result.folder / "config.json").read_text())
    record["versions"] |= {"jax": "0.1.2", "numpy": "0.1.2"}
    (result.folder / "config.json").write_text(json.dumps(record))
    result = run_command("--steps", "30")
    assert result.code == 0
    assert "warning: " in assert_one_line(result.err)
    assert "jax 0.1.2, now" in result.err
    assert "numpy" not in result.err


def test_bad_input_before_anything_was_written_leaves_no_folder(run_command, tmp_path):
    def run_refused(config, run):
        (run.folder / "cache").mkdir(exist_ok=True)
        raise UserError("--width: the data are of another width")

    assert run_command(run=run_refused).folder is None
    assert not (tmp_path / "toy" / "latest").is_symlink()
    result = run_command("--steps", "20")
    assert run_command("--width", "5", run=run_refused).folder == result.folder
    assert run_command("--steps", "30", run=run_refused).folder == result.folder
    assert list(result.folder.glob("checkpoints/fit/20"))  # a run that wrote something stays


def test_clear_leaves_what_no_run_wrote_and_names_it(run_command):
    result = run_command("--steps", "20")
    (result.folder / "thesis.txt").write_text("mine")
    assert run_command("--clear").out.endswith("left there, as no run wrote it: thesis.txt\n")
    assert [path.name for path in result.folder.iterdir()] == ["thesis.txt"]
    (result.folder / "plots").mkdir()  # not of a run, as there is none
    assert "plots, thesis.txt" in run_command("--clear").out


def test_latest_is_found_without_links(run_command):
    first = run_command("--steps", "20").folder
    second = run_command("--steps", "20", "--width", "5").folder
    (second.parent / "latest").unlink()
    assert find_latest(second.parent) == second
    (second.parent / "latest").mkdir()  # a copy that has no links
    assert run_command("--steps", "20").folder == first


def test_run_into_a_link_is_refused(run_command, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "toy").symlink_to(tmp_path / "elsewhere")
    result = run_command("--steps", "20")
    assert result.code == 1
    assert "is a link" in assert_one_line(result.err)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_clear_of_a_missing_folder_does_nothing(run_command, tmp_path):
    assert run_command("--clear", artifacts=tmp_path / "none").code == 0
    assert not (tmp_path / "none").exists()


def test_clear_refuses_a_link_or_a_file(run_command, tmp_path):
    folder = run_command(run=run_nothing).folder
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "precious")
    assert "is a link" in assert_one_line(run_command("--clear").err)
    assert (tmp_path / "precious" / "file").exists()
    folder.unlink()
    folder.touch()
    assert "is a file" in assert_one_line(run_command("--clear").err)


def test_clear_removes_links_in_the_folder_without_following_them(run_command, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    result = run_command("--steps", "20")
    (result.folder / "plots").symlink_to(tmp_path / "precious")
    assert run_command("--clear").code == 0
    assert not result.folder.exists()
    assert (tmp_path / "precious" / "file").exists()


def test_folder_is_locked_for_one_run_under_any_path(run_command, tmp_path):
    def run_nested(config, run):
        (tmp_path / "alias").symlink_to(tmp_path)
        for flags in ([], ["--clear"]):
            for artifacts in (tmp_path, tmp_path / "alias"):
                result = run_command(*flags, artifacts=artifacts)
                assert result.code == 1
                assert "in use by another run" in assert_one_line(result.err)
        assert run_command(artifacts=tmp_path / "elsewhere", run=run_nothing).code == 0

    assert run_command(run=run_nested).code == 0
    assert run_command(run=run_nothing).code == 0


@pytest.mark.parametrize("path", ["/proc", "/dev/null", "/dev/null/below"])
def test_path_that_cannot_be_written_is_named(run_command, path):
    result = run_command(artifacts=Path(path))
    assert result.code == 1
    assert path in assert_one_line(result.err)
    assert "--artifacts" in result.err


def test_read_only_file_system_is_named(run_command, small_disk):
    assert run_command("--steps", "20", artifacts=small_disk.path).code == 0
    small_disk.make_read_only()
    result = run_command("--steps", "40", artifacts=small_disk.path)
    assert result.code == 1
    assert "Read-only file system" in assert_one_line(result.err)


def test_write_json_is_atomic(tmp_path):
    path = tmp_path / "file.json"
    folder.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        folder.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_folder_name_that_is_no_utf8_is_refused_in_one_line(run_command, tmp_path):
    result = run_command("--steps", "20", artifacts=tmp_path / "\udcff")
    assert result.code == 1
    assert r"has a name that is no UTF-8" in assert_one_line(result.err)


def test_file_names_that_are_no_utf8_are_recorded_and_compared(run_command, tmp_path):
    data = tmp_path / "caf\udce9.txt"
    data.write_text("a b")
    for steps in ("20", "30"):
        result = run_command("--steps", steps, "--data", str(data))
        assert (result.code, result.err) == (0, "")
    assert json.loads((result.folder / "config.json").read_text())["config"]["data"] == str(data)


def test_run_config_has_no_option_for_a_secret():
    assert not [name for name in RunConfig.__dataclass_fields__ if "key" in name or "token" in name or "secret" in name]


def test_use_of_a_finished_run_leaves_its_config_and_prints_nothing_of_training(run_command, monkeypatch):
    monkeypatch.setattr(toy.Config, "find_use", lambda config: "--plan" if config.plan else None)
    result = run_command("--steps", "20")
    config = json.loads((result.folder / "config.json").read_text())
    use = run_command("--steps", "20", "--plan", "A", "B")
    assert (use.code, use.folder) == (0, result.folder)
    assert "finished before" not in use.out
    later_config = json.loads((result.folder / "config.json").read_text())
    assert {**later_config, "seconds": config["seconds"]} == config
