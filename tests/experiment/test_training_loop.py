"""Training: what is learnt, what is written on the way, and what ends it."""

import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.experiment import toy
from tests.experiment.conftest import digest_of, one_line

from thinking.experiment import metrics
from thinking.experiment.folder import Run
from thinking.experiment.training_loop import _chunk_length, _chunk_lengths, train
from thinking.trees import digest

CONFIG = toy.Config()


@pytest.fixture
def run(tmp_path):
    return Run(folder=tmp_path, config=CONFIG)


def fit(run, config=CONFIG, **changed):
    parts = {"init": partial(toy.init, config), "step": partial(toy.step, config), "num_steps": 45, "chunk_size": 10}
    return train(run, "fit", **{"progress_metric": "loss", **parts, **changed})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def reference(steps, config=CONFIG):
    """The same steps one by one, without scan, donation or checkpoints; the final state and the losses."""
    one = jax.jit(partial(toy.step, config))
    state, losses = toy.init(config), []
    for number in range(steps):
        state, figures = one(state, jnp.int32(number))
        losses.append(float(figures["loss"]))
    return state, losses


def test_chunks_do_what_single_steps_do_and_no_step_is_missed(run):
    trained = fit(run)
    state, losses = reference(45)
    np.testing.assert_allclose(trained.state["weights"], state["weights"], rtol=1e-5)
    assert int(trained.state["count"]) == 45
    np.testing.assert_array_equal(jax.random.key_data(trained.state["key"]), jax.random.key_data(state["key"]))
    records = lines(run.folder)
    assert [(record["stage"], record["step"]) for record in records] == [("fit", at) for at in (10, 20, 30, 40, 45)]
    means = [np.mean(losses[first : first + 10]) for first in range(0, 45, 10)]
    np.testing.assert_allclose([record["loss"] for record in records], means, rtol=1e-5)
    assert [record["count"] for record in records] == [4.5, 14.5, 24.5, 34.5, 42]


def test_the_known_optimum_is_found(run):
    config = toy.Config(edge_probability=0.0)
    trained = fit(run, config, num_steps=1000, chunk_size=100)
    np.testing.assert_allclose(trained.state["weights"], toy.solution(config), atol=1e-3)


def test_the_first_state_stays_usable(run):
    state = toy.init(CONFIG)
    before = digest(state["weights"])
    fit(run, init=lambda: state)
    assert digest(state["weights"]) == before


def test_a_finished_stage_is_restored_without_a_step(run):
    first = fit(run)

    def never(state, number):
        raise AssertionError("a finished stage was trained")

    again = fit(run, step=never)
    assert digest(again.state) == digest(first.state)
    assert jax.tree.structure(again.state) == jax.tree.structure(first.state)
    assert 0 < again.seconds <= first.seconds
    assert again.compile_seconds == first.compile_seconds


def test_more_steps_go_on_where_fewer_ended(run, tmp_path):
    fit(run, num_steps=20)
    more = fit(run)
    (tmp_path / "whole").mkdir()
    whole = fit(Run(folder=tmp_path / "whole", config=CONFIG))
    assert digest(more.state) == digest(whole.state)
    assert more.seconds > 0


def test_fewer_steps_than_saved_are_refused(command):
    command("--steps", "40")
    done = command("--steps", "20")
    assert done.code == 1
    assert "saved at step 40, beyond the 20 given" in one_line(done.err)


def test_stages_follow_one_another_in_one_run(run):
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
    assert [(record["stage"], record["step"]) for record in lines(run.folder)] == [("first", 4), ("second", 4)]
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"first", "second"}


@pytest.mark.parametrize("at", [0, 17, 39])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(command, eager, at):
    done = command("--nan-at", str(at), "--steps", "40")
    assert done.code == 1
    assert f"loss is nan at step {at} of stage fit" in one_line(done.err)
    saved = [int(path.name) for path in (done.folder / "checkpoints").glob("fit/*")]
    assert all(step <= at for step in saved)
    assert all(record["step"] <= at for record in (lines(done.folder) if at >= 10 else []))
    mended = command("--steps", "40")
    assert mended.code == 0
    assert [record["step"] for record in lines(done.folder)] == [10, 20, 30, 40]


def test_weights_spoilt_after_the_last_good_loss_are_not_saved(command, eager):
    done = command("--spoil-at", "39", "--steps", "40")
    assert done.code == 1
    assert "['weights'] of the state is nan after step 39" in one_line(done.err)
    assert not (done.folder / "checkpoints" / "fit" / "40").exists()


def test_a_clean_run_says_nothing_on_standard_error(command):
    done = command("--steps", "40")
    assert (done.code, done.err) == (0, "")
    assert "fit: step 40/40" in done.out
    assert "steps/s" in done.out


def test_every_chunk_to_come_is_compiled_and_no_other():
    for done, steps, chunk in itertools.product(range(12), range(1, 12), range(1, 6)):
        if done < steps:
            expected, at = set(), done
            while at < steps:
                expected.add(_chunk_length(at, steps, chunk))
                at += _chunk_length(at, steps, chunk)
            assert _chunk_lengths(done, steps, chunk) == expected


def test_mirrors_are_told_what_the_file_is_told(command, tmp_path):
    told = []
    run = Run(folder=tmp_path, config=CONFIG, mirrors=(lambda *line: told.append(line),))
    fit(run)
    assert [{"stage": stage, "step": step, **figures} for stage, step, figures in told] == lines(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"progress_metric": "accuracy"},
        {"step": lambda state, number: (state, {"loss": jnp.zeros(2)})},
        {"step": lambda state, number: (state, {"loss": jnp.zeros(()), "step": number})},
        {"num_steps": -1},
        {"chunk_size": 0},
    ],
)
def test_mistakes_of_a_task_are_errors_with_a_traceback(run, wrong):
    with pytest.raises(ValueError, match=r"metrics must be|bad stage"):
        fit(run, **wrong)


def test_a_stage_name_is_no_path(run):
    with pytest.raises(ValueError, match="bad stage"):
        train(run, "../other", init=dict, step=lambda s, n: (s, {}), num_steps=1, progress_metric="loss")


def test_equal_seeds_give_equal_bits_and_others_do_not(command, tmp_path):
    first, second, third = [
        digest_of(command("--steps", "20", "--seed", seed, artifacts=tmp_path / name).folder)
        for name, seed in ("a0", "b0", "c1")
    ]
    assert first == second != third


def test_samples_of_the_last_step_of_a_chunk_are_told_and_told_once(run):
    def step(state, index):
        return state + 1, {"loss": state}, {"seen": index, "twice": jnp.stack([state, state])}

    def tell(sample):
        return [{"seen": int(sample["seen"]), "value": float(value)} for value in sample["twice"]]

    def samples(steps):
        options = {
            "init": lambda: jnp.zeros(()),
            "step": step,
            "chunk_size": 4,
            "progress_metric": "loss",
            "log_samples": tell,
        }
        train(run, "sampled", num_steps=steps, **options)
        return metrics.read(run.folder, metrics.SAMPLES_FILE)

    assert [(each["step"], each["seen"], each["value"]) for each in samples(6)] == [
        *[(4, 3, 3.0)] * 2,
        *[(6, 5, 5.0)] * 2,
    ]
    metrics.append(
        run.folder, "sampled", 8, {"seen": 7}, metrics.SAMPLES_FILE
    )  # written, but the state was never saved
    assert [each["step"] for each in samples(8)] == [4, 4, 6, 6, 8, 8]
