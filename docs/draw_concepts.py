"""Draws the pictures of the concept pages: kernel.svg, guide.svg and reasoning.svg in docs/images.

Run it in the project's folder: `.venv/bin/python docs/draw_concepts.py`. The same program draws the same files.
"""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FOLDER = Path(__file__).resolve().parent / "images"
BLUE, GREEN, ORANGE, GREY = "#d6e9f8", "#d5efe3", "#fbe6c8", "#ececec"
INK, QUIET = "#1c1c1c", "#444444"
FONT, SMALL = 12.5, 11  # points; a picture is about 400 points wide, so 11 points are 11 pixels at 400 pixels

Point = tuple[float, float]


def make_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty white picture of so many units, each 0.1 inches, with the origin at the lower left."""
    figure = Figure(figsize=(width / 10, height / 10), facecolor="white")
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set(xlim=(0, width), ylim=(0, height))
    panel.axis("off")
    return figure, panel


def draw_box(panel: Axes, center: Point, size: Point, title: str, detail: str = "", color: str = BLUE) -> None:
    """A rounded box with a bold title and smaller lines below it."""
    (x, y), (width, height) = center, size
    outline = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=1", fc=color, ec=INK, lw=1.2
    )
    panel.add_patch(outline)
    num_lines = detail.count("\n") + 1 if detail else 0
    top = y + num_lines * 1.0
    panel.text(x, top, title, ha="center", va="center", fontsize=FONT, fontweight="bold", color=INK)
    if detail:
        panel.text(x, top - 1.3, detail, ha="center", va="top", fontsize=SMALL, color=INK, linespacing=1.25)


def draw_arrow(panel: Axes, start: Point, end: Point, bend: float = 0.0) -> None:
    """An arrow between two points."""
    look = {"arrowstyle": "-|>", "mutation_scale": 14, "shrinkA": 0, "shrinkB": 0, "lw": 1.5, "color": INK}
    panel.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **look))


def draw_label(panel: Axes, place: Point, text: str, side: str = "left", size: float = SMALL) -> None:
    """A text beside an arrow; `side` is how it is aligned."""
    panel.text(*place, text, ha=side, va="center", fontsize=size, color=QUIET, linespacing=1.25)


def draw_kernel() -> Figure:
    """The three functions of a kernel with inputs and outputs."""
    figure, panel = make_panel(56, 37)
    rows = (
        (31.5, "init", ("key",), "state"),
        (19.5, "fit", ("state, batch of", "context, target,", "value, score, mask"), "new state,\nmetrics"),
        (6.0, "infer", ("state,", "context, target"), "value,\nscore"),
    )
    for (y, name, inputs, outputs), color in zip(rows, (GREY, GREEN, BLUE), strict=True):
        draw_box(panel, (31, y), (10, 6.5), name, color=color)
        draw_label(panel, (18.8, y), "\n".join(inputs), side="right", size=FONT)
        draw_arrow(panel, (19.8, y), (25.7, y))
        draw_arrow(panel, (36.3, y), (42.2, y))
        draw_label(panel, (43.2, y), outputs, size=FONT)
    draw_label(panel, (28, 25.4), "learn from training examples: the best hypothesis wins", side="center")
    draw_label(panel, (28, 12), "what comes next on the way to the target, and how good it is", side="center")
    return figure


def draw_guide() -> Figure:
    """The layers of a guide, from the goal down to an action."""
    figure, panel = make_panel(56, 58)
    draw_box(panel, (37, 54), (16, 5), "goal", color=ORANGE)
    layers = ((43, "layer 2"), (30, "layer 1"), (17, "layer 0"))
    for y, name in layers:
        draw_box(panel, (37, y), (16, 6.5), name, "a kernel", color=BLUE)
        draw_arrow(panel, (19.4, y), (28.7, y))
        draw_label(panel, (24.0, y + 1.8), "context", side="center")
    labels = ("target:\nthe goal", "target:\na sub-goal", "target:\na nearer sub-goal")
    for (top, bottom), label in zip(((51.3, 46.5), (39.5, 33.5), (26.5, 20.5)), labels, strict=True):
        draw_arrow(panel, (37, top), (37, bottom))
        draw_label(panel, (38.5, (top + bottom) / 2), label)
    draw_box(panel, (10.5, 30), (17, 33), "hippocampus", "what was\nobserved since\nthe goal was set", color=GREEN)
    draw_arrow(panel, (37, 13.5), (37, 8.3))
    draw_box(panel, (37, 5.2), (22, 5.6), "action or next state", color=ORANGE)
    draw_arrow(panel, (25.7, 5.2), (10.5, 13.2), bend=-0.35)
    draw_label(panel, (17.8, 3.2), "react: observe\nthe next state", side="right")
    return figure


def draw_reasoning() -> Figure:
    """The four stages of reasoning around a policy."""
    figure, panel = make_panel(56, 44)
    size = (22, 10)
    draw_box(panel, (12, 38), size, "policy initialisation", "supervised training\non worked texts", color=GREY)
    draw_box(panel, (44, 38), size, "search", "samples, beams, trees:\nmore tokens a problem", color=BLUE)
    draw_box(panel, (44, 6), size, "reward design", "what is a good\ncompletion?", color=ORANGE)
    draw_box(panel, (12, 6), size, "learning", "GRPO, PPO, REINFORCE,\nexpert iteration", color=GREEN)
    draw_box(panel, (12, 22), (16, 7.5), "policy", "a decoder", color="white")
    draw_arrow(panel, (12, 32.7), (12, 26.1))
    draw_label(panel, (13.2, 29.4), "weights")
    draw_arrow(panel, (20.4, 23), (36, 32.6))
    draw_label(panel, (29.3, 26.2), "predictions")
    draw_arrow(panel, (44, 32.7), (44, 11.3))
    draw_label(panel, (43, 20), "completions", side="right")
    draw_arrow(panel, (32.6, 6), (23.4, 6))
    draw_label(panel, (28, 8), "rewards", side="center")
    draw_arrow(panel, (12, 11.3), (12, 17.9))
    draw_label(panel, (13.2, 14.6), "updates")
    return figure


def main() -> None:
    """Write all pictures."""
    matplotlib.rcParams["svg.hashsalt"] = "thinking"  # else identifiers differ from run to run
    FOLDER.mkdir(exist_ok=True)
    for name, figure in {"kernel": draw_kernel(), "guide": draw_guide(), "reasoning": draw_reasoning()}.items():
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
