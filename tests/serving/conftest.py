"""A folder of runs, as files alone, with a secret beside it; and a real server over it."""

import json
import socket
import threading
from types import SimpleNamespace

import pytest

from thinking.experiment.saved_config import FORMAT_VERSION
from thinking.serving.server import make_server

SECRET = "no-page-may-show-this"


def write_run(folder, task="simple", results=None, **config):
    """Write a run's files without running it."""
    folder.mkdir(parents=True)
    record = {
        "format": FORMAT_VERSION, "task": task, "config": {"seed": 0}, "inputs": {}, "versions": {},
        "preset": "smoke", "changed": {"--seed": 3}, "date": "2026-01-02T03:04:05", "seconds": 7.0, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(record))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """Runs of all kinds: good, training, damaged, hostile."""
    home = tmp_path_factory.mktemp("served")
    outside = home / "outside"
    outside.mkdir()
    for name in ("secret.txt", "secret.png", "secret.html", "config.json", "results.json", "report.html"):
        (outside / name).write_text(SECRET)
    root = home / "artifacts"
    good = write_run(root / "simple" / "good-aaaaaa", results={"headline": "it <b>works</b>\x1b[31m", "rows": []})
    (good / "plots").mkdir()
    (good / "plots" / "plan.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (good / "plots" / "page.html").write_text("<script>document.title = 'a page of a task'</script>")
    (good / "plots" / "notes.txt").write_text(SECRET)
    write_run(root / "simple" / "training-bbbbbb")
    (write_run(root / "simple" / "damaged-cccccc") / "config.json").write_text("{")
    write_run(root / "simple" / "wrong-dddddd", results={"rows": 3, "headline": [1]}, changed=7)
    write_run(root / "evil" / "code-eeeeee", task="../../evil", results={"headline": "x"})
    (root / "evil" / "code-eeeeee" / "__init__.py").write_text(f"open({str(home / 'ran')!r}, 'w')")
    write_run(root / "simple" / "reads-ffffff", results={"rows": []}, config={"graph": {"path": "/etc/passwd"}})
    linked = write_run(root / "simple" / "linked-000000", results={"rows": []})
    (linked / "plots").mkdir()
    (linked / "plots" / "plan.png").symlink_to(outside / "secret.png")
    (write_run(root / "simple" / "results-111111") / "results.json").symlink_to(outside / "results.json")
    (root / "simple" / "away-222222").symlink_to(outside, target_is_directory=True)
    (root / "elsewhere").symlink_to(home, target_is_directory=True)
    (root / "simple" / "latest").symlink_to("good-aaaaaa")
    return root


@pytest.fixture(scope="session")
def served(artifacts):
    """A real server: its `port`, and `base`, its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server, port = make_server("127.0.0.1", artifacts), listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield SimpleNamespace(port=port, base=f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join()
    listening.close()
