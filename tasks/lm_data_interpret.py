"""Plans of the language guide as text, and a report that one can read.

A plan is vectors. By default each of its steps becomes the nearest sentence that is known, which needs nothing else. Or
a model writes these sentences out as a guide; or a causal model writes, steered toward the vectors themselves.
The last of four: lm_data_prepare, lm_guide_train, lm_guide_inference, and this.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from thinking.recipes.language_guide.plan_writing import Write
    from thinking.text.plans import Plan
    from thinking.text.prepared import Prepared

SplitName = Literal["train", "held_out", "compound", "asked"]
ModeName = Literal["think", "react"]


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Write plans of the language guide as text, with a report of them."""

    # Nothing is trained here. Other settings write anew, and answers that were paid for stay in the cache.
    seed: int = option(0, "of nothing: no text here is drawn by chance", affects_weights=False)
    by: Literal["nearest", "openai", "huggingface", "steered"] = option(
        "nearest",
        "who writes: the nearest known sentences, a server of the OpenAI protocol (needs OPENAI_API_KEY), a model of "
        "Hugging Face, or such a model steered toward the plan's vectors",
        affects_weights=False,
    )
    model: str | None = option(
        None, "the model of that server, or of Hugging Face: name or folder", affects_weights=False
    )
    base_url: str | None = option(
        None, "of that server, as http://localhost:8000/v1; None: OpenAI's", affects_weights=False
    )
    max_requests: int | None = option(None, "requests to that server at most; None: no limit", affects_weights=False)
    most: int = option(
        3, "plans of each split and mode that a model writes; of others: the sentences", affects_weights=False
    )
    strength: float = option(4.0, "of steering: nats that a cosine of 1 adds to a token's score", affects_weights=False)
    minilm_folder: Path | None = option(None, "of steering: folder of the embedder's weights", affects_weights=False)
    splits: tuple[SplitName, ...] = option(
        ("held_out", "compound", "asked"), "plans of which goals", affects_weights=False
    )
    modes: tuple[ModeName, ...] = option(("think", "react"), "plans made in which way", affects_weights=False)

    def validate(self) -> None:
        """Raises UserError for a number out of range, and for a model that is needed and not named."""
        from thinking.text.server import check_open

        if self.by != "nearest" and not self.model:
            raise UserError(f"--by {self.by}: which model is not said; name it with --model")
        if self.most < 1:
            raise UserError(f"--most {self.most}: allowed is a whole number from 1; take 3")
        if self.max_requests is not None and self.max_requests < 1:
            raise UserError(f"--max-requests {self.max_requests}: allowed is a whole number from 1")
        with name_flags(base_url="--base-url"):
            check_open(self.base_url)
        if self.strength < 0:
            raise UserError(f"--strength {self.strength}: allowed is a number from 0; take 4")
        for name in ("splits", "modes"):
            if not getattr(self, name):
                raise UserError(f"--{name}: name at least one, or leave the flag out for all that are usual")


PRESETS = {"default": Config(), "smoke": Config(most=1)}


def run(config: Config, run: Run) -> None:
    """Write the plans out, and report them."""
    import numpy as np

    from thinking import progress
    from thinking.experiment.results import write_results
    from thinking.files import write_json
    from thinking.recipes.language_guide import plan_writing, report
    from thinking.text import plans, prepared

    data = prepared.load(config.artifacts / "lm_data_prepare")
    made, vectors = plans.load(config.artifacts / "lm_guide_inference")
    chosen = [plan for plan in made if plan.split in config.splits and plan.mode in config.modes]
    if not chosen:
        there = ", ".join(sorted({f"{plan.split} by {plan.mode}" for plan in made})) or "none at all"
        asked = f"--splits {' '.join(config.splits)} --modes {' '.join(config.modes)}"
        raise UserError(f"{asked}: of these there are no plans; there are {there}")

    texts = [plan_writing.nearest(plan) for plan in chosen]
    writers = ["nearest known sentences"] * len(chosen)
    if config.by != "nearest":
        places = first_of_each(chosen, config.most)
        with writer(config, run, data, vectors) as write:
            for place, text in zip(places, written(config, write, [chosen[place] for place in places]), strict=True):
                texts[place] = text
                writers[place] = (
                    f"{config.model}, {'steered' if config.by == 'steered' else 'told the nearest sentences'}"
                )

    known = {step: data.steps[means] for step, means in zip(data.steps, data.means, strict=True)}
    entries = [
        report.entry(plan, text, who, lambda step: known.get(step, step))
        for plan, text, who in zip(chosen, texts, writers, strict=True)
    ]
    rows = means(config, chosen)
    goals = len({plan.goal for plan in chosen})
    about = f"{len(chosen)} plans for {goals} goals, in vectors of {data.embedder}"
    write_json(run.folder / "report.json", entries)
    (run.folder / "report.html").write_text(report.page(entries, rows, about), encoding="utf-8")
    for split in config.splits:
        for plan in [plan for plan in chosen if plan.split == split][:1]:
            progress.console().print(plans.tree(plan))
    state = {"vectors": vectors, "texts": np.frombuffer("\0".join(texts).encode(), np.uint8)}
    write_results(run, rows, state, plans=len(chosen), goals=goals, by=config.by, model=config.model)
    run.log(f"the report: {run.folder / 'report.html'}, and as data {run.folder / 'report.json'}")


def first_of_each(plans: Sequence[Plan], most: int) -> list[int]:
    """Places of the first so many plans of each split and mode."""
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    places = []
    for place, plan in enumerate(plans):
        seen[plan.split, plan.mode] += 1
        if seen[plan.split, plan.mode] <= most:
            places.append(place)
    return places


@contextlib.contextmanager
def writer(config: Config, run: Run, data: Prepared, vectors: np.ndarray) -> Iterator[Write]:
    """The model that writes. Answers of a server are kept in the run's folder, and whoever interrupts is told so."""
    from thinking.experiment.interruption import Interrupted
    from thinking.recipes.language_guide import plan_writing
    from thinking.text import huggingface, response_cache
    from thinking.text.openai_protocol import openai_text
    from thinking.text.same_embedder import same_embedder
    from thinking.text.server import Server

    if config.by == "openai":
        folder = run.folder / "cache"
        flags = name_flags(base_url="--base-url", max_requests="--max-requests")
        with flags, Server(config.base_url, folder, max_requests=config.max_requests) as server:
            try:
                yield plan_writing.rewritten(openai_text(server, config.model))
            except Interrupted as stop:
                kept = (
                    f"{response_cache.count(folder)} answers are kept in {folder}; the same command goes on from there"
                )
                raise Interrupted(stop.number, kept) from None
    elif config.by == "huggingface":
        yield plan_writing.rewritten(huggingface.ask_by(huggingface.load(config.model)))
    else:
        check_steerable(config, data, vectors)
        flags = name_flags(folder="--minilm-folder")
        with flags, same_embedder(data, config.minilm_folder, run.folder / "cache") as embedder:
            yield plan_writing.steered_toward(huggingface.load(config.model), embedder, vectors, config.strength)


def check_steerable(config: Config, data: Prepared, vectors: np.ndarray) -> None:
    """Steering embeds all that is written after every token, and compares it with the vectors.

    Raises:
        UserError: the embedder that made them runs elsewhere, or they are of other data.
    """
    from thinking.text.same_embedder import MINILM

    runs_here = config.minilm_folder or data.embedder == MINILM or data.embedder.startswith("hashed-")
    if not runs_here:
        raise UserError(
            f"--by steered: the data were embedded by {data.embedder}, and a server cannot be asked about every word; "
            "give the folder of that embedder with --minilm-folder, or prepare the data with --embedder minilm"
        )
    if (made := vectors.shape[1]) != (dims := data.step_vectors.shape[1]):
        raise UserError(f"the plans have {made} dimensions, and the data {dims}: run tasks/lm_guide_inference.py again")


def written(config: Config, write: Write, plans: Sequence[Plan]) -> Iterator[str]:
    """The plans as the model writes them, in order, with progress."""
    from thinking.progress import shown
    from thinking.text.openai_protocol import PARALLEL, in_order

    words = 0
    with shown("writing", 0, len(plans), "words") as advance:
        texts = in_order(write, plans, PARALLEL if config.by == "openai" else 1)
        for done, text in enumerate(texts, start=1):
            words += len(text.split())
            advance(done, words)
            yield text


def means(config: Config, plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """A row for each split and mode: how many plans, how many of them ended by themselves, and the mean of each score.

    A plan that lacks a score does not count in its mean.
    """
    rows = []
    for split, mode in itertools.product(config.splits, config.modes):
        of_both = [plan for plan in plans if (plan.split, plan.mode) == (split, mode)]
        if not of_both:
            continue
        row = {
            "split": split,
            "mode": mode,
            "plans": len(of_both),
            "ended_percent": 100 * sum(plan.ended for plan in of_both) / len(of_both),
        }
        for name in dict.fromkeys(name for plan in plans for name in plan.scores):
            scores = [plan.scores[name] for plan in of_both if name in plan.scores]
            row[name] = statistics.fmean(scores) if scores else None
        rows.append(row)
    return rows


if __name__ == "__main__":
    main("lm_data_interpret", run, PRESETS)
