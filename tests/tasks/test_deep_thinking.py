"""The task of deep thinking, from its config to its results."""

import dataclasses
import json

import numpy as np
import pytest
from tests.tasks.exports import load_export

from tasks import deep_thinking
from thinking.errors import UserError
from thinking.experiment import Run
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.deep_thinking import config as settings
from thinking.recipes.deep_thinking.problem_families import make_problem, make_tests
from thinking.recipes.deep_thinking.training import build_network
from thinking.recipes.groups import TrainingConfig

SMALL = settings.Config(
    seeds=1,
    networks=("recursive", "feed_forward"),
    puzzle=settings.PuzzleConfig("prefix_sums", 6),
    model=settings.ModelConfig(24, 48),
    thinking=settings.ThinkingConfig(grad_steps=4, num_updates=2),
    training=TrainingConfig(400, 32),
    optimizer=settings.CosineConfig(0.005),
    eval=settings.EvalConfig((6, 24), 64, 96, num_rollouts=2),
)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run."""
    run = Run(folder=tmp_path_factory.mktemp("deep_thinking"), config=SMALL)
    deep_thinking.run(SMALL, run)
    return run


def test_the_recursive_network_solves_longer_puzzles_and_the_feed_forward_network_does_not(finished_run):
    rows = json.loads((finished_run.folder / "results.json").read_text())["rows"]
    solved = {(row["network"], row["size"]): row["solved"] for row in rows}
    assert solved["recursive", 24] > 0.8
    assert solved["feed_forward", 24] < 0.2
    (row,) = (row for row in rows if row["network"] == "recursive" and row["size"] == 24)
    assert row["solved_at_training_depth"] < row["solved"]
    assert 4 < row["mean_halting_step"] <= 96
    assert row["solved_by_rollouts"] > 0.5


def test_an_exported_network_solves_what_it_solved_in_the_run(finished_run, tmp_path):
    results = json.loads((finished_run.folder / "results.json").read_text())
    trained = load_export("deep_thinking", finished_run, tmp_path)
    rows = [row for row in results["rows"] if row["network"] == "recursive"]
    config = dataclasses.replace(trained.config, eval=dataclasses.replace(SMALL.eval, num_rollouts=1))
    for row, measured in zip(rows, deep_thinking.measure(config, trained), strict=True):
        assert measured == {"num_puzzles": 64} | {name: row[name] for name in measured if name in row}
    test = make_tests(SMALL, make_problem(SMALL))[24]
    solved = trained.solve(test.inputs.features, test.inputs.neighbors)
    (row,) = (row for row in results["rows"] if row["network"] == "recursive" and row["size"] == 24)
    is_right = (solved.answer == np.asarray(test.targets)).all(axis=1)
    assert is_right.mean() == pytest.approx(row["solved_at_halt"])
    assert solved.num_steps.mean() == pytest.approx(row["mean_halting_step"])


def test_curves_are_plotted(finished_run):
    assert {path.name for path in (finished_run.folder / "plots").iterdir()} == {"steps.png", "learning_curves.png"}


def test_all_presets_are_sound_and_build_their_networks():
    for preset in settings.PRESETS.values():
        assert not find_declaration_errors(preset.config)
        check(preset.config)
        if preset.config.puzzle.name != "sudoku":
            problem = make_problem(preset.config)
            for name in preset.config.networks:
                build_network(preset.config, problem, name)


def test_held_out_sudokus_are_not_trained_on():
    config = dataclasses.replace(
        settings.PRESETS["sudoku"].config,
        puzzle=settings.PuzzleConfig("sudoku", 4, num_puzzles=20),
        eval=settings.EvalConfig((4,), 10),
    )
    problem = make_problem(config)
    test = make_tests(config, problem)[4]
    assert test.targets.shape == (10, 16)
    assert len(np.unique(np.asarray(test.inputs.features).reshape(10, -1), axis=0)) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ("recursive", "recursive")}, "each once"),
        ({"training": TrainingConfig(100, 30)}, "--training.batch-size 30.*take 32"),
        ({"puzzle": settings.PuzzleConfig("sudoku", 5)}, "--puzzle.size 5.*4, 6, 9"),
        ({"puzzle": settings.PuzzleConfig("sudoku", 6)}, "--eval.sizes.*take --eval.sizes 6"),
        ({"eval": settings.EvalConfig(())}, "--eval.sizes without a value"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        check(dataclasses.replace(settings.DEFAULT, **changes))
