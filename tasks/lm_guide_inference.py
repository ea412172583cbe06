"""Plan with the language guide, a hierarchical planner: for every goal sub-goals and steps, as sentence embeddings.

The guide *thinks* (open loop, on its own steps) and *reacts* (closed loop, on the steps of a reference text): for
training goals, held-out goals, pairs of goals, or a goal on the command line. Its plans are compared with those of
a guide of one layer, the nearest training text copied, and a bigram model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, main
from thinking.recipes.language_guide.configs.inference import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thinking.recipes.language_guide.planning import MatchIndex, Planner
    from thinking.text.plans import Plan
    from thinking.text.prepared_data import PreparedData

NUM_SHOWN = 2  # plans of each split in the terminal
MATCHED_DIMS = 64  # whitened dimensions in which the nearest sentence is found
COLUMNS = {
    "split": "goals",
    "model": "model",
    "num_goals": "number",
    "next_step_recall": "next step, %",
    "plan_step_f1": "F1 of steps, %",
    "sub_goal_recall": "sub-goals, %",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Plan for all goals, or for the one on the command line."""
    from thinking.recipes.language_guide import planning
    from thinking.recipes.language_guide.configs.shared import find_input
    from thinking.recipes.language_guide.planners import compute_default_max_steps, load_planners
    from thinking.text import prepared_data

    data = prepared_data.load(find_input(config.artifacts, "lm_data_prepare"))
    max_steps = config.plan.max_steps or compute_default_max_steps(data)
    if (done := len(config.plan.start)) > max_steps:
        raise UserError(
            f"--plan.start: {done} steps are done, and a plan has {max_steps} at most; raise --plan.max-steps"
        )
    num_layers, planners = load_planners(find_input(config.artifacts, "lm_guide_train"), data, max_steps)
    levels = planning.make_level_indices(data, num_layers, MATCHED_DIMS)
    if config.plan.goal is None:
        plan_for_all(config, run, data, planners, levels, max_steps)
    else:
        plan_for_one(config, run, data, planners["guide"], levels)


def plan_for_all(
    config: Config,
    run: Run,
    data: PreparedData,
    planners: Mapping[str, Planner],
    levels: Sequence[MatchIndex],
    max_steps: int,
) -> None:
    """Plan for the goals of all texts, evaluate, show and save."""
    import numpy as np

    from thinking.experiment.plots import plot_bars
    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide import evaluation, planning
    from thinking.recipes.language_guide.planners import make_plans
    from thinking.text import plans
    from thinking.text.records import SPLITS

    goal_set = evaluation.make_goal_set(data, max_steps)
    rows, all_plans, vectors = [], [], np.zeros((0, data.step_vectors.shape[1]), np.float32)
    for name, planner in planners.items():
        react, think = (
            evaluation.react_to_references(planner, goal_set, data),
            evaluation.think_plans(planner, goal_set.goals),
        )
        scores = evaluation.score_plans(data, levels[0], goal_set, react, think)
        plans_per_second = evaluation.measure_plans_per_second(planner, goal_set.goals)
        rows += evaluation.make_rows(name, goal_set, scores, plans_per_second=plans_per_second)
        if name == "guide":
            for mode, unrolled in (("think", think), ("react", react)):
                nodes, new_vectors = planning.make_nodes(levels, unrolled, len(vectors))
                all_plans += make_plans(data, goal_set, mode, unrolled, nodes, scores)
                vectors = np.concatenate([vectors, new_vectors])
    for name, scores in evaluation.compute_baseline_scores(data, goal_set, max_steps).items():
        rows += evaluation.make_rows(name, goal_set, scores)
    models = dict.fromkeys(row["model"] for row in rows)
    plot_bars(
        run.plots_folder / "plan_step_f1.png",
        {model: [row["plan_step_f1"] for row in rows if row["model"] == model] for model in models},
        [f"{split.replace('_', ' ')} goals" for split in dict.fromkeys(row["split"] for row in rows)],
        "F1 of the steps of whole plans",
    )
    plans.save(run.folder, all_plans, vectors)
    show_plans([plan for plan in all_plans if plan.mode == config.report.mode])
    guide = [row for row in rows if row["model"] == "guide"]
    write_results(
        run,
        sorted(rows, key=lambda row: SPLITS.index(row["split"])),
        {"nodes": vectors},
        headline="F1 of the guide's steps: "
        + ", ".join(f"{row['split'].replace('_', ' ')} goals {100 * row['plan_step_f1']:.1f} %" for row in guide),
        columns=COLUMNS,
        next_steps=["run lm_data_interpret"],
    )


def plan_for_one(config: Config, run: Run, data: PreparedData, planner: Planner, levels: Sequence[MatchIndex]) -> None:
    """Plan for one goal after given first steps, show and save."""
    import numpy as np

    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide.planning import make_nodes
    from thinking.recipes.language_guide.servers import open_server
    from thinking.text import plans
    from thinking.text.matching_embedder import open_matching_embedder

    settings = config.plan
    flags = name_flags(folder="--embedder.folder")
    with (
        flags,
        open_matching_embedder(
            data, config.embedder.folder, lambda: open_server(config.server, run.folder / "cache")
        ) as embedder,
    ):
        goal, *done = embedder.embed([settings.goal, *settings.start])
    given_steps = np.array(done, np.float32).reshape(1, len(done), embedder.dims)
    unrolled = planner.think(goal[None], given_steps, np.array([len(done)], np.int32))
    # Given steps are shown as they were given.
    unrolled.steps[0, : len(done)] = given_steps[0]
    (nodes,), vectors = make_nodes(levels, unrolled)
    is_done = bool(unrolled.length[0] < unrolled.steps.shape[1])
    plan = plans.Plan(settings.goal, "custom", "think", nodes, is_done, len(done), (), {})
    plans.save(run.folder, [plan], vectors)
    show_plans([plan])
    sub_goals = [node for node in nodes if node.level]
    row = {"goal": settings.goal, "num_steps": len(plan.steps), "num_sub_goals": len(sub_goals), "ended": is_done}
    write_results(run, [row], {"nodes": vectors})


def show_plans(shown_plans: Sequence[Plan]) -> None:
    """Print a few plans of each split as trees."""
    from thinking import progress
    from thinking.text import plans

    for split in dict.fromkeys(plan.split for plan in shown_plans):
        for plan in [plan for plan in shown_plans if plan.split == split][:NUM_SHOWN]:
            progress.console().print(plans.render_tree(plan))


if __name__ == "__main__":
    main("lm_guide_inference", run, PRESETS, EXAMPLES)
