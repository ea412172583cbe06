"""The benchmark of PPO beside rejax, which need not be installed here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from thinking.benchmarks import baselines, ppo_training
from thinking.benchmarks.config import PRESETS, PPOConfig
from thinking.benchmarks.measurement import Setup
from thinking.environments import control
from thinking.experiment import Run

TINY = PRESETS["smoke"].config.ppo


def test_own_training_is_measured_without_the_rival(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "list_missing", lambda *packages: list(packages))
    config = dataclasses.replace(TINY, num_seeds=1)
    (row,) = ppo_training.measure_ppo(config, Setup(Run(folder=tmp_path, config=None), gflops=1.0)).rows
    assert row["env_steps_per_second"] > 0
    assert 8 <= row["final_return"] <= 500
    assert row["times_faster_than_rejax"] is None
    assert "pip install rejax" in "".join(capsys.readouterr())


def test_number_of_steps_is_whole_rollouts_between_evaluations():
    assert ppo_training.count_steps(PPOConfig()) == 496_640  # ten times 97 rollouts of 512
    assert ppo_training.count_steps(dataclasses.replace(PPOConfig(), num_steps=1)) == 5120


def test_adapter_resets_where_an_episode_is_done():
    env = control.make_env("CartPole-v1", max_episode_steps=2)
    adapter = ppo_training._RejaxEnv(env)
    observation, state = adapter.reset(jax.random.key(0), None)
    step = jax.jit(lambda key, state: adapter.step(key, state, jnp.int32(1), None))
    first, state, reward, done, _ = step(jax.random.key(1), state)
    assert (float(reward), bool(done)) == (1.0, False)
    assert np.abs(first - observation).max() > 0.1  # pushed
    second, state, _, done, _ = step(jax.random.key(2), state)
    assert bool(done)
    assert np.abs(second).max() <= 0.05  # a new start
    assert int(state.time) == 0
