"""Memory of a run: what it needs is compared with what there is, and its lack is one line that names flags."""

import os
import re
from pathlib import Path

import jax

from thinking.errors import RunError
from thinking.experiment.config_fields import RunConfig
from thinking.experiment.settings import Setting, format_value, list_settings

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SIZE_NAMES = re.compile(
    r"width|dims|batch|layers|envs|walks|nodes|states|length|capacity|num_prompts|generations|slots"
)
_MAX_FLAGS = 4


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or JAX says that memory ran out."""
    is_of_jax = isinstance(error, RuntimeError) and re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.I)
    return isinstance(error, MemoryError) or bool(is_of_jax)


def make_error(config: RunConfig, reason: str) -> RunError:
    """The error of a run without enough memory, with the flags to lower."""
    return RunError(f"{reason}; lower {list_size_flags(config)}; what was saved is kept")


def check_fits(config: RunConfig, num_bytes: int, purpose: str) -> None:
    """Check that so many bytes fit into the memory of the devices together.

    Raises:
        RunError: they do not.
    """
    limit = _find_limit()
    if limit is not None and num_bytes > limit:
        raise make_error(
            config, f"{purpose} takes {num_bytes / 2**30:,.1f} GiB, and there are {limit / 2**30:,.1f} GiB of memory"
        )


def _find_limit() -> int | None:
    """Bytes of memory of all devices; for CPUs, those of the machine or of its container. None if that is unknown."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else limit * len(jax.devices())
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return None
    container = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.is_file() else ""
    return min(machine, int(container)) if container.isdecimal() else machine


def list_size_flags(config: RunConfig) -> str:
    """The flags of sizes that are above their defaults, else those of widths and batches."""
    sizes = [setting for setting in list_settings(config) if _is_size(setting)]
    raised = [setting for setting in sizes if setting.default is not None and setting.value > setting.default]
    named = raised or [setting for setting in sizes if re.search("width|batch", setting.path)]
    flags = [f"{setting.flag} {format_value(setting.value)}" for setting in named[:_MAX_FLAGS]]
    return " or ".join(flags) or "the sizes of the model and of its batches"


def _is_size(setting: Setting) -> bool:
    name = setting.path.rpartition(".")[2]
    return type(setting.value) is int and _SIZE_NAMES.search(name) is not None
