"""The files of `tasks/`: their names, what they show, and their parts."""

import ast
import difflib
import importlib.util
from pathlib import Path

import thinking
from thinking.errors import UserError
from thinking.experiment.command import Task

DURATIONS = {
    "simple": "2 min",
    "graph_aliased": "1 min",
    "rl_cart_pole": "1 min",
    "rl_memory": "10 min",
    "arithmetic": "10 min",
    "think_tokens": "25 min",
    "deep_thinking": "50 min",
    "light_networks": "some hours",
    "invent_code": "1 min",
    "text_generation": "2 min",
    "lm_think": "20 min",
    "lm_data_prepare": "20 s",
    "lm_guide_train": "3 min",
    "lm_guide_inference": "30 s",
    "lm_data_interpret": "5 s",
    "benchmark": "30 min",
    "robustness": "15 min",
}
"""About how long the default takes on two cores, in the order in which tasks are listed."""


def find_tasks() -> dict[str, Path]:
    """The files of all tasks by name: those of the project, or of the installed package."""
    package = Path(thinking.__file__).parent
    folder = next((path for path in (package / "tasks", package.parents[1] / "tasks") if path.is_dir()), package)
    files = {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
    order = list(DURATIONS)
    return dict(sorted(files.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def describe_task(file: Path) -> str:
    """The first line of a task's docstring, without running it."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def load_task(name: str) -> Task:
    """Import a task's file.

    Raises:
        UserError: there is no such task, or the file is no task's.
    """
    files = find_tasks()
    if name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(files)}"
        raise UserError(f"{name}: no such task; {hint}")
    spec = importlib.util.spec_from_file_location(f"thinking_task_{name}", files[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "run") or not hasattr(module, "PRESETS"):
        raise UserError(f"{files[name]}: no task; a task file has a function run and PRESETS")
    parts = {part.lower(): getattr(module, part, None) for part in ("use", "measure", "METRIC_HEADERS", "draw")}
    return Task(name, module.run, module.PRESETS, getattr(module, "EXAMPLES", ()), **parts)
