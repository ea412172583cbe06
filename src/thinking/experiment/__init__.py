"""Experiments: flags, run folders, interruptible training, metrics, results and plots.

This package imports only what `--help` needs. Modules that need JAX are imported by name:
`thinking.experiment.training_loop`, `.results`, `.plots`, `.device`.
"""

from thinking.experiment.command import main
from thinking.experiment.config_fields import Preset, RunConfig, check_seeds, field_error, group, option
from thinking.experiment.folder import Run

__all__ = ["Preset", "Run", "RunConfig", "check_seeds", "field_error", "group", "main", "option"]
