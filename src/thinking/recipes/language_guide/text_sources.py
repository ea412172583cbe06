"""Sources of texts: bundled, written by a model, or from a file."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from thinking import progress
from thinking.errors import UserError, name_flags
from thinking.recipes.language_guide.configs.prepare import MODELS, TextConfig
from thinking.recipes.language_guide.configs.shared import WriterConfig
from thinking.text import crafting, huggingface, records, response_cache
from thinking.text.crafting import CraftedTexts
from thinking.text.openai_protocol import MAX_PARALLEL, make_openai_answer_fn
from thinking.text.openai_server import Server
from thinking.text.providers import generate_texts
from thinking.text.records import Text


def collect_texts(
    config: TextConfig, writer: WriterConfig, server: Server | None, cache_folder: Path, seed: int
) -> CraftedTexts:
    """Texts of all splits, and the canonical wordings of their steps where known.

    Args:
        config: the source.
        writer: the model that writes, if any.
        server: of the model, if any.
        cache_folder: where answers of a local model are cached.
        seed: of wordings and held-out goals.

    Raises:
        UserError: the source has no texts, or none for training.
    """
    if config.source == "bundled":
        names = ("num_wordings", "num_texts", "held_out_fraction")
        with name_flags(**{name: f"--text.{name.replace('_', '-')}" for name in names}):
            sizes = {name: getattr(config, name) for name in names}
            return crafting.make_texts(crafting.load_crafting_tree(), seed=seed, **sizes)
    if config.source in MODELS:
        texts = write_texts(config, writer, server, cache_folder)
    else:
        texts = records.read(Path(config.source))
    if all(text.split == "train" for text in texts):
        texts = hold_out_goals(texts, config.held_out_fraction, seed)
    elif not any(text.split == "train" for text in texts):
        raise UserError(f'--text.source {config.source}: nothing to learn from; give texts of "split": "train"')
    return CraftedTexts(tuple(texts), {})


def write_texts(config: TextConfig, writer: WriterConfig, server: Server | None, cache_folder: Path) -> list[Text]:
    """Texts written by a model, one per goal; arguments as of `collect_texts`."""
    bundled = [item.goal for item in crafting.load_crafting_tree().items.values()]
    goals = bundled if config.goals is None else read_goals(config.goals)
    if config.source == "openai":
        answer_fn = make_openai_answer_fn(server, writer.model, temperature=writer.temperature)
        num_parallel = MAX_PARALLEL
    else:
        local_answer_fn = huggingface.make_answer_fn(huggingface.load(writer.model))
        answer_fn, num_parallel = cache_answers(local_answer_fn, writer.model, cache_folder), 1
    with progress.show_progress("texts", 0, len(goals), "left out") as report_progress:
        return list(generate_texts(answer_fn, goals, num_parallel=num_parallel, report_progress=report_progress))


def read_goals(path: Path) -> list[str]:
    """The distinct goals of a file, one per line; raises UserError if there are none."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"--text.goals {path}: not UTF-8; save the file as UTF-8, one goal a line") from None
    except OSError as error:
        raise UserError(f"--text.goals {path}: {error.strerror}; give a file, one goal a line") from None
    goals = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not goals:
        raise UserError(f"--text.goals {path}: no goal in it; give one a line")
    return goals


def cache_answers(answer_fn: Callable[[str], str], model: str, folder: Path) -> Callable[[str], str]:
    """Cache the answers of a local model on disk, so that an interrupted run does not repeat them."""

    def answer_cached(prompt: str) -> str:
        request = {"huggingface": model, "prompt": prompt}
        answer = response_cache.get(folder, request, lambda value: isinstance(value, str))
        if answer is None:
            answer = answer_fn(prompt)
            response_cache.put(folder, request, answer)
        return answer

    return answer_cached


def hold_out_goals(texts: Sequence[Text], fraction: float, seed: int) -> list[Text]:
    """Assign splits by goal: a random fraction is held out, at least one goal is for training."""
    goals = list(dict.fromkeys(text.goal for text in texts))
    count = min(round(fraction * len(goals)), len(goals) - 1)
    held_out = set(random.Random(seed).sample(goals, count))
    return [text._replace(split="held_out" if text.goal in held_out else "train") for text in texts]
