"""Comparisons of runs: which belong together, what differs, and means and deviations over seeds."""

import json
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment.page_checks import check_page

from thinking.errors import RunError, UserError
from thinking.experiment.comparison_page import collect_group_curves, write_comparison
from thinking.experiment.run_comparison import compare_results, describe_differences, read_groups
from thinking.experiment.saved_config import FORMAT_VERSION

COLUMNS = {"model": "model", "hops": "hops", "solved": "solved, %"}


@pytest.fixture
def make_run(tmp_path):
    """`make_run(seed, solved, width=4, ...)` writes the files of a run and returns its folder."""

    def make(seed, solved, width=4, task="maze", inputs=None, stage="fit", finished=True):
        folder = tmp_path / task / f"default-{seed}-{len(list(tmp_path.glob('*/*')))}"
        folder.mkdir(parents=True)
        config = {"seed": seed, "artifacts": str(folder), "wandb": False, "model": {"width": width}}
        record = {
            "format": FORMAT_VERSION,
            "task": task,
            "config": config,
            "inputs": inputs or {},
            "versions": {},
            "command": "x.py",
        }
        (folder / "config.json").write_text(json.dumps(record))
        rows = [
            {"model": "deep", "hops": 3, "solved": solved, "note": 1},
            {"model": "deep", "hops": 6, "solved": solved / 2, "note": 1},
            {"model": "flat", "hops": 3, "solved": None, "note": 1},
        ]
        if finished:
            (folder / "results.json").write_text(json.dumps({"columns": COLUMNS, "rows": rows, "headline": "<b>"}))
        lines = [{"stage": stage, "step": step, "loss": solved * step} for step in (10, 20)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    return make


def test_runs_that_differ_in_their_seed_alone_are_one_group(make_run):
    folders = [make_run(0, 0.5), make_run(0, 0.5, width=8), make_run(1, 0.7), make_run(2, 0.9)]
    groups = read_groups([*folders, folders[0]])
    assert [(group.label, group.seeds) for group in groups] == [("A", "0, 1, 2"), ("B", "0")]
    assert [describe_differences(group) for group in groups] == ["--model.width 4", "--model.width 8"]
    rows, columns = compare_results(groups)
    assert columns == {"run": "run", **COLUMNS}
    assert [(row["run"], row["model"], row["hops"], row["solved"]) for row in rows] == [
        ("A", "deep", 3, "70.0 ± 16.3"),
        ("A", "deep", 6, "35.0 ± 8.2"),
        ("B", "deep", 3, 0.5),
        ("B", "deep", 6, 0.25),
        ("A", "flat", 3, None),
        ("B", "flat", 3, None),
    ]


def test_other_data_is_another_group(make_run):
    groups = read_groups([make_run(0, 0.5, inputs={"data": "aaaaaaaa"}), make_run(0, 0.5, inputs={"data": "bbbbbbbb"})])
    assert [group.differences for group in groups] == [{"content of data": "aaaaaa"}, {"content of data": "bbbbbb"}]


def test_rows_of_single_seeds_are_averaged(make_run):
    folders = [make_run(seed, 0.5) for seed in (0, 2)]
    for folder, values in zip(folders, ((1, 2), (3, 6)), strict=True):
        rows = [{"seed": seed, "model": "deep", "codes": value} for seed, value in enumerate(values)]
        (folder / "results.json").write_text(json.dumps({"rows": rows}))
    assert compare_results(read_groups(folders)) == ([{"run": "A", "model": "deep", "codes": "3 ± 1.871"}], None)


@given(solved=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=5, unique=True))
def test_means_and_deviations_are_those_of_the_seeds(tmp_path_factory, solved):
    folder = tmp_path_factory.mktemp("runs")
    for seed, value in enumerate(solved):
        (folder / str(seed)).mkdir()
        record = {"format": FORMAT_VERSION, "task": "maze", "config": {"seed": seed}, "inputs": {}, "versions": {}}
        (folder / str(seed) / "config.json").write_text(json.dumps(record))
        (folder / str(seed) / "results.json").write_text(json.dumps({"rows": [{"solved": value}]}))
    ((row,), _) = compare_results(read_groups(sorted(folder.iterdir())))
    mean, deviation = map(float, row["solved"].split(" ± "))
    assert mean == pytest.approx(statistics.mean(solved), rel=1e-3)
    assert deviation == pytest.approx(np.std(solved), rel=1e-3, abs=1e-12)


def test_curves_of_a_group_are_those_of_its_seeds(make_run):
    folders = [make_run(0, 1.0, stage="deep-0"), make_run(1, 3.0, stage="deep-1"), make_run(0, 2.0, 8, stage="deep-0")]
    curves = collect_group_curves(read_groups(folders))
    assert curves == {
        "loss": {"A": [((10, 20), (10.0, 20.0)), ((10, 20), (30.0, 60.0))], "B": [((10, 20), (20.0, 40.0))]}
    }


def test_page_has_runs_differences_results_and_curves(make_run, tmp_path):
    folders = [make_run(0, 0.5), make_run(1, 0.7), make_run(0, 0.5, width=8)]
    path = tmp_path / "compare.html"
    write_comparison(read_groups(folders), path)
    page = check_page(path.read_bytes())
    runs, differences, results, _ = page.read_tables()
    assert [row[:3] for row in runs[1:]] == [
        ["A", str(folders[0]), "0"], ["A", str(folders[1]), "1"], ["B", str(folders[2]), "0"]
    ]  # fmt: skip
    assert differences == [["flag", "A", "B"], ["--model.width", "4", "8"]]
    assert results[:2] == [["run", *COLUMNS.values()], ["A", "deep", "3", "60.0 ± 10.0"]]
    assert [text for _, text in page.find("li")] == ["A", "B"]
    assert len(page.find("polyline")) == 2
    assert len(page.find("polygon")) == 1


def test_runs_that_cannot_be_compared_are_refused(make_run, tmp_path):
    run = make_run(0, 0.5)
    for others, words in (
        ([], "give two different runs or more"),
        ([run], "give two different runs or more"),
        ([make_run(0, 0.5, task="graph")], "of one task, and these are of maze, graph"),
        ([make_run(1, 0.5, finished=False)], r"has no results yet \(no step yet\); go on with: x.py"),
        ([make_run(0, 0.5, width=width) for width in range(5, 31)], "allowed are 26 configs, and these are 27"),
    ):
        with pytest.raises(UserError, match=words):
            read_groups([run, *others])
    with pytest.raises(RunError, match=r"has no config\.json"):
        read_groups([run, tmp_path])
    groups = read_groups([run, make_run(1, 0.5)])
    for path in (run / "results.json", tmp_path / "missing" / "x.html", tmp_path):
        with pytest.raises(UserError, match=r"allowed is a file that ends with \.html"):
            write_comparison(groups, path)
    assert "rows" in json.loads((run / "results.json").read_text())
