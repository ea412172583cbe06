"""Presets of the four tasks of the language guide."""

import pytest

from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.language_guide.configs import inference, interpret, prepare, train

CONFIGS = {
    f"{module.__name__.rpartition('.')[2]}-{name}": preset.config
    for module in (prepare, train, inference, interpret)
    for name, preset in module.PRESETS.items()
}


@pytest.mark.parametrize("name", CONFIGS)
def test_presets_are_declared_and_valid(name):
    assert find_declaration_errors(CONFIGS[name]) == []
    check(CONFIGS[name])
