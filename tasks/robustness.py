"""Robustness of training: runs that are killed at random instants end with bit-identical weights.

Guides (hierarchical planners) are trained by `tasks/simple.py`, once undisturbed, then in runs that are killed by
SIGKILL and restarted with the same command. The digests of the final weights are compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

from thinking.benchmarks.kills import EXAMPLES, PRESETS, Config, read_final_digest, run_killed, run_undisturbed
from thinking.experiment import Run, main

TASK = Path(__file__).with_name("simple.py")


def make_task_flags(preset: str, num_steps: int) -> list[str]:
    """The flags of the trained task, without `--artifacts`."""
    guides = ["--guides", "table", "linear", "skip_transformer"]
    return ["--preset", preset, *guides, "--training.num-steps", str(num_steps), "--eval.max-hops", "16"]


def run(config: Config, run: Run) -> None:
    """Train until `num_kills` kills are survived; compare with an undisturbed run."""
    from thinking.experiment.results import write_results
    from thinking.files import make_temporary_folder

    rows, survived = [], 0
    with make_temporary_folder(run.folder) as folder:

        def command(name: str) -> list[str]:
            flags = make_task_flags(config.task_preset, config.num_steps)
            return [sys.executable, str(TASK), *flags, "--artifacts", f"{folder}/{name}"]

        seconds = run_undisturbed(command("undisturbed"))
        expected = read_final_digest(Path(folder, "undisturbed", TASK.stem))
        while survived < config.num_kills:
            name = f"run {len(rows) + 1}"
            killed = run_killed(command(name), seconds, config.num_kills - survived, config.seed + len(rows))
            survived += killed
            same = read_final_digest(Path(folder, name, TASK.stem)) == expected
            rows.append({"run": name, "kills": killed, "bit_identical": same})
            run.log(f"{name}: killed {killed} times, final weights {'bit-identical' if same else 'DIFFERENT'}")
    write_results(run, rows, {}, kills=survived, undisturbed_seconds=seconds)


if __name__ == "__main__":
    main("robustness", run, PRESETS, EXAMPLES)
