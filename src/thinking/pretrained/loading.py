"""Loading exported models."""

from pathlib import Path
from typing import Any

from thinking.errors import RunError, UserError
from thinking.experiment.saved_config import restore_config
from thinking.pretrained.export_record import CONFIG_FILE, WEIGHTS_FILE, find_model, read_record
from thinking.pretrained.recipes import find_recipe
from thinking.pretrained.weights import read_params


def load(name: str | Path) -> Any:
    """Load an exported model. Nothing in its files is run.

    Args:
        name: a folder as `thinking export` writes it, or the name of a model that the package ships.

    Returns:
        A value with `config`, `model` (pure functions of its parameters) and `params`, and with what it does: a
        `Reasoner` answers problems, a `Thinker` words, a `GraphGuide` plans, a `ControlGuide` acts, and a
        `PuzzleThinker` solves puzzles. Each is described in the module `trained` of its recipe.

    Raises:
        UserError: there is no such model.
        RunError: its files are damaged, or do not fit each other.
    """
    folder = find_model(name)
    record = read_record(folder)
    recipe = find_recipe(record["task"])
    try:
        config = recipe.select(restore_config(record["config"], recipe.Config()))
        template = recipe.describe_params(config)
    except (ValueError, UserError) as error:
        raise RunError(f"{folder / CONFIG_FILE} has an invalid config: {error}") from error
    params = read_params(folder / WEIGHTS_FILE, template, record["dtype"], record["sha256"])
    return recipe.build(config, params)
