"""Notebooks: their code runs in small, without Jupyter, and they are committed without outputs."""

import json
import re
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

matplotlib.use("Agg")
FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read_cells(path: Path, kind: str) -> list[dict]:
    """The cells of a notebook of this kind."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {
        "arithmetic",
        "graph",
        "mixers",
        "deep_thinking",
        "rl",
        "thinking_tokens",
        "rl_memory",
        "language_guide",
        "aliased_graph",
        "invented_code",
        "text_generation",
        "lm_think",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_runs_in_small(path: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("THINKING_FAST", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(read_cells(path, "code")):
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), namespace)
    assert namespace["FAST"]
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    assert figures
    assert all(axes.has_data() for figure in figures for axes in figure.axes)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_in_format_4_without_outputs(path: Path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in ids)
    for cell in read_cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path):
    text = "".join("".join(cell["source"]) for cell in read_cells(path, "markdown"))
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links
    assert all((FOLDER / link).exists() for link in links), links
