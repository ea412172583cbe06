"""Robustness to kills: start a run, kill it at a random instant, restart it, compare the weights."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from thinking.errors import RunError
from thinking.experiment import Preset, RunConfig, option
from thinking.recipes.groups import check_names

TaskName = Literal[
    "simple",
    "graph_aliased",
    "invent_code",
    "rl_cart_pole",
    "rl_memory",
    "arithmetic",
    "think_tokens",
    "deep_thinking",
    "light_networks",
    "lm_think",
    "text_generation",
    "lm_guide_train",
]
"""The tasks that train."""

TASK_FLAGS: dict[TaskName, tuple[str, ...]] = {
    "simple": ("--guides", "table", "linear", "skip_transformer", "--training.num-steps", "100"),
    "invent_code": ("--training.num-steps", "200"),
    "arithmetic": ("--sft.num-steps", "150", "--rl.num-updates", "30"),
    "think_tokens": ("--training.num-steps", "150"),
    "deep_thinking": ("--training.num-steps", "200", "--networks", "recursive"),
    "light_networks": ("--training.num-steps", "150", "--problems", "parity"),
    "lm_think": ("--training.reference-steps", "60", "--training.num-steps", "40"),
    "text_generation": ("--rl.num-updates", "60"),
    "lm_guide_train": ("--training.num-steps", "150"),
}
"""Flags beside `--preset smoke`, so that each stage has several chunks, and saves between them."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Kill training by SIGKILL at random instants, start it again, and compare the weights in the end."""

    num_kills: int = option(
        33, "kills in all, spread evenly over the tasks", minimum=1, maximum=10**6, affects_weights=False
    )
    tasks: tuple[TaskName, ...] = option(
        get_args(TaskName), "tasks whose training is killed, in their smallest presets", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError without tasks, and for one that is named twice."""
        check_names(self.tasks, "--tasks", get_args(TaskName))


PRESETS = {
    "default": Preset(Config(), "three kills of each task"),
    "smoke": Preset(Config(num_kills=1, tasks=("invent_code",)), "a single kill of a tiny training"),
}
EXAMPLES = (
    "./run_manual.sh local tasks/robustness.py",
    "./run_manual.sh local tasks/robustness.py --num-kills 5 --tasks simple arithmetic",
)


def split_kills(config: Config) -> dict[TaskName, int]:
    """Kills by task, split evenly; the first tasks get one more each, and tasks without a kill are left out."""
    share, rest = divmod(config.num_kills, len(config.tasks))
    kills = {task: share + (index < rest) for index, task in enumerate(config.tasks)}
    return {task: count for task, count in kills.items() if count}


def make_command(script: Path, artifacts: Path) -> list[str]:
    """The command of a task in its smallest preset, which saves after every chunk."""
    flags = ["--preset", "smoke", *TASK_FLAGS.get(script.stem, ()), "--artifacts", str(artifacts)]
    return [sys.executable, "-m", "thinking.benchmarks.frequent_saves", str(script), *flags]


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


def run_with_kills(command: Sequence[str], max_seconds: float, num_kills: int, seed: int) -> int:
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
