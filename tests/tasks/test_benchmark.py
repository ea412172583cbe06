"""The benchmark: it measures, and it tells a run that survives from one that does not."""

import dataclasses
import json
import sys

import pytest

from tasks import benchmark
from thinking.benchmarks import guides, rivals
from thinking.errors import RunError
from thinking.experiment import Run
from thinking.experiment.robustness import final_digest, run_killed, run_undisturbed

# Counts lives in a file; ends in the life that is the third or later, and takes a while in each.
COUNTING = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True)
lives = folder / "lives"; count = int(lives.read_text()) if lives.exists() else 0
lives.write_text(str(count + 1))
if count < 2: time.sleep(60)
(folder / "results.json").write_text(json.dumps({"rows": [], "state_digest": f"{count >= 2}"}))
"""


def test_a_run_is_killed_until_it_comes_to_its_end(tmp_path):
    command = [sys.executable, "-c", COUNTING, str(tmp_path / "killed")]
    assert run_killed(command, longest=1.0, kills=2, seed=0) == 2
    assert final_digest(tmp_path / "killed") == "True"


def test_a_run_that_fails_by_itself_is_not_taken_for_killed(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such graph')"]
    with pytest.raises(RunError, match="no such graph"):
        run_undisturbed(command)
    with pytest.raises(RunError, match="no such graph"):
        run_killed(command, longest=60.0, kills=1, seed=0)


def test_the_benchmark_measures_every_kernel_and_what_saving_costs(tmp_path, monkeypatch):
    # The guides' timing is two kernels in one loop; that of tables alone compiles in a fraction of the time.
    monkeypatch.setattr(guides, "GUIDES", {"table": 16})
    config = dataclasses.replace(benchmark.PRESETS["smoke"], artifacts=tmp_path, parts=("kernels", "guides"))
    benchmark.run(config, Run(folder=tmp_path, config=config))
    written = json.loads((tmp_path / "results.json").read_text())
    kernels = [row for row in written["rows"] if "fit_ms" in row]
    assert {row["measured"] for row in kernels} >= {"table", "table, hashed", "linear", "transformer"}
    assert all(row["fit_ms"] > 0 and row["infer_ms"] > 0 for row in kernels)
    # 6 times the weights multiplied with: attention 4 D², feed-forward 8 D², slots D S (values + 1), here by hand.
    weights = 4 * 16**2 + 8 * 16**2 + 16 * 4 * (8 + 1)
    (transformer,) = [row for row in kernels if row["measured"] == "transformer"]
    assert transformer["floor_ms"] == pytest.approx(6 * weights * 32 / written["matmul_gflops"] / 1e6)
    assert 0 < written["checkpoint_share_of_training"] < 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # nothing but results stays


def test_the_benchmark_measures_sequence_models_with_no_rival_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rivals, "missing", lambda *packages: list(packages))
    parts = "attention", "training", "long_context", "embedding"
    config = dataclasses.replace(benchmark.PRESETS["smoke"], artifacts=tmp_path, parts=parts)
    benchmark.run(config, Run(folder=tmp_path, config=config))
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    measured = {row["measured"]: row for row in rows}
    assert {"training step", "decoder, window 4 and first 2"} <= measured.keys()
    assert measured["embedding, all-MiniLM-L6-v2"]["sentences_per_second"] > 0
    assert measured["attention, Window(size=4)"]["times_faster_than_dense"] > 0
    assert 0 < measured["decoder, window 4 and first 2"]["forward_peak_gib"] < 4
    # 6 operations for each weight and token and 12 T D for attention, by hand.
    weights, training = 12 * 16**2 + 256 * 16, measured["training step"]
    gflops = json.loads((tmp_path / "results.json").read_text())["matmul_gflops"]
    assert training["floor_ms"] == pytest.approx((6 * weights + 12 * 8 * 16) * 16 / gflops / 1e6)
    assert "pip install torch" in "".join(capsys.readouterr())
