"""What the tests of the experiment room share."""

import json
import multiprocessing
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from tests.experiment import toy

from thinking.experiment import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _shared_compilation_cache(tmp_path_factory):
    """Every process of these tests compiles the toy once."""
    cache = str(tmp_path_factory.mktemp("cache"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", cache)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    yield
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def eager(monkeypatch):
    """Save after every chunk for which the save before has ended."""
    monkeypatch.setattr(checkpoint, "MIN_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_TIME_FRACTION", 1e9)


@pytest.fixture
def command(tmp_path, capfd):
    """Run the toy's command line in this process: `command(*flags, run=...)` gives code, out, err and the folder."""

    def call(*flags, run=toy.run, artifacts=tmp_path):
        code = 0
        capfd.readouterr()
        try:
            toy.start("--artifacts", str(artifacts), *flags, run=run)
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, folder=Path(artifacts) / "toy")

    return call


@pytest.fixture(scope="session")
def processes(_shared_compilation_cache):
    """Start real processes quickly: they are forked from a server that has imported the libraries, and used none."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jax", "optax", "orbax.checkpoint.v1", "thinking.experiment.training_loop"])
    started = []

    def start(flags, output, eager=True):
        process = context.Process(target=toy.process, args=([str(flag) for flag in flags], output, eager))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def one_line(text):
    """Assert that a text is one line without a traceback or a box, and return it."""
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    assert not re.search("Traceback|[─│╭]", text)
    return text.strip()


def digest_of(folder):
    return json.loads((folder / "results.json").read_text())["state_digest"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of three megabytes, where the machine lets tests mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a disk takes rights that this machine does not give")
    yield SimpleNamespace(
        path=path, make_read_only=lambda: subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    )
    subprocess.run(["umount", path], check=True)
