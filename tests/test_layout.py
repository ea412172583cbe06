"""Who may import whom: worlds know no model, models know no world, recipes join them, tasks run them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "thinking"
GROUND = {path.stem for path in SOURCES.glob("*.py")} - {"__init__"}
LAYERS = [
    GROUND,
    {"environments", "text", "networks", "experiment"},
    {"kernels", "generation"},
    {"guide", "learning"},
    {"reasoning.search"},
    {"reasoning.post_training"},
    {"reasoning.thoughts"},
    {"recipes"},
    {"benchmarks"},
]
"""From the ground up. A package may import itself and what stands in a layer before its own."""
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(path for path in SOURCES.rglob("*.py") if path != SOURCES / "__init__.py")


def package_of(module):
    """The package of a module below `thinking`, by its longest name that a layer has; None if it has none."""
    words = module.split(".")
    return next((name for end in (2, 1) if (name := ".".join(words[:end])) in LEVEL), None)


def imported(path):
    """The modules below `thinking` that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import does not say where it leads"
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "thinking":
            base = node.module.removeprefix("thinking").lstrip(".")
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name.removeprefix("thinking.") for name in names if name.startswith("thinking."))


def forbidden(own, modules):
    """Those of the modules that a package may not import."""
    found = {module: package_of(module) for module in modules}
    return [
        module
        for module, other in found.items()
        if other is not None and other != own and LEVEL[other] >= LEVEL[own] and not {own, other} <= GROUND
    ]


def module_of(path):
    """The name of a file below `thinking`, as `reasoning.search.mcts`."""
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")


def test_every_package_stands_in_a_layer():
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    assert packages == {name.split(".")[0] for names in LAYERS[1:] for name in names}
    # `reasoning` is split among layers, and holds nothing itself.
    assert [name for name in map(module_of, FILES) if package_of(name) is None] == ["reasoning"]


def test_no_library_runs_a_task_or_a_test():
    for path in FILES:
        roots = {word.split(".")[0] for word in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.M)}
        assert not roots & {"tasks", "tests"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_package_imports_only_what_stands_below_it(path):
    own, modules = package_of(module_of(path)), list(imported(path))
    assert not (forbidden(own, modules) if own is not None else modules)


def test_what_climbs_is_found():
    assert forbidden("environments", ["guide.react", "types", "environments.graph", "experiment.plots"]) == [
        "guide.react",
        "experiment.plots",
    ]
    assert forbidden("reasoning.search", ["reasoning.post_training.rewards"]) == ["reasoning.post_training.rewards"]
