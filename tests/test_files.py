"""Files are written whole or not at all, and what a kill left is swept."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from thinking.files import is_temporary, make_temporary_folder, open_atomic, parse_json, sweep, write_atomic


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    write_atomic(path, b"older")
    with pytest.raises(TypeError), open_atomic(path) as temporary:
        temporary.write_bytes([temporary.write_bytes(b"new"), None])
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_on_disk_after_a_write(tmp_path, monkeypatch):
    """A file that is renamed survives a power failure once both are synced, the file first."""
    synced = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle)), sync(handle)))
    write_atomic(tmp_path / "x.txt", b"content")
    assert [stat.S_ISDIR(entry.st_mode) for entry in synced] == [False, True]
    assert [entry.st_ino for entry in synced] == [(tmp_path / "x.txt").stat().st_ino, tmp_path.stat().st_ino]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    program = """if True:
        import os, signal, sys
        from pathlib import Path
        from thinking.files import make_temporary_folder, open_atomic
        folder = Path(sys.argv[1])
        with open_atomic(folder / "plots" / "x.png") as file, make_temporary_folder(folder) as inner:
            file.write_bytes(b"half")
            (inner / "y").write_bytes(b"z")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "plots").mkdir()
    others = [
        tmp_path / name for name in (".mine.tmp", "1-2.tmp.x", ".a-2.tmp.x", ".hidden", "plots/.1-2.tmp", "y.tmp")
    ]
    for other in others:
        other.write_text("mine")
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -signal.SIGKILL
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - set(others)
    assert len(left) == 2
    assert {any(map(is_temporary, (path, path.parent))) for path in left} == {True}
    sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(others)


def test_temporary_folder_is_deleted_at_the_end(tmp_path):
    with make_temporary_folder(tmp_path) as folder:
        assert is_temporary(folder)
    assert list(tmp_path.iterdir()) == []


def test_json_may_begin_with_a_byte_order_mark_and_is_not_converted():
    assert parse_json(b"\xef\xbb\xbf[1]", list[int]) == [1]
    with pytest.raises(ValueError, match="0: Input should be a valid integer"):
        parse_json(b'["1"]', list[int])
