"""The task of aliased graphs, where two nodes have the same observation, from its command line to its results."""

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
from thinking.experiment.config_fields import check
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
def finished_run(tmp_path_factory):
    """A finished small run of two conditions."""
    run = Run(folder=tmp_path_factory.mktemp("graph_aliased"), config=SMALL)
    graph_aliased.compare(SMALL, run, CONDITIONS)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def test_tags_solve_more_pairs_than_zeroed_tags(finished_run):
    solved_fraction = {row["condition"]: row["solved_fraction"] for row in read_results(finished_run)["rows"]}
    assert solved_fraction["tags"] >= solved_fraction["tags zeroed"] + 0.1


def test_all_reachable_pairs_count_and_no_plan_beats_the_optimum(finished_run):
    optimal_hops = np.stack([compute_optimal_hops(make_aliased_graph(8, 4, 0.25, seed)) for seed in range(3)])
    for row in read_results(finished_run)["rows"]:
        assert row["num_pairs"] == np.sum(np.isfinite(optimal_hops) & (optimal_hops > 0))
        assert row["mean_length_ratio"] >= 1


def test_other_max_hops_reuse_the_trained_weights(finished_run, capsys):
    before = read_results(finished_run)
    config = dataclasses.replace(SMALL, eval=settings.EvalConfig(max_hops=(2, 64)))
    graph_aliased.compare(config, dataclasses.replace(finished_run, config=config), CONDITIONS)
    assert capsys.readouterr().out.count("finished before") == len(CONDITIONS)
    after = read_results(finished_run)
    assert (finished_run.plots_folder / "solved.png").read_bytes().startswith(b"\x89PNG")
    assert after["state_digest"] == before["state_digest"]
    assert [row for row in after["rows"] if row["max_hops"] == 64] == before["rows"]
    short_rows = [row for row in after["rows"] if row["max_hops"] == 2]
    assert all(
        row["num_solved"] < before_row["num_solved"] for row, before_row in zip(short_rows, before["rows"], strict=True)
    )


@pytest.mark.parametrize("preset", settings.PRESETS.values(), ids=settings.PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert find_declaration_errors(preset.config) == []
    check(preset.config)


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("--graph.num-nodes", "7"), ("--graph.num-nodes 7", "even", "take 6")),
        (("--graph.num-nodes", "0"), ("--graph.num-nodes 0", "from 2")),
        (("--graph.edge-probability", "1e-9"), ("--graph.edge-probability 1e-09", "seed 0", "larger")),
        (("--eval.max-hops",), ("--eval.max-hops without a value", "at least one")),
        (("--eval.max-hops", "8", "8"), ("--eval.max-hops 8 8", "each once")),
        (("--seeds", "1"), ("--seeds 1", "from 2")),
    ],
)
def test_invalid_value_exits_with_one_line(tmp_path, monkeypatch, capsys, flags, fragments):
    monkeypatch.setattr(sys, "argv", ["graph_aliased.py", *flags, "--artifacts", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        main("graph_aliased", graph_aliased.run, settings.PRESETS, settings.EXAMPLES)
    stderr = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert all(fragment in stderr for fragment in fragments)
    assert stderr.count("\n") == 1


def test_settings_do_not_import_jax():
    program = (
        "import sys, tasks.graph_aliased, tasks.simple; sys.exit(bool({'jax', 'numpy', 'networkx'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
