"""What an update by rewards costs, and how much of it is spent on writing and learning.

Axes: B completions of an update.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from thinking.environments.arithmetic.sources import WORDS
from thinking.experiment import Run
from thinking.experiment.device import best_seconds
from thinking.experiment.training import train
from thinking.generation.completions import generate
from thinking.learning.curriculum import evenly
from thinking.learning.optimizers import adamw
from thinking.learning.policy_gradient import grpo
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.reasoning.post_training.advantages import by_group
from thinking.reasoning.post_training.rewards import combined, format, outcome
from thinking.reasoning.post_training.training_step import (
    Questions,
    init_post_training,
    judge_texts,
    post_training_step,
    records,
)
from thinking.recipes.arithmetic.datasets import exam
from thinking.recipes.arithmetic.rows import VOCABULARY
from thinking.text.vocabulary import END
from thinking.train_state import init_train_state

Row = dict[str, Any]


def measure_post_training(
    run: Run, *, width: int, layers: int, problems: int, group: int, new: int, updates: int
) -> Row:
    """The share of a loop's wall-clock, compilation apart, that writing and learning take by themselves.

    The loop is GRPO over word problems as a task runs it, with rewards, metrics, samples and checkpoints.

    Args:
        run: whose folder the loop writes to.
        width: of the decoder.
        layers: of the decoder.
        problems: of an update.
        group: answers to each; together B.
        new: tokens of an answer.
        updates: of the loop.
    """
    asked = exam([WORDS], count=1, seed=0, test=False)
    tokens, lengths, answers, steps = map(jnp.asarray, asked.prompts)
    questions = Questions(tokens, lengths, {"answers": answers, "steps": steps})
    model = decoder(
        vocabulary=len(VOCABULARY),
        context_length=tokens.shape[1] + new,
        block=BlockConfig(width, 4, gated=True),
        layers=layers,
        value_head=True,
    )
    optimizer, credit = adamw(1e-4, weight_decay=0.0), by_group(group)
    update = grpo(judge_texts(model), optimizer, minibatches=2)
    rewards, syllabus = combined(outcome=(1.0, outcome), format=(0.1, format)), evenly(len(tokens))
    step = post_training_step(
        model,
        questions,
        syllabus,
        rewards=rewards,
        credit=credit,
        update=update,
        problems=problems,
        group=group,
        max_new_tokens=new,
    )

    def begin() -> Any:
        params = model.init(jax.random.key(0))
        return init_post_training(init_train_state(params, optimizer), syllabus, jax.random.key(1))

    def tell(sample: Any) -> list[Row]:
        return records(VOCABULARY, questions, sample)

    with tempfile.TemporaryDirectory(dir=run.folder) as folder:
        fresh = dataclasses.replace(run, folder=Path(folder), mirrors=())
        begun = {"init": begin, "step": step, "tell": tell}
        trained = train(fresh, "loop", **begun, steps=updates, chunk=max(1, updates // 3), watch="reward")
    train_state, prompts = trained.state.train_state, (tokens[: problems * group], lengths[: problems * group])

    def write(params: Any) -> Any:
        return generate(model, params, jax.random.key(2), *prompts, max_new_tokens=new, stop_tokens=(END,))

    written = jax.jit(write)(train_state.params)
    total = jax.random.uniform(jax.random.key(3), (problems * group,))
    experience = credit(written, total)._replace(inputs=prompts)
    writing = best_seconds(jax.jit(write), train_state.params)
    learning = best_seconds(jax.jit(lambda state: update(state, experience, jax.random.key(4))), train_state)
    whole = trained.seconds / updates
    return {
        "measured": "update by rewards",
        "rows": problems * group,
        "tokens": new,
        "generation_ms": writing * 1e3,
        "update_ms": learning * 1e3,
        "ms": whole * 1e3,
        "generation_and_update_percent": 100 * (writing + learning) / whole,
    }
