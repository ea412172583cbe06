"""The training loop: chunks, metrics, checkpoints, samples and errors."""

import datetime
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line, read_digest, read_untimed_metrics

from thinking.errors import RunError
from thinking.experiment import metrics, training_loop
from thinking.experiment.folder import Run
from thinking.experiment.training_loop import train
from thinking.trees import digest
from thinking.types import Latest, Measured

CONFIG = toy.Config()


@pytest.fixture
def run(tmp_path):
    return Run(folder=tmp_path, config=CONFIG)


def train_toy(run, config=CONFIG, **overrides):
    defaults = {"init": partial(toy.init, config), "step": partial(toy.step, config), "num_steps": 45, "chunk_size": 10}
    return train(run, "fit", **{"progress_metric": "loss", **defaults, **overrides})


def run_reference(num_steps, config=CONFIG):
    """The final state and the losses of single steps, without scan, donation or checkpoints."""
    jitted_step = jax.jit(partial(toy.step, config))
    state, losses = toy.init(config), []
    for index in range(num_steps):
        state, step_metrics = jitted_step(state, jnp.int32(index))
        losses.append(float(step_metrics["loss"]))
    return state, losses


def test_chunks_equal_single_steps(run):
    result = train_toy(run)
    state, losses = run_reference(45)
    np.testing.assert_allclose(result.state["weights"], state["weights"], rtol=1e-5)
    assert int(result.state["count"]) == 45
    np.testing.assert_array_equal(jax.random.key_data(result.state["key"]), jax.random.key_data(state["key"]))
    records = read_untimed_metrics(run.folder)
    assert [(record["stage"], record["step"]) for record in records] == [("fit", at) for at in (10, 20, 30, 40, 45)]
    mean_losses = [np.mean(losses[first : first + 10]) for first in range(0, 45, 10)]
    np.testing.assert_allclose([record["loss"] for record in records], mean_losses, rtol=1e-5)
    assert [record["count"] for record in records] == [4.5, 14.5, 24.5, 34.5, 42]


def test_a_stage_of_hours_is_announced_once_with_what_makes_it_shorter(run, monkeypatch, capsys):
    train_toy(run)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(training_loop, "_LONG_SECONDS", 1e-9)
    train_toy(run, num_steps=65)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"warning: stage fit takes about \d+ h more .* lower the number of steps, .*; Ctrl-C saves it", line
    )


def test_lines_of_metrics_have_the_time_at_which_they_were_written(run):
    start = datetime.datetime.now().astimezone()
    train_toy(run)
    times = [datetime.datetime.fromisoformat(line["time"]) for line in metrics.read(run.folder)]
    assert len(times) == 5
    # They are rounded down to milliseconds.
    assert start - datetime.timedelta(milliseconds=1) <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.datetime.now().astimezone()


def test_metrics_average_measured_steps_and_keep_the_latest_count(run):
    def step(state, index):
        is_due = index % 4 == 3
        accuracy = jnp.where(is_due, index / 10, jnp.nan)  # a placeholder is never read
        metrics = {"accuracy": Measured(accuracy, is_due), "num_seen": Latest(state), "loss": jnp.float32(index)}
        return state + 5, metrics

    options = {"num_steps": 10, "chunk_size": 5, "progress_metric": "accuracy"}
    train(run, "a", init=lambda: jnp.int32(0), step=step, **options)
    train(run, "b", init=lambda: jnp.int32(0), step=step, **options | {"num_steps": 3, "chunk_size": 3})
    train(run, "c", init=lambda: jnp.int32(0), step=step, **options | {"num_steps": 9, "chunk_size": 9})
    first, second, unmeasured, measured_twice = read_untimed_metrics(run.folder)
    assert first == {"stage": "a", "step": 5, "accuracy": pytest.approx(0.3), "num_seen": 20, "loss": 2}
    assert second == {"stage": "a", "step": 10, "accuracy": pytest.approx(0.7), "num_seen": 45, "loss": 7}
    assert unmeasured == {"stage": "b", "step": 3, "num_seen": 10, "loss": 1}
    assert measured_twice == {"stage": "c", "step": 9, "accuracy": pytest.approx(0.5), "num_seen": 40, "loss": 4}


def test_measured_metric_that_is_not_finite_stops_the_run(run):
    def step(state, index):
        return state, {"accuracy": Measured(jnp.float32(jnp.nan), index == 3)}

    with pytest.raises(RunError, match="accuracy is nan at step 3 of stage a"):
        train(run, "a", init=lambda: jnp.int32(0), step=step, num_steps=5, chunk_size=5, progress_metric="accuracy")


def test_training_finds_the_known_optimum(run):
    config = toy.Config(edge_probability=0.0)
    result = train_toy(run, config, num_steps=1000, chunk_size=100)
    np.testing.assert_allclose(result.state["weights"], toy.true_weights(config), atol=1e-3)


def test_initial_state_is_not_donated(run):
    state = toy.init(CONFIG)
    digest_before = digest(state["weights"])
    train_toy(run, init=lambda: state)
    assert digest(state["weights"]) == digest_before


def test_finished_stage_is_restored_without_a_step(run):
    first_result = train_toy(run)

    def failing_step(state, index):
        raise AssertionError("a finished stage was trained")

    second_result = train_toy(run, step=failing_step)
    assert digest(second_result.state) == digest(first_result.state)
    assert jax.tree.structure(second_result.state) == jax.tree.structure(first_result.state)
    assert 0 < second_result.seconds <= first_result.seconds
    assert second_result.compile_seconds == first_result.compile_seconds


def test_training_continues_with_a_larger_number_of_steps(run, tmp_path):
    train_toy(run, num_steps=20)
    result = train_toy(run)
    (tmp_path / "whole").mkdir()
    expected = train_toy(Run(folder=tmp_path / "whole", config=CONFIG))
    assert digest(result.state) == digest(expected.state)
    assert result.seconds > 0


def test_fewer_steps_than_saved_raise_an_error(run_command):
    run_command("--steps", "40")
    result = run_command("--steps", "20")
    assert result.code == 1
    assert "saved at step 40, beyond the 20 given" in assert_one_line(result.err)


def test_stages_have_separate_metrics_and_checkpoints(run):
    for stage in ("first", "second"):
        train(
            run,
            stage,
            init=lambda: jnp.zeros(()),
            step=lambda s, n: (s + n, {"sum": s}),
            num_steps=4,
            chunk_size=4,
            progress_metric="sum",
        )
    assert [(record["stage"], record["step"]) for record in read_untimed_metrics(run.folder)] == [
        ("first", 4),
        ("second", 4),
    ]
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"first", "second"}


@pytest.mark.parametrize("nan_step", [0, 17, 39])
def test_nan_loss_stops_the_run_and_keeps_the_last_good_checkpoint(run_command, frequent_saves, nan_step):
    result = run_command("--nan-at", str(nan_step), "--steps", "40")
    assert result.code == 1
    assert f"loss is nan at step {nan_step} of stage fit" in assert_one_line(result.err)
    saved_steps = [int(path.name) for path in (result.folder / "checkpoints").glob("fit/*")]
    assert all(step <= nan_step for step in saved_steps)
    assert all(record["step"] <= nan_step for record in (read_untimed_metrics(result.folder) if nan_step >= 10 else []))
    second_result = run_command("--steps", "40")
    assert second_result.code == 0
    assert [record["step"] for record in read_untimed_metrics(result.folder)] == [10, 20, 30, 40]


def test_nan_weights_after_a_finite_loss_are_not_saved(run_command, frequent_saves):
    result = run_command("--spoil-at", "39", "--steps", "40")
    assert result.code == 1
    assert "['weights'] of the state is nan after step 39" in assert_one_line(result.err)
    assert not (result.folder / "checkpoints" / "fit" / "40").exists()


def test_successful_run_prints_nothing_on_standard_error(run_command):
    result = run_command("--steps", "40")
    assert (result.code, result.err) == (0, "")
    assert "fit: step 40/40" in result.out
    assert "steps/s" in result.out


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 10])
def test_one_program_runs_chunks_of_all_lengths(tmp_path, chunk_size):
    """Ten steps in chunks of any size see the same states, and metrics are means over the steps of a chunk."""
    num_traces = 0

    def step(state, index):
        nonlocal num_traces
        num_traces += 1
        return state * 3 + index, {"seen": state}

    states = [1]
    for index in range(10):
        states.append(3 * states[-1] + index)
    run = Run(folder=tmp_path, config=CONFIG)
    arguments = {"init": lambda: jnp.int32(1), "step": step, "chunk_size": chunk_size, "progress_metric": "seen"}
    assert train(run, "fit", num_steps=7, **arguments).state == states[7]  # the next start is within a chunk
    num_traces = 0
    assert train(run, "fit", num_steps=10, **arguments).state == states[10]
    assert num_traces == 1
    ends = [end for end in range(1, 11) if end % chunk_size == 0 or end in (7, 10)]
    starts = [0, *ends[:-1]]
    means = [np.mean(states[start:end]) for start, end in zip(starts, ends, strict=True)]
    assert [(record["step"], record["seen"]) for record in read_untimed_metrics(tmp_path)] == list(
        zip(ends, means, strict=True)
    )


def test_mirrors_receive_the_metrics_of_the_file(run_command, tmp_path):
    mirror_calls = []
    run = Run(folder=tmp_path, config=CONFIG, metric_writers=(lambda *arguments: mirror_calls.append(arguments),))
    train_toy(run)
    assert [{"stage": stage, "step": step, **values} for stage, step, values in mirror_calls] == read_untimed_metrics(
        tmp_path
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {"progress_metric": "accuracy"},
        {"step": lambda state, index: (state, {"loss": jnp.zeros(2)})},
        {"step": lambda state, index: (state, {"loss": jnp.zeros(()), "step": index})},
        {"num_steps": -1},
        {"chunk_size": 0},
    ],
)
def test_invalid_arguments_raise_value_errors(run, overrides):
    with pytest.raises(ValueError, match=r"a metric is no scalar|bad stage"):
        train_toy(run, **overrides)


def test_stage_name_must_not_be_a_path(run):
    with pytest.raises(ValueError, match="bad stage"):
        train(run, "../other", init=dict, step=lambda s, n: (s, {}), num_steps=1, progress_metric="loss")


def test_equal_seeds_give_equal_digests_and_others_do_not(run_command, tmp_path):
    first, second, third = [
        read_digest(run_command("--steps", "20", "--seed", seed, artifacts=tmp_path / name).folder)
        for name, seed in ("a0", "b0", "c1")
    ]
    assert first == second != third


def test_samples_of_the_last_step_of_a_chunk_are_logged_once(run):
    def step(state, index):
        return state + 1, {"loss": state}, {"seen": index, "twice": jnp.stack([state, state])}

    def log_samples(sample):
        return [{"seen": int(sample["seen"]), "value": float(value)} for value in sample["twice"]]

    def train_and_read_samples(num_steps):
        options = {
            "init": lambda: jnp.zeros(()),
            "step": step,
            "chunk_size": 4,
            "progress_metric": "loss",
            "log_samples": log_samples,
        }
        train(run, "sampled", num_steps=num_steps, **options)
        return metrics.read(run.folder, metrics.SAMPLES_FILE)

    assert [(each["step"], each["seen"], each["value"]) for each in train_and_read_samples(6)] == [
        *[(4, 3, 3.0)] * 2,
        *[(6, 5, 5.0)] * 2,
    ]
    metrics.append(run.folder, "sampled", 8, {"seen": 7}, metrics.SAMPLES_FILE)  # logged, but the state was not saved
    assert [each["step"] for each in train_and_read_samples(8)] == [4, 4, 6, 6, 8, 8]
