"""Task files as the command `thinking` finds them, and their saved configs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from thinking.commands.tasks import DURATIONS, describe_task, find_tasks, load_task
from thinking.errors import RunError, UserError
from thinking.experiment.config_fields import check, to_json
from thinking.experiment.saved_config import FORMAT_VERSION, load_config
from thinking.experiment.settings import find_declaration_errors, list_settings

NOT_QUICK = {"benchmark", "robustness"}
"""Tasks that measure."""
SIZES = re.compile(r"num_(steps|updates|iterations|walks|texts)$|(max_steps|seeds|problems|splits)$")
"""Settings of which a quick preset has less."""
RECORD = {"format": FORMAT_VERSION, "inputs": {}, "versions": {}}


def test_every_task_has_a_duration_and_a_description():
    assert list(find_tasks()) == list(DURATIONS)
    assert all(describe_task(file).endswith(".") or "," in describe_task(file) for file in find_tasks().values())


@pytest.mark.parametrize("name", find_tasks())
def test_every_preset_is_restored_from_its_config_json(name, tmp_path):
    task = load_task(name)
    assert task.name == name
    for config in task.configs.values():
        record = RECORD | {"config": to_json(dataclasses.replace(config, seed=7))}
        (tmp_path / "config.json").write_text(json.dumps(record))
        restored = load_config(tmp_path, type(config)())
        assert restored == dataclasses.replace(config, seed=7, artifacts=tmp_path.parent.parent)


@pytest.mark.parametrize("name", [name for name in find_tasks() if name not in NOT_QUICK])
def test_quick_preset_is_valid_and_smaller(name):
    presets = load_task(name).presets
    quick, default = presets["quick"], presets["default"].config
    check(quick.config)
    assert not find_declaration_errors(quick.config)
    assert "less than a minute on two cores" in quick.help
    sizes, default_sizes = (
        {each.path: each.value for each in list_settings(config)} for config in (quick.config, default)
    )
    assert any(_is_smaller(sizes[path], default_sizes[path]) for path in sizes if SIZES.search(path))


def _is_smaller(value, default):
    """Whether a size is below the default, where None is without a limit; or a list is shorter."""
    if isinstance(value, tuple):
        return len(value) < len(default)
    return value is not None and (default is None or value < default)


def test_a_file_of_ones_own_is_a_task_if_it_has_the_parts(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("PRESETS = {}\n\ndef run(config, run):\n    pass\n")
    (tmp_path / "helper.py").write_text("")
    files = {path.stem: path for path in tmp_path.iterdir()}
    monkeypatch.setattr("thinking.commands.tasks.find_tasks", lambda: files)
    assert load_task("mine").presets == {}
    with pytest.raises(UserError, match="no task; a task file has a function run and PRESETS"):
        load_task("helper")


def test_paths_and_names_are_restored(tmp_path):
    task = load_task("simple")
    default = task.configs["default"]
    graph = dataclasses.replace(default.graph, path=Path("roads.txt"))
    config = dataclasses.replace(default, graph=graph, plan=("a", "b"), guides=("table",))
    saved = to_json(config)
    del saved["table"]["num_walks"]  # younger than the saved config
    (tmp_path / "config.json").write_text(json.dumps(RECORD | {"config": saved}))
    assert load_config(tmp_path, default) == dataclasses.replace(config, artifacts=tmp_path.parent.parent)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"graph": 3},
        {"graph": {"num_nodes": "many"}},
        {"graph": {"number_of_nodes": 4}},
        {"guides": ["clock"]},
        {"seed": True},
        {"seed": [1]},
        {"guides": [[]]},
    ],
)
def test_config_that_does_not_fit_is_refused_in_one_line(tmp_path, content):
    record = RECORD | {"config": content}
    (tmp_path / "config.json").write_text(json.dumps(record))
    default = load_task("simple").configs["default"]
    if content:
        with pytest.raises(RunError, match="does not fit the task"):
            load_config(tmp_path, default)
    else:
        assert load_config(tmp_path, default).seed == 0
