"""Whether a change of the code leaves every number as it was: tiny runs of all tasks, before and after, bit for bit.

    ./run_manual.sh local tests/baseline.py record before.json     # then change the code
    ./run_manual.sh local tests/baseline.py compare before.json    # ends with 1 where a bit differs

Together the runs reach every algorithm, style, mode and search. What is recorded are the metrics without times, the
rows of results without times, and a digest of every array of the last checkpoints; names may change, numbers may not.
Programs are compiled as the tests compile them, and only runs on one machine can be compared.
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
FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_multi_thread_eigen=false"
)
TIMES = ("second", "_ms", "gflops", "gbps", "threshold")

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
        for gradient in ("search", "reinforce", "none")
    ],
    "thoughts-converted": [
        f"{THINK} {PROBLEM} --problem.name modular:3 --thoughts none discrete continuous --thought.convert-from-none "
        "--thought.split --supervision.chain-weight 0.1"
    ],
    "thoughts-gumbel": [
        f"{THINK} {PROBLEM} --problem.name list --thoughts pause discrete --thought.gradient gumbel --thought.blind "
        "--thought.num-tokens 5 --thought.token-width 8"
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
"""The commands of each run, one after the other; each sees the artifacts of those before it."""

CHATS = {
    f"chat-{method}": f"{ARITHMETIC} --chat --answer.method {method} --answer.num-samples 3"
    for method in (
        *("greedy", "majority_vote", "best_value", "best_likelihood", "verifier"),
        *("beam_search", "revision", "tree_search"),
    )
}
RUNS |= {name: [command] for name, command in CHATS.items()}


def run(name: str, folder: Path, cache: Path) -> dict[str, object]:
    """Run the commands of one name in a folder of its own, and return what is compared."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": FLAGS,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": str(ROOT / "src"),
    }
    printed = []
    for command in RUNS[name]:
        task, *flags = command.split(" ")
        words = [sys.executable, str(ROOT / "tasks" / task), *flags]
        typed = "1+2\nWhat is 3 plus 4?\n" if "--chat" in flags else ""
        done = subprocess.run(
            words, cwd=folder, env=environment, input=typed, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name}: {command}\nended with {done.returncode}\n{done.stderr[-2000:]}")
        if "--chat" in flags:
            printed = [line for line in done.stdout.splitlines() if "steps/s" not in line]
    return {**recorded(folder / "artifacts"), **({"printed": printed} if printed else {})}


def recorded(artifacts: Path) -> dict[str, object]:
    """Metrics, rows and arrays below a folder of artifacts, without times and without the names of what is told."""
    metrics, rows, arrays = [], [], []
    for file in sorted(artifacts.rglob("metrics.jsonl")):
        metrics += [without_times(json.loads(line)) for line in file.read_text().splitlines()]
    for file in sorted(artifacts.rglob("results.json")):
        rows += [without_times(row) for row in json.loads(file.read_text())["rows"]]
    for stage in sorted(path for path in artifacts.rglob("checkpoints/*") if path.is_dir()):
        arrays.append([stage.name, arrays_of(stage)])
    return {"metrics": metrics, "rows": rows, "arrays": arrays}


def arrays_of(stage: Path) -> list[str]:
    """A digest of each array of the newest checkpoint, by shape and bytes; sorted, so that names play no part."""
    from orbax.checkpoint import v1 as ocp

    newest = max((path for path in stage.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    leaves = ocp.load(newest.resolve()).values()
    return sorted(f"{leaf.dtype}{leaf.shape} {hashlib.sha256(bytes(leaf)).hexdigest()[:16]}" for leaf in leaves)


def without_times(record: dict[str, object]) -> list[object]:
    """The values of a record, without those that tell of time."""
    values = [value for name, value in record.items() if not any(word in name for word in TIMES)]
    return sorted(values, key=lambda value: (isinstance(value, str), str(value)))


def differences(before: dict[str, dict], after: dict[str, dict]) -> list[str]:
    """One line for each thing that is not as it was; arrays that came or went are named with their number."""
    found = []
    for name in after:
        for part in before[name]:
            old, new = before[name][part], after[name][part]
            if part == "arrays":
                for (stage, had), (_, has) in zip(old, new, strict=True):
                    lost, came = multiset_difference(had, has), multiset_difference(has, had)
                    if lost or came:
                        found.append(
                            f"{name}: {stage}: {len(lost)} arrays lost {lost[:3]}, {len(came)} came {came[:3]}"
                        )
            elif old != new:
                found.append(f"{name}: {part} differ: {first_difference(old, new)}")
    return found


def multiset_difference(left: list[str], right: list[str]) -> list[str]:
    """What `left` has more often than `correct_letters`."""
    rest = list(right)
    return [item for item in left if item not in rest or rest.remove(item)]


def first_difference(old: list, new: list) -> str:
    """Where two lists part."""
    at = next((index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return f"{len(old)} and {len(new)} lines; the first that differs, {at}: {old[at:][:1]} and {new[at:][:1]}"


def main() -> None:
    """Record, or compare with a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    cache = Path(tempfile.gettempdir()) / "thinking-baseline-cache"
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:

        def one(name: str) -> dict[str, object]:
            folder, began = Path(scratch, name), time.monotonic()
            folder.mkdir()
            found = run(name, folder, cache)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            return found

        found = json.loads(json.dumps(dict(zip(arguments.only, pool.map(one, arguments.only), strict=True))))
    if arguments.mode == "record":
        arguments.file.write_text(json.dumps(found, indent=1))
        return
    lines = differences(json.loads(arguments.file.read_text()), found)
    print("\n".join(lines) or f"{len(found)} runs: the same bits")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
