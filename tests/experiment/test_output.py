"""Standard output that is closed or full, and full disks."""

import os
import subprocess
import sys

import pytest
from tests.experiment.conftest import ROOT, assert_one_line, read_digest

from thinking.files import open_atomic, write_atomic

PROGRAM = "import sys; from tests.experiment import toy; toy.run_main(*sys.argv[1:])"


def start_toy(*flags, stdout):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-c", PROGRAM, *map(str, flags)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)


def test_run_whose_reader_leaves_goes_on_to_its_results(run_command, tmp_path):
    with start_toy("--artifacts", tmp_path / "piped", stdout=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 141
    assert "standard output was closed before the end; what was saved is kept" in assert_one_line(error)
    assert read_digest(tmp_path / "piped" / "toy" / "latest") == read_digest(run_command().folder)


def test_help_whose_reader_leaves_ends_without_a_traceback():
    with start_toy("--help", stdout=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 141
    assert_one_line(error)


def test_full_standard_output_is_named():
    with open("/dev/full", "w") as full, start_toy("--help", stdout=full) as process:
        error = process.stderr.read()
    assert process.returncode == 1
    assert "cannot write standard output: No space left on device" in assert_one_line(error)


def test_full_disk_names_the_file_and_keeps_the_older_one(small_disk):
    path = small_disk.path / "plan.png"
    write_atomic(path, b"older")
    with pytest.raises(OSError, match="No space left on device") as error:
        write_atomic(path, bytes(4_000_000))
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"older"
    assert list(small_disk.path.iterdir()) == [path]


def write_to_a_full_disk(path):
    with open_atomic(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"content")


def test_error_of_a_write_without_a_name_gets_that_of_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as error:
        write_to_a_full_disk(tmp_path / "x")
    assert error.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_results_is_one_line_that_names_them(run_command):
    result = run_command(run=lambda config, run: write_to_a_full_disk(run.folder / "results.json"))
    assert result.code == 1
    message = assert_one_line(result.err)
    assert f"cannot write {result.folder / 'results.json'}: No space left on device; what was saved is kept" in message
