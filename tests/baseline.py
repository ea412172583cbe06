"""Compare tiny runs of all tasks bit for bit, before and after a change of the code.

    ./run_manual.sh local tests/baseline.py record before.json     # then change the code
    ./run_manual.sh local tests/baseline.py compare before.json    # ends with 1 where a bit differs

Together the runs reach every algorithm, style, mode and search. A recording holds all metrics and result rows except
timings, and a digest of every array of the last checkpoints. Names may change, numbers may not. Programs are compiled
with the flags of the tests. Only recordings of one machine can be compared.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
XLA_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_multi_thread_eigen=false"
)
TIMING_KEYWORDS = ("second", "_ms", "gflops", "gbps", "threshold")

ARITHMETIC = "arithmetic.py --preset smoke"
THINK = "think_tokens.py --preset smoke"
PROBLEM = "--problem.length 3 --training.num-steps 60 --curriculum.threshold 0.4"
LM = ("lm_guide_train.py", "lm_guide_inference.py", "lm_data_interpret.py")
RUNS: dict[str, list[str]] = {
    "graph": ["simple.py --preset smoke"],
    "graph-learned": [
        "simple.py --preset smoke --guides linear entropy_transformer --guide.entropy-statistic learned "
        "--transformer.access score --linear.access value --guide.context-length 2 --guide.num-layers 2 "
        "--guide.skip-step 3 --transformer.num-layers 2"
    ],
    "graph-aliased": ["graph_aliased.py --preset smoke --walks.num-walks 100"],
    "pole": ["rl_cart_pole.py --preset smoke --algorithms guide ppo reinforce --seeds 2"],
    "pole-newest": [
        "rl_cart_pole.py --preset smoke --algorithms guide --buffer.retention newest --guide.num-layers 3 "
        "--guide.skip-step 2 --guide.ema-decay 0.5 --guide.context-length 2 --eval.target-returns 20 "
        "--env.episode-limit 100"
    ],
    "car": [
        "rl_cart_pole.py --preset smoke --env.name MountainCarContinuous-v0 --algorithms guide reinforce "
        "--collection.update-return-to-go --collection.mean-action-duration 4 --guide.score temporal_difference "
        "--guide.score-rewards --guide.num-slots 4 --reinforce.no-baseline --eval.target-returns"
    ],
    "pendulum": [
        "rl_cart_pole.py --preset smoke --env.name Pendulum-v1 --algorithms guide ppo --guide.num-layers 1 "
        "--eval.target-returns -900"
    ],
    "arithmetic": [
        f"{ARITHMETIC} --styles chain_of_thought direct self_correction --eval.injected-errors --search.sources add:2 "
        "--search.num-problems 4 --search.num-samples 2"
    ],
    "arithmetic-kl": [
        f"{ARITHMETIC} --rl.kl-weight 0.1 --rewards.length-weight 0.1 --model.no-gated --rl.num-epochs 2 "
        "--data.reverse-digits"
    ],
    "arithmetic-ppo": [f"{ARITHMETIC} --rl.algorithm ppo --rl.gae-lambda 0.9"],
    "arithmetic-ppo-whole": [
        f"{ARITHMETIC} --rl.algorithm ppo --rl.advantage completion --curriculum.enabled --curriculum.threshold 0.01 "
        "--rl.num-sampled-prompts 4"
    ],
    "arithmetic-reinforce": [f"{ARITHMETIC} --rl.algorithm reinforce --rl.no-prioritized"],
    "arithmetic-reinforce-whole": [
        f"{ARITHMETIC} --rl.algorithm reinforce --rl.advantage completion --rl.no-prioritized"
    ],
    "arithmetic-grpo-whole": [
        f"{ARITHMETIC} --rl.advantage completion --styles direct --search.sources add:2 --search.num-problems 4 "
        "--search.num-samples 2"
    ],
    "arithmetic-imitation": [f"{ARITHMETIC} --rl.algorithm expert_iteration"],
    "arithmetic-subtasks": [
        f"{ARITHMETIC} --styles subtasks --data.reverse-digits --rl.algorithm none --eval.num-problems 2"
    ],
    "arithmetic-places": [
        f"{ARITHMETIC} --model.positions digit --data.reverse-digits --rl.algorithm none --curriculum.enabled "
        "--curriculum.threshold 0.01"
    ],
    "spelling": [
        "text_generation.py --preset smoke",
        "text_generation.py --target ab --rl.num-updates 20 --rl.batch-size 8 --model.width 16 --model.num-heads 2 "
        "--artifacts artifacts/whole",
    ],
    "thoughts": [f"{THINK} --training.num-steps 60"],
    "thoughts-group": [
        f"{THINK} {PROBLEM} --thoughts discrete --thought.gradient grpo --rl.num-generations 4 "
        "--thought.end-thought --rl.repetition-penalty 0.1"
    ],
    "thoughts-drawn": [
        f"{THINK} {PROBLEM} --problem.name s3 --thoughts discrete --thought.gradient {gradient} "
        f"--rl.num-generations 4 --artifacts artifacts/{gradient}"
        for gradient in ("expert_iteration", "reinforce", "none")
    ],
    "thoughts-converted": [
        f"{THINK} {PROBLEM} --problem.name modular:3 --thoughts none discrete continuous --thought.convert-from-none "
        "--thought.separate-blocks --supervision.chain-weight 0.1"
    ],
    "thoughts-gumbel": [
        f"{THINK} {PROBLEM} --problem.name list --thoughts pause discrete --thought.gradient gumbel "
        "--thought.hide-word --thought.num-tokens 5 --thought.token-width 8"
    ],
    "thoughts-code": ["invent_code.py --training.num-steps 40 --training.batch-size 16 --model.width 16"],
    "thoughts-text": [
        "lm_think.py --preset smoke",
        "lm_think.py --preset smoke --text.bpe-tokens 300 --window.target-length 1 --thoughts reinforced "
        "--rl.num-generations 1 --artifacts artifacts/bpe",
    ],
    "language": ["lm_data_prepare.py --preset smoke", f"{LM[0]} --preset smoke", f"{LM[1]} --preset smoke", LM[2]],
    "language-table": [
        "lm_data_prepare.py --preset smoke",
        "lm_guide_train.py --preset smoke --codes.kind tokens --layers.kernel table --layers.width 64 "
        "--layers.upper-width 64 --training.num-pairs 0",
        f"{LM[1]} --preset smoke",
        LM[2],
    ],
    "language-linear": [
        "lm_data_prepare.py --preset smoke",
        "lm_guide_train.py --preset smoke --layers.kernel linear --layers.context-lengths 2 1",
        f"{LM[1]} --preset smoke",
    ],
}  # fmt: skip
"""The commands of each run, in order. Each finds the artifacts of the previous ones."""

CHATS = {
    f"chat-{method}": f"{ARITHMETIC} --chat --answer.method {method} --answer.num-samples 3"
    for method in (
        *("greedy", "majority_vote", "best_value", "best_likelihood", "verifier"),
        *("beam_search", "revision", "best_first", "tree_search"),
    )
}
RUNS |= {name: [ARITHMETIC, command] for name, command in CHATS.items()}


def run_commands(name: str, folder: Path, cache: Path) -> dict[str, object]:
    """Run the commands of one run in its own folder, and return its results."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": XLA_FLAGS,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT / "src"),
    }
    printed_lines = []
    for command in RUNS[name]:
        task, *flags = command.split(" ")
        process_arguments = [sys.executable, str(ROOT / "tasks" / task), *flags]
        stdin = "1+2\nWhat is 3 plus 4?\n" if "--chat" in flags else ""
        process = subprocess.run(
            process_arguments, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise SystemExit(f"{name}: {command}\nended with {process.returncode}\n{process.stderr[-2000:]}")
        if "--chat" in flags:
            printed_lines = [line for line in process.stdout.splitlines() if "steps/s" not in line]
    return {**collect_results(folder / "artifacts"), **({"printed": printed_lines} if printed_lines else {})}


def collect_results(artifacts: Path) -> dict[str, object]:
    """Metrics, result rows and array digests below a folder of artifacts, without timings and names."""
    metrics, rows, arrays = [], [], []
    for file in sorted(artifacts.rglob("metrics.jsonl")):
        metrics += [drop_timings(json.loads(line)) for line in file.read_text().splitlines()]
    for file in sorted(artifacts.rglob("results.json")):
        rows += [drop_timings(row) for row in json.loads(file.read_text())["rows"]]
    for checkpoint_folder in sorted(path for path in artifacts.rglob("checkpoints/*") if path.is_dir()):
        arrays.append([checkpoint_folder.name, compute_array_digests(checkpoint_folder)])
    return {"metrics": metrics, "rows": rows, "arrays": arrays}


def compute_array_digests(checkpoint_folder: Path) -> list[str]:
    """A digest of each array of the newest checkpoint, by shape and bytes. Sorted, as names are ignored."""
    from orbax.checkpoint import v1 as ocp

    newest = max(
        (path for path in checkpoint_folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name)
    )
    leaves = ocp.load(newest.resolve()).values()
    return sorted(f"{leaf.dtype}{leaf.shape} {hashlib.sha256(bytes(leaf)).hexdigest()[:16]}" for leaf in leaves)


def drop_timings(record: dict[str, object]) -> list[object]:
    """The values of a record, without timings."""
    values = [
        value for name, value in record.items() if name != "time" and not any(word in name for word in TIMING_KEYWORDS)
    ]
    return sorted(values, key=lambda value: (isinstance(value, str), str(value)))


def find_differences(before: dict[str, dict], after: dict[str, dict]) -> list[str]:
    """One line per difference. For arrays, the numbers of removed and added ones."""
    differences = []
    for name in after:
        for kind in before[name]:
            old_values, new_values = before[name][kind], after[name][kind]
            if kind == "arrays":
                for (stage, old_digests), (_, new_digests) in zip(old_values, new_values, strict=True):
                    removed, added = (
                        multiset_difference(old_digests, new_digests),
                        multiset_difference(new_digests, old_digests),
                    )
                    if removed or added:
                        differences.append(
                            f"{name}: {stage} arrays: -{len(removed)} {removed[:3]}, +{len(added)} {added[:3]}"
                        )
            elif old_values != new_values:
                differences.append(f"{name}: {kind} differ: {describe_first_difference(old_values, new_values)}")
    return differences


def multiset_difference(left: list[str], right: list[str]) -> list[str]:
    """The items that `left` has more often than `right`."""
    remaining = list(right)
    return [item for item in left if item not in remaining or remaining.remove(item)]


def describe_first_difference(old: list, new: list) -> str:
    """Describe the first difference of two lists."""
    start = next((index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return f"{len(old)} and {len(new)} lines; the first that differs, {start}: {old[start:][:1]} and {new[start:][:1]}"


def main() -> None:
    """Record, or compare with a recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    cache = Path(tempfile.gettempdir()) / "thinking-baseline-cache"
    with tempfile.TemporaryDirectory() as root, concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:

        def run_timed(name: str) -> dict[str, object]:
            folder, start = Path(root, name), time.monotonic()
            folder.mkdir()
            result = run_commands(name, folder, cache)
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            return result

        results = json.loads(json.dumps(dict(zip(arguments.only, pool.map(run_timed, arguments.only), strict=True))))
    if arguments.mode == "record":
        arguments.file.write_text(json.dumps(results, indent=1))
        return
    differences = find_differences(json.loads(arguments.file.read_text()), results)
    print("\n".join(differences) or f"{len(results)} runs: bit-identical")
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
