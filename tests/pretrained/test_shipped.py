"""The models that the package ships: they do what their cards say, are small, and are in a wheel."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from thinking import load
from thinking.environments.arithmetic.problems import ADD, SUBTRACT, Problem
from thinking.environments.arithmetic.split import find_split
from thinking.environments.gymnasium_evaluation import evaluate_in_gymnasium
from thinking.environments.puzzles import mazes, sample_puzzles
from thinking.pretrained.export_record import FILES, list_shipped

ROOT = Path(__file__).parents[2]
NAMES = (
    *("a5_thinker", "cart_pole_guide", "graph_guide", "maze_thinker"),
    *("reasoner", "reasoner_self_correction", "reasoner_subtasks"),
)


def test_all_models_together_are_small_and_have_their_files():
    assert tuple(list_shipped()) == NAMES
    files = [path for folder in list_shipped().values() for path in folder.iterdir()]
    assert sorted(path.name for path in files) == sorted(FILES * len(NAMES))
    assert sum(path.stat().st_size for path in files) < 2e6


@pytest.mark.parametrize("name", NAMES)
def test_cards_have_a_front_matter_commands_and_figures(name):
    card = (list_shipped()[name] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: thinking\nlicense: apache-2.0\ntags:\n")
    assert re.search(rf"^thinking run \w+.*\nthinking export \w+ --to {name} --dtype float(16|32)", card, re.MULTILINE)
    assert f"\nthinking measure {name}\n" in card
    page = (ROOT / "docs" / "pretrained.md").read_text()
    assert f"| `{name}` |" in page
    assert f" --to {name}" in page
    assert not re.search(r"/(home|tmp|work|root)/", card + (list_shipped()[name] / "config.json").read_text())


def test_wheels_have_all_models():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "src" / "thinking" / "pretrained"
    packed = {path for pattern in patterns["thinking.pretrained"] for path in package.glob(pattern)}
    assert packed == {package / name / file for name in NAMES for file in FILES}


def test_import_and_list_import_no_jax():
    program = (
        "import sys, thinking; from thinking.pretrained.export_record import list_shipped; assert list_shipped(); "
        "heavy = {'jax', 'flax', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)


def test_the_thinker_multiplies_even_permutations():
    thinker, rng = load("a5_thinker"), np.random.default_rng(0)
    names = thinker.automaton.symbol_names
    answers = [thinker.answer([names[index] for index in rng.integers(60, size=8)]) for _ in range(20)]
    assert sum(answer.state == answer.true_state for answer in answers) >= 19
    assert all(len(answer.thoughts) == 7 for answer in answers)
    assert thinker.answer(["(123)", "(123)"]).state == "(132)"


def test_the_maze_thinker_solves_larger_mazes_than_those_of_its_training():
    thinker = load("maze_thinker")
    assert json.loads((list_shipped()["maze_thinker"] / "config.json").read_text())["config"]["puzzle"]["size"] == 9
    puzzles = sample_puzzles(mazes(), jax.random.key(5), 8, 11)
    solved = thinker.solve(puzzles.features, puzzles.neighbors)
    assert (solved.answer == np.asarray(puzzles.targets)).all(axis=1).mean() > 0.8
    assert solved.num_steps.max() > 32  # of training


@pytest.mark.parametrize("name", ["reasoner", "reasoner_self_correction"])
def test_reasoners_answer_held_out_sums_and_differences(name):
    reasoner, rng = load(name), np.random.default_rng(0)
    asked = []
    while len(asked) < 20:
        operation, (left, right) = (ADD, SUBTRACT)[len(asked) % 2], rng.integers(10, 100, 2).tolist()
        if find_split(Problem(operation, (left, right))) == "test":
            asked.append((f"{left}{'+-'[len(asked) % 2]}{right}", left + right if operation == ADD else left - right))
    answers = [reasoner.answer(question) for question, _ in asked]
    assert sum(answer == str(expected) for answer, (_, expected) in zip(answers, asked, strict=True)) >= 18
    assert reasoner.answer("Add 57 and 8?") == "65"


def test_sub_tasks_multiply_longer_numbers_than_training_works_out():
    assert load("reasoner_subtasks").answer("463*728") == str(463 * 728)


def test_the_graph_guide_plans_along_edges_in_nearly_shortest_plans():
    guide = load("graph_guide")
    graph = nx.fast_gnp_random_graph(32, 0.2, seed=0, directed=True)
    pairs = [(start, goal) for start in (0, 9, 31) for goal in graph if goal != start]
    start, goal = (jnp.array(nodes) for nodes in zip(*pairs, strict=True))
    plans = jax.jit(lambda state: guide.model.think(state, start, goal, max_hops=16))(guide.params)
    ratios = []
    for row, (first, last) in enumerate(pairs):
        nodes = np.asarray(plans.states)[row, : int(plans.hops[row]) + 1].tolist()
        if nodes[-1] == last and nx.is_path(graph, nodes):
            ratios.append((len(nodes) - 1) / nx.shortest_path_length(graph, first, last))
    assert len(ratios) >= 0.98 * len(pairs)
    assert np.mean(ratios) < 1.1


def test_the_cart_pole_guide_balances_and_meets_a_return_that_is_asked_for():
    guide = load("cart_pole_guide")
    best, recording = evaluate_in_gymnasium(guide.env, *guide.make_policy(None, 2), 1, 2)
    assert best.mean() > 450
    assert recording.extras["sub_goal"].shape[1] == 4
    assert 30 < evaluate_in_gymnasium(guide.env, *guide.make_policy(50.0, 4), 1, 4)[0].mean() < 70
