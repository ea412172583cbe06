"""Interruption: after a signal or a kill, the same command resumes and ends with the same bits."""

import json
import os
import random
import signal
import time
from dataclasses import replace

import pytest
from tests.experiment import toy
from tests.experiment.conftest import assert_one_line, read_digest, read_untimed_metrics

STEPS = 3000


@pytest.fixture(scope="module")
def uninterrupted_folder(start_process, tmp_path_factory):
    """The folder of a run without interruption."""
    artifacts = tmp_path_factory.mktemp("undisturbed")
    process = start_process(["--steps", STEPS, "--artifacts", artifacts], artifacts / "log", frequent_saves=False)
    process.join()
    assert process.exitcode == 0, (artifacts / "log").read_text()
    return artifacts / "toy" / "latest"


def wait_until(condition, process):
    """Wait for a condition while the process runs."""
    while not condition():
        assert process.exitcode is None, "the process ended before it was ready"
        time.sleep(0.002)


def list_checkpoints(folder):
    return sorted(int(path.name) for path in folder.glob("checkpoints/fit/*") if path.name.isdecimal())


def test_run_killed_three_times_equals_an_uninterrupted_run(start_process, uninterrupted_folder, tmp_path):
    folder, log, exit_codes = tmp_path / "toy" / "latest", tmp_path / "log", []
    for _ in range(3):
        previous_steps = list_checkpoints(folder)
        process = start_process(["--steps", STEPS, "--artifacts", tmp_path], log)
        wait_until(lambda previous_steps=previous_steps: list_checkpoints(folder) != previous_steps, process)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.join()
        exit_codes.append(process.exitcode)
    assert -signal.SIGKILL in exit_codes, "every run ended before it was killed"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "fit", "st')  # a kill in the middle of a line leaves this
    process = start_process(["--steps", STEPS, "--artifacts", tmp_path], log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert read_digest(folder) == read_digest(uninterrupted_folder)
    assert read_untimed_metrics(folder) == read_untimed_metrics(uninterrupted_folder)
    assert not list(folder.glob("checkpoints/fit/*tmp*"))


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_finishes_the_chunk_saves_and_reports_the_step(run_command, uninterrupted_folder, signal_number, code):
    def run_interrupted(config, run):
        def send_signal_at_step_100(stage, step, figures):
            if step == 100:
                os.kill(os.getpid(), signal_number)

        toy.run(config, replace(run, metric_writers=(send_signal_at_step_100,)))

    result = run_command("--steps", str(STEPS), run=run_interrupted)
    assert result.code == code
    step = list_checkpoints(result.folder)[-1]
    assert step in (100, 110, 120)  # the current chunk is finished
    message = assert_one_line(result.err)
    assert f"saved at step {step} of {STEPS}" in message
    assert "the same command continues" in message
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == step
    second_result = run_command("--steps", str(STEPS))
    assert f"fit: continues at step {step} of {STEPS}" in second_result.out
    assert second_result.err == ""
    assert read_digest(result.folder) == read_digest(uninterrupted_folder)
    assert read_untimed_metrics(result.folder) == read_untimed_metrics(uninterrupted_folder)


def test_first_signal_on_a_terminal_is_answered_at_once(run_command, monkeypatch):
    monkeypatch.setattr("thinking.experiment.interruption.os.isatty", lambda number: number == 2)

    def run_interrupted(config, run):
        toy.run(config, replace(run, metric_writers=(lambda stage, step, _: step == 20 and os.kill(os.getpid(), 2),)))

    answer, message = run_command("--steps", str(STEPS), run=run_interrupted).err.strip().split("\n")
    assert answer.endswith("stopping: the steps under way are finished and saved; once more stops at once")
    assert "is saved at step" in message


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_outside_training_runs_cleanup(run_command, signal_number, code):
    cleanup_calls = []

    def run_waiting(config, run):
        try:
            os.kill(os.getpid(), signal_number)
            time.sleep(60)
        finally:
            cleanup_calls.append(True)

    result = run_command(run=run_waiting)
    assert (result.code, cleanup_calls) == (code, [True])
    assert "nothing was left to save" in assert_one_line(result.err)


def test_signal_in_the_last_chunk_completes_the_stage(run_command):
    def run_interrupted(config, run):
        toy.run(config, replace(run, metric_writers=(lambda stage, step, _: step == 40 and os.kill(os.getpid(), 15),)))

    assert run_command("--steps", "40", run=run_interrupted).code == 143
    assert "finished before, at step 40" in run_command("--steps", "40").out


def test_first_signal_to_a_process_saves_and_unlocks_the_folder(start_process, run_command, tmp_path):
    log, folder = tmp_path / "log", tmp_path / "toy" / "latest"
    process = start_process(["--steps", 10**8, "--artifacts", tmp_path], log, frequent_saves=False)
    wait_until(lambda: (folder / "metrics.jsonl").exists(), process)
    result = run_command("--steps", "100000000")
    assert result.code == 1
    assert "in use by another run" in assert_one_line(result.err)
    assert run_command("--clear").code == 1
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 143
    assert f"saved at step {list_checkpoints(folder)[-1]} of" in log.read_text()
    assert run_command("--clear").code == 0


def test_second_signal_exits_while_the_main_thread_is_blocked(start_process, tmp_path):
    process = start_process(["--stuck", tmp_path / "ready"], tmp_path / "log")
    wait_until((tmp_path / "ready").exists, process)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 130


def test_kill_unlocks_the_folder(start_process, run_command, tmp_path):
    process = start_process(["--steps", 10**8, "--artifacts", tmp_path], tmp_path / "log", frequent_saves=False)
    wait_until(lambda: (tmp_path / "toy" / "latest" / "metrics.jsonl").exists(), process)
    process.kill()
    process.join()
    assert run_command("--clear").code == 0
