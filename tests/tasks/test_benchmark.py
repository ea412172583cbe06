"""The benchmark task: every part runs, and its operation counts equal hand-computed ones."""

import dataclasses
import json
from typing import get_args

import pytest

from tasks import benchmark
from thinking.benchmarks import baselines, guides, mixers
from thinking.benchmarks.config import Part
from thinking.errors import UserError
from thinking.experiment import Run, flags
from thinking.experiment.config_fields import check
from thinking.experiment.settings import find_declaration_errors

SMOKE = benchmark.PRESETS["smoke"].config


def run_parts(folder, *parts):
    """Run some parts at tiny sizes, and return the results."""
    config = dataclasses.replace(SMOKE, artifacts=folder, parts=parts)
    benchmark.run(config, Run(folder=folder, config=config))
    return json.loads((folder / "results.json").read_text())


def test_kernels_and_checkpoints_are_measured(tmp_path, monkeypatch):
    # A guide of tables alone compiles in a fraction of the time.
    monkeypatch.setattr(guides, "GUIDES", {"table": 16})
    results = run_parts(tmp_path, "kernels", "guides")
    kernels = [row for row in results["rows"] if "fit_ms" in row]
    assert {row["benchmark"] for row in kernels} >= {"table", "table, hashed", "linear", "transformer"}
    assert all(row["fit_ms"] > 0 and row["infer_ms"] > 0 for row in kernels)
    # 6 operations per weight: attention 4 D², feed-forward 8 D², slots D S (values + 1).
    weights = 4 * 16**2 + 8 * 16**2 + 16 * 4 * (8 + 1)
    (transformer,) = [row for row in kernels if row["benchmark"] == "transformer"]
    assert transformer["flops_bound_ms"] == pytest.approx(6 * weights * 32 / results["matmul_gflops"] / 1e6)
    assert 0 < results["checkpoint_share_of_training"] < 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # only results remain


def test_sequence_models_are_measured_without_baselines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "list_missing", lambda *packages: list(packages))
    results = run_parts(tmp_path, "attention", "training", "long_context", "embedding")
    rows = {row["benchmark"]: row for row in results["rows"]}
    assert {"training step", "decoder, window 4 and first 2"} <= rows.keys()
    assert rows["embedding, all-MiniLM-L6-v2"]["sentences_per_second"] > 0
    assert rows["attention, Window(size=4)"]["times_faster_than_dense"] > 0
    assert 0 < rows["decoder, window 4 and first 2"]["forward_peak_gib"] < 4
    # 6 operations per weight and token, and 12 T D for attention.
    weights, training = 12 * 16**2 + 256 * 16, rows["training step"]
    assert training["flops_bound_ms"] == pytest.approx(
        (6 * weights + 12 * 8 * 16) * 16 / results["matmul_gflops"] / 1e6
    )
    assert "pip install torch" in "".join(capsys.readouterr())


def test_mixers_are_measured_beside_attention_and_their_states_do_not_grow(tmp_path, monkeypatch):
    # Two compile in a fraction of the time.
    monkeypatch.setattr(mixers, "MIXERS", ("attention", "linear_recurrence"))
    rows = {row["benchmark"].split()[-1]: row for row in run_parts(tmp_path, "mixers")["rows"]}
    assert set(rows) == {"attention", "linear_recurrence"}
    for name, row in rows.items():
        growth = row["state_bytes_at_131072"] / row["state_bytes_at_1024"]
        assert growth == (128 if name == "attention" else 1)
        assert row["times_faster_than_dense"] == pytest.approx(rows["attention"]["ms"] / row["ms"])


def test_every_part_has_a_function_and_a_config():
    names = set(get_args(Part))
    assert set(benchmark.make_measure_fns()) == names
    assert all(dataclasses.is_dataclass(getattr(SMOKE, name)) for name in names)


@pytest.mark.parametrize("name", benchmark.PRESETS)
def test_presets_are_declared_and_valid(name):
    config = benchmark.PRESETS[name].config
    assert find_declaration_errors(config) == []
    check(config)


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        ("--parts", "--parts: name at least one of kernels, guides"),
        ("--parts search search", "--parts search search: name at least one of kernels"),
        (
            "--training.num-microbatches 3",
            "--training.num-microbatches 3: allowed is a divisor of --training.batch-size",
        ),
        ("--kernels.transformer.width 12", "--kernels.transformer.width 12: allowed is a multiple of twice"),
        ("--attention.long-sequence-lengths 20000", "--attention.long-sequence-lengths 20000: allowed is at least one"),
        ("--post-training.num-prompts 3 --post-training.num-generations 3", "--post-training.num-generations 3"),
        ("--kernels.batch-size 0", "--kernels.batch-size 0: allowed is a whole number from 1"),
    ],
)
def test_invalid_value_raises_and_is_named(command_line, message):
    with pytest.raises(UserError) as error:
        flags.parse(benchmark.PRESETS, command_line.split(), "benchmark.py")
    assert message in str(error.value)
