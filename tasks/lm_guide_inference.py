"""Plan with the language guide: for every goal a hierarchy of sub-goals and steps, as sentence embeddings.

The guide that lm_guide_train trained thinks (it feeds its own steps back) and reacts (it sees what was really done, and
tells the next step): for goals that it was trained on, for held-out ones, for two in one, and for any that is typed.
Its plans are evaluated beside a flat guide, the nearest text copied, and what usually follows a sentence.
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
MATCHED_DIMS = 64  # in which the nearest sentence is looked for


def run(config: Config, run: Run) -> None:
    """Plan for all goals, or for the one that was typed."""
    from thinking.recipes.language_guide import planning
    from thinking.recipes.language_guide.planners import compute_default_max_steps, load_planners
    from thinking.text import prepared_data

    data = prepared_data.load(config.artifacts / "lm_data_prepare")
    max_steps = config.plan.max_steps or compute_default_max_steps(data)
    if (done := len(config.plan.start)) > max_steps:
        raise UserError(
            f"--plan.start: {done} steps are done, and a plan has {max_steps} at most; raise --plan.max-steps"
        )
    num_layers, planners = load_planners(config.artifacts / "lm_guide_train", data, max_steps)
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

    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide import evaluation, planning
    from thinking.recipes.language_guide.planners import make_plans
    from thinking.text import plans
    from thinking.text.records import SPLITS

    asked = evaluation.make_goal_set(data, max_steps)
    rows, made, vectors = [], [], np.zeros((0, data.step_vectors.shape[1]), np.float32)
    for name, planner in planners.items():
        react, think = (
            evaluation.react_to_references(planner, asked, data),
            evaluation.think_plans(planner, asked.goals),
        )
        scores = evaluation.score_plans(data, levels[0], asked, react, think)
        speed = evaluation.measure_plans_per_second(planner, asked.goals)
        rows += evaluation.make_rows(name, asked, scores, plans_per_second=speed)
        if name == "guide":
            for mode, unrolled in (("think", think), ("react", react)):
                nodes, own = planning.make_nodes(levels, unrolled, len(vectors))
                made += make_plans(data, asked, mode, unrolled, nodes, scores)
                vectors = np.concatenate([vectors, own])
    for name, scores in evaluation.compute_baseline_scores(data, asked, max_steps).items():
        rows += evaluation.make_rows(name, asked, scores)
    plans.save(run.folder, made, vectors)
    show_plans([plan for plan in made if plan.mode == config.report.mode])
    write_results(run, sorted(rows, key=lambda row: SPLITS.index(row["split"])), {"nodes": vectors})
    run.log(f"saved in {run.folder}; python tasks/lm_data_interpret.py writes the plans out")


def plan_for_one(config: Config, run: Run, data: PreparedData, planner: Planner, levels: Sequence[MatchIndex]) -> None:
    """Plan for the goal that was typed, after the steps that are done, show and save."""
    import numpy as np

    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide.planning import make_nodes
    from thinking.text import plans
    from thinking.text.matching_embedder import open_matching_embedder

    typed = config.plan
    flags = name_flags(folder="--embedder.folder")
    with flags, open_matching_embedder(data, config.embedder.folder, run.folder / "cache") as embedder:
        goal, *done = embedder.embed([typed.goal, *typed.start])
    given = np.array(done, np.float32).reshape(1, len(done), embedder.dims)
    unrolled = planner.think(goal[None], given, np.array([len(done)], np.int32))
    # What was done is shown as it was said to be.
    unrolled.steps[0, : len(done)] = given[0]
    (nodes,), vectors = make_nodes(levels, unrolled)
    ended = bool(unrolled.length[0] < unrolled.steps.shape[1])
    plan = plans.Plan(typed.goal, "asked", "think", nodes, ended, len(done), (), {})
    plans.save(run.folder, [plan], vectors)
    show_plans([plan])
    sub_goals = [node for node in nodes if node.level]
    row = {"goal": typed.goal, "steps": len(plan.steps), "sub_goals": len(sub_goals), "ended": ended}
    write_results(run, [row], {"nodes": vectors})


def show_plans(made: Sequence[Plan]) -> None:
    """A few plans of each split, as trees."""
    from thinking import progress
    from thinking.text import plans

    for split in dict.fromkeys(plan.split for plan in made):
        for plan in [plan for plan in made if plan.split == split][:NUM_SHOWN]:
            progress.console().print(plans.render_tree(plan))


if __name__ == "__main__":
    main("lm_guide_inference", run, PRESETS, EXAMPLES)
