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
    from thinking.environments.control import ControlEnv
    from thinking.recipes.cart_pole.comparison import TrainedAgent

BEGAN = time.monotonic()
COLUMNS = {
    "algorithm": "algorithm",
    "target_return": "target",
    "mean_return": "mean return",
    "std_over_seeds": "±",
    "num_env_steps": "training steps",
    "num_parameters": "parameters",
}
"""Of the table on the terminal."""


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


if __name__ == "__main__":
    main("rl_cart_pole", run, PRESETS, EXAMPLES)
