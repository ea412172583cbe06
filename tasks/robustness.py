"""Robustness of training: runs that are killed at random instants end with bit-identical weights.

Each training task runs in its smallest preset, once undisturbed, then in runs that are killed by SIGKILL and restarted
with the same command. All save after every chunk of steps. The digests of the final weights are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thinking.benchmarks.kills import (
    EXAMPLES,
    PRESETS,
    Config,
    make_command,
    read_final_digest,
    run_undisturbed,
    run_with_kills,
    split_kills,
)
from thinking.experiment import Run, main

if TYPE_CHECKING:
    from thinking.benchmarks.measurement import Row

TASKS = Path(__file__).parent
NEEDS = {"lm_guide_train": "lm_data_prepare"}
"""Tasks that need the results of another."""


def run(config: Config, run: Run) -> None:
    """Train each task until it finishes despite the kills; compare with an undisturbed run."""
    from thinking.experiment.results import write_results
    from thinking.files import make_temporary_folder

    rows = []
    with make_temporary_folder(run.folder) as folder:
        for task, num_kills in split_kills(config).items():
            rows += kill_task(task, num_kills, config.seed, folder / task, run)
    same, survived = sum(row["bit_identical"] for row in rows), sum(row["kills"] for row in rows)
    headline = f"{same} of {len(rows)} runs ended with bit-identical weights after {survived} kills"
    write_results(run, rows, {}, headline=headline, kills=survived)


def kill_task(task: str, num_kills: int, seed: int, folder: Path, run: Run) -> list[Row]:
    """A row for each run of a task, in which it was killed until it finished."""
    from thinking.experiment.run_folders import find_latest

    script, rows, survived = TASKS / f"{task}.py", [], 0

    def prepare(name: str) -> list[str]:
        if task in NEEDS:
            run_undisturbed(make_command(TASKS / f"{NEEDS[task]}.py", folder / name))
        return make_command(script, folder / name)

    run_undisturbed(prepare("undisturbed"))
    expected = read_final_digest(find_latest(folder / "undisturbed" / task))
    # The first run may compile for long. What it compiled is cached, so a second one tells how long the others take.
    seconds = run_undisturbed(prepare("timed"))
    while survived < num_kills:
        name = f"run {len(rows) + 1}"
        killed = run_with_kills(prepare(name), seconds, num_kills - survived, seed + len(rows))
        survived += killed
        same = read_final_digest(find_latest(folder / name / task)) == expected
        rows.append({"task": task, "run": name, "kills": killed, "bit_identical": same, "undisturbed_seconds": seconds})
        run.log(f"{task}, {name}: killed {killed} times, final weights {'bit-identical' if same else 'DIFFERENT'}")
    return rows


if __name__ == "__main__":
    main("robustness", run, PRESETS, EXAMPLES)
