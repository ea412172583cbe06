"""Copies the documentation's pictures from finished runs into docs/images, each made smaller by a palette.

Run it in the project's folder: `.venv/bin/python docs/collect_images.py artifacts`. The page that shows a picture has
the command of its run. A picture whose run is not there is left as it is, and named.
"""

import itertools
import sys
from pathlib import Path

from PIL import Image, ImageSequence

FOLDER = Path(__file__).resolve().parent / "images"
SOURCES = {
    "simple_plan.png": "simple/latest/plots/plan.png",
    "simple_plan.gif": "simple/latest/plots/plan.gif",
    "simple_learning.png": "simple/latest/plots/learning_curves.png",
    "rl_cart_pole.gif": "rl_cart_pole/latest/videos/guide.gif",
    "rl_cart_pole_returns.png": "all/rl_cart_pole/latest/plots/returns.png",
    "graph_aliased.png": "aliased/graph_aliased/latest/plots/solved.png",
    "planning_in_meaning.png": "lm_guide_inference/latest/plots/plan_step_f1.png",
    "arithmetic_search.png": "arithmetic/latest/plots/search_chain_of_thought.png",
    "arithmetic_training.png": "arithmetic/latest/plots/learning_curves.png",
    "think_tokens_accuracy.png": "think_tokens/latest/plots/lengths.png",
    "think_tokens_confusion.png": "think_tokens/latest/plots/confusion.png",
    "deep_thinking_maze.gif": "deep_thinking/latest/videos/maze_25.gif",
    "deep_thinking_steps.png": "deep_thinking/latest/plots/steps.png",
    "lm_think.png": "lm_think/latest/plots/bits_per_byte.png",
    "invent_code.png": "invent_code/latest/plots/learning_curves.png",
    "text_generation.png": "text_generation/latest/plots/learning_curves.png",
}
"""The file of each picture, below the folder of artifacts."""
MAX_WIDTH, MAX_COLORS, MAX_FRAMES = 1400, 255, 60


def shrink(image: Image.Image) -> Image.Image:
    """Fit a picture into the width, and reduce it to a palette."""
    image = image.convert("RGB")
    image.thumbnail((MAX_WIDTH, MAX_WIDTH), Image.Resampling.LANCZOS)
    return image.quantize(MAX_COLORS, dither=Image.Dither.NONE)


def copy_image(source: Path, target: Path) -> None:
    """Write a smaller copy of a PNG, or of the first frames of a GIF."""
    with Image.open(source) as image:
        frames = [shrink(frame) for frame in itertools.islice(ImageSequence.Iterator(image), MAX_FRAMES)]
        duration = image.info.get("duration", 0)
    if len(frames) == 1:
        frames[0].save(target, optimize=True)
    else:
        frames[0].save(target, save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=True)


def main(artifacts: Path) -> None:
    """Copy what there is."""
    FOLDER.mkdir(exist_ok=True)
    for name, source in SOURCES.items():
        if (artifacts / source).exists():
            copy_image(artifacts / source, FOLDER / name)
            print(f"{name}: {(FOLDER / name).stat().st_size // 1024} KiB")
        else:
            print(f"{name}: left as it is, as there is no {artifacts / source}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/collect_images.py ARTIFACTS")
    main(Path(sys.argv[1]))
