"""Robustness to kills: start a run, kill it at a random instant, restart it, compare the weights."""

import dataclasses
import json
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from thinking.errors import RunError
from thinking.experiment import Preset, RunConfig, option


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Kill training by SIGKILL at random instants, start it again, and compare the weights in the end."""

    num_kills: int = option(
        20, "kills in all, spread over several runs", minimum=1, maximum=10**6, affects_weights=False
    )
    task_preset: Literal["default", "smoke"] = option(
        "default", "preset of the graph task that is trained", affects_weights=False
    )
    num_steps: int = option(200, "training steps of each run", minimum=1, maximum=10**9, affects_weights=False)


PRESETS = {
    "default": Preset(Config(), "20 kills, in some 13 minutes"),
    "smoke": Preset(Config(num_kills=1, task_preset="smoke", num_steps=20), "a single kill of a tiny training"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/robustness.py",
    "./run_manual.sh local tasks/robustness.py --num-kills 5 --num-steps 100",
)


def read_final_digest(folder: Path) -> str:
    """The digest of a finished run's final weights."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["state_digest"]


def run_undisturbed(command: Sequence[str]) -> float:
    """Run a command to its end; returns its seconds.

    Raises:
        RunError: if it fails.
    """
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RunError(f"{' '.join(command)} ended with {process.returncode}: {process.stderr[-300:]}")
    return time.perf_counter() - start


def run_killed(command: Sequence[str], max_seconds: float, num_kills: int, seed: int) -> int:
    """Start a command repeatedly and kill it by SIGKILL, until it finishes.

    Args:
        command: it resumes when restarted.
        max_seconds: upper bound of the uniformly drawn time until a kill.
        num_kills: maximum kills; then it runs to its end.
        seed: of the times.

    Returns:
        The number of kills.

    Raises:
        RunError: if the command fails without being killed.
    """
    rng = random.Random(seed)
    for killed in range(num_kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, stderr = process.communicate(timeout=rng.uniform(0, max_seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        if process.returncode:
            raise RunError(f"after {killed} kills the run ended with {process.returncode}: {stderr[-300:]}")
        return killed
    run_undisturbed(command)
    return num_kills
