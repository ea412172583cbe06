"""Texts for the language guide: goals with their steps, each sentence embedded, saved for lm_guide_train.

Texts say how to reach a goal, step by step. They come with the project, are written by a language model, or are the
user's own. Some goals are held out of training, so that it can be told afterwards whether a guide plans what it never
read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from thinking.text.crafting import Bundle
    from thinking.text.embedders import Embedder
    from thinking.text.prepared import Prepared
    from thinking.text.records import Text
    from thinking.text.server import Server

MODELS = ("openai", "huggingface")
SOURCES = ("bundled", *MODELS)
PARALLEL = 4  # goals that a server is asked about at once


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Prepare texts and their embeddings for the language guide."""

    # Nothing is trained here. Other settings prepare anew, and answers that were paid for stay in the cache.
    seed: int = option(0, "seed of wordings and of the goals that are held out, 0 to 4294967295", affects_weights=False)
    text: str = option(
        "bundled", "where texts come from: bundled, openai, huggingface, or a file of JSON Lines", affects_weights=False
    )
    goals: Path | None = option(
        None, "openai and huggingface: file of goals, one a line; None: the bundled ones", affects_weights=False
    )
    model: str | None = option(
        None, "openai: name of the model that writes; huggingface: its name or its folder", affects_weights=False
    )
    base_url: str | None = option(
        None,
        "openai: address of the server, such as http://localhost:8000/v1; None: OpenAI's own",
        affects_weights=False,
    )
    max_requests: int | None = option(None, "openai: HTTP requests sent at most; None: no limit", affects_weights=False)
    texts: int = option(12, "bundled: texts for each goal of training, each worded by chance", affects_weights=False)
    wordings: int = option(6, "bundled: ways to word a step", affects_weights=False)
    held_out: float = option(
        0.2, "share of the goals held out of training, unless the file names splits itself", affects_weights=False
    )
    embedder: Literal["minilm", "openai", "hashed"] = option(
        "minilm",
        "what makes vectors: all-MiniLM-L6-v2 in JAX, a server, or counts of hashed letters",
        affects_weights=False,
    )
    embedding_model: str = option(
        "text-embedding-3-small", "openai: name of the model that embeds", affects_weights=False
    )
    minilm_folder: Path | None = option(
        None, "minilm: folder of the model's files; None: the installed ones, or fetched", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError for values that nothing can be prepared with."""
        from thinking.text.server import check_open

        for name in ("texts", "wordings", "max_requests"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: allowed is a whole number from 1")
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held-out {self.held_out}: allowed is a share from 0, below 1; take 0.2")
        if self.text not in SOURCES and not Path(self.text).is_file():
            raise UserError(f"--text {self.text}: no such file; allowed are {', '.join(SOURCES)}, or a file")
        if self.text in MODELS and not self.model:
            raise UserError(f"--text {self.text}: which model shall write them? name it with --model")
        if self.goals is not None and self.text not in MODELS:
            raise UserError(f"--goals {self.goals}: models alone are given goals; add --text openai or huggingface")
        with name_flags(base_url="--base-url"):
            check_open(self.base_url)


PRESETS = {"default": Config(), "smoke": Config(texts=1, wordings=2, embedder="hashed")}


def run(config: Config, run: Run) -> None:
    """Get the texts, embed their sentences, and save both."""
    from thinking.experiment.results import write_results
    from thinking.text import prepared

    with asking(config, run) as server:
        # First, so that a model that is not there ends the run before texts are paid for.
        embedder = embedder_of(config, server)
        bundle = bundle_of(config, run, server)
        made = embed(config, bundle, embedder, server)
    prepared.save(run.folder, made)
    if server is not None:
        run.log(f"{server.sent} requests were sent to {server.url}")
    figures = {"embedder": made.embedder, "dims": embedder.dims, "distinct_steps": len(made.steps)}
    vectors = {"steps": made.step_vectors, "goals": made.goal_vectors}
    write_results(run, prepared.split_rows(made), vectors, **made.manifest, **figures)
    run.log(f"saved in {run.folder}; python tasks/lm_guide_train.py learns from it")


@contextlib.contextmanager
def asking(config: Config, run: Run) -> Iterator[Server | None]:
    """The server, if texts or embeddings come from one. Whoever interrupts is told what is kept."""
    from thinking.experiment.interruption import Interrupted
    from thinking.text import response_cache
    from thinking.text.server import Server

    folder = run.folder / "cache"
    needed = "openai" in (config.text, config.embedder)
    limit = {"max_requests": config.max_requests}
    flags = name_flags(base_url="--base-url", max_requests="--max-requests")
    with flags, Server(config.base_url, folder, **limit) if needed else contextlib.nullcontext() as server:
        try:
            yield server
        except Interrupted as stop:
            if count := response_cache.count(folder):
                kept = f"{count} answers are kept in {folder}; the same command goes on from there"
                raise Interrupted(stop.number, kept) from None
            raise


def embedder_of(config: Config, server: Server | None) -> Embedder:
    """What makes vectors of sentences."""
    from thinking.text import embedders
    from thinking.text.openai_protocol import openai_embedder

    if config.embedder == "openai":
        return openai_embedder(server, config.embedding_model)
    if config.embedder == "hashed":
        return embedders.hashed()
    with name_flags(folder="--minilm-folder"):
        return embedders.minilm(config.minilm_folder)


def embed(config: Config, bundle: Bundle, embedder: Embedder, server: Server | None) -> Prepared:
    """Every sentence as a vector, with a bar; the manifest says where texts come from."""
    from thinking import progress
    from thinking.text import prepared

    asked = config.text in MODELS
    manifest = {
        "text": config.text,
        "model": config.model if asked else None,
        "server": server.url if server is not None else None,
        "seed": config.seed,
    }
    count = len(prepared.steps_of(bundle.texts, bundle.step_of)) + len(prepared.goals_of(bundle.texts))
    with progress.shown("embeddings", 0, count, "requests sent") as advance:
        return prepared.embedded(
            bundle.texts,
            bundle.step_of,
            embedder,
            manifest,
            lambda done: advance(done, server.sent if server is not None else 0),
        )


def bundle_of(config: Config, run: Run, server: Server | None) -> Bundle:
    """Texts of all splits, and what their steps mean where that is known."""
    from thinking.text import crafting, records

    if config.text == "bundled":
        with name_flags(wordings="--wordings", texts="--texts", held_out="--held-out"):
            sizes = {"wordings": config.wordings, "texts": config.texts, "held_out": config.held_out}
            return crafting.write_out(crafting.tree(), seed=config.seed, **sizes)
    texts = written(config, run, server) if config.text in MODELS else records.read(Path(config.text))
    if all(text.split == "train" for text in texts):
        texts = hold_out(texts, config.held_out, config.seed)
    elif not any(text.split == "train" for text in texts):
        raise UserError(f'--text {config.text}: nothing to learn from; give texts of "split": "train"')
    return crafting.Bundle(tuple(texts), {})


def written(config: Config, run: Run, server: Server | None) -> list[Text]:
    """Texts that a model writes, a goal each."""
    from thinking import progress
    from thinking.text import crafting, huggingface
    from thinking.text.openai_protocol import openai_text
    from thinking.text.providers import written_by

    bundled = [item.goal for item in crafting.tree().items.values()]
    goals = bundled if config.goals is None else goals_in(config.goals)
    if config.text == "openai":
        ask, parallel = openai_text(server, config.model), PARALLEL
    else:
        ask, parallel = kept(huggingface.ask_by(huggingface.load(config.model)), config.model, run.folder / "cache"), 1
    with progress.shown("texts", 0, len(goals), "left out") as advance:
        return list(written_by(ask, goals, parallel=parallel, advance=advance))


def goals_in(path: Path) -> list[str]:
    """The goals of a file, one a line, each once; raises UserError if there are none."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"--goals {path}: not UTF-8; save the file as UTF-8, one goal a line") from None
    except OSError as error:
        raise UserError(f"--goals {path}: {error.strerror}; give a file, one goal a line") from None
    goals = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not goals:
        raise UserError(f"--goals {path}: no goal in it; give one a line")
    return goals


def kept(ask: Callable[[str], str], model: str, folder: Path) -> Callable[[str], str]:
    """`ask` with a memory on disk: what a local model took minutes for is not asked again after a run cut short."""
    from thinking.text import response_cache

    def remembered(prompt: str) -> str:
        request = {"huggingface": model, "prompt": prompt}
        answer = response_cache.get(folder, request, lambda found: isinstance(found, str))
        if answer is None:
            answer = ask(prompt)
            response_cache.put(folder, request, answer)
        return answer

    return remembered


def hold_out(texts: Sequence[Text], share: float, seed: int) -> list[Text]:
    """Texts with a share of their goals held out, by the seed; one goal at least is learned."""
    goals = list(dict.fromkeys(text.goal for text in texts))
    count = min(round(share * len(goals)), len(goals) - 1)
    hidden = set(random.Random(seed).sample(goals, count))
    return [text._replace(split="held_out" if text.goal in hidden else "train") for text in texts]


if __name__ == "__main__":
    main("lm_data_prepare", run, PRESETS)
