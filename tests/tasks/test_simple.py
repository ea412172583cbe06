"""The graph task, from its command line to its results."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest
from tests.tasks.exports import load_export

from tasks import simple
from thinking.errors import UserError
from thinking.experiment import Run, main
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.graph import config as settings

ROOT = Path(simple.__file__).parents[1]
SMALL = dataclasses.replace(
    settings.PRESETS["smoke"].config,
    graph=settings.GraphConfig(num_nodes=6, edge_probability=0.4),
    guide=settings.GuideConfig(num_layers=2),
    transformer=settings.TransformerConfig(width=32),
    training=settings.TrainingConfig(num_steps=150, batch_size=128),
)


GUIDES = ("table", "entropy_transformer")  # the others take as long to compile and test nothing more


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run of two guides."""
    folder = tmp_path_factory.mktemp("simple")
    config = dataclasses.replace(SMALL, guides=GUIDES)
    run = Run(folder=folder, config=config)
    simple.run(config, run)
    return run


def read_results(run):
    return json.loads((run.folder / "results.json").read_text())


def run_task(monkeypatch, capsys, *flags):
    """Run the task in this process, and return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["simple.py", *flags])
    try:
        main("simple", simple.run, settings.PRESETS, settings.EXAMPLES)
        code = 0
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    return code, output.out, output.err


def test_every_guide_learns_to_plan_on_a_small_graph(finished_run):
    rows = {(row["guide"], row["mode"]): row for row in read_results(finished_run)["rows"]}
    assert set(rows) == {("random", "react"), ("optimum", "networkx")} | {
        (name, mode) for name in GUIDES for mode in ("react", "think")
    }
    graph = nx.relabel_nodes(nx.fast_gnp_random_graph(6, 0.4, seed=0, directed=True), str)
    num_reachable = sum(len(nx.descendants(graph, node)) for node in graph)
    for (name, _), row in rows.items():
        assert row["num_pairs"] == num_reachable
        assert row["solved_fraction"] == pytest.approx(row["num_solved"] / row["num_pairs"])
        assert row["plans_per_second"] > 0
        if name != "random":
            assert row["solved_fraction"] >= 0.95
            assert 1 <= row["mean_length_ratio"] <= 1.2
    assert rows["table", "react"]["mean_length_ratio"] == rows["table", "think"]["mean_length_ratio"] == 1
    assert read_results(finished_run)["num_unreachable_pairs"] == 6 * 5 - num_reachable


def test_an_exported_guide_plans_as_the_run_did(finished_run, tmp_path):
    for guide in GUIDES:
        trained = load_export("simple", finished_run, tmp_path / guide, guides=(guide,))
        rows = [row for row in read_results(finished_run)["rows"] if row["guide"] == guide]
        measured = simple.measure(trained.config, trained)
        assert [row.pop("plans_per_second") > 0 for row in [*rows, *measured]] == [True] * 4
        assert measured == rows
    assert trained.plan(0, 3)[0] == 0
    assert trained.plan(0, 3)[-1] == 3
    with pytest.raises(ValueError, match="node 6: allowed are 0 to 5"):
        trained.plan(0, 6)


def test_a_guide_of_a_graph_file_is_not_exported(finished_run, tmp_path):
    graph = dataclasses.replace(SMALL.graph, path=tmp_path / "roads.txt")
    with pytest.raises(UserError, match=r"--graph.path .*roads.txt: only guides of random graphs"):
        load_export("simple", finished_run, tmp_path / "export", graph=graph)


def test_run_writes_metrics_plots_and_an_animation(finished_run):
    lines = [json.loads(line) for line in (finished_run.folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == set(GUIDES)
    assert all({"step", "eval/solved_fraction"} <= set(line) for line in lines)
    for name in ("learning_curves.png", "length_ratios.png", "plan.png"):
        assert (finished_run.plots_folder / name).read_bytes().startswith(b"\x89PNG")
    assert (finished_run.plots_folder / "plan.gif").read_bytes().startswith(b"GIF8")


def test_finished_run_is_restored_and_prints_a_plan(finished_run, capsys):
    before = read_results(finished_run)
    config = dataclasses.replace(SMALL, plan=("0", "3"), guides=("table",))
    simple.run(config, dataclasses.replace(finished_run, config=config))
    out = capsys.readouterr().out
    assert out.count("finished before") == 1
    assert read_results(finished_run) == before
    graph = nx.relabel_nodes(nx.fast_gnp_random_graph(6, 0.4, seed=0, directed=True), str)
    num_hops = nx.shortest_path_length(graph, "0", "3")
    assert f"table: arrives after {num_hops} hops" in out
    assert "sub-goal of layer 1" in out


def test_graph_file_keeps_node_names_and_ignores_unreachable_pairs(tmp_path, monkeypatch, capsys):
    path = tmp_path / "towns.txt"
    path.write_text("Ulm Bonn\nBonn Kiel\nKiel Ulm\nKiel Jena\n")
    flags = "--graph.path", str(path), "--guides", "table", "--table.num-walks", "500", "--artifacts", str(tmp_path)
    code, _, err = run_task(monkeypatch, capsys, *flags)
    assert (code, err) == (0, "")
    saved_results = json.loads((tmp_path / "simple" / "latest" / "results.json").read_text())
    # Jena has no out-edges: 3 of the 12 ordered pairs are unreachable.
    assert saved_results["num_unreachable_pairs"] == 3
    assert [row["num_solved"] for row in saved_results["rows"] if row["guide"] == "table"] == [9, 9]
    code, out, _ = run_task(monkeypatch, capsys, *flags, "--plan", "Ulm", "Jena")
    assert code == 0
    hops = [line.split()[1:3] for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert hops == [["Ulm", "Bonn"], ["Bonn", "Kiel"], ["Kiel", "Jena"]]
    code, _, err = run_task(monkeypatch, capsys, *flags, "--plan", "Ulm", "Boon")
    assert code == 2
    assert "--plan Boon" in err
    assert "Bonn" in err
    assert err.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Glyph")  # pytest forgets the filter of the plots
def test_nodes_with_marks_of_formulas_markup_and_other_scripts_are_planned_between(tmp_path, monkeypatch, capsys):
    path = tmp_path / "odd.txt"
    path.write_text("$x_$ a$^$\na$^$ [/b]\n[/b] :cat:\n:cat: 漢字\n漢字 $x_$\n", encoding="utf-8")
    flags = "--graph.path", str(path), "--guides", "table", "--table.num-walks", "200", "--artifacts", str(tmp_path)
    code, out, err = run_task(monkeypatch, capsys, *flags)
    assert (code, err) == (0, "")
    assert "edge list, directed; 5 nodes, 5 directed edges, 1 component" in out
    assert (tmp_path / "simple" / "latest" / "plots" / "plan.png").exists()
    code, out, _ = run_task(monkeypatch, capsys, *flags, "--plan", "$x_$", "漢字")
    assert [line.split()[1:3] for line in out.splitlines() if line.strip()[:1].isdigit()] == [
        ["$x_$", "a$^$"], ["a$^$", "[/b]"], ["[/b]", ":cat:"], [":cat:", "漢字"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no node"),
        ("# only a remark\n", "no node"),
        ("alone alone\n", "1 node"),
        ("Ulm Bonn\njust-one-word\n", "line 2"),
    ],
)
def test_invalid_graph_file_exits_with_one_line(tmp_path, monkeypatch, capsys, text, message):
    path = tmp_path / "graph.txt"
    path.write_text(text)
    code, _, err = run_task(monkeypatch, capsys, "--graph.path", str(path), "--artifacts", str(tmp_path))
    assert code == 2
    assert message in err
    assert f"--graph.path {path}: " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (("--graph.num-nodes", "1"), ("--graph.num-nodes 1", "from 2")),
        (("--graph.edge-probability", "0"), ("--graph.edge-probability 0", "above 0")),
        (("--transformer.width", "30"), ("--transformer.width 30", "multiple of twice --transformer.num-heads, 8")),
        (("--guide.discount", "1"), ("--guide.discount 1", "below 1")),
        (("--graph.path", "nowhere.gml"), ("--graph.path nowhere.gml: ", "exists")),
        (("--num-nodez", "5"), ("--num-nodez", "--graph.num-nodes")),
        (("--guides", "tabel"), ("tabel", "table")),
        (("--guides",), ("--guides: ", "at least one of table, linear")),
        (("--guides", "table", "table"), ("--guides table table", "each once")),
    ],
)
def test_invalid_value_exits_with_one_line(tmp_path, monkeypatch, capsys, flags, fragments):
    code, _, err = run_task(monkeypatch, capsys, *flags, "--artifacts", str(tmp_path))
    assert code == 2
    assert all(fragment in err for fragment in fragments)
    assert err.count("\n") == 1


@pytest.mark.parametrize("preset", settings.PRESETS.values(), ids=settings.PRESETS)
def test_presets_are_declared_and_valid(preset):
    assert find_declaration_errors(preset.config) == []
    check(preset.config)


def test_help_does_not_import_jax():
    program = """if True:
        import runpy, sys
        sys.argv = ["simple.py", "--help"]
        try:
            runpy.run_path("tasks/simple.py", run_name="__main__")
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--graph.edge-probability" in process.stdout
