"""Whose models can be exported: the module `trained` of each recipe, by task.

Such a module has

- `Config`, the class of the task's config;
- `select(config)`, the config of the one model of a run that is exported;
- `describe_params(config)`, a PyTree with the shapes and types of its parameters, of a selected config;
- `read_params(config, folder)`, the parameters of a finished run, of its own config;
- `build(config, params)`, the model: a value with `config`, `model` (pure functions) and `params`.
"""

import importlib
from types import ModuleType

from thinking.errors import UserError

RECIPES = {
    "simple": "graph",
    "rl_cart_pole": "cart_pole",
    "arithmetic": "arithmetic",
    "think_tokens": "think_tokens",
    "deep_thinking": "deep_thinking",
}
"""Names of recipes by task."""


def find_recipe(task: str) -> ModuleType:
    """The module of a task.

    Raises:
        UserError: models of the task cannot be exported.
    """
    if task not in RECIPES:
        raise UserError(f"{task}: its models cannot be exported or loaded; those of {', '.join(RECIPES)} can")
    return importlib.import_module(f"thinking.recipes.{RECIPES[task]}.trained")
