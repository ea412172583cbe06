"""Import rules: environments and models are independent, recipes combine them, tasks run them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "thinking"
TOP_LEVEL_MODULES = {path.stem for path in SOURCES.glob("*.py")} - {"__init__"}
LAYERS = [
    TOP_LEVEL_MODULES,
    {"environments", "text", "networks", "experiment"},
    {"kernels", "generation"},
    {"guide", "learning"},
    {"reasoning.search"},
    {"reasoning.post_training"},
    {"reasoning.thoughts"},
    {"recipes"},
    {"pretrained"},
    {"benchmarks", "serving"},
    {"commands"},
]
"""From the bottom. A package may import itself and the packages of earlier layers."""
LAYER_INDEX = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(path for path in SOURCES.rglob("*.py") if path != SOURCES / "__init__.py")


def find_package(module):
    """The package of a module below `thinking`, by the longest name in a layer. None if there is none."""
    parts = module.split(".")
    return next((name for end in (2, 1) if (name := ".".join(parts[:end])) in LAYER_INDEX), None)


def iter_imports(path):
    """The modules below `thinking` that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not allowed"
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "thinking":
            base = node.module.removeprefix("thinking").lstrip(".")
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name.removeprefix("thinking.") for name in names if name.startswith("thinking."))


def find_forbidden_imports(package, modules):
    """The modules that a package may not import."""
    packages = {module: find_package(module) for module in modules}
    return [
        module
        for module, imported in packages.items()
        if imported is not None
        and imported != package
        and LAYER_INDEX[imported] >= LAYER_INDEX[package]
        and not {package, imported} <= TOP_LEVEL_MODULES
    ]


def get_module_name(path):
    """The module name of a file below `thinking`, such as `reasoning.search.mcts`."""
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")


def test_every_package_belongs_to_a_layer():
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    assert packages == {name.split(".")[0] for names in LAYERS[1:] for name in names}
    # `reasoning` is split among layers, and has no code of its own.
    assert [name for name in map(get_module_name, FILES) if find_package(name) is None] == ["reasoning"]


def test_library_never_imports_tasks_or_tests():
    for path in FILES:
        roots = {name.split(".")[0] for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.M)}
        assert not roots & {"tasks", "tests"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_packages_import_only_lower_layers(path):
    package, modules = find_package(get_module_name(path)), list(iter_imports(path))
    assert not (find_forbidden_imports(package, modules) if package is not None else modules)


def test_forbidden_imports_are_detected():
    assert find_forbidden_imports(
        "environments", ["guide.react", "types", "environments.graph", "experiment.plots"]
    ) == [
        "guide.react",
        "experiment.plots",
    ]
    assert find_forbidden_imports("reasoning.search", ["reasoning.post_training.rewards"]) == [
        "reasoning.post_training.rewards"
    ]
