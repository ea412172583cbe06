"""A run that needs more memory than there is ends in one line with the flags to lower."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line

from thinking.experiment import memory_check
from thinking.experiment.training_loop import train

BEYOND_ALL_MACHINES = 2**46  # floats: more than the address space


def allocate_by_jax(config, run):
    jax.block_until_ready(jnp.zeros(BEYOND_ALL_MACHINES))


def allocate_by_numpy(config, run):
    np.empty(BEYOND_ALL_MACHINES)


def panic(config, run):
    from tokenizers import Tokenizer, models, trainers

    Tokenizer(models.BPE()).train_from_iterator(["a"], trainers.BpeTrainer(vocab_size=2**62, show_progress=False))


@pytest.fixture
def small_container(tmp_path, monkeypatch):
    """A container of ten million bytes."""
    limit = tmp_path / "memory.max"
    limit.write_text("10000000\n")
    monkeypatch.setattr(memory_check, "_CGROUP_LIMIT", limit)


@pytest.mark.parametrize("run", [allocate_by_jax, allocate_by_numpy])
def test_lack_of_memory_names_the_sizes_that_were_raised(run_command, run):
    result = run_command("--width", "64", run=run)
    assert result.code == 1
    assert "there is not enough memory; lower --width 64; what was saved is kept" in assert_one_line(result.err)


def test_other_errors_keep_their_traceback(run_command):
    def fail(config, run):
        raise RuntimeError("no memory of it")

    with pytest.raises(RuntimeError, match="no memory of it"):
        run_command(run=fail)


def test_panic_of_a_library_in_rust_ends_without_a_traceback_of_python(run_command):
    result = run_command(run=panic)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: a library failed (")
    assert "Traceback" not in result.err


def test_state_beyond_memory_is_refused_before_it_is_made(run_command, small_container):
    assert run_command("--ballast", "1000").code == 0
    result = run_command("--ballast", str(2**28), "--clear")
    result = run_command("--ballast", str(2**28))
    assert result.code == 1
    assert "the state of training takes 1.0 GiB, and there are 0.0 GiB of memory" in assert_one_line(result.err)


def test_step_beyond_memory_is_refused_before_it_runs(run_command, small_container):
    def run(config, run):
        def step(state, index):
            product = jnp.ones((2000, 2000)) * state["weights"][0]
            state, metrics = toy.step(config, state, index)
            return state, metrics | {"trace": jnp.linalg.det(product @ product.T)}

        functions = {"init": partial(toy.init, config), "step": step}
        train(run, "fit", **functions, num_steps=10, chunk_size=10, progress_metric="loss")

    result = run_command(run=run)
    assert result.code == 1
    assert "a training step takes" in assert_one_line(result.err)
