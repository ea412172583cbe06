"""The command `thinking serve`, from its start to Ctrl-C."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from thinking.errors import UserError
from thinking.serving.server import serve

ROOT = Path(__file__).parents[2]


def test_it_serves_until_ctrl_c_which_ends_it_with_one_line(tmp_path):
    command = [sys.executable, "-m", "thinking.commands", "serve", "--port", "0", "--artifacts", str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "", "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        address = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)[1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"Runs and models" in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted: the server has ended\n")


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"--host 127\.0\.0\.1 --port {port}: Address already in use; give another"
        ):
            serve("127.0.0.1", port, tmp_path)


@pytest.mark.parametrize("host", ["no such host", "a" * 300, "203.0.113.1"])
def test_a_host_that_is_none_is_one_line(tmp_path, host):
    with pytest.raises(UserError, match="--host ") as refusal:
        serve(host, 0, tmp_path)
    assert "leave" in str(refusal.value)


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_is_none_is_one_line(tmp_path, port):
    with pytest.raises(UserError, match=f"--port {port}: allowed are 0 to 65535"):
        serve("127.0.0.1", port, tmp_path)


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'thinking\[serve\]'"):
        serve("127.0.0.1", 0, tmp_path)
