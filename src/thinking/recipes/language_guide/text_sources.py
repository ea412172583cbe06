"""Where texts come from: those of the project, a model that writes them, or a file."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from thinking import progress
from thinking.errors import UserError, name_flags
from thinking.recipes.language_guide.configs.prepare import MODELS, TextConfig
from thinking.text import crafting, huggingface, records, response_cache
from thinking.text.crafting import CraftedTexts
from thinking.text.openai_protocol import MAX_PARALLEL, make_openai_answer_fn
from thinking.text.providers import generate_texts
from thinking.text.records import Text
from thinking.text.server import Server


def collect_texts(
    config: TextConfig, model: str | None, server: Server | None, cache_folder: Path, seed: int
) -> CraftedTexts:
    """Texts of all splits, and what their steps mean where that is known.

    Args:
        config: where they come from.
        model: the name of one that writes, if one does.
        server: that is asked, if one is.
        cache_folder: the folder in which what a local model wrote is kept.
        seed: of wordings and of the goals that are held out.

    Raises:
        UserError: the source has no texts, or none to learn from.
    """
    if config.source == "bundled":
        names = ("num_wordings", "num_texts", "held_out_fraction")
        with name_flags(**{name: f"--text.{name.replace('_', '-')}" for name in names}):
            sizes = {name: getattr(config, name) for name in names}
            return crafting.make_texts(crafting.load_crafting_tree(), seed=seed, **sizes)
    if config.source in MODELS:
        texts = write_texts(config, model, server, cache_folder)
    else:
        texts = records.read(Path(config.source))
    if all(text.split == "train" for text in texts):
        texts = hold_out_goals(texts, config.held_out_fraction, seed)
    elif not any(text.split == "train" for text in texts):
        raise UserError(f'--text.source {config.source}: nothing to learn from; give texts of "split": "train"')
    return CraftedTexts(tuple(texts), {})


def write_texts(config: TextConfig, model: str, server: Server | None, cache_folder: Path) -> list[Text]:
    """Texts that a model writes, one for each goal; the arguments are those of `collect_texts`."""
    bundled = [item.goal for item in crafting.load_crafting_tree().items.values()]
    goals = bundled if config.goals is None else read_goals(config.goals)
    if config.source == "openai":
        ask, parallel = make_openai_answer_fn(server, model), MAX_PARALLEL
    else:
        ask, parallel = cache_answers(huggingface.make_answer_fn(huggingface.load(model)), model, cache_folder), 1
    with progress.show_progress("texts", 0, len(goals), "left out") as advance:
        return list(generate_texts(ask, goals, num_parallel=parallel, report_progress=advance))


def read_goals(path: Path) -> list[str]:
    """The goals of a file, one a line, each once; raises UserError if there are none."""
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


def cache_answers(ask: Callable[[str], str], model: str, folder: Path) -> Callable[[str], str]:
    """`ask` with its answers kept on disk.

    What a local model took minutes for is so not asked again after a run that was cut short.
    """

    def ask_once(prompt: str) -> str:
        request = {"huggingface": model, "prompt": prompt}
        answer = response_cache.get(folder, request, lambda found: isinstance(found, str))
        if answer is None:
            answer = ask(prompt)
            response_cache.put(folder, request, answer)
        return answer

    return ask_once


def hold_out_goals(texts: Sequence[Text], fraction: float, seed: int) -> list[Text]:
    """Texts with a fraction of their goals held out, by the seed; one goal at least is learned."""
    goals = list(dict.fromkeys(text.goal for text in texts))
    count = min(round(fraction * len(goals)), len(goals) - 1)
    hidden = set(random.Random(seed).sample(goals, count))
    return [text._replace(split="held_out" if text.goal in hidden else "train") for text in texts]
