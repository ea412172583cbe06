"""Classic control by a guide, with PPO and REINFORCE as baselines.

A guide is a hierarchical goal-conditioned planner, here conditioned on a target return. It uses no policy gradient: it
is trained by hindsight relabelling of episodes in a replay buffer. All agents are evaluated on new episodes in
Gymnasium.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.cart_pole.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from thinking.environments.control import ControlEnv
    from thinking.environments.gymnasium_evaluation import Recording
    from thinking.recipes.cart_pole.comparison import TrainedAgent
    from thinking.recipes.cart_pole.trained import ControlGuide

BEGAN = time.monotonic()
COLUMNS = {
    "algorithm": "algorithm",
    "target_return": "target",
    "mean_return": "mean return",
    "std_over_seeds": "±",
    "num_env_steps": "training steps",
    "num_eval_env_steps": "evaluation steps",
    "num_parameters": "parameters",
}
"""Headers of the columns of the table on the terminal, by name."""
METRIC_HEADERS = {
    "target_return": "target",
    "num_episodes": "episodes",
    "mean_return": "mean return",
    "std_over_episodes": "±",
}
"""Headers of the metrics that `measure` returns, by name."""


def run(config: Config, run: Run) -> None:
    """Train, evaluate in Gymnasium, and write the results."""
    from thinking.environments import control, gymnasium_evaluation
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.cart_pole.trainers import TRAINERS

    env = control.make_env(config.env.name)
    threshold = gymnasium_evaluation.reward_threshold(env)
    agents = {name: TRAINERS[name](config, run, env) for name in config.algorithms}
    to_trained = time.monotonic() - BEGAN
    rows = [row for name, agent in agents.items() for row in evaluate(config, run, env, name, agent)]

    plots.plot_learning_curves(run, ["eval/return", "rollout/return"])
    curves = {name: (agent.history[:, :, 0], agent.history[:, :, 1]) for name, agent in agents.items()}
    plots.plot_mean_and_spread(
        run.plots_folder / "returns.png", curves, "training environment steps", "evaluation return", threshold
    )
    best = [row for row in rows if row["target_return"] in ("best", None)]
    write_results(
        run,
        rows,
        {name: agent.train_result.state for name, agent in agents.items()},
        headline="mean return in Gymnasium: "
        + ", ".join(f"{row['algorithm']} {row['mean_return']:.1f}" for row in best),
        columns=COLUMNS,
        train_seconds={name: agent.train_result.seconds for name, agent in agents.items()},
        compile_seconds={name: agent.train_result.compile_seconds for name, agent in agents.items()},
        seconds_from_command_to_trained=to_trained,
        reward_threshold=threshold,
    )


def evaluate(config: Config, run: Run, env: ControlEnv, name: str, agent: TrainedAgent) -> list[dict[str, Any]]:
    """A row for each target return, with a video of its first episode."""
    from thinking.environments import gymnasium_evaluation
    from thinking.recipes.cart_pole import comparison, videos

    rows, count = [], config.eval.num_episodes
    for target in agent.target_returns:
        returns, episode = gymnasium_evaluation.evaluate_in_gymnasium(
            env, *agent.make_policy_fn(target, count), config.seeds, count
        )
        rows.append(comparison.make_row(name, target, agent, returns, gymnasium_evaluation.reward_threshold(env)))
        if config.eval.videos:
            file = name if target is None else f"{name}_target_{target:g}"
            title = f"{name}, {env.name}" + ("" if target is None else f", target return {target:g}")
            videos.write_video(run.folder / "videos" / f"{file}.gif", env, episode, title)
    return rows


def measure(config: Config, trained: ControlGuide) -> list[dict[str, Any]]:
    """A row for each target return, of a guide that was loaded."""
    return [
        {
            "target_return": "best" if target is None else f"{target:g}",
            "num_episodes": returns.size,
            "mean_return": float(returns.mean()),
            "std_over_episodes": float(returns.std()),
        }
        for target in (None, *config.eval.target_returns)
        for returns, _ in [play(trained, target, config.eval.num_episodes)]
    ]


def draw(config: Config, trained: ControlGuide, folder: Path) -> None:
    """Write a video of an episode for each target return."""
    from thinking.recipes.cart_pole import videos

    for target in (None, *config.eval.target_returns):
        asked = "the highest return" if target is None else f"target return {target:g}"
        path = folder / f"{'best' if target is None else f'target_{target:g}'}.gif"
        videos.write_video(path, trained.env, play(trained, target, 1)[1], f"{trained.env.name}, {asked}")


def play(trained: ControlGuide, target: float | None, num_episodes: int) -> tuple[np.ndarray, Recording]:
    """Returns [1, num_episodes] of a guide that was loaded, and its first episode."""
    from thinking.environments import gymnasium_evaluation

    policy = trained.make_policy(target, num_episodes)
    return gymnasium_evaluation.evaluate_in_gymnasium(trained.env, *policy, 1, num_episodes)


if __name__ == "__main__":
    main("rl_cart_pole", run, PRESETS, EXAMPLES)
