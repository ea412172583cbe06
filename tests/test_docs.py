"""README and documentation: samples run, commands parse, links and pictures exist, and the reference is complete."""

import importlib
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from thinking.commands import cli
from thinking.experiment import flags

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))) if path.exists()]
TARGETS = {"thinking", "test", "lint", "docs"}
CONFIGURATION = r"(?:local|jax-cpu|jax-gpu|torch-cpu|torch-gpu)"
COMMAND = re.compile(rf"\./run_manual\.sh\s+{CONFIGURATION}\s+(?P<target>\S+)(?P<flags>[^;|#&>\n]*)")


def name_page(page: Path) -> str:
    """Return the page's path within the project, the name of its tests."""
    return str(page.relative_to(ROOT))


def find_blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Return the fenced blocks of a language, with their first lines' numbers."""
    tokens = MarkdownIt().parse(page.read_text())
    fences = [token for token in tokens if token.type == "fence" and token.info.split()[:1] == [language]]
    return [(token.map[0] + 2, textwrap.dedent(token.content)) for token in fences]


def find_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Return target and flags of every command of the page, in blocks and in the text."""
    text = page.read_text()
    blocks = [content.replace("\\\n", " ") for _, content in find_blocks(page, "bash")]
    inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    found = [match for code in blocks + inline for match in COMMAND.finditer(code)]
    return [(match["target"], shlex.split(re.sub(r"\$\{?\w+\}?", "1", match["flags"]))) for match in found]


PAGES_WITH_SAMPLES = [page for page in PAGES if find_blocks(page, "python")]
PAGES_WITH_COMMANDS = [page for page in PAGES if find_commands(page)]


@pytest.mark.parametrize("page", PAGES_WITH_SAMPLES, ids=name_page)
def test_samples_run(page: Path, tmp_path: Path, monkeypatch):
    """All samples of a page are one program, which starts in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "sample"}
    for line, content in find_blocks(page, "python"):
        code = compile("\n" * (line - 1) + content, str(page), "exec")  # so that a traceback shows the page's line
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name_page)
def test_commands_name_targets_and_flags_that_exist(page: Path):
    for target, arguments in find_commands(page):
        if target == "thinking" and arguments and arguments[0].islower():  # COMMAND stands for each
            assert arguments[0] in cli.COMMANDS
        if target in TARGETS | {"FILE"} or re.fullmatch(r"\w+\.py", target):  # the last is a file of the reader's own
            continue
        assert (ROOT / target).exists(), target
        if target.startswith("tasks/") and not {"--help", "-h", "--debug"} & set(arguments):
            presets = importlib.import_module(target.removesuffix(".py").replace("/", ".")).PRESETS
            flags.parse(presets, arguments, f"python {target}")


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_within_the_project_lead_somewhere(page: Path):
    tokens = [child for token in MarkdownIt().parse(page.read_text()) for child in token.children or []]
    links = [str(token.attrs.get("href") or token.attrs.get("src")) for token in tokens if token.attrs]
    for link in links:
        if not re.match(r"https?://|#|mailto:", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_public_module_stands_in_the_reference_once():
    text = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    referenced = sorted(re.findall(r"^:::\s+(\S+)", text, re.MULTILINE))
    source = ROOT / "src"
    parts = [path.relative_to(source).with_suffix("").parts for path in (source / "thinking").rglob("*.py")]
    names = [".".join(part for part in path if part != "__init__") for path in parts]
    hidden = re.compile(r"thinking\.(recipes|benchmarks)(\.|$)|.*\._|thinking$")
    packages = {".".join(path[:-1]) for path in parts if path[-1] == "__init__"}
    modules = sorted(name for name in names if not hidden.match(name) and name not in packages)
    assert sorted(set(referenced) - packages) == modules
    assert len(referenced) == len(set(referenced))


def test_the_readme_fits_on_a_screen_and_begins_with_a_picture():
    lines = (ROOT / "README.md").read_text().splitlines()
    prose = re.sub(r"```.*?```", "", "\n".join(lines), flags=re.DOTALL)
    assert len(lines) <= 250
    assert len(prose.split()) <= 1500
    assert any("![" in line or "<img" in line for line in lines[:16])
