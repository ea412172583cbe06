"""Planning with the language guide, from its command line to plans on disk, after training on a few texts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import lm_data_prepare, lm_guide_train
from tasks import lm_guide_inference as task
from thinking.experiment import main
from thinking.text import plans, prepared_data
from thinking.text.records import iter_steps

ROOT = Path(task.__file__).parents[1]
BOAT_STEPS = ["Fell an oak.", "Saw planks.", "Bend the ribs.", "Nail the planks.", "Caulk the hull.", "Launch her."]
TEXTS = [
    {"goal": "building a boat", "steps": BOAT_STEPS},
    {"goal": "waiting", "steps": ["Wait."]},
    {
        "goal": "baking bread",
        "steps": [
            {"heading": "the dough", "steps": ["Mill the flour.", "Add water.", "Knead it."]},
            {"heading": "the oven", "steps": ["Light a fire.", "Bake for an hour."]},
        ],
    },
    {"goal": "building a shelf", "steps": ["Saw planks.", "Sand them.", "Screw them together."]},
    {"goal": "baking a cake", "steps": ["Mill the flour.", "Beat eggs.", "Bake for an hour."], "split": "held_out"},
    {"goal": "baking bread and waiting", "steps": ["Mill the flour.", "Wait."], "split": "compound"},
]
SIZE_FLAGS = (
    "--codes.step-dims",
    16,
    "--codes.sub-goal-dims",
    16,
    "--codes.goal-dims",
    8,
    "--training.batch-size",
    64,
    "--training.num-pairs",
    0,
    "--training.sub-goal-noise",
    0.1,
    "--training.goal-noise",
    0.1,
)
LINEAR_FLAGS = (
    "--layers.kernel",
    "linear",
    "--layers.context-lengths",
    3,
    2,
    "--layers.width",
    256,
    "--layers.upper-width",
    256,
    "--training.num-steps",
    200,
    "--optimizer.learning-rate",
    0.03,
)


def run_command(module, artifacts, *flags):
    """Run the command of a task in this process, and return its exit code."""
    name = Path(module.__file__).stem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", "--artifacts", str(artifacts), *map(str, flags)])
        try:
            main(name, module.run, module.PRESETS)
        except SystemExit as stop:
            return stop.code
    return 0


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The artifacts of a two-layer and a flat guide, trained on four texts, and of planning with them."""
    folder = tmp_path_factory.mktemp("artifacts")
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    assert run_command(lm_data_prepare, folder, "--text.source", file, "--embedder.kind", "hashed") == 0
    assert run_command(lm_guide_train, folder, *SIZE_FLAGS, *LINEAR_FLAGS) == 0
    assert run_command(task, folder) == 0
    return folder


@pytest.fixture
def run_task(artifacts, capfd):
    """A function that runs the task in this process and returns exit code, stdout and stderr."""

    def run(*flags, artifacts=artifacts):
        capfd.readouterr()
        code = run_command(task, artifacts, *flags)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def artifacts_copy(artifacts, tmp_path):
    """A copy of the artifacts, for tests that plan again."""
    shutil.copytree(artifacts, tmp_path / "copied", symlinks=True)
    return tmp_path / "copied"


def get_error_line(run_task, *flags, **options):
    """The one-line error of a failed command."""
    code, _, err = run_task(*flags, **options)
    assert code == 2
    assert err.count("\n") == 1
    return err


def read_rows(folder):
    return json.loads((folder / "lm_guide_inference" / "latest" / "results.json").read_text())["rows"]


def test_models_are_evaluated_on_all_splits_and_recall_training_texts(artifacts):
    assert (
        (artifacts / "lm_guide_inference" / "latest" / "plots" / "plan_step_f1.png").read_bytes().startswith(b"\x89PNG")
    )
    rows = {(row["split"], row["model"]): row for row in read_rows(artifacts)}
    assert list(rows) == [
        (split, model) for split in ("train", "held_out", "compound") for model in ("guide", "flat", "copied", "bigram")
    ]
    for (split, model), row in rows.items():
        scores = [row[name] for name in ("next_step_recall", "plan_step_f1", "sub_goal_recall")]
        assert row["num_goals"] == (4 if split == "train" else 1)
        assert all(0 <= score <= 1 for score in scores)
        assert ("plans_per_second" in row and row["plans_per_second"] > 0) == (model in ("guide", "flat"))
        if split == "train" and model != "bigram":
            assert scores == [1, 1, 1]
    # Of 15 steps it misses the first steps of three texts, and one step after planks.
    assert rows["train", "bigram"]["next_step_recall"] == pytest.approx(11 / 15)


def test_saved_plans_reproduce_training_texts_with_sections(artifacts):
    saved_plans, vectors = plans.load(artifacts / "lm_guide_inference" / "latest")
    data = prepared_data.load(artifacts / "lm_data_prepare" / "latest")
    assert [(plan.mode, plan.goal) for plan in saved_plans] == [
        (mode, text["goal"]) for mode in ("think", "react") for text in TEXTS
    ]
    for plan, text in zip(saved_plans, data.texts * 2, strict=True):
        assert plan.split == text.split
        assert plan.reference == tuple(iter_steps(text.steps))
        assert len(plan.steps) <= 12  # twice the longest text of training
        for node in plan.nodes:
            assert -1.001 <= node.cosine <= 1.001
            if node.level == 0:
                nearest_vector = data.step_vectors[data.steps.index(node.nearest_text)]
                assert node.cosine == pytest.approx(
                    nearest_vector @ vectors[node.vector_index] / np.linalg.norm(vectors[node.vector_index])
                )
        if text.split == "train":
            assert plan.done
            assert [step.nearest_text for step in plan.steps] == list(plan.reference)
            assert plan.scores == {"next_step_recall": 1, "step_f1": 1, "sub_goal_recall": 1}
    (bread,) = (plan for plan in saved_plans[: len(TEXTS)] if plan.goal == "baking bread")
    assert [node.nearest_text for node in bread.nodes if node.level] == ["the dough", "the oven"]
    assert [node.level for node in bread.nodes] == [1, 0, 0, 0, 1, 0, 0]


def test_custom_goal_is_planned(run_task, artifacts_copy):
    code, out, _ = run_task("--plan.goal", "baking bread", artifacts=artifacts_copy)
    assert code == 0
    (plan,), _ = plans.load(artifacts_copy / "lm_guide_inference" / "latest")
    assert (plan.split, plan.mode, plan.num_given, plan.done) == ("custom", "think", 0, True)
    assert [step.nearest_text for step in plan.steps] == [step for part in TEXTS[2]["steps"] for step in part["steps"]]
    assert "baking bread  custom, think\n" in out
    assert "5. Bake for an hour." in out
    assert read_rows(artifacts_copy) == [{"goal": "baking bread", "num_steps": 5, "num_sub_goals": 2, "ended": True}]


def test_plan_begins_with_the_given_steps(run_task, artifacts_copy):
    assert run_task("--plan.goal", "building a boat", "--plan.start", *BOAT_STEPS[:2], artifacts=artifacts_copy)[0] == 0
    (plan,), _ = plans.load(artifacts_copy / "lm_guide_inference" / "latest")
    assert plan.num_given == 2
    assert [step.nearest_text for step in plan.steps] == BOAT_STEPS
    given_steps = ["Launch her.", "Bake for an hour."]
    code, out, _ = run_task("--plan.goal", "sailing", "--plan.start", *given_steps, artifacts=artifacts_copy)
    assert code == 0
    (plan,), _ = plans.load(artifacts_copy / "lm_guide_inference" / "latest")
    assert [step.nearest_text for step in plan.steps[:2]] == given_steps
    assert "2. Bake for an hour.  (given)" in out


def test_more_given_steps_than_max_steps_exits(run_task, artifacts_copy):
    flags = ("--plan.goal", "waiting", "--plan.start", "Wait.", "Wait.", "--plan.max-steps", 1)
    assert "--plan.start: 2 steps are done, and a plan has 1 at most" in get_error_line(
        run_task, *flags, artifacts=artifacts_copy
    )


def test_react_mode_is_shown_and_plans_are_cut_at_max_steps(run_task, artifacts_copy):
    shutil.rmtree(artifacts_copy / "lm_guide_train" / "latest" / "checkpoints" / "flat")
    code, out, _ = run_task(
        "--preset", "smoke", "--report.mode", "react", "--plan.max-steps", 3, artifacts=artifacts_copy
    )
    assert code == 0
    assert "building a boat  train, react" in out
    assert ", think" not in out
    assert {row["model"] for row in read_rows(artifacts_copy)} == {"guide", "copied", "bigram"}  # not flat
    for plan in plans.load(artifacts_copy / "lm_guide_inference" / "latest")[0]:
        assert len(plan.steps) <= 3
        assert plan.mode == "react" or plan.done == (len(plan.steps) < 3)


def test_missing_or_other_inputs_name_the_previous_task(artifacts, run_task, tmp_path):
    assert "has no prepared data: run tasks/lm_data_prepare.py first" in get_error_line(run_task, artifacts=tmp_path)
    shutil.copytree(artifacts / "lm_data_prepare", tmp_path / "lm_data_prepare", symlinks=True)
    untrained_message = "has no guide that was trained to the end: run tasks/lm_guide_train.py first"
    assert untrained_message in get_error_line(run_task, artifacts=tmp_path)
    shutil.copytree(artifacts / "lm_guide_train", tmp_path / "lm_guide_train", symlinks=True)
    shutil.rmtree(tmp_path / "lm_guide_train" / "latest" / "checkpoints" / "guide")
    assert "has no trained guide: run tasks/lm_guide_train.py first" in get_error_line(run_task, artifacts=tmp_path)
    (tmp_path / "lm_guide_train" / "latest" / "results.json").rename(tmp_path / "moved")
    assert untrained_message in get_error_line(run_task, artifacts=tmp_path)
    (tmp_path / "moved").rename(tmp_path / "lm_guide_train" / "latest" / "results.json")
    data = prepared_data.load(tmp_path / "lm_data_prepare" / "latest")
    prepared_data.save(tmp_path / "lm_data_prepare" / "latest", data._replace(texts=data.texts[1:]))
    assert "learned from other data than is prepared now" in get_error_line(run_task, artifacts=tmp_path)


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("--plan.max-steps", "0"), ("--plan.max-steps 0", "from 1")),
        (("--plan.goal", " "), ("--plan.goal", "blank")),
        (("--plan.start", "Wait."), ("--plan.start", "--plan.goal")),
        (("--plan.goal", "waiting", "--plan.start", " "), ("--plan.start", "blank")),
        (("--plan.goal", "waiting", "--report.mode", "react"), ("--report.mode react", "--plan.goal")),
        (("--report.mode", "act"), ("act", "think")),
    ],
)
def test_invalid_value_exits_with_one_line(run_task, flags, fragments):
    error_line = get_error_line(run_task, *flags)
    assert all(fragment in error_line for fragment in fragments)


def test_help_does_not_import_jax():
    program = """if True:
        import runpy, sys
        sys.argv = ["lm_guide_inference.py", "--help"]
        try:
            runpy.run_path("tasks/lm_guide_inference.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--plan.start" in process.stdout
