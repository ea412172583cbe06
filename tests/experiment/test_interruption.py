"""Interruption: a signal ends in order, a kill loses nothing that was saved, and both end with the same bits."""

import json
import os
import random
import signal
import time
from dataclasses import replace

import pytest
from tests.experiment import toy
from tests.experiment.conftest import digest_of, one_line

STEPS = 3000


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    place = tmp_path_factory.mktemp("undisturbed")
    process = processes(["--steps", STEPS, "--artifacts", place], place / "log", eager=False)
    process.join()
    assert process.exitcode == 0, (place / "log").read_text()
    return place / "toy"


def until(condition, process):
    """Wait for a condition while a process runs."""
    while not condition():
        assert process.exitcode is None, "the process ended before it was ready"
        time.sleep(0.002)


def checkpoints(folder):
    return sorted(int(path.name) for path in folder.glob("checkpoints/fit/*") if path.name.isdecimal())


def test_a_run_killed_three_times_ends_with_the_bits_of_an_undisturbed_one(processes, undisturbed, tmp_path):
    folder, log, reached = tmp_path / "toy", tmp_path / "log", []
    for _ in range(3):
        before = checkpoints(folder)
        process = processes(["--steps", STEPS, "--artifacts", tmp_path], log)
        until(lambda before=before: checkpoints(folder) != before, process)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.join()
        reached.append(process.exitcode)
    assert -signal.SIGKILL in reached, "every run ended before it was killed"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "fit", "st')  # what a kill in the middle of a line leaves
    process = processes(["--steps", STEPS, "--artifacts", tmp_path], log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert digest_of(folder) == digest_of(undisturbed)
    assert (folder / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()
    assert not list(folder.glob("checkpoints/fit/*tmp*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_chunk_saves_and_says_so(command, undisturbed, number, code):
    def interrupted(config, run):
        def at_step_100(stage, step, figures):
            if step == 100:
                os.kill(os.getpid(), number)

        toy.run(config, replace(run, mirrors=(at_step_100,)))

    stopped = command("--steps", str(STEPS), run=interrupted)
    assert stopped.code == code
    step = checkpoints(stopped.folder)[-1]
    assert step in (100, 110, 120)  # the chunk in flight is finished
    message = one_line(stopped.err)
    assert f"saved at step {step} of {STEPS}" in message
    assert "the same command continues" in message
    records = [json.loads(line) for line in (stopped.folder / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == step
    continued = command("--steps", str(STEPS))
    assert f"fit: continues at step {step} of {STEPS}" in continued.out
    assert continued.err == ""
    assert digest_of(stopped.folder) == digest_of(undisturbed)
    assert (stopped.folder / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_outside_training_ends_in_order(command, number, code):
    closed = []

    def waiting(config, run):
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            closed.append(True)

    stopped = command(run=waiting)
    assert (stopped.code, closed) == (code, [True])
    assert "nothing was left to save" in one_line(stopped.err)


def test_a_signal_in_the_last_chunk_still_ends_the_run_and_the_stage_is_whole(command):
    def interrupted(config, run):
        toy.run(config, replace(run, mirrors=(lambda stage, step, _: step == 40 and os.kill(os.getpid(), 15),)))

    assert command("--steps", "40", run=interrupted).code == 143
    assert "finished before, at step 40" in command("--steps", "40").out


def test_the_first_signal_saves_in_a_real_process_and_frees_the_folder(processes, command, tmp_path):
    log, folder = tmp_path / "log", tmp_path / "toy"
    process = processes(["--steps", 10**8, "--artifacts", tmp_path], log, eager=False)
    until(lambda: (folder / "metrics.jsonl").exists(), process)
    second = command("--steps", "100000000")
    assert second.code == 1
    assert "in use by another run" in one_line(second.err)
    assert command("--clear").code == 1
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 143
    assert f"saved at step {checkpoints(folder)[-1]} of" in log.read_text()
    assert command("--clear").code == 0


def test_a_second_signal_ends_at_once_even_while_the_main_thread_is_held(processes, tmp_path):
    process = processes(["--stuck", tmp_path / "ready"], tmp_path / "log")
    until((tmp_path / "ready").exists, process)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 130


def test_a_kill_frees_the_folder(processes, command, tmp_path):
    process = processes(["--steps", 10**8, "--artifacts", tmp_path], tmp_path / "log", eager=False)
    until(lambda: (tmp_path / "toy" / "metrics.jsonl").exists(), process)
    process.kill()
    process.join()
    assert command("--clear").code == 0
