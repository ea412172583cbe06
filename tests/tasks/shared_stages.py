"""Training stages that several runs of a test file share, as a stage takes longer to compile than to run."""

import functools

import jax
import pytest

from thinking.experiment import training_loop


class SharedStages:
    """Compiles each stage once, for runs with equal settings of it.

    The program of a stage is a pure function of its state, so runs still differ by what they restore.
    """

    def __init__(self, *initialized_once):
        """Share the initial states too of stages that depend on no other stage."""
        self._initialized_once, self._programs, self._states = initialized_once, {}, {}

    def patch(self, monkeypatch, *modules):
        """Let runs share their stages; `modules` have imported `train` by its name."""
        train = functools.partial(self._train, training_loop.train)
        for module in (training_loop, *modules):
            monkeypatch.setattr(module, "train", train)

    def _train(self, train, run, stage, *, init, **options):
        def compile_once(*args):
            if stage not in self._programs:
                self._programs[stage] = compile_fn(*args)
            return self._programs[stage]

        def init_once():
            if stage not in self._initialized_once:
                return init()
            if stage not in self._states:
                state = init()
                if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state)):
                    return state  # its size alone is asked for
                self._states[stage] = state
            return self._states[stage]

        compile_fn = training_loop._compile
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training_loop, "_compile", compile_once)
            return train(run, stage, init=init_once, **options)
