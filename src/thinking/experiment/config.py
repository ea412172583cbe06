"""The config of a run: one frozen dataclass, from which the flags and `config.json` come."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import tyro

from thinking.errors import UserError


def option(default: Any, help: str, *, identity: bool = True) -> Any:
    """Declare a field of a config, and so a flag.

    Args:
        default: the value without the flag.
        help: what `--help` says, with the unit.
        identity: False if the value may change between runs over the same saved weights.
    """
    return dataclasses.field(default=default, metadata={"help": help, "identity": identity})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Flags that every task has. A subclass may define `validate(self)`, which raises `UserError`."""

    seed: int = option(0, "seed of everything random, 0 to 4294967295")
    artifacts: Path = option(
        Path("artifacts"), "folder of all runs; this one writes to its own folder in it", identity=False
    )
    clear: tyro.conf.FlagCreatePairsOff[bool] = option(False, "empty this run's folder and end", identity=False)
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "write metrics for TensorBoard too (needs tensorboardX)", identity=False
    )
    wandb: tyro.conf.FlagCreatePairsOff[bool] = option(
        False, "send metrics to Weights & Biases too (needs wandb)", identity=False
    )


def check(config: RunConfig) -> None:
    """Check what holds for every config, then ask the config's own `validate`.

    Raises:
        UserError: a seed out of range, a float that is not finite, or whatever `validate` finds.
    """
    if not 0 <= config.seed < 2**32:
        raise UserError(f"--seed {config.seed}: allowed is a whole number from 0 to {2**32 - 1}; take --seed 0")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            flag = "--" + field.name.replace("_", "-")
            raise UserError(f"{flag} {value}: allowed is a finite number; take {flag} {field.default}")
    validate = getattr(config, "validate", None)
    if validate is not None:
        validate()


def as_json(value: Any) -> Any:
    """The config (or a part of it) as JSON knows it: mappings, lists, numbers, text and null."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def changes(saved: dict[str, Any], config: RunConfig) -> list[str]:
    """What identifies the weights and differs from a saved config, as `nodes: 32 saved, 64 asked`."""
    asked = as_json(config)
    free = {field.name for field in dataclasses.fields(config) if not field.metadata.get("identity", True)}
    return [
        f"{name}: {saved.get(name, 'nothing')} saved, {asked.get(name, 'nothing')} asked"
        for name in dict.fromkeys([*asked, *saved])
        if name not in free and (name not in saved or name not in asked or saved[name] != asked[name])
    ]
