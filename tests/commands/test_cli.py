"""The command `thinking`, from its arguments to what it prints."""

import contextlib
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from rich.console import Console
from tests.experiment.page_checks import check_page

from thinking import progress
from thinking.commands import cli
from thinking.commands.tasks import describe_task, find_tasks
from thinking.experiment.run_folders import find_latest, list_runs
from thinking.experiment.run_records import find_run
from thinking.pretrained.export_record import list_shipped
from thinking.serving.model_pool import Models, find_model

FLAGS = ("--preset", "smoke", "--guides", "table", "--table.num-walks", "500")
OTHER_FLAGS = ("--linear.num-cells", "99")  # another run of the same compiled programs
ROOT = Path(__file__).parents[2]


def call(*arguments, cwd):
    """Call the command in this process."""
    code, before = 0, sys.argv
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["thinking", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
    assert sys.argv is before
    return code or 0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two runs of the graph task in its artifacts."""
    folder = tmp_path_factory.mktemp("home")
    for flags in ((), OTHER_FLAGS):
        with (folder / "printed").open("w") as file, contextlib.redirect_stdout(file):
            assert call("run", "simple", *FLAGS, *flags, cwd=folder) == 0
    return folder


@pytest.fixture
def thinking(home, capfd):
    """`thinking(*arguments)` returns code, out and err."""

    def run(*arguments, cwd=home):
        capfd.readouterr()
        code = call(*arguments, cwd=cwd)
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def get_error_line(result, code=2):
    assert result.code == code
    assert result.err.count("\n") == 1
    return result.err


def test_run_does_what_the_task_file_does(home, thinking):
    folders = list_runs(home / "artifacts" / "simple")
    assert len(folders) == 2
    record = json.loads((folders[0] / "config.json").read_text())
    assert record["task"] == "simple"
    assert record["command"].endswith(" run simple " + " ".join(FLAGS))
    assert record["seconds"] > 0
    again = thinking("run", "simple", *FLAGS)
    assert "table: finished before" in again.out
    assert list_runs(home / "artifacts" / "simple")[-1] == folders[0]


def test_last_lines_say_what_was_found_where_it_is_and_what_is_next(home, thinking):
    lines = (home / "printed").read_text().splitlines()
    folder = next((home / "artifacts" / "simple").glob("smoke*num-cells99*")).relative_to(home)
    found, saved, files, step, report = lines[-5:]
    assert re.fullmatch(r"found:    table \(react\) solves 100.0 % of \d+ pairs, random edges [\d.]+ %", found)
    assert saved == f"saved in: {folder}/"
    assert files.strip().startswith("results.json, plots/learning_curves.png")
    assert report == f"report:   {folder}/report.html"
    command = step.partition(" plan ")[2].split()
    assert thinking("plan", *command).out.count("table: arrives after") == 1


def test_list_has_a_line_for_every_task_file(thinking):
    out = thinking("list").out
    names = {path.stem for path in (ROOT / "tasks").glob("*.py")}
    assert set(find_tasks()) == names
    assert all(re.search(rf"^ ?{name} +\w", out, re.MULTILINE) for name in names)


def test_runs_lists_config_state_result_and_time_of_each(thinking, home):
    out = thinking("runs").out
    lines = [line for line in out.splitlines() if line.strip().startswith("simple/")]
    assert len(lines) == 2
    for line in lines:
        assert re.search(r"smoke.*table \(react\) solves.* \d+ s", line)
    assert sum("--linear.num-cells 99" in line for line in lines) == 1


def test_unfinished_and_unreadable_runs_are_named(thinking, home, tmp_path):
    shutil.copytree(home / "artifacts", tmp_path / "artifacts", symlinks=True)
    first, second = list_runs(tmp_path / "artifacts" / "simple")
    (first / "results.json").unlink()
    (second / "config.json").write_text("{")
    result = thinking("runs", cwd=tmp_path)
    assert f"{second.name}/config.json is damaged" in result.err
    assert "table: step 1 " in result.out
    line = get_error_line(thinking("plan", f"simple/{first.name}", "0", "5", cwd=tmp_path))
    assert "is not finished; go on with: " in line
    assert str(first.relative_to(tmp_path)) in line


def test_show_has_result_config_command_and_files(thinking, home):
    folder = find_latest(home / "artifacts" / "simple")
    out = thinking("show", "simple").out
    for part in (
        f"simple/{folder.name[-6:]}: finished", "table (react) solves", "solved, %", "--guides table",
        f"{folder.name}/", "run simple --preset smoke", "results.json", "plots/plan.png",
        f"plan simple/{folder.name[-6:]} 0 7",
    ):  # fmt: skip
        assert part in out


def test_report_is_written_again(thinking, home):
    folder = find_latest(home / "artifacts" / "simple")
    path = folder / "report.html"
    path.unlink()
    assert thinking("report", "simple").out == f"{path.relative_to(home)}\n"
    texts = [text for _, text in check_page(path.read_bytes()).find("p")]
    assert texts[0] == describe_task(ROOT / "tasks" / "simple.py")
    assert texts[1].startswith("Table (react) solves 100.0 %")


def test_compare_prints_tables_and_writes_a_page(thinking, home, tmp_path):
    names = [f"simple/{folder.name[-6:]}" for folder in list_runs(home / "artifacts" / "simple")]
    page = tmp_path / "mine.html"
    out = thinking("compare", *names, "--to", str(page)).out
    for label in "AB":
        assert re.search(rf"{label} +0 +--linear.num-cells \d+ +simple/", out)
        assert re.search(rf"{label} +table +react +100.0 ", out)
    assert out.splitlines()[-1] == f"with curves: {page}"
    assert check_page(page.read_bytes()).find("h1")[0][1] == "Comparison: simple"


@pytest.mark.parametrize("style", ["task", "name", "digest", "folder", "latest"])
def test_a_run_is_found_by_each_of_its_names(home, style, monkeypatch):
    monkeypatch.chdir(home)
    folder = find_latest(Path("artifacts/simple"))
    names = {
        "task": "simple", "name": f"simple/{folder.name}", "digest": f"simple/{folder.name[-6:]}",
        "folder": str(folder), "latest": "artifacts/simple/latest",
    }  # fmt: skip
    assert find_run(names[style], Path("artifacts")) == folder


def test_plan_uses_the_saved_config_and_refuses_flags_on_which_weights_depend(thinking, home):
    config = find_latest(home / "artifacts" / "simple") / "config.json"
    before = config.read_bytes()
    result = thinking("plan", "simple", "0", "5")
    assert "table: finished before" in result.out
    assert "table: arrives after" in result.out
    assert config.read_bytes() == before
    line = get_error_line(thinking("plan", "simple", "0", "5", "--graph.num-nodes", "9"))
    assert "--graph.num-nodes: 8 saved, 9 given: weights depend on that" in line
    assert "--plan 99" in get_error_line(thinking("plan", "simple", "0", "99"))


def test_artifacts_may_lie_elsewhere(thinking, home, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(home / "artifacts", moved, symlinks=True)
    assert "table: arrives" in thinking("plan", "simple", "0", "5", "--artifacts", str(moved), cwd=tmp_path).out
    assert "table: arrives" in thinking("plan", str(list_runs(moved / "simple")[0]), "0", "5", cwd=tmp_path).out
    assert thinking("runs", f"--artifacts={moved}", cwd=tmp_path).out.count(" solves ") == 2


def test_a_run_can_be_tried_in_the_playground(thinking, home):
    artifacts = home / "artifacts"
    folder = find_latest(artifacts / "simple")
    model = find_model(f"simple/{folder.name}", artifacts)
    shown = anyio.run(Models(artifacts).use, model, lambda demo, opened: demo.answer(opened, {"start": 0, "goal": 5}))
    assert shown["arrives"]
    hops = [line.split()[:3] for line in thinking("plan", "simple", "0", "5").out.splitlines()]
    pairs = list(itertools.pairwise(map(str, shown["nodes"])))
    assert all([str(hop), start, end] in hops for hop, (start, end) in enumerate(pairs, start=1))


def read_rows(out, first):
    return [line.split() for line in out.splitlines() if re.match(rf" ?{first} ", line)]


@pytest.fixture(scope="module")
def exported(home):
    """The name of a run whose model is exported to `my/guide`."""
    (folder,) = (path for path in list_runs(home / "artifacts" / "simple") if "num-cells" not in path.name)
    name = f"simple/{folder.name[-6:]}"
    assert call("export", name, "--to", "my/guide", "--dtype", "float16", cwd=home) == 0
    return name


def test_an_exported_model_is_shown_measured_and_plans_as_its_run(thinking, exported):
    card = thinking("show", "my/guide").out
    assert f"thinking run simple {' '.join(FLAGS)}\n" in card
    assert "thinking export simple --to guide --dtype float16" in card
    (row,) = re.findall(r"\| table \| think \|.*", card)
    measured = read_rows(thinking("measure", "my/guide").out, "table")
    assert [["table", mode, "100.0", row.split("|")[4].strip(), "56"] for mode in ("react", "think")] == measured
    run, model = (thinking("plan", name, "0", "5") for name in (exported, "my/guide"))
    assert model.out == run.out[run.out.index("table: arrives") :]
    assert "--plan 99" in get_error_line(thinking("plan", "my/guide", "0", "99"))
    assert "weights depend on that" in get_error_line(thinking("plan", "my/guide", "0", "5", "--seed", "3"))
    assert "such models cannot chat" in get_error_line(thinking("chat", "my/guide"))


def test_a_model_without_its_card_is_refused_in_one_line(thinking, exported, home, tmp_path):
    shutil.copytree(home / "my" / "guide", tmp_path / "guide")
    (tmp_path / "guide" / "README.md").unlink()
    assert "guide/README.md: No such file" in get_error_line(thinking("show", str(tmp_path / "guide")), 1)


def test_a_loaded_config_makes_no_other_file_be_read(thinking, exported, home, tmp_path):
    shutil.copytree(home / "my" / "guide", tmp_path / "guide")
    path = tmp_path / "guide" / "config.json"
    path.write_text(path.read_text().replace('"path": null', '"path": "/etc/passwd"'))
    line = get_error_line(thinking("plan", str(tmp_path / "guide"), "0", "5"), 1)
    assert "--graph.path /etc/passwd: only guides of random graphs" in line


def test_models_are_drawn(thinking, exported, tmp_path):
    assert thinking("draw", "my/guide", "--to", str(tmp_path / "drawn")).code == 0
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"plan.gif", "plan.png"}


def test_chat_without_a_run_is_with_the_model_of_the_package(thinking, monkeypatch, tmp_path):
    for arguments in (("chat",), ("chat", "--search.temperature", "1.0")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("57+8\n"))
        assert "57+8 = 65" in thinking(*arguments, cwd=tmp_path).out


def test_list_names_the_models_of_the_package(thinking):
    out = thinking("list").out
    assert all(re.search(rf"^ ?{name} +\w", out, re.MULTILINE) for name in list_shipped())


def test_a_run_comes_before_a_model_of_its_name(thinking, home, tmp_path):
    shutil.copytree(home / "artifacts" / "simple", tmp_path / "artifacts" / "graph_guide", symlinks=True)
    assert "--guides table" in thinking("show", "graph_guide", cwd=tmp_path).out


def test_clear_deletes_one_run(thinking, home, tmp_path):
    shutil.copytree(home / "artifacts", tmp_path / "artifacts", symlinks=True)
    first, _ = list_runs(tmp_path / "artifacts" / "simple")
    assert thinking("clear", "simple", cwd=tmp_path).out.startswith("cleared artifacts/simple/")
    assert list_runs(tmp_path / "artifacts" / "simple") == [first]
    assert find_latest(tmp_path / "artifacts" / "simple") == first


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("rnus",), ("rnus: no such command", "did you mean runs?")),
        (("run", "simpel"), ("simpel: no such task", "did you mean simple?")),
        (("run",), ("thinking run", "task")),
        (("run", "simple", "--sede", "1"), ("--sede: no such flag", "did you mean --seed?")),
        (("show", "nothing"), ("nothing: no such run in artifacts", "there are runs of simple")),
        (("plan", "simple", "0"), ("thinking plan simple 0", "B")),
        (("chat", "simple"), ("simple: its runs cannot chat; those of arithmetic can",)),
        (("plan", "arithmetic", "0", "1"), ("arithmetic: its runs cannot plan; those of simple can",)),
        (("chat", "arithmetic"), ("nothing is trained in artifacts yet", "run arithmetic")),
        (("chat", "arithmetic"), (", or use what is trained already: reasoner, ",)),
        (("chat", "graph_guide"), ("graph_guide is a model of simple; such models cannot chat",)),
        (("draw", "reasoner"), ("reasoner is a model of arithmetic; such models cannot be drawn",)),
        (("measure", "nothing"), ("nothing: no exported model", "or one of")),
        (("export", "simple"), ("thinking export simple", "to")),
        (("export", "simple", "--to", "artifacts"), ("--to artifacts: it has other files (simple)",)),
        (("export", "simple", "--to", "hf:me"), ("--to hf:me: allowed is a folder or hf:USER/NAME",)),
        (("export", "simple", "--to", "new", "--dtype", "int8"), ("int8",)),
        (("export", "simple", "--to", "new", "--seed", "9"), ("--seed: 0 saved, 9 given",)),
        (("compare", "simple"), ("give two different runs or more",)),
        (("compare", "simple", "simpel"), ("simpel: no such run",)),
        (("runs", "--all"), ("thinking runs --all", "--all")),
    ],
)
def test_bad_input_exits_with_one_line(thinking, arguments, fragments):
    line = get_error_line(thinking(*arguments))
    assert all(fragment in line for fragment in fragments)
    assert not re.search("[─│╭]", line)


def test_help_names_all_commands(thinking):
    for arguments in ((), ("--help",)):
        result = thinking(*arguments)
        assert result.code == 0
        assert all(re.search(rf"• {name} ", result.out) for name in cli.COMMANDS)
    assert "--graph.num-nodes" in thinking("run", "simple", "--help").out


def test_tables_fit_80_columns(thinking, monkeypatch):
    for width in (80, 60):
        console = Console(width=width, force_terminal=True, color_system=None, highlight=False)
        monkeypatch.setattr(progress, "console", lambda console=console: console)
        for arguments in (("list",), ("runs",)):
            lines = thinking(*arguments).out.splitlines()
            assert max(map(len, lines[:-1])) <= width


def test_lists_import_no_jax(home):
    program = "import sys; from thinking.commands import cli; sys.argv = ['thinking', 'runs']; cli.main(); "
    program += "heavy = {'jax', 'flax', 'numpy', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], cwd=home, env=environment, check=True, capture_output=True)
