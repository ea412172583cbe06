"""What tags buy where two nodes look alike: from a command to results that can be trusted."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import graph_aliased
from thinking.environments.aliased_graph import compute_optimal_hops, make_aliased_graph
from thinking.experiment import Run, main
from thinking.experiment.config import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.aliased_graph import config as settings
from thinking.recipes.aliased_graph.model import make_conditions

ROOT = Path(graph_aliased.__file__).parents[1]
SMALL = settings.Config(
    seeds=3,
    graph=settings.AliasedGraphConfig(num_nodes=16, edge_probability=0.25),
    walks=settings.WalksConfig(num_walks=200, num_states=32),
    guide=settings.GuideConfig(num_tags=4),
    eval=settings.EvalConfig(max_hops=(64,)),
)
CONDITIONS = {name: make_conditions(4)[name] for name in ("tags", "tags zeroed")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run of two conditions, and where it was written."""
    run = Run(folder=tmp_path_factory.mktemp("graph_aliased"), config=SMALL)
    graph_aliased.compare(SMALL, run, CONDITIONS)
    return run


def results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_a_guide_with_tags_finds_goals_that_one_without_cannot(finished):
    solved = {row["guide"]: row["solved_fraction"] for row in results(finished)["rows"]}
    assert solved["tags"] >= solved["tags zeroed"] + 0.1


def test_all_pairs_that_have_a_way_count_and_no_plan_is_shorter_than_can_be(finished):
    hops = np.stack([compute_optimal_hops(make_aliased_graph(8, 4, 0.25, seed)) for seed in range(3)])
    for row in results(finished)["rows"]:
        assert row["num_pairs"] == np.sum(np.isfinite(hops) & (hops > 0))
        assert row["mean_length_ratio"] >= 1


def test_other_numbers_of_hops_are_looked_at_with_the_same_weights(finished, capsys):
    before = results(finished)
    config = dataclasses.replace(SMALL, eval=settings.EvalConfig(max_hops=(2, 64)))
    graph_aliased.compare(config, dataclasses.replace(finished, config=config), CONDITIONS)
    assert capsys.readouterr().out.count("finished before") == len(CONDITIONS)
    after = results(finished)
    assert after["state_digest"] == before["state_digest"]
    assert [row for row in after["rows"] if row["max_hops"] == 64] == before["rows"]
    few = [row for row in after["rows"] if row["max_hops"] == 2]
    assert all(row["num_solved"] < long["num_solved"] for row, long in zip(few, before["rows"], strict=True))


@pytest.mark.parametrize("preset", settings.PRESETS.values(), ids=settings.PRESETS)
def test_every_preset_is_declared_well_and_passes_its_own_check(preset):
    assert find_declaration_errors(preset.config) == []
    check(preset.config)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--graph.num-nodes", "7"), ("--graph.num-nodes 7", "even", "take 6")),
        (("--graph.num-nodes", "0"), ("--graph.num-nodes 0", "from 2")),
        (("--graph.edge-probability", "1e-9"), ("--graph.edge-probability 1e-09", "seed 0", "larger")),
        (("--eval.max-hops",), ("--eval.max-hops without a value", "at least one")),
        (("--eval.max-hops", "8", "8"), ("--eval.max-hops 8 8", "each once")),
        (("--seeds", "1"), ("--seeds 1", "from 2")),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_it(tmp_path, monkeypatch, capsys, flags, names):
    monkeypatch.setattr(sys, "argv", ["graph_aliased.py", *flags, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main("graph_aliased", graph_aliased.run, settings.PRESETS, settings.EXAMPLES)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert all(name in err for name in names)
    assert err.count("\n") == 1


def test_the_settings_are_read_without_loading_jax():
    probe = (
        "import sys, tasks.graph_aliased, tasks.simple; sys.exit(bool({'jax', 'numpy', 'networkx'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    assert subprocess.run([sys.executable, "-c", probe], env=environment, check=False).returncode == 0
