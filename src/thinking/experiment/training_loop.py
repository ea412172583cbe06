"""Interruptible training: a loop over chunks of jitted steps, bit-identical after any interruption."""

import dataclasses
import datetime
import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking import progress
from thinking.errors import RunError
from thinking.experiment import checkpoint, interruption, memory_check, metrics
from thinking.experiment.config_fields import RunConfig
from thinking.experiment.folder import Run
from thinking.trees import count_bytes, is_key
from thinking.types import Latest, Measured, State

InitFn = Callable[[], State]
TrainStepFn = Callable[[State, jax.Array], tuple]
"""`step(state, index) -> (state, metrics)`, or `(state, metrics, sample)` where samples are logged."""
LogSamples = Callable[[Any], Sequence[Mapping[str, Any]]]
"""`log_samples(sample) -> records` for `samples.jsonl`, of a sample on the host."""

_LONG_SECONDS = 2 * 3600
"""Seconds of a stage; a longer one is announced."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished stage.

    Attributes:
        state: the final state.
        seconds: wall-clock time of training over all starts, without compilation and work lost to a kill.
        compile_seconds: wall-clock time of compilation over all starts.
        checkpoint_seconds: the part of `seconds` spent waiting for saves; of a stage that was finished before, without
            its last save.
    """

    state: State
    seconds: float = 0.0
    compile_seconds: float = 0.0
    checkpoint_seconds: float = 0.0


def train(
    run: Run,
    stage: str,
    *,
    init: InitFn,
    step: TrainStepFn,
    num_steps: int,
    chunk_size: int = 100,
    progress_metric: str,
    log_samples: LogSamples | None = None,
) -> TrainResult:
    """Train one stage of a run, resume it, or restore it if it is finished.

    Args:
        run: the run; its folder takes checkpoints and metrics.
        stage: name of the stage, unique in the run; letters, digits, `.`, `_` and `-`.
        init: makes the initial state, a PyTree of arrays and numbers with all that training needs. JAX can trace it.
        step: pure function `(state, step) -> (state, metrics)`. `step` is an int32 scalar from 0, from which (and a
            seed) the batch is made; metrics are scalars (`types.Metrics`). The state keeps its structure, shapes and
            types.
        num_steps: total number of steps.
        chunk_size: steps between two checks of metrics and signals, in one compiled program.
        progress_metric: the metric shown with the progress.
        log_samples: makes records for `samples.jsonl` from the sample of each chunk's last step, a PyTree of arrays.

    Returns:
        The state after the last step, and times.

    Raises:
        RunError: a metric or the state is not finite, the saved weights do not fit, or the disk fails.
        Interrupted: SIGINT or SIGTERM; the state is saved.
        ValueError: a bad name, number or metric, which is a programming error of the task.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", stage) or num_steps < 0 or chunk_size < 1:
        raise ValueError(f"bad stage {stage!r}, num_steps {num_steps} or chunk_size {chunk_size}")
    folder = run.folder / "checkpoints" / stage
    memory_check.check_fits(run.config, count_bytes(jax.eval_shape(init)), "the state of training")
    start = jax.tree.map(_copy_leaf, init())
    restored = checkpoint.restore(folder, start)
    done, result = 0, TrainResult(start)
    if restored is not None:
        done, result = restored.step, TrainResult(restored.state, **restored.figures)
    if done > num_steps:
        raise RunError(f"stage {stage} is saved at step {done}, beyond the {num_steps} given; start anew with --clear")
    metrics.rewind(run.folder, stage, done)
    metrics.rewind(run.folder, stage, done, metrics.SAMPLES_FILE)
    if done == num_steps:
        if not run.config.find_use():  # whose output is its own
            run.log(f"{stage}: finished before, at step {done}")
        return result
    if done:
        run.log(f"{stage}: continues at step {done} of {num_steps}")
    with progress.show_status(f"{stage}: compiling"):
        run_chunk, seconds = _compile(
            run.config, step, result.state, chunk_size, progress_metric, log_samples is not None
        )
    result = dataclasses.replace(result, compile_seconds=result.compile_seconds + seconds)
    done, result = _loop(run, stage, run_chunk, result, done, num_steps, chunk_size, progress_metric, log_samples)
    if number := interruption.requested_signal():
        raise interruption.Interrupted(
            number, f"stage {stage} is saved at step {done} of {num_steps}; the same command continues from there"
        )
    return result


def _loop(
    run: Run,
    stage: str,
    run_chunk: Callable[..., Any],
    result: TrainResult,
    done: int,
    num_steps: int,
    chunk_size: int,
    progress_metric: str,
    log_samples: LogSamples | None,
) -> tuple[int, TrainResult]:
    """Run chunks until the end or a signal; returns the number of steps done and the saved result."""
    start, done_before = time.perf_counter(), done
    folder = run.folder / "checkpoints" / stage
    state, pending = result.state, None

    with (
        interruption.hold_signals(),
        checkpoint.Saver(folder) as saver,
        progress.show_progress(stage, done, num_steps, progress_metric) as advance,
    ):

        def measure_times() -> dict[str, float]:
            return {
                "seconds": result.seconds + time.perf_counter() - start,
                "compile_seconds": result.compile_seconds,
                "checkpoint_seconds": result.checkpoint_seconds + saver.blocked_seconds,
            }

        def log_chunk(first: int, last: int, figures: Any, sample: Any) -> None:
            figures = jax.tree.map(lambda leaf: leaf[: last - first], jax.device_get(figures))
            means = _summarize(folder, stage, first, figures)
            now = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
            metrics.append(run.folder, stage, last, {"time": now, **means})
            for record in log_samples(jax.device_get(sample)) if log_samples else ():
                metrics.append(run.folder, stage, last, record, metrics.SAMPLES_FILE)
            for write in run.metric_writers:
                write(stage, last, means)
            advance(last, means.get(progress_metric))
            if first == done_before:
                seconds_per_step = (time.perf_counter() - start) / (last - first)
                _warn_if_long(run.config, stage, seconds_per_step * (num_steps - last))

        def save(copied: tuple[Any, list[jax.Array]]) -> None:
            with saver.measure_blocked():
                _refuse_nan(folder, stage, done, *copied)
                metrics.flush(run.folder)
            saver.save(done, copied[0], measure_times())

        while done < num_steps and not interruption.requested_signal():
            length = _chunk_length(done, num_steps, chunk_size)
            # The state is donated to the chunk, so what is to be saved is copied before.
            copied = checkpoint.snapshot(state) if pending is not None and saver.is_due() else None
            state, figures, sample = run_chunk(state, np.int32(done), np.int32(length))
            # The metrics of the previous chunk are fetched while the device runs this one.
            if pending is not None:
                log_chunk(*pending)
            if copied is not None:
                save(copied)
            pending = (done, done + length, figures, sample)
            done += length
        if pending is not None:
            log_chunk(*pending)
            save(checkpoint.snapshot(state))
            saver.wait()
        times = measure_times()
    return done, TrainResult(state, **times)


def _compile(
    config: RunConfig, step: TrainStepFn, state: State, chunk_size: int, progress_metric: str, has_samples: bool
) -> tuple[Callable[..., Any], float]:
    """Compile the program of a chunk, and the snapshot; returns the program and seconds.

    The program is `(state, first step, number of steps) -> (state, metrics [chunk_size], last sample)`. One program
    runs chunks of all lengths, so an interruption cannot change the rounding of a step.
    """
    start = time.perf_counter()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)

    @functools.partial(jax.jit, inline=True)  # so that it is traced once for its shapes and for the loop
    def one(state: State, index: jax.Array) -> tuple[State, Mapping[str, Any], Any]:
        state, figures, *samples = step(state, index)
        return jax.tree.map(_strip_weak_type, (state, figures, samples[0] if has_samples else ()))

    def run_chunk(state: State, first: jax.Array, length: jax.Array) -> tuple[State, Mapping[str, Any], Any]:
        _, figures, sample = jax.eval_shape(one, state, first)
        figures = jax.tree.map(lambda leaf: jnp.zeros((chunk_size, *leaf.shape), leaf.dtype), figures)
        sample = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sample)

        def body(index: jax.Array, carry: tuple) -> tuple:
            state, new, sample = one(carry[0], first + index)
            return state, jax.tree.map(lambda old, leaf: old.at[index].set(leaf), carry[1], new), sample

        return jax.lax.fori_loop(0, length, body, (state, figures, sample))

    jitted = jax.jit(run_chunk, donate_argnums=0, out_shardings=(shardings, None, None))
    lowered = jitted.lower(state, np.int32(0), np.int32(chunk_size))
    _check_metrics(lowered.out_info[1], chunk_size, progress_metric)
    program = lowered.compile()
    if (needed := program.memory_analysis()) is not None:
        num_bytes = needed.argument_size_in_bytes + needed.temp_size_in_bytes
        memory_check.check_fits(config, num_bytes, "a training step")
    # The snapshot is compiled here too, with the placement of a chunk's output, so that no save waits for it.
    jax.block_until_ready(checkpoint.snapshot(jax.device_put(state, shardings)))
    return program, time.perf_counter() - start


def _check_metrics(figures: Any, length: int, progress_metric: str) -> None:
    shapes = {name: tuple(leaf.shape for leaf in jax.tree.leaves(figure)) for name, figure in figures.items()}
    if (
        progress_metric not in shapes
        or {"stage", "step", "time"} & shapes.keys()
        or any(shape != (length,) for leaves in shapes.values() for shape in leaves)
    ):
        raise ValueError(
            f"metric {progress_metric!r} is missing, a metric is no scalar, or one is named 'stage', 'step' or 'time'; "
            f"metrics with a leading axis of steps: {shapes}"
        )


def _summarize(folder: Any, stage: str, first: int, figures: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a chunk (leaves `[chunk]`): means over the steps that measured them, and latest values.

    What was measured must be finite. A metric that no step measured is left out.
    """
    measured = {name: _to_measured(figure) for name, figure in figures.items()}
    bad = {name: is_measured & ~np.isfinite(values) for name, (values, is_measured) in measured.items()}
    if found := [(int(np.argmax(steps)), name) for name, steps in bad.items() if steps.any()]:
        at, name = min(found)
        value = measured[name].value[at]
        raise RunError(f"{name} is {value} at step {first + at} of stage {stage}; {_describe_kept(folder)}")
    return {
        name: float(np.mean(values[is_measured], dtype=np.float64))
        for name, (values, is_measured) in measured.items()
        if is_measured.any()
    }


def _to_measured(figure: np.ndarray | Measured | Latest) -> Measured:
    """A metric `[chunk]` with the steps that count."""
    if isinstance(figure, Measured):
        return figure
    if isinstance(figure, Latest):
        return Measured(figure.value, np.arange(len(figure.value)) == len(figure.value) - 1)
    return Measured(figure, np.ones(len(figure), bool))


def _refuse_nan(folder: Any, stage: str, done: int, state: State, flags: list[jax.Array]) -> None:
    """Refuse to save a NaN, which the last step may add to the weights after its own loss."""
    if any(jax.device_get(flags)):
        paths = [
            jax.tree_util.keystr(path)
            for path, leaf in jax.tree.flatten_with_path(state)[0]
            if jnp.issubdtype(leaf.dtype, jnp.floating) and bool(jnp.isnan(leaf).any())
        ]
        raise RunError(
            f"{paths[0]} of the state is nan after step {done - 1} of stage {stage}; {_describe_kept(folder)}"
        )


def _warn_if_long(config: RunConfig, stage: str, seconds_left: float) -> None:
    """Say early that a stage takes hours, and what makes it shorter."""
    if seconds_left > _LONG_SECONDS:
        progress.warn(
            f"stage {stage} takes about {seconds_left / 3600:,.0f} h more at this speed; to shorten it, lower the "
            f"number of steps, {memory_check.list_size_flags(config)}; Ctrl-C saves it, and the same command continues"
        )


def _describe_kept(folder: Any) -> str:
    steps = checkpoint.list_saved_steps(folder)
    latest = f"the checkpoint of step {steps[-1]} is kept" if steps else "there is no checkpoint yet"
    return f"training stopped, {latest}; change the config and start anew with --clear"


def _chunk_length(done: int, num_steps: int, chunk_size: int) -> int:
    """Steps up to the next multiple of `chunk_size`, or to the end."""
    return min(chunk_size - done % chunk_size, num_steps - done)


def _copy_leaf(leaf: Any) -> jax.Array:
    """A leaf as an array with a fixed type and its own memory.

    Checkpoints do not keep weak types, and two leaves that share memory cannot both be donated.
    """
    if is_key(leaf):
        return jax.random.clone(leaf)
    return jnp.array(leaf, dtype=jnp.asarray(leaf).dtype, copy=True)


def _strip_weak_type(leaf: jax.Array) -> jax.Array:
    return leaf if is_key(leaf) else jax.lax.convert_element_type(leaf, leaf.dtype)
