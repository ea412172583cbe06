"""The task of policies with a memory, from its config to its results."""

import dataclasses
import json
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import rl_memory
from thinking.errors import UserError
from thinking.experiment import Run
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors
from thinking.recipes.cart_pole import videos
from thinking.recipes.groups import OptimizerConfig
from thinking.recipes.rl_memory import config as settings
from thinking.recipes.rl_memory import evaluation
from thinking.recipes.rl_memory.environments import make_env_spec
from thinking.recipes.rl_memory.evaluation import evaluate_in_env
from thinking.recipes.rl_memory.training import BestPolicy, build_policy, keep_best
from thinking.train_state import RunnerState, TrainState

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
    rl_memory.run(SMALL, Run(folder=tmp_path, config=SMALL))
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    returns = {(row["network"], row["environment"]): row["mean_return"] for row in rows}
    assert returns["gru", "corridor of 2"] > 0.9
    assert 0.25 < returns["pointwise", "corridor of 2"] < 0.75
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    num_env_steps = {line["stage"]: line["rollout/num_env_steps"] for line in lines}
    num_eval_env_steps = {line["stage"]: line["eval/num_env_steps"] for line in lines}
    for row in rows:
        assert row["num_env_steps"] == num_env_steps[row["network"]] == 15_360
        assert row["num_eval_env_steps"] == num_eval_env_steps[row["network"]]
        assert row["num_eval_env_steps"] >= 3 * 8 * 3  # three evaluations of eight episodes, of three steps at least
    assert {"learning_curves.png", "returns.png"} <= {path.name for path in (tmp_path / "plots").iterdir()}


class SimpleEpisodes(NamedTuple):
    """What `keep_best` reads of episodes."""

    returns: jax.Array
    length: jax.Array


def test_each_seed_keeps_the_weights_of_its_best_evaluation_and_the_later_of_equals():
    best = BestPolicy({"weights": jnp.zeros((2, 3))}, jnp.full(2, -jnp.inf), jnp.zeros(2, jnp.int32))
    for number, returns in enumerate([(1.0, 5.0), (3.0, 4.0), (3.0, 5.0), (2.0, -1.0)], start=1):
        episodes = SimpleEpisodes(
            jnp.array([[mean - 0.5, mean + 0.5] for mean in returns]), jnp.array([[1, number]] * 2)
        )
        best = jax.vmap(keep_best)(best, {"weights": jnp.full((2, 3), float(number))}, episodes)
    np.testing.assert_array_equal(best.mean_return, [3, 5])
    np.testing.assert_array_equal(best.num_eval_env_steps, [4 * 1 + (1 + 2 + 3 + 4)] * 2)
    np.testing.assert_array_equal(best.params["weights"], [[3, 3, 3], [3, 3, 3]])


def test_the_best_weights_are_evaluated(monkeypatch):
    evaluated = []

    def evaluate(config, env, policy, params, seed):
        evaluated.append(params)
        return np.zeros((1, 2))

    monkeypatch.setattr(evaluation, "evaluate_in_env", evaluate)
    last, best = ({"weights": jnp.full(1, number)} for number in (1.0, 2.0))
    state = RunnerState(TrainState(last, ()), jax.random.key(0), best=BestPolicy(best, 0.0, 30))
    rows = evaluation.evaluate_policies(SMALL, None, "gru", SimpleNamespace(state=state))
    assert evaluated == [best, best]
    assert {row["num_eval_env_steps"] for row in rows} == {30}


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
    env_spec = make_env_spec(config)
    policy = build_policy(config, env_spec, "gru")
    params = jax.jit(jax.vmap(policy.init))(jax.random.split(jax.random.key(0), 1))
    returns = evaluate_in_env(config, env_spec.env, policy, params, 0)
    assert returns.shape == (1, 64)
    assert set(returns.ravel().tolist()) <= {0.0, 1.0}


def test_a_graph_without_a_way_to_a_goal_is_refused_in_one_line():
    config = dataclasses.replace(SMALL, env=settings.EnvConfig("aliased_graph", num_nodes=4, edge_probability=1e-4))
    with pytest.raises(UserError, match=r"--env.edge-probability 0.0001, --seed 0: no goal can be reached"):
        make_env_spec(config)


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
