"""Videos of episodes as GIFs: line drawings of the state, and of the agent's sub-goal behind it."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from thinking.colors import GREY, PALETTE
from thinking.environments.control import ControlEnv
from thinking.environments.gymnasium_evaluation import Recording
from thinking.experiment import plots

Line = tuple[list[float], list[float]]
"""Vertices of a polyline: x and y."""

_MAX_FRAMES = 60


def write_video(path: Path, env: ControlEnv, episode: Recording, title: str) -> Path:
    """Write an episode as a GIF.

    Args:
        path: of the GIF.
        env: the environment.
        episode: of its `extras`, `sub_goal` [T, O] is drawn; all others, [T], are shown as text.
        title: of all frames.

    Returns:
        The path.
    """
    figure, (panel,) = plots.make_figure(1, title)
    left, right, low, high = _SCENES[env.name][1]
    figure.set_size_inches(5, min(1.3 + 4.6 * (high - low) / (right - left), 5))
    every = math.ceil(len(episode.observations) / _MAX_FRAMES)

    def draw(number: int) -> None:
        panel.clear()
        _draw_frame(panel, env, episode, number)

    return plots.save_animation(figure, draw, range(0, len(episode.observations), every), path, frames_per_second=15)


def _draw_frame(panel: Axes, env: ControlEnv, episode: Recording, number: int) -> None:
    lines, bounds = _SCENES[env.name]
    observation = episode.observations[number]
    panel.set(xlim=bounds[:2], ylim=bounds[2:], aspect="equal")
    panel.grid(False)
    panel.tick_params(labelsize=7)
    if "sub_goal" in episode.extras:
        for line in lines(episode.extras["sub_goal"][number]):
            panel.plot(*line, color=PALETTE[1], linewidth=7, alpha=0.5, solid_capstyle="round")
        numbers = " ".join(f"{number:+.2f}" for number in episode.extras["sub_goal"][number])
        panel.plot([], [], color=PALETTE[1], alpha=0.5, linewidth=7, label=f"sub-goal {numbers}")
        panel.legend(loc="upper right", fontsize=7)
    for line in lines(observation):
        panel.plot(*line, color=PALETTE[0], linewidth=3, solid_capstyle="round")
    for line in _SCENERY.get(env.name, list)():
        panel.plot(*line, color=GREY, linewidth=1)
    extras = {name: values[number] for name, values in episode.extras.items() if name != "sub_goal"}
    labels = [f"{name.replace('_', ' ')} {float(np.ravel(value)[0]):.3g}" for name, value in extras.items()]
    panel.set_title(", ".join([f"step {number}", f"return {episode.return_so_far[number]:.0f}", *labels]), fontsize=8)


def _cart_pole_lines(observation: np.ndarray) -> list[Line]:
    x, angle = float(observation[0]), float(observation[2])
    cart = [x - 0.3, x + 0.3, x + 0.3, x - 0.3, x - 0.3], [0.0, 0.0, 0.25, 0.25, 0.0]
    return [cart, ([x, x + math.sin(angle)], [0.25, 0.25 + math.cos(angle)])]


def _acrobot_lines(observation: np.ndarray) -> list[Line]:
    first = math.atan2(observation[1], observation[0])
    second = first + math.atan2(observation[3], observation[2])
    x, y = math.sin(first), -math.cos(first)
    return [([0.0, x], [0.0, y]), ([x, x + math.sin(second)], [y, y - math.cos(second)])]


def _pendulum_lines(observation: np.ndarray) -> list[Line]:
    length = max(math.hypot(observation[0], observation[1]), 1e-6)
    return [([0.0, -observation[1] / length], [0.0, observation[0] / length])]


def _car_lines(observation: np.ndarray) -> list[Line]:
    x, y = float(observation[0]), _hill_height(float(observation[0]))
    slope = math.atan(3 * 0.45 * math.cos(3 * x))
    dx, dy = 0.06 * math.cos(slope), 0.06 * math.sin(slope)
    return [([x - dx, x + dx], [y - dy + 0.03, y + dy + 0.03])]


def _hill_height(x: float) -> float:
    return math.sin(3 * x) * 0.45 + 0.55


def _hill_lines() -> list[Line]:
    xs = np.linspace(-1.2, 0.6, 60).tolist()
    return [(xs, [_hill_height(x) for x in xs]), ([0.5, 0.5], [_hill_height(0.5), _hill_height(0.5) + 0.2])]


_Bounds = tuple[float, float, float, float]
_SCENES: dict[str, tuple[Callable[[np.ndarray], list[Line]], _Bounds]] = {
    "CartPole-v1": (_cart_pole_lines, (-2.7, 2.7, -0.2, 1.7)),
    "Acrobot-v1": (_acrobot_lines, (-3.2, 3.2, -2.2, 2.2)),
    "Pendulum-v1": (_pendulum_lines, (-1.8, 1.8, -1.2, 1.2)),
    "MountainCar-v0": (_car_lines, (-1.2, 0.6, 0.0, 1.3)),
    "MountainCarContinuous-v0": (_car_lines, (-1.2, 0.6, 0.0, 1.3)),
}
_SCENERY: dict[str, Callable[[], list[Line]]] = {
    "CartPole-v1": lambda: [([-2.4, 2.4], [0.0, 0.0])],
    "Acrobot-v1": lambda: [([-2.0, 2.0], [1.0, 1.0])],
    "MountainCar-v0": _hill_lines,
    "MountainCarContinuous-v0": _hill_lines,
}
