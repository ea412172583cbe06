"""The task of policies with a memory, from its config to its results."""

import dataclasses
import json

import jax
import pytest

from tasks import rl_memory
from thinking.errors import UserError
from thinking.experiment import Run, metrics
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.learning.rollouts import collect_episodes
from thinking.recipes.cart_pole import videos
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.rl_memory import config as settings
from thinking.recipes.rl_memory.environments import make_policy_env
from thinking.recipes.rl_memory.evaluation import evaluate_in_env
from thinking.recipes.rl_memory.training import build_policy, train_policies

SMALL = settings.Config(
    seeds=1,
    networks=("pointwise", "gru"),
    env=settings.EnvConfig("t_maze", 2),
    model=settings.ModelConfig(16, 2),
    ppo=dataclasses.replace(settings.PRESETS["t_maze"].config.ppo, num_steps=15_360, rollout_length=32),
    optimizer=OptimizerConfig(0.005),
    selection=settings.SelectionConfig(interval=10, num_episodes=8),
    eval=settings.EvalConfig(64, (1, 3)),
)


def test_a_memory_finds_the_way_of_the_sign_and_a_pointwise_network_guesses(tmp_path):
    run = Run(folder=tmp_path, config=SMALL)
    rl_memory.run(SMALL, run)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    returns = {(row["network"], row["environment"]): row["mean_return"] for row in rows}
    assert returns["gru", "corridor of 2"] > 0.9
    assert 0.25 < returns["pointwise", "corridor of 2"] < 0.75
    assert {"learning_curves.png", "returns.png"} <= {path.name for path in (tmp_path / "plots").iterdir()}
    check_best_weights(run)


def check_best_weights(run):
    """The kept weights have the highest return that was logged, in the episodes of these evaluations."""
    logged = [
        line["eval/return"]
        for line in metrics.read(run.folder)
        if line["stage"] == "pointwise" and "eval/return" in line
    ]
    best = train_policies(SMALL, run, "pointwise").state.best
    assert float(best.mean_return[0]) == pytest.approx(max(logged))
    assert len(logged) == 3
    policy_env = make_policy_env(SMALL)
    policy = build_policy(SMALL, policy_env, "pointwise")
    params = jax.tree.map(lambda leaf: leaf[0], best.params)

    def play(state, key, observation, return_so_far):
        return policy.act_greedily(params, state, observation)

    key = jax.random.fold_in(jax.random.key(0), 2**31)
    episodes = jax.jit(lambda: collect_episodes(policy_env.env, play, policy.init_state(8), key, 8))()
    assert float(episodes.returns.mean()) == pytest.approx(float(best.mean_return[0]), abs=1e-5)


def test_a_pole_of_which_positions_are_seen_is_evaluated_in_gymnasium(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "_MAX_FRAMES", 3)
    config = dataclasses.replace(
        SMALL,
        networks=("gru",),
        env=settings.EnvConfig("cart_pole"),
        ppo=settings.PPOConfig(num_steps=512, num_envs=4, rollout_length=16),
        eval=settings.EvalConfig(2),
    )
    rl_memory.run(config, Run(folder=tmp_path, config=config))
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["environment"] == "cart pole without velocities"
    assert 5 < row["mean_return"] < 200
    assert (tmp_path / "videos" / "gru.gif").stat().st_size > 1000


def test_returns_in_an_aliased_graph_are_the_share_of_goals_that_are_reached():
    config = dataclasses.replace(SMALL, env=settings.EnvConfig("aliased_graph", num_nodes=4, edge_probability=0.5))
    policy_env = make_policy_env(config)
    policy = build_policy(config, policy_env, "gru")
    params = jax.jit(jax.vmap(policy.init))(jax.random.split(jax.random.key(0), 1))
    returns = evaluate_in_env(config, policy_env.env, policy, params, 0)
    assert returns.shape == (1, 64)
    assert set(returns.ravel().tolist()) <= {0.0, 1.0}


def test_a_graph_without_a_way_to_a_goal_is_refused_in_one_line():
    config = dataclasses.replace(SMALL, env=settings.EnvConfig("aliased_graph", num_nodes=4, edge_probability=1e-4))
    with pytest.raises(UserError, match=r"--env.edge-probability 0.0001, --seed 0: no goal can be reached"):
        make_policy_env(config)


def test_all_presets_are_sound():
    for preset in settings.PRESETS.values():
        assert not find_declaration_errors(preset.config)
        check(preset.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ("gru", "gru")}, "each once"),
        ({"ppo": settings.PPOConfig(num_minibatches=3)}, "num-minibatches"),
        ({"eval": settings.EvalConfig(factors=(1, 1))}, "--eval.factors 1 1: give at least one number, each once"),
        ({"eval": settings.EvalConfig(factors=())}, "--eval.factors without a value: give at least one number"),
        ({"env": settings.EnvConfig(num_nodes=7)}, "an even number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        check(dataclasses.replace(settings.DEFAULT, **changes))
