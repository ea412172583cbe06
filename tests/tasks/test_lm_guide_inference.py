"""Planning with the language guide, from a command to plans on disk: a few texts are known by heart within seconds."""

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
FLAT = ["Fell an oak.", "Saw planks.", "Bend the ribs.", "Nail the planks.", "Caulk the hull.", "Launch her."]
TEXTS = [
    {"goal": "building a boat", "steps": FLAT},
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
SIZES = (
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
LINEAR = (
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


def called(module, artifacts, *flags):
    """Run the command of a task in this process; gives its exit code."""
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
    """What is left by planning, after two layers were taught four texts, and a flat guide beside them."""
    folder = tmp_path_factory.mktemp("artifacts")
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    assert called(lm_data_prepare, folder, "--text.source", file, "--embedder.kind", "hashed") == 0
    assert called(lm_guide_train, folder, *SIZES, *LINEAR) == 0
    assert called(task, folder) == 0
    return folder


@pytest.fixture
def call(artifacts, capfd):
    """Run the task's command in this process; gives its exit code, output and complaint."""

    def run(*flags, artifacts=artifacts):
        capfd.readouterr()
        code = called(task, artifacts, *flags)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def planned(artifacts, tmp_path):
    """A copy of what is left, in which one may plan anew."""
    shutil.copytree(artifacts, tmp_path / "copied")
    return tmp_path / "copied"


def refused(call, *flags, **options):
    """The one line with which a command is refused."""
    code, _, err = call(*flags, **options)
    assert code == 2
    assert err.count("\n") == 1
    return err


def rows_in(folder):
    return json.loads((folder / "lm_guide_inference" / "results.json").read_text())["rows"]


def test_all_models_are_judged_on_all_splits_and_taught_texts_are_known_by_heart(artifacts):
    rows = {(row["split"], row["model"]): row for row in rows_in(artifacts)}
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
    # Of 15 steps it does not know how three texts begin, and what another one does with planks.
    assert rows["train", "bigram"]["next_step_recall"] == pytest.approx(11 / 15)


def test_plans_on_disk_are_those_of_the_texts_with_their_sections(artifacts):
    made, vectors = plans.load(artifacts / "lm_guide_inference")
    data = prepared_data.load(artifacts / "lm_data_prepare")
    assert [(plan.mode, plan.goal) for plan in made] == [
        (mode, text["goal"]) for mode in ("think", "react") for text in TEXTS
    ]
    for plan, text in zip(made, data.texts * 2, strict=True):
        assert plan.split == text.split
        assert plan.reference == tuple(iter_steps(text.steps))
        assert len(plan.steps) <= 12  # twice the longest text of training
        for node in plan.nodes:
            assert -1.001 <= node.cosine <= 1.001
            if node.level == 0:
                near = data.step_vectors[data.steps.index(node.nearest_text)]
                assert node.cosine == pytest.approx(
                    near @ vectors[node.vector_index] / np.linalg.norm(vectors[node.vector_index])
                )
        if text.split == "train":
            assert plan.done
            assert [step.nearest_text for step in plan.steps] == list(plan.reference)
            assert plan.scores == {"next_step_recall": 1, "step_f1": 1, "sub_goals": 1}
    (bread,) = (plan for plan in made[: len(TEXTS)] if plan.goal == "baking bread")
    assert [node.nearest_text for node in bread.nodes if node.level] == ["the dough", "the oven"]
    assert [node.level for node in bread.nodes] == [1, 0, 0, 0, 1, 0, 0]


def test_a_goal_that_is_typed_is_planned_for(call, planned):
    code, out, _ = call("--plan.goal", "baking bread", artifacts=planned)
    assert code == 0
    (plan,), _ = plans.load(planned / "lm_guide_inference")
    assert (plan.split, plan.mode, plan.num_given, plan.done) == ("custom", "think", 0, True)
    assert [step.nearest_text for step in plan.steps] == [step for part in TEXTS[2]["steps"] for step in part["steps"]]
    assert "baking bread  asked, think\n" in out
    assert "5. Bake for an hour." in out
    assert rows_in(planned) == [{"goal": "baking bread", "steps": 5, "sub_goals": 2, "ended": True}]


def test_a_plan_begins_with_what_is_done_whether_a_text_has_it_or_not(call, planned):
    assert call("--plan.goal", "building a boat", "--plan.start", *FLAT[:2], artifacts=planned)[0] == 0
    (plan,), _ = plans.load(planned / "lm_guide_inference")
    assert plan.num_given == 2
    assert [step.nearest_text for step in plan.steps] == FLAT
    done = ["Launch her.", "Bake for an hour."]
    code, out, _ = call("--plan.goal", "sailing", "--plan.start", *done, artifacts=planned)
    assert code == 0
    (plan,), _ = plans.load(planned / "lm_guide_inference")
    assert [step.nearest_text for step in plan.steps[:2]] == done
    assert "2. Bake for an hour.  (given)" in out


def test_more_done_than_a_plan_may_have_is_refused(call, planned):
    asked = ("--plan.goal", "waiting", "--plan.start", "Wait.", "Wait.", "--plan.max-steps", 1)
    assert "--plan.start: 2 steps are done, and a plan has 1 at most" in refused(call, *asked, artifacts=planned)


def test_reactions_are_shown_if_asked_for_and_plans_are_cut_off_at_the_most_steps(call, planned):
    shutil.rmtree(planned / "lm_guide_train" / "checkpoints" / "flat")
    code, out, _ = call("--preset", "smoke", "--report.mode", "react", "--plan.max-steps", 3, artifacts=planned)
    assert code == 0
    assert "building a boat  train, react" in out
    assert ", think" not in out
    assert {row["model"] for row in rows_in(planned)} == {"guide", "copied", "bigram"}  # there is no flat one now
    for plan in plans.load(planned / "lm_guide_inference")[0]:
        assert len(plan.steps) <= 3
        assert plan.mode == "react" or plan.done == (len(plan.steps) < 3)


def test_without_training_or_with_other_data_the_task_before_is_named(artifacts, call, tmp_path):
    assert "has no prepared data: run tasks/lm_data_prepare.py first" in refused(call, artifacts=tmp_path)
    shutil.copytree(artifacts / "lm_data_prepare", tmp_path / "lm_data_prepare")
    unfinished = "has no guide that was trained to the end: run tasks/lm_guide_train.py first"
    assert unfinished in refused(call, artifacts=tmp_path)
    shutil.copytree(artifacts / "lm_guide_train", tmp_path / "lm_guide_train")
    shutil.rmtree(tmp_path / "lm_guide_train" / "checkpoints" / "guide")
    assert "has no trained guide: run tasks/lm_guide_train.py first" in refused(call, artifacts=tmp_path)
    (tmp_path / "lm_guide_train" / "results.json").rename(tmp_path / "moved")
    assert unfinished in refused(call, artifacts=tmp_path)
    (tmp_path / "moved").rename(tmp_path / "lm_guide_train" / "results.json")
    data = prepared_data.load(tmp_path / "lm_data_prepare")
    prepared_data.save(tmp_path / "lm_data_prepare", data._replace(texts=data.texts[1:]))
    assert "learned from other data than is prepared now" in refused(call, artifacts=tmp_path)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--plan.max-steps", "0"), ("--plan.max-steps 0", "from 1")),
        (("--plan.goal", " "), ("--plan.goal", "blank")),
        (("--plan.start", "Wait."), ("--plan.start", "--plan.goal")),
        (("--plan.goal", "waiting", "--plan.start", " "), ("--plan.start", "blank")),
        (("--plan.goal", "waiting", "--report.mode", "react"), ("--report.mode react", "--plan.goal")),
        (("--report.mode", "act"), ("act", "think")),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_it(call, flags, names):
    line = refused(call, *flags)
    assert all(name in line for name in names)


def test_help_is_answered_without_loading_jax():
    probe = """if True:
        import runpy, sys
        sys.argv = ["lm_guide_inference.py", "--help"]
        try:
            runpy.run_path("tasks/lm_guide_inference.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--plan.start" in done.stdout
