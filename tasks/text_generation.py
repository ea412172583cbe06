"""Generating a target text, trained by rewards alone.

A decoder generates letters and is rewarded at the end (outcome) or per letter (process). It is trained by REINFORCE
from scratch, on the whole target or on growing parts of it (`--curriculum.enabled`). It is evaluated greedily, and by
pass@k: whether any of the k texts of a beam search is right.
"""

from __future__ import annotations

from thinking.experiment import Run, main
from thinking.recipes.text_generation.config import EXAMPLES, PRESETS, Config

COLUMNS = {
    "reward": "reward",
    "seed": "seed",
    "env_steps_to_exact_match": "letters to target",
    "num_env_steps": "letters in all",
    "greedy_text": "writes",
    "train_seconds": "seconds",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train a model for every reward and seed, and write the environment steps to the target."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.text_generation.training import summarize, train_model

    trained, rows = {}, []
    for reward in config.rewards:
        for seed in range(config.seed, config.seed + config.seeds):
            stage = trained[f"{reward}-{seed}"] = train_model(config, run, reward, seed)
            rows.append({"reward": reward, "seed": seed, **summarize(config, stage)})
    levels = ["curriculum/num_unlocked"] if config.curriculum.enabled else []
    plots.plot_learning_curves(run, ["rewards/letters", "eval/exact_match", "eval/pass_at_k", *levels, "entropy"])
    num_right = sum(row["greedy_text"] == config.target for row in rows)
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in trained.items()},
        headline=f"{num_right} of {len(rows)} models write '{config.target}'",
        columns=COLUMNS,
    )


if __name__ == "__main__":
    main("text_generation", run, PRESETS, EXAMPLES)
