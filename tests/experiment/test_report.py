"""The report of a run: what it shows, that it escapes and fits, and that it never costs a result."""

import base64
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.experiment.conftest import assert_one_line
from tests.experiment.page_checks import check_page

from thinking.experiment.curves import Panel, average, collect_curves, make_panels
from thinking.experiment.pictures import embed_pictures
from thinking.experiment.report import write_report
from thinking.experiment.saved_config import FORMAT_VERSION

HOSTILE = "<script>alert('\"x&\x1b[2J')</script><img src=http://x.example/ onerror=alert(1)>"
CONFIG = {
    "format": FORMAT_VERSION,
    "task": "maze",
    "description": "Mazes are solved.",
    "date": "2026-01-02T03:04:05+00:00",
    "seconds": 130.0,
    "command": "python tasks/maze.py --seed 4",
    "preset": "default",
    "changed": {"--model.width": 64},
    "config": {"seed": 4, "seeds": 2, "model": {"width": 64, "kinds": ["a", "b"]}},
    "inputs": {},
    "versions": {"python": "3.11.9", "jax": "0.10.1", "flax": None},
    "device": {"platform": "cpu", "kind": "cpu", "count": 1, "processor": "Xeon"},
    "cpu_count": 2,
}
RESULTS = {
    "headline": "mazes of size 9 are solved",
    "columns": {"model": "model", "solved": "solved, %"},
    "rows": [{"model": "deep", "solved": 0.5, "hidden": 3}, {"model": "flat", "solved": None, "hidden": 4}],
    "state_digest": "abc",
}


@pytest.fixture
def make_run(tmp_path):
    """`make_run(config, results, metrics, samples)` writes the files of a run and returns its folder."""

    def make(config=CONFIG, results=RESULTS, metrics=(), samples=()):
        folder = tmp_path / "maze" / "default-seed4-1f3a9c"
        (folder / "plots").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        if results:
            (folder / "results.json").write_text(json.dumps(results))
        for name, records in (("metrics", metrics), ("samples", samples)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return make


def read_report(folder):
    return check_page(write_report(folder).read_bytes())


def test_report_says_what_ran_what_came_out_and_how_long(make_run):
    page = read_report(make_run())
    assert page.find("h1")[0][1] == "maze/1f3a9c"
    assert [text for _, text in page.find("p")][:3] == [
        "Mazes are solved.",
        "Mazes of size 9 are solved.",
        "It took 2 min with seeds 4 to 5 on Xeon.",
    ]
    results, all_columns, changed, settings, facts = page.read_tables()
    assert results == [["model", "solved, %"], ["deep", "50.0"], ["flat", "-"]]
    assert all_columns == [["model", "solved", "hidden"], ["deep", "0.5", "3"], ["flat", "-", "4"]]
    assert changed[1:] == [["--model.width", "64"]]
    assert settings[1:] == [
        ["--seed", "4"], ["--seeds", "2"], ["--model.width", "64"], ["--model.kinds", '["a", "b"]']
    ]  # fmt: skip
    assert ["versions", "python 3.11.9, jax 0.10.1"] in facts
    assert page.find("code")[0][1] == CONFIG["command"]
    assert page.find("img") == page.find("svg") == []


def test_run_without_results_has_a_report_that_says_so(make_run):
    folder = make_run(results=None, metrics=[{"stage": "fit", "step": 5, "loss": 1.0}])
    page = read_report(folder)
    assert "There are no results yet (no step yet)." in page.find("p")[1][1]
    assert [text for _, text in page.find("figcaption")] == ["loss"]


def test_text_of_others_is_escaped_everywhere(make_run):
    config = CONFIG | dict.fromkeys(("description", "command", "date", "preset"), HOSTILE)
    config |= {"changed": {HOSTILE: HOSTILE}, "config": {HOSTILE: HOSTILE}, "device": {"kind": HOSTILE}}
    results = {"headline": HOSTILE, "columns": {"a": HOSTILE}, "rows": [{"a": HOSTILE, HOSTILE: 1}]}
    record = {"stage": HOSTILE, "step": 1, HOSTILE: 0.5}
    folder = make_run(config, results, [record, record | {"stage": "b"}], [record | {"text": HOSTILE}])
    (folder / "plots" / "<b onload='x'>.html").write_text("")
    (folder / "plots" / "<b onload='x'>.png").write_bytes(b"x")
    page = read_report(folder)
    assert "<script>alert" in page.find("main")[0][1]
    assert "\x1b" not in page.find("main")[0][1]
    assert len(page.find("img")) == 1


def test_pages_of_the_task_are_linked_and_samples_shown(make_run):
    samples = [{"stage": "rl", "step": step, "text": "a" * 1000, "thoughts": [[step]]} for step in range(20)]
    folder = make_run(samples=samples)
    (folder / "plots" / "thoughts.html").write_text("")
    (folder / "plans.html").write_text("")
    write_report(folder)
    page = read_report(folder)
    assert [attributes["href"] for attributes, _ in page.find("a")] == ["plans.html", "plots/thoughts.html"]
    shown = next(table for table in page.read_tables() if table[0] == ["stage", "step", "text", "thoughts"])
    assert [row[3] for row in shown[1:]] == [f"[[{step}]]" for step in range(19, 11, -1)]
    assert all(len(row[2]) < 500 for row in shown[1:])


def test_pictures_are_embedded_until_the_page_is_full(make_run):
    folder = make_run()
    Image.new("RGB", (8, 8), "red").save(folder / "plots" / "small.png")
    (folder / "videos").mkdir()
    for name, size in (("huge", 4_000_000), ("large", 2_500_000)):
        (folder / "videos" / f"{name}.gif").write_bytes(os.urandom(size))
    page = read_report(folder)
    small, large = (attributes for attributes, _ in page.find("img"))
    assert base64.b64decode(small["src"].partition(",")[2]) == (folder / "plots" / "small.png").read_bytes()
    assert (small["alt"], large["alt"]) == ("Plot: small", "Animation: large")
    assert [text for _, text in page.find("a")] == ["videos/huge.gif"]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8), st.integers(0, 9000))
def test_embedded_pictures_keep_the_limit(tmp_path_factory, sizes, max_bytes):
    folder = tmp_path_factory.mktemp("run")
    (folder / "plots").mkdir()
    for index, size in enumerate(sizes):
        (folder / "plots" / f"{index}.png").write_bytes(bytes(size))
    pictures = embed_pictures(folder, max_bytes)
    assert [picture.path for picture in pictures] == [f"plots/{index}.png" for index in range(len(sizes))]
    assert sum(len(picture.uri or "") for picture in pictures) <= max_bytes


def test_long_runs_have_small_reports(make_run):
    names = [f"metric_{index}" for index in range(10)]
    generator = np.random.default_rng(0)
    metrics = [
        {"stage": f"stage_{stage}", "step": step, **dict(zip(names, generator.random(10).tolist(), strict=True))}
        for stage in range(60)
        for step in range(20)
    ]
    rows = [{f"column_{column}": "x" * 300 for column in range(10)} for _ in range(2000)]
    page = read_report(make_run(results=RESULTS | {"rows": rows, "columns": None}, metrics=metrics))
    assert page.size < 3_000_000
    notes = [text for attributes, text in page.find("p") if attributes.get("class") == "note"]
    assert "1800 more rows are in results.json." in notes
    assert notes.count("20 more are in metrics.jsonl.") == 10


def test_stages_of_several_seeds_are_one_line():
    records = [
        {"stage": f"{name}-{seed}", "step": step, "loss": float(seed + step), "flag": True, "words": "x"}
        for name in ("deep", "size-3")
        for seed in (4, 5)
        for step in (10, 20)
    ]
    curves = collect_curves(records, {"seed": 4, "seeds": 2})
    assert list(curves) == ["loss"]
    expected = [((10, 20), (14.0, 24.0)), ((10, 20), (15.0, 25.0))]
    assert curves["loss"] == {"deep": expected, "size-3": expected}
    (panel,) = make_panels(curves)
    assert [(line.name, line.index, line.is_dot) for line in panel.lines] == [("deep", 0, False), ("size-3", 1, False)]
    assert all(line.band for line in panel.lines)


curves_of_seeds = st.lists(
    st.dictionaries(st.integers(0, 30), st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8), min_size=1, max_size=4
)


@given(curves_of_seeds)
def test_average_is_the_mean_and_deviation_of_the_seeds_that_have_the_step(seeds):
    curves = [tuple(zip(*sorted(seed.items()), strict=True)) for seed in seeds]
    steps, mean, deviation = average(curves, 1000)
    common = set.intersection(*(set(seed) for seed in seeds))
    for step in common:
        place = steps.tolist().index(step)
        values = [seed[step] for seed in seeds]
        np.testing.assert_allclose(mean[place], np.mean(values), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(deviation[place], np.std(values), rtol=1e-9, atol=1e-9)
    assert set(steps) == {step for seed in seeds for step in seed}
    assert len(average(curves, 3)[0]) <= 3


@given(curves_of_seeds)
def test_lines_and_ticks_stay_within_their_panel(seeds):
    curves = [tuple(zip(*sorted(seed.items()), strict=True)) for seed in seeds]
    (panel,) = make_panels({"loss": {"all": curves}})
    (line,) = panel.lines
    for points in (line.points, line.band):
        for x, y in (map(float, point.split(",")) for point in points.split()):
            assert Panel.LEFT <= x <= Panel.RIGHT
            assert Panel.TOP <= y <= Panel.BOTTOM
    assert all(Panel.LEFT <= x <= Panel.RIGHT for x, _ in panel.x_ticks)
    assert all(Panel.TOP <= y <= Panel.BOTTOM for y, _ in panel.y_ticks)


def test_every_run_ends_with_its_report(run_command):
    result = run_command("--steps", "10")
    assert result.code == 0
    path = result.folder / "report.html"
    assert result.out.splitlines()[-1] == f"report:   {path}"
    page = check_page(path.read_bytes())
    assert ["--steps", "10"] in page.read_tables()[1]
    assert run_command("--steps", "10", "--clear").code == 0
    assert not path.exists()


def test_report_that_cannot_be_written_is_a_warning_and_loses_nothing(run_command, tmp_path):
    folder = run_command("--steps", "10").folder
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    digest = json.loads((folder / "results.json").read_text())["state_digest"]
    result = run_command("--steps", "10")
    assert result.code == 0
    line = assert_one_line(result.err)
    assert f"warning: {folder / 'report.html'} could not be written: " in line
    assert "report toy/" in line
    assert json.loads((folder / "results.json").read_text())["state_digest"] == digest
