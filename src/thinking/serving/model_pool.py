"""The models of the playground: those of the package, and those of one's finished runs. Loaded once, used in turn."""

import asyncio
import importlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import anyio

from thinking.errors import RunError, UserError
from thinking.experiment.run_folders import RESULTS_FILE
from thinking.experiment.saved_config import load_config, read_record
from thinking.pretrained.export_record import list_shipped
from thinking.pretrained.export_record import read_record as read_export
from thinking.serving.folders import check_contained, list_run_folders
from thinking.serving.responses import Refusal

DEMOS = {"arithmetic": "chat", "simple": "graph", "rl_cart_pole": "pole", "deep_thinking": "maze"}
"""The module of this package that plays with the models of a task, and its template.

Such a module has

- `SCHEMA`, the schema of a request;
- `open_model(trained)`, what it needs of a loaded model; raises UserError if it cannot play with it;
- `describe(opened)`, what the page shows at first;
- `answer(opened, request)`, the answer to a request as JSON values; raises UserError for a bad request.
"""
MAX_LOADED = 6
"""Models that are kept; the one that was used least recently is dropped."""
MAX_WAITING = 8
"""Requests that wait for one model."""


class Model(NamedTuple):
    """A model by name.

    Attributes:
        name: of a shipped model, or TASK/FOLDER.
        task: whose model it is.
        folder: of the export, or of the run.
        is_run: whether it is a run.
    """

    name: str
    task: str
    folder: Path
    is_run: bool


class _Opened(NamedTuple):
    version: int
    opened: Any


class Models:
    """All models, and those that are loaded.

    Args:
        artifacts: the folder of all runs.
    """

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._loaded: OrderedDict[str, _Opened] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._num_waiting: dict[str, int] = {}
        self._threads = anyio.CapacityLimiter(2)  # apart from the threads of pages, which no model may hold up

    async def use(self, model: Model, function: Callable[[ModuleType, Any], Any]) -> Any:
        """Call `function(demo, opened)` in a thread, alone with the model, which is loaded if need be.

        Raises:
            Refusal: the model cannot be loaded or played with, the function refuses by a UserError, or too many wait.
        """
        if self._num_waiting.get(model.name, 0) >= MAX_WAITING:
            raise Refusal(503, "too many wait for this model; try again in a moment")
        self._num_waiting[model.name] = self._num_waiting.get(model.name, 0) + 1
        try:
            async with self._locks.setdefault(model.name, asyncio.Lock()):
                return await anyio.to_thread.run_sync(self._use, model, function, limiter=self._threads)
        except UserError as error:
            raise Refusal(400, str(error)) from error
        except RunError as error:
            raise Refusal(409, str(error)) from error
        finally:
            self._num_waiting[model.name] -= 1
            if not self._num_waiting[model.name]:
                del self._num_waiting[model.name], self._locks[model.name]

    def _use(self, model: Model, function: Callable[[ModuleType, Any], Any]) -> Any:
        demo = find_demo(model.task)
        version = (model.folder / RESULTS_FILE).stat().st_mtime_ns if model.is_run else 0
        held = self._loaded.get(model.name)
        if held is None or held.version != version:
            held = _Opened(version, demo.open_model(load_model(model)))
        self._loaded[model.name] = held
        self._loaded.move_to_end(model.name)
        while len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        return function(demo, held.opened)


def find_demo(task: str) -> ModuleType:
    """The module that plays with the models of a task."""
    return importlib.import_module(f"thinking.serving.{DEMOS[task]}_demo")


def find_model(name: str, artifacts: Path) -> Model:
    """A model that can be played with.

    Args:
        name: as in `Model`.
        artifacts: the folder of all runs.

    Raises:
        Refusal: there is none.
    """
    try:
        if folder := list_shipped().get(name):
            model = Model(name, read_export(folder)["task"], folder, False)
        elif folder := list_run_folders(artifacts).get(name):
            check_contained(folder)
            model = Model(name, str(read_record(folder).get("task")), folder, True)
        else:
            raise Refusal(404, f"{name[:100]}: there is no such model")
    except RunError as error:
        raise Refusal(409, str(error)) from error
    if model.task not in DEMOS:
        raise Refusal(409, f"models of {model.task[:100]} cannot be played with; those of {', '.join(DEMOS)} can")
    if model.is_run and not (folder / RESULTS_FILE).is_file():
        raise Refusal(409, f"{name}: this run is not finished, so there is no model of it yet")
    return model


def load_model(model: Model) -> Any:
    """What `thinking.load` returns, of an export or of a finished run. Nothing in the files is run.

    Raises:
        UserError: the model of this run cannot be exported.
        RunError: the files are damaged, or do not fit each other.
    """
    from thinking.pretrained.loading import load
    from thinking.pretrained.recipes import find_recipe

    if not model.is_run:
        return load(model.folder)
    recipe = find_recipe(model.task)
    config = load_config(model.folder, recipe.Config())
    return recipe.build(recipe.select(config), recipe.read_params(config, model.folder))
