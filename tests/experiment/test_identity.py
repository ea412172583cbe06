"""What identifies a run, and the name of its folder."""

import dataclasses
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.experiment import toy

from thinking.experiment.identity import compute_digest, describe_config, name_run

DEFAULT = toy.PRESETS["default"]
AFFECTING = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3),
        "width": st.integers(1, 4),
        "edge_probability": st.sampled_from([0.1, 0.25]),
        "kind": st.sampled_from(["mean", "sum"]),
        "aliased": st.booleans(),
    }
)


@given(first=AFFECTING, second=AFFECTING, steps=st.integers(1, 9))
def test_folders_are_equal_exactly_if_the_settings_that_affect_weights_are(first, second, steps):
    names = [
        name_run(dataclasses.replace(DEFAULT, **first, steps=steps), toy.PRESETS),
        name_run(dataclasses.replace(DEFAULT, **second, plan=("a", "b")), toy.PRESETS),
    ]
    assert (names[0] == names[1]) == (first == second)
    assert all(set(name) <= {*string.ascii_letters, *string.digits, *"-._"} for name in names)
    assert max(map(len, names)) < 100


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "default-seed0-"),
        ({"seed": 7, "width": 2}, "smoke-seed7-"),
        ({"width": 9, "kind": "sum", "aliased": True}, "default-width9-kind-sum-seed0-"),
        ({"edge_probability": 0.5, "aliased": True}, "default-edge-probability0.5-aliased-seed0-"),
    ],
)
def test_name_has_the_nearest_preset_the_first_changes_and_the_seed(changes, name):
    assert name_run(dataclasses.replace(DEFAULT, **changes), toy.PRESETS).startswith(name)


def test_description_has_all_changes_of_the_nearest_preset():
    config = dataclasses.replace(DEFAULT, width=2, steps=20, seed=3, plan=("a", "b"), clear=True)
    assert describe_config(config, toy.PRESETS) == ("smoke", {"--seed": 3, "--plan": ["a", "b"]})


def test_a_younger_setting_with_its_default_changes_no_digest():
    @dataclasses.dataclass(frozen=True)
    class Younger(toy.Config):
        momentum: float = 0.9

    assert compute_digest(Younger(width=3)) == compute_digest(toy.Config(width=3))
    assert compute_digest(Younger(width=3, momentum=0.5)) != compute_digest(toy.Config(width=3))


def test_files_of_other_runs_identify_a_run_by_their_content(tmp_path):
    class Reading(toy.Config):
        def list_inputs(self):
            return {"text": tmp_path / "text"}

    digests = [compute_digest(Reading())]
    for content in ("a", "b", "a"):
        (tmp_path / "text").write_text(content)
        digests.append(compute_digest(Reading()))
    assert digests[1] == digests[3]
    assert len(set(digests)) == 3
