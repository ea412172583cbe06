"""How fast experience is collected."""

import dataclasses
from typing import get_args

from thinking.benchmarks.collection import measure_collection
from thinking.benchmarks.config import CollectionConfig, EnvName
from thinking.benchmarks.measurement import Setup
from thinking.environments import control
from thinking.experiment import Run


def test_the_guide_and_the_policy_of_the_cart_pole_task_collect_experience(tmp_path):
    config = dataclasses.replace(CollectionConfig(), num_envs=4, num_steps=3)
    guide, policy = measure_collection(config, Setup(Run(folder=tmp_path, config=None), gflops=1.0)).rows
    assert guide["environment_steps_per_second"] > 0
    assert policy["environment_steps_per_second"] > 0
    # Actor and critic apart, two hidden layers each, and 4 numbers observed, 2 actions and 1 value, by hand.
    hidden = (4 * 64 + 64) + (64 * 64 + 64)
    assert policy["parameters"] == 2 * hidden + (64 * 2 + 2) + (64 + 1)
    assert guide["parameters"] == 25_896


def test_the_worlds_are_those_of_the_environments():
    assert get_args(EnvName) == control.NAMES
