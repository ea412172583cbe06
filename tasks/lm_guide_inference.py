"""Plan with the language guide: for every goal a hierarchy of sub-goals and steps, as sentence embeddings.

The guide that lm_guide_train taught thinks (it feeds its own steps back) and reacts (it sees what was really done, and
tells the next step), for goals that it was taught, for held-out ones, for two in one, and for any that is typed. Its
plans are judged beside a flat guide, the nearest text copied, and what usually follows a sentence.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinking.guide.outlines.unrolling import Unrolled
    from thinking.recipes.language_guide.evaluation import Asked
    from thinking.recipes.language_guide.planning import Known, Planner
    from thinking.text.plans import Plan
    from thinking.text.prepared import Prepared

SHOWN = 2  # plans of each split in the terminal
LONGEST = 256  # steps of a plan, unless asked otherwise
MATCHED_DIMS = 64  # in which the nearest sentence is looked for


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Plan for all goals, or for one that you name."""

    # Nothing is trained here: whatever is asked is planned anew.
    seed: int = option(0, "of nothing: no plan is drawn by chance", affects_weights=False)
    goal: str | None = option(None, "plan for this goal alone, and show it", affects_weights=False)
    start: tuple[str, ...] = option((), "goal: steps that are done already, in order", affects_weights=False)
    mode: Literal["think", "react"] = option("think", "which plans are shown in the terminal", affects_weights=False)
    most: int | None = option(
        None, "steps of a plan at most; None: twice the longest text of training, up to 256", affects_weights=False
    )
    minilm_folder: Path | None = option(None, "goal: folder of the embedder's weights", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for what cannot be planned."""
        if self.most is not None and self.most < 1:
            raise UserError(f"--most {self.most}: allowed is a whole number from 1")
        if self.goal is not None and not self.goal.strip():
            raise UserError("--goal: it is blank; say what is to be reached")
        if self.start and self.goal is None:
            raise UserError("--start: for which goal? name it with --goal")
        if any(not step.strip() for step in self.start):
            raise UserError("--start: a step is blank; leave it out")
        if self.goal is not None and self.mode == "react":
            raise UserError("--mode react: nobody acts here who could be observed; leave it out with --goal")


PRESETS = {"default": Config(), "smoke": Config(most=32)}


def run(config: Config, run: Run) -> None:
    """Plan, judge, show and save."""
    import numpy as np

    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide import evaluation, planning
    from thinking.text import plans, prepared
    from thinking.text.records import SPLITS

    data = prepared.load(config.artifacts / "lm_data_prepare")
    most = most_steps(config, data)
    if len(config.start) > most:
        raise UserError(f"--start: {len(config.start)} steps are done, and a plan has {most} at most; raise --most")
    layers, planners = trained(config, data, most)
    levels = planning.known_levels(data, layers, MATCHED_DIMS)
    if config.goal is not None:
        return tell(config, run, data, planners["guide"], levels)
    asked = evaluation.asked_of(data, most)
    rows, made, vectors = [], [], np.zeros((0, data.step_vectors.shape[1]), np.float32)
    for name, planner in planners.items():
        react, think = evaluation.reacted(planner, asked, data), evaluation.thought(planner, asked.goals)
        scores = evaluation.scored(data, levels[0], asked, react, think)
        rows += evaluation.rows_of(
            name, asked, scores, plans_per_second=evaluation.plans_per_second(planner, asked.goals)
        )
        if name == "guide":
            for mode, unrolled in (("think", think), ("react", react)):
                nodes, own = planning.nodes_of(levels, unrolled, len(vectors))
                made += plans_of(data, asked, mode, unrolled, nodes, scores)
                vectors = np.concatenate([vectors, own])
    for name, scores in evaluation.control_scores(data, asked, most).items():
        rows += evaluation.rows_of(name, asked, scores)
    plans.save(run.folder, made, vectors)
    show(run, [plan for plan in made if plan.mode == config.mode])
    write_results(run, sorted(rows, key=lambda row: SPLITS.index(row["split"])), {"nodes": vectors})
    run.log(f"saved in {run.folder}; python tasks/lm_data_interpret.py writes the plans out")


def most_steps(config: Config, data: Prepared) -> int:
    """How long a plan may be."""
    from thinking.text.records import leaves

    longest = max(sum(1 for _ in leaves(text.steps)) for text in data.texts if text.split == "train")
    return config.most or min(2 * longest, LONGEST)


def trained(config: Config, data: Prepared, most: int) -> tuple[int, dict[str, Planner]]:
    """The layers of the guide, and the guides that were trained, each by its name."""
    import jax

    from thinking.experiment import checkpoint
    from thinking.recipes.language_guide import model, planning

    folder, layers, found = config.artifacts / "lm_guide_train", 1, {}
    if not (folder / "results.json").exists():
        raise UserError(f"{folder} has no guide that was trained to the end: {model.FIRST}")
    for name in ("guide", "flat"):
        if name == "flat" and not (folder / "checkpoints" / name).exists():
            continue
        shape, fitted = model.load(folder / name, model.checksum(data))
        guide = model.build(shape, list(map(model.codec_of, fitted)))
        saved = checkpoint.restore(folder / "checkpoints" / name, jax.jit(guide.init)(jax.random.key(0)))
        if saved is None:
            raise UserError(f"{folder} has no trained {name}: {model.FIRST}")
        layers, found[name] = max(layers, len(shape.contexts)), planning.planner(guide, saved.state, most)
    return layers, found


def plans_of(
    data: Prepared, asked: Asked, mode: str, unrolled: Unrolled, nodes: Sequence[Any], scores: Sequence[Any]
) -> list[Plan]:
    """All plans of a mode, as they are saved."""
    from thinking.text.plans import Plan

    return [
        Plan(
            goal=asked.names[row],
            split=asked.splits[row],
            mode=mode,
            nodes=nodes[row],
            ended=bool(mode == "react" or unrolled.length[row] < unrolled.steps.shape[1]),
            given=0,
            reference=tuple(data.steps[step] for step in asked.steps[row]),
            scores=scores[row],
        )
        for row in range(len(asked.names))
    ]


def tell(config: Config, run: Run, data: Prepared, planner: Planner, levels: Sequence[Known]) -> None:
    """Plan for the goal that was typed, after the steps that are done, and show it."""
    import numpy as np

    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide.planning import nodes_of
    from thinking.text import plans
    from thinking.text.same_embedder import same_embedder

    flags = name_flags(folder="--minilm-folder")
    with flags, same_embedder(data, config.minilm_folder, run.folder / "cache") as embedder:
        goal, *done = embedder.embed([config.goal, *config.start])
    given = np.array(done, np.float32).reshape(1, len(done), embedder.dims)
    unrolled = planner.think(goal[None], given, np.array([len(done)], np.int32))
    # What was done is shown as it was said to be.
    unrolled.steps[0, : len(done)] = given[0]
    (nodes,), vectors = nodes_of(levels, unrolled)
    ended = bool(unrolled.length[0] < unrolled.steps.shape[1])
    plan = plans.Plan(config.goal, "asked", "think", nodes, ended, len(done), (), {})
    plans.save(run.folder, [plan], vectors)
    show(run, [plan])
    sub_goals = [node for node in nodes if node.level]
    row = {"goal": config.goal, "steps": len(plan.steps), "sub_goals": len(sub_goals), "ended": ended}
    write_results(run, [row], {"nodes": vectors})


def show(run: Run, made: Sequence[Plan]) -> None:
    """A few plans of each split, as trees."""
    from thinking import progress
    from thinking.text import plans

    for split in dict.fromkeys(plan.split for plan in made):
        for plan in [plan for plan in made if plan.split == split][:SHOWN]:
            progress.console().print(plans.tree(plan))


if __name__ == "__main__":
    main("lm_guide_inference", run, PRESETS)
