"""Mutation testing: the share of small faults in the code that the tests notice.

    ./run_manual.sh local tests/mutate.py learning reasoning/post_training --sample 100

Each mutant differs from the code in one operator, comparison, constant, keyword or function. It is killed if a test of
its file fails: of the mirror file, or of the mirror folder for want of one. Survivors are printed by line: a test is
missing, or the mutant is equivalent to the code. Mutants live in memory, in forks of a process that has imported JAX
but not started it, and no file is changed.
"""

import argparse
import ast
import copy
import importlib
import importlib.util
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "thinking"

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
PAIRS = (
    "minimum maximum",
    "min max",
    "any all",
    "argmin argmax",
    "cummin cummax",
    "zeros ones",
    "zeros_like ones_like",
)
FUNCTIONS = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
TYPES = ("annotation", "returns")
SAID_ANYHOW = ("dtype", "stable")
"""Keywords that mostly name what is the default, so that a mutant without them equals the code."""


class Mutant(NamedTuple):
    """One fault: the file, the line, the code of both sides, and the mutated module."""

    path: Path
    line: int
    change: str
    tree: ast.Module


def mutate_node(node: ast.AST) -> Iterator[ast.AST]:
    """Every mutation of one node, as a new node."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield replace(node, op=OPERATORS[type(node.op)]())
    if isinstance(node, ast.Compare):
        yield replace(node, ops=[OPERATORS[type(node.ops[0])](), *node.ops[1:]])
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield replace(node, value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield replace(node, value=node.value + 1)
    if isinstance(node, ast.Attribute) and node.attr in FUNCTIONS:
        yield replace(node, attr=FUNCTIONS[node.attr])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "where" and len(node.args) == 3:
            yield replace(node, args=[node.args[0], node.args[2], node.args[1]])
        if node.func.attr == "stop_gradient":
            yield node.args[0]
        for index, keyword in enumerate(node.keywords):
            if keyword.arg not in SAID_ANYHOW:
                yield replace(node, keywords=node.keywords[:index] + node.keywords[index + 1 :])


def replace(node: ast.AST, **fields: object) -> ast.AST:
    """A copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def find_nodes(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every (parent, field, index) whose node is code: no types, texts or error messages."""
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            is_alias = isinstance(node, ast.Module) and isinstance(getattr(child, "value", None), ast.Subscript)
            if field in TYPES or is_alias or isinstance(child, (ast.Raise, ast.JoinedStr)):
                continue
            if isinstance(child, ast.AST):
                yield node, field, index
                yield from find_nodes(child)


def find_mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a file."""
    tree = ast.parse(path.read_text())
    for parent, field, index in find_nodes(tree):
        original = getattr(parent, field) if index is None else getattr(parent, field)[index]
        for changed in mutate_node(original):
            put(parent, field, index, changed)
            mutated = ast.fix_missing_locations(copy.deepcopy(tree))
            put(parent, field, index, original)
            yield Mutant(path, original.lineno, f"{ast.unparse(original)}  ->  {ast.unparse(changed)}", mutated)


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    """Set a child of a node."""
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


class MutantLoader(SourceFileLoader):
    """Imports a mutant in place of its file; first in `sys.meta_path`, it also finds it."""

    def __init__(self, mutant: Mutant) -> None:
        name = ".".join(mutant.path.relative_to(SOURCES.parent).with_suffix("").parts)
        super().__init__(name, str(mutant.path))
        self.mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """The mutant's spec, and None for other modules."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> object:
        """The mutant, compiled."""
        return compile(self.mutant.tree, self.path, "exec")


def list_tests(path: Path) -> list[str]:
    """The tests of a file: the one that bears its name, or all of the mirror folder."""
    folder = ROOT / "tests" / path.parent.relative_to(SOURCES)
    own = folder / f"test_{path.name}"
    return [str(own)] if own.exists() else sorted(map(str, folder.glob("test_*.py")))


def start_tests(mutant: Mutant | None, tests: list[str], cache: Path) -> int:
    """Run tests in a fork, whose exit status is 0 if all pass; its process id."""
    process = os.fork()
    if process:
        return process
    import jax
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    # By the config too, as JAX reads the variables when it is imported, which may have been before the fork.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "1"
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if mutant is not None:
        sys.meta_path.insert(0, MutantLoader(mutant))
    os._exit(int(pytest.main(["-x", "-n0", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *tests])))


def run_tests(
    cases: list[tuple[Mutant | None, list[str]]], caches: list[Path], limit: float
) -> Iterator[tuple[Mutant | None, bool]]:
    """Each case as it ends, and whether its tests passed within the limit in seconds; one process a cache."""
    waiting, free, running = list(cases), list(caches), {}
    while waiting or running:
        while waiting and free:
            (mutant, tests), cache = waiting.pop(0), free.pop()
            running[start_tests(mutant, tests, cache)] = mutant, cache, time.time() + limit
        for process, (mutant, cache, deadline) in list(running.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended and time.time() > deadline:
                os.kill(process, signal.SIGKILL)
                ended, status = os.waitpid(process, 0)
            if ended:
                del running[process]
                free.append(cache)
                yield mutant, status == 0
        time.sleep(0.05)


def find_survivors(mutants: list[Mutant], jobs: int, scratch: Path) -> list[Mutant]:
    """The mutants that all tests of their file pass."""
    caches, begin = [scratch / str(slot) for slot in range(jobs)], time.time()
    tests = sorted({tuple(list_tests(mutant.path)) for mutant in mutants})
    if not all(passed for _, passed in run_tests([(None, list(each)) for each in tests], caches, 3600.0)):
        raise SystemExit("the tests fail without a mutant")
    # What was compiled for the code itself need not be compiled again. A cache is not safe to share.
    for source, target in itertools.permutations([cache for cache in caches if cache.exists()], 2):
        shutil.copytree(source, target, dirs_exist_ok=True)
    seconds = time.time() - begin
    print(f"{len(mutants)} mutants; the tests take {seconds:.0f} s", flush=True)
    cases = [(mutant, list_tests(mutant.path)) for mutant in mutants]
    survivors = []
    for number, (mutant, passed) in enumerate(run_tests(cases, caches, 60 + 5 * seconds), 1):
        if passed:
            survivors.append(mutant)
            report(mutant)
        if number % 25 == 0:
            print(f"{number - len(survivors)} of {number} killed, {time.time() - begin:.0f} s", flush=True)
    return survivors


def report(mutant: Mutant) -> None:
    """Print a survivor."""
    change = " ".join(mutant.change.split())
    print(f"survived  {mutant.path.relative_to(ROOT)}:{mutant.line}  {change[:200]}", flush=True)


def main() -> None:
    """Print the survivors, and the score of each package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", help="folders or files below src/thinking, as learning/returns.py")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each package, at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for module in ("flax.nnx", "optax", "pytest"):  # what every fork needs
        importlib.import_module(module)
    warnings.filterwarnings("ignore", message=".*fork")
    os.chdir(ROOT)
    for package in options.packages:
        path = SOURCES / package
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        mutants = [mutant for file in files for mutant in find_mutants(file)]
        total = len(mutants)
        if options.sample and options.sample < total:
            mutants = random.Random(options.seed).sample(mutants, options.sample)
        with tempfile.TemporaryDirectory() as scratch:
            survivors = find_survivors(mutants, options.jobs, Path(scratch))
        killed = len(mutants) - len(survivors)
        print(f"{package}: {killed} of {len(mutants)} killed ({killed / len(mutants):.1%}), of {total} mutants in all")


if __name__ == "__main__":
    main()
