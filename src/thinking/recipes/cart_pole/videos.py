"""Films of episodes as GIFs, with the sub-goal that the agent pursues as a ghost beside what is.

Each world is a few lines in the plane, which an observation places.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes

from thinking.colors import GREY, PALETTE
from thinking.environments.control import World
from thinking.environments.gymnasium_evaluation import Film
from thinking.experiment import plots

Line = tuple[list[float], list[float]]
"""Corners of a line: x and y."""

_MOST_FRAMES = 100


def film(path: Path, world: World, episode: Film, title: str) -> Path:
    """Write an episode as a GIF.

    Args:
        path: where to.
        world: the task.
        episode: its notes are a mapping of what to show: `sub_goal` [T, O] is drawn, everything else, [T], is written.
        title: above all frames.

    Returns:
        The path.
    """
    figure, (panel,) = plots.figure(1, title)
    left, right, low, high = _SCENES[world.name][1]
    figure.set_size_inches(5, min(1.3 + 4.6 * (high - low) / (right - left), 5))
    every = math.ceil(len(episode.observations) / _MOST_FRAMES)

    def frame(number: int) -> list:
        panel.clear()
        _draw(panel, world, episode, number)
        return []

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = range(0, len(episode.observations), every)
    animation = FuncAnimation(figure, frame, init_func=list, frames=shown)
    animation.save(path, writer=PillowWriter(fps=15), dpi=80)
    return path


def _draw(panel: Axes, world: World, episode: Film, number: int) -> None:
    lines, bounds = _SCENES[world.name]
    seen = episode.observations[number]
    panel.set(xlim=bounds[:2], ylim=bounds[2:], aspect="equal")
    panel.grid(False)
    panel.tick_params(labelsize=7)
    if "sub_goal" in episode.notes:
        for line in lines(episode.notes["sub_goal"][number]):
            panel.plot(*line, color=PALETTE[1], linewidth=7, alpha=0.5, solid_capstyle="round")
        numbers = " ".join(f"{number:+.2f}" for number in episode.notes["sub_goal"][number])
        panel.plot([], [], color=PALETTE[1], alpha=0.5, linewidth=7, label=f"sub-goal {numbers}")
        panel.legend(loc="upper right", fontsize=7)
    for line in lines(seen):
        panel.plot(*line, color=PALETTE[0], linewidth=3, solid_capstyle="round")
    for line in _SCENERY.get(world.name, list)():
        panel.plot(*line, color=GREY, linewidth=1)
    written = {name: values[number] for name, values in episode.notes.items() if name != "sub_goal"}
    words = [f"{name.replace('_', ' ')} {float(np.ravel(value)[0]):.3g}" for name, value in written.items()]
    panel.set_title(", ".join([f"step {number}", f"return {episode.gained[number]:.0f}", *words]), fontsize=8)


def _cart_pole(seen: np.ndarray) -> list[Line]:
    x, angle = float(seen[0]), float(seen[2])
    cart = [x - 0.3, x + 0.3, x + 0.3, x - 0.3, x - 0.3], [0.0, 0.0, 0.25, 0.25, 0.0]
    return [cart, ([x, x + math.sin(angle)], [0.25, 0.25 + math.cos(angle)])]


def _acrobot(seen: np.ndarray) -> list[Line]:
    first = math.atan2(seen[1], seen[0])
    second = first + math.atan2(seen[3], seen[2])
    x, y = math.sin(first), -math.cos(first)
    return [([0.0, x], [0.0, y]), ([x, x + math.sin(second)], [y, y - math.cos(second)])]


def _pendulum(seen: np.ndarray) -> list[Line]:
    length = max(math.hypot(seen[0], seen[1]), 1e-6)
    return [([0.0, -seen[1] / length], [0.0, seen[0] / length])]


def _car(seen: np.ndarray) -> list[Line]:
    x, y = float(seen[0]), _height(float(seen[0]))
    slope = math.atan(3 * 0.45 * math.cos(3 * x))
    dx, dy = 0.06 * math.cos(slope), 0.06 * math.sin(slope)
    return [([x - dx, x + dx], [y - dy + 0.03, y + dy + 0.03])]


def _height(x: float) -> float:
    return math.sin(3 * x) * 0.45 + 0.55


def _hill() -> list[Line]:
    xs = np.linspace(-1.2, 0.6, 60).tolist()
    return [(xs, [_height(x) for x in xs]), ([0.5, 0.5], [_height(0.5), _height(0.5) + 0.2])]


_Bounds = tuple[float, float, float, float]
_SCENES: dict[str, tuple[Callable[[np.ndarray], list[Line]], _Bounds]] = {
    "CartPole-v1": (_cart_pole, (-2.7, 2.7, -0.2, 1.7)),
    "Acrobot-v1": (_acrobot, (-3.2, 3.2, -2.2, 2.2)),
    "Pendulum-v1": (_pendulum, (-1.8, 1.8, -1.2, 1.2)),
    "MountainCar-v0": (_car, (-1.2, 0.6, 0.0, 1.3)),
    "MountainCarContinuous-v0": (_car, (-1.2, 0.6, 0.0, 1.3)),
}
_SCENERY: dict[str, Callable[[], list[Line]]] = {
    "CartPole-v1": lambda: [([-2.4, 2.4], [0.0, 0.0])],
    "Acrobot-v1": lambda: [([-2.0, 2.0], [1.0, 1.0])],
    "MountainCar-v0": _hill,
    "MountainCarContinuous-v0": _hill,
}
