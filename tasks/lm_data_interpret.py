"""Write plans of the language guide, a hierarchical planner over sentence embeddings, as text, and report them.

A plan is a sequence of vectors. By default each step becomes the nearest known sentence, without a model. Or a language
model rewrites these sentences, or a causal model generates steps steered toward the vectors.
The last of four tasks: lm_data_prepare, lm_guide_train, lm_guide_inference, lm_data_interpret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinking.errors import UserError
from thinking.experiment import Run, main
from thinking.recipes.language_guide.configs.interpret import EXAMPLES, PRESETS, Config, ReportConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinking.text.plans import Plan

COLUMNS = {
    "split": "goals",
    "mode": "mode",
    "num_plans": "plans",
    "ended_fraction": "ended, %",
    "step_f1": "F1 of steps, %",
    "next_step_recall": "next step, %",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Write the plans and the report."""
    import numpy as np

    from thinking import progress
    from thinking.experiment.results import write_results
    from thinking.files import write_atomic, write_json
    from thinking.recipes.language_guide import plan_report
    from thinking.recipes.language_guide.configs.shared import find_input
    from thinking.recipes.language_guide.writers import write_plans
    from thinking.text import plans, prepared_data

    data = prepared_data.load(find_input(config.artifacts, "lm_data_prepare"))
    saved, vectors = plans.load(find_input(config.artifacts, "lm_guide_inference"))
    chosen = choose_plans(config.report, saved)
    texts, writers = write_plans(config, chosen, data, vectors, run.folder / "cache")

    canonical_steps = {
        step: data.steps[canonical] for step, canonical in zip(data.steps, data.canonical_index, strict=True)
    }
    entries = [
        plan_report.make_entry(plan, text, writer_name, lambda step: canonical_steps.get(step, step))
        for plan, text, writer_name in zip(chosen, texts, writers, strict=True)
    ]
    rows = plan_report.mean_rows(chosen, config.report.splits, config.report.modes)
    goals = len({plan.goal for plan in chosen})
    about = f"{len(chosen)} plans for {goals} goals, in vectors of {data.embedder}"
    write_json(run.folder / "plans.json", entries)
    write_atomic(run.folder / "plans.html", plan_report.render_page(entries, rows, about).encode())
    for split in config.report.splits:
        for plan in [plan for plan in chosen if plan.split == split][:1]:
            progress.console().print(plans.render_tree(plan))
    state = {"vectors": vectors, "texts": np.frombuffer("\0".join(texts).encode(), np.uint8)}
    writer = {"by": config.writer.kind, "model": config.writer.model}
    write_results(run, rows, state, headline=about, columns=COLUMNS, plans=len(chosen), goals=goals, **writer)
    run.log(f"plans as text: {run.folder / 'plans.html'}, and as data {run.folder / 'plans.json'}")


def choose_plans(config: ReportConfig, plans: Sequence[Plan]) -> list[Plan]:
    """The plans to report; raises UserError if there are none."""
    chosen = [plan for plan in plans if plan.split in config.splits and plan.mode in config.modes]
    if not chosen:
        available = ", ".join(sorted({f"{plan.split} by {plan.mode}" for plan in plans})) or "none at all"
        flags = f"--report.splits {' '.join(config.splits)} --report.modes {' '.join(config.modes)}"
        raise UserError(f"{flags}: of these there are no plans; there are {available}")
    return chosen


if __name__ == "__main__":
    main("lm_data_interpret", run, PRESETS, EXAMPLES)
