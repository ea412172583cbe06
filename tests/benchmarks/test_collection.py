"""The benchmark of experience collection."""

import dataclasses
from typing import get_args

from thinking.benchmarks.collection import measure_collection
from thinking.benchmarks.config import CollectionConfig, EnvName
from thinking.benchmarks.measurement import Setup
from thinking.environments import control
from thinking.experiment import Run


def test_collection_rates_of_guide_and_policy_are_measured(tmp_path):
    config = dataclasses.replace(CollectionConfig(), num_envs=4, num_steps=3)
    guide, policy = measure_collection(config, Setup(Run(folder=tmp_path, config=None), gflops=1.0)).rows
    assert guide["env_steps_per_second"] > 0
    assert policy["env_steps_per_second"] > 0
    # Separate actor and critic with two hidden layers each: 4 observations, 2 actions, 1 value.
    hidden = (4 * 64 + 64) + (64 * 64 + 64)
    assert policy["num_parameters"] == 2 * hidden + (64 * 2 + 2) + (64 + 1)
    assert guide["num_parameters"] == 25_896


def test_env_names_match_the_control_environments():
    assert get_args(EnvName) == control.NAMES
