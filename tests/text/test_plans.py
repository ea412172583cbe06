"""Plans on disk and as trees: round trips, rendering, and errors of damaged files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from thinking.errors import UserError
from thinking.text import plans
from thinking.text.plans import Plan, PlanNode

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NODES = st.lists(st.builds(PlanNode, st.integers(0, 3), WORDS, NUMBERS, st.integers(0, 4)), max_size=12).map(tuple)
PLANS = st.builds(
    Plan,
    goal=WORDS,
    split=st.sampled_from(("train", "held_out", "compound", "custom")),
    mode=st.sampled_from(("think", "react")),
    nodes=NODES,
    done=st.booleans(),
    num_given=st.integers(0, 9),
    reference=st.lists(WORDS, max_size=3).map(tuple),
    scores=st.dictionaries(WORDS, NUMBERS, max_size=3),
)
SHELF_PLAN = Plan(
    "building a shelf [red]",
    "held_out",
    "think",
    (
        PlanNode(2, "the boards", 0.81, 0),
        PlanNode(1, "felling an oak", 0.934, 1),
        PlanNode(0, "Go to the forest.", 0.99, 2),
        PlanNode(0, "Take the axe.", 0.97, 2),
        PlanNode(1, "sawing [bold]planks[/bold]", 0.9, 1),
        PlanNode(0, "Saw the log.", 0.99, 2),
        PlanNode(2, "the shelf", 0.5, 0),
        PlanNode(0, "Nail it.", 0.99, 2),
    ),
    done=False,
    num_given=2,
    reference=("Fell a tree.",),
    scores={"recall": 0.5},
)
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@settings(max_examples=30)
@given(st.lists(PLANS, max_size=3))
def test_plans_round_trip(tmp_path_factory, plan_list):
    folder = tmp_path_factory.getbasetemp() / "again"
    plans.save(folder, plan_list, VECTORS)
    loaded_plans, vectors = plans.load(folder)
    assert loaded_plans == tuple(plan_list)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


def test_numpy_scalars_are_saved(tmp_path):
    node = PlanNode(np.int32(0), "saw", np.float32(0.5), np.int64(4))
    plan = SHELF_PLAN._replace(
        nodes=(node,), done=np.bool_(True), num_given=np.int32(0), scores={"recall": np.float32(0.25)}
    )
    plans.save(tmp_path, [plan], VECTORS.astype(np.float64))
    assert plans.load(tmp_path)[0] == (plan,)


@given(NODES)
def test_parent_is_the_last_previous_node_of_a_higher_level(nodes):
    parents = []

    def walk(branches, parent):
        for node, children in branches:
            parents.append((node, parent))
            walk(children, node)

    walk(plans.build_branches(nodes), None)
    higher_nodes = [[other for other in nodes[:index] if other.level > node.level] for index, node in enumerate(nodes)]
    assert parents == [
        (node, candidates[-1] if candidates else None) for node, candidates in zip(nodes, higher_nodes, strict=True)
    ]


def test_steps_of_a_plan_are_its_lowest_nodes():
    assert [step.nearest_text for step in SHELF_PLAN.steps] == [
        "Go to the forest.",
        "Take the axe.",
        "Saw the log.",
        "Nail it.",
    ]


def test_rendered_tree_shows_sub_goals_and_steps_unescaped():
    console = Console(width=80)
    with console.capture() as output:
        console.print(plans.render_tree(SHELF_PLAN))
    assert output.get() == (
        "building a shelf [red]  held_out, think  (cut off)\n"
        "├── the boards  0.81\n"
        "│   ├── felling an oak  0.93\n"
        "│   │   ├── 1. Go to the forest.  (given)\n"
        "│   │   └── 2. Take the axe.  (given)\n"
        "│   └── sawing [bold]planks[/bold]  0.90\n"
        "│       └── 3. Saw the log.\n"
        "└── the shelf  0.50\n"
        "    └── 4. Nail it.\n"
    )


def test_missing_plans_error_names_the_previous_task(tmp_path):
    with pytest.raises(UserError, match=r"has no plans: run tasks/lm_guide_inference\.py first") as error:
        plans.load(tmp_path / "nowhere")
    assert "nowhere" in str(error.value)


@pytest.mark.parametrize("name", ["plans.json", "plans.jsonl", "plans.safetensors"])
def test_missing_or_damaged_file_is_named(tmp_path, name):
    plans.save(tmp_path, [SHELF_PLAN], VECTORS)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=rf"{name} is damaged or edited: run tasks/lm_guide_inference\.py again"):
        plans.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="has no plans:" if name == "plans.json" else f"has no {name}:"):
        plans.load(tmp_path)


def test_incomplete_save_is_not_loaded(tmp_path):
    plans.save(tmp_path, [SHELF_PLAN], VECTORS)
    (tmp_path / "plans.safetensors").unlink()
    (tmp_path / "plans.safetensors").mkdir()  # blocks the second of three files
    with pytest.raises(OSError, match=r"plans\.safetensors"):
        plans.save(tmp_path, [SHELF_PLAN, SHELF_PLAN], VECTORS)
    with pytest.raises(UserError, match="has no plans"):
        plans.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": (PlanNode(0, "saw", 1.0, 5),)}, "vector 5 of `saw`: there are 5"),
        ({"nodes": (PlanNode(0, "saw", 1.0, -1),)}, "vector -1"),
        ({"scores": {"recall": float("nan")}}, "not JSON"),
    ],
)
def test_invalid_plans_raise_and_keep_the_saved_ones(tmp_path, change, message):
    plans.save(tmp_path, [SHELF_PLAN], VECTORS)
    with pytest.raises(ValueError, match=message):
        plans.save(tmp_path, [SHELF_PLAN._replace(**change)], VECTORS)
    assert plans.load(tmp_path)[0] == (SHELF_PLAN,)
