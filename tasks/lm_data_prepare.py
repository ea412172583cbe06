"""Prepare texts for the language guide, a hierarchical planner over sentence embeddings, which lm_guide_train trains.

A text is a goal with its steps, and each sentence is embedded.

Texts describe how to reach a goal, step by step. They are bundled, written by a language model, or read from a file.
Some goals are held out of training, to evaluate the guide on goals that it never saw.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from thinking.errors import name_flags
from thinking.experiment import Run, main
from thinking.recipes.language_guide.configs.prepare import EXAMPLES, MODELS, PRESETS, Config, SentenceEmbedderConfig

if TYPE_CHECKING:
    from thinking.text.crafting import CraftedTexts
    from thinking.text.embedders import Embedder
    from thinking.text.openai_server import Server
    from thinking.text.prepared_data import PreparedData

COLUMNS = {
    "split": "split",
    "num_goals": "goals",
    "num_texts": "texts",
    "num_steps": "steps",
    "mean_steps": "steps a text",
    "in_training_fraction": "steps known from training, %",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Collect texts, embed their sentences, and save both."""
    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide.servers import open_server, report_cached_answers
    from thinking.recipes.language_guide.text_sources import collect_texts
    from thinking.text import prepared_data

    cache_folder = run.folder / "cache"
    models = {config.text.source, config.embedder.kind} & set(MODELS)
    server_context = open_server(config.server, cache_folder) if "openai" in models else contextlib.nullcontext()
    with report_cached_answers(cache_folder) if models else contextlib.nullcontext(), server_context as server:
        # First, so that a missing model ends the run before texts are paid for.
        embedder = make_embedder(config.embedder, server)
        bundle = collect_texts(config.text, config.writer, server, cache_folder, config.seed)
        data = embed_texts(config, bundle, embedder, server)
    prepared_data.save(run.folder, data)
    if server is not None:
        run.log(f"{server.num_requests} requests were sent to {server.url}")
    summary = {"embedder": data.embedder, "dims": embedder.dims, "distinct_steps": len(data.steps)}
    vectors = {"steps": data.step_vectors, "goals": data.goal_vectors}
    write_results(
        run,
        prepared_data.summarize_splits(data),
        vectors,
        headline=f"{len(data.texts)} texts with {len(data.steps)} different steps, embedded by {data.embedder}",
        columns=COLUMNS,
        next_steps=["run lm_guide_train"],
        **data.manifest,
        **summary,
    )


def make_embedder(config: SentenceEmbedderConfig, server: Server | None) -> Embedder:
    """The sentence embedder of the config."""
    from thinking.text import embedders
    from thinking.text.openai_protocol import openai_embedder

    if config.kind == "openai":
        return openai_embedder(server, config.model)
    if config.kind == "hashed":
        return embedders.hashing_embedder()
    with name_flags(folder="--embedder.folder"):
        return embedders.minilm_embedder(config.folder)


def embed_texts(config: Config, bundle: CraftedTexts, embedder: Embedder, server: Server | None) -> PreparedData:
    """Embed every sentence, with a progress bar; the manifest names the source of the texts."""
    from thinking import progress
    from thinking.text import prepared_data

    manifest = {
        "text": config.text.source,
        "model": config.writer.model if config.text.source in MODELS else None,
        "server": server.url if server is not None else None,
        "seed": config.seed,
    }
    count = len(prepared_data.list_distinct_steps(bundle.texts, bundle.canonical_steps)) + len(
        prepared_data.list_distinct_goals(bundle.texts)
    )
    with progress.show_progress("embeddings", 0, count, "requests sent") as report_progress:
        return prepared_data.prepare_texts(
            bundle.texts,
            bundle.canonical_steps,
            embedder,
            manifest,
            lambda done: report_progress(done, server.num_requests if server is not None else 0),
        )


if __name__ == "__main__":
    main("lm_data_prepare", run, PRESETS, EXAMPLES)
