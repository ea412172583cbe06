"""Benchmarks of this machine: kernels, guides, attention, decoders, search and checkpoints, beside baselines.

A guide is a hierarchical goal-conditioned planner, and a kernel the learner of one of its layers. Each part is a module
of `thinking.benchmarks`; its sizes are the group of flags with its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.benchmarks.config import EXAMPLES, PRESETS, Config
from thinking.experiment import Run, main

if TYPE_CHECKING:
    from thinking.benchmarks.measurement import Measure, Row


def run(config: Config, run: Run) -> None:
    """Measure part by part, print and write."""
    from thinking.benchmarks.measurement import Setup
    from thinking.experiment.device import measure_matmul_gflops, measure_memory_gbps
    from thinking.experiment.results import write_results

    setup, bandwidth = Setup(run, measure_matmul_gflops()), measure_memory_gbps()
    run.log(f"float32 matrix product: {setup.gflops:.0f} GFLOP/s; memory: {bandwidth:.1f} GB/s")
    rows: list[Row] = []
    states: dict[str, Any] = {}
    figures: Row = {}
    measures = make_measure_fns()
    for part in config.parts:
        run.log(f"measuring {part}")
        measured = measures[part](getattr(config, part), setup)
        rows += measured.rows
        states |= measured.states
        figures |= measured.figures
    again = measure_matmul_gflops()  # other load on the machine may have changed
    figures |= {"matmul_gflops": setup.gflops, "matmul_gflops_after": again, "memory_gbps": bandwidth}
    write_results(run, rows, states, **figures)


def make_measure_fns() -> dict[str, Measure]:
    """The measure function of each part, by name."""
    from thinking.benchmarks import (
        attention_speed,
        collection,
        decoder_training,
        embedding,
        generation,
        guides,
        kernels,
        long_context,
        mixers,
        ppo_training,
        rl_step,
        tree_search,
        utilisation,
    )

    return {
        "kernels": kernels.measure_kernels,
        "guides": guides.measure_guides,
        "attention": attention_speed.measure_attention,
        "mixers": mixers.measure_mixers,
        "training": decoder_training.measure_training,
        "generation": generation.measure_generation,
        "search": tree_search.measure_search,
        "post_training": rl_step.measure_post_training,
        "long_context": long_context.measure_long_context,
        "embedding": embedding.measure_embedding,
        "collection": collection.measure_collection,
        "ppo": ppo_training.measure_ppo,
        "utilisation": utilisation.measure_utilisation,
    }


if __name__ == "__main__":
    main("benchmark", run, PRESETS, EXAMPLES)
