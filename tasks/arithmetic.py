"""A model that thinks before it answers: worked chains first, then rewards, then search.

A small decoder learns from nothing to solve arithmetic step by step between marks, improves on that by trying and being
rewarded, and searches among its own thoughts at test time. All are judged on problems that none of it ever saw.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from thinking.errors import UserError
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    import optax

    from thinking.environments.arithmetic.lessons import Exam
    from thinking.experiment.training import Trained
    from thinking.networks.decoder import Decoder, Params

Style = Literal["worked", "direct", "subtasks", "revised"]
Algorithm = Literal["none", "grpo", "ppo", "reinforce", "expert_iteration"]

CONTEXT = 512
"""Tokens that a text may have."""
EXAM_BATCH = 512
"""Problems that are answered at once."""
WARMUP = 20
"""Updates by rewards in which the learning rate rises."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Teach a small decoder arithmetic: worked chains first, then rewards, then search."""

    styles: tuple[Style, ...] = option(
        ("worked",), "how to answer: worked, direct, subtasks, revised; each is a model of its own, the first goes on"
    )
    lessons: tuple[str, ...] = option(
        ("words", "multiply:2", "divide:2"), "what is taught: words, or OPERATION:DIGITS, in the order of a curriculum"
    )
    lesson_problems: int = option(4000, "problems drawn for each OPERATION:DIGITS that is taught")
    exams: tuple[str, ...] = option(("words",), "held-out problems to be examined in: words, or OPERATION:DIGITS")
    exam_problems: int = option(1000, "problems drawn for each OPERATION:DIGITS that is examined", identity=False)
    speech: float = option(0.5, "share of problems that are asked in words instead of symbols, 0 to 1")
    least_first: bool = option(False, "write numbers with their least significant digit first")
    slips: bool = option(
        False, "examine too what becomes of thoughts that begin with a slip, for worked and revised", identity=False
    )
    slip: float = option(0.1, "revised: the probability that a taught step is wrong at first, and taken back")
    curriculum: bool = option(False, "open one lesson after another, as the one before is mastered")
    mastery: float = option(0.8, "curriculum: share of problems solved that opens the next lesson, 0 to 1")

    width: int = option(64, "dimensions of the decoder")
    heads: int = option(4, "attention heads")
    layers: int = option(2, "blocks")
    row_length: int = option(128, "tokens of a row, which holds several texts")
    batch: int = option(32, "rows of a supervised step")
    supervised_steps: int = option(500, "supervised steps")
    learning_rate: float = option(0.003, "supervised: highest learning rate, falling to a tenth as a cosine")
    schedule_steps: int = option(3000, "supervised: steps of that schedule; training may end before it does")

    algorithm: Algorithm = option("grpo", "how rewards teach: none, grpo, ppo, reinforce, expert_iteration")
    practice: tuple[str, ...] = option(("words",), "problems to practise on: words, or OPERATION:DIGITS")
    updates: int = option(160, "updates by rewards")
    problems: int = option(128, "problems of an update")
    group: int = option(4, "answers to each problem of an update")
    policy_learning_rate: float = option(5e-4, "rewards: learning rate")
    epochs: int = option(1, "rewards: passes over the answers of an update (reinforce: always 1)")
    minibatches: int = option(2, "rewards: parts of each pass (reinforce: always 1)")
    clip: float = option(0.2, "grpo and ppo: how far a ratio of probabilities may stray from 1")
    kl_weight: float = option(0.0, "grpo: weight of the divergence from the policy at the start")
    entropy_weight: float = option(0.0, "grpo, ppo and reinforce: weight of the entropy bonus")
    value_weight: float = option(0.1, "weight of the value head's loss")
    gae_lambda: float = option(1.0, "ppo: decay of the advantages, 0 to 1")
    outcome_weight: float = option(1.0, "weight of the reward for the right answer")
    process_weight: float = option(0.5, "weight of the reward for the share of right steps")
    format_weight: float = option(0.1, "weight of the reward for a well-formed answer")
    length_weight: float = option(0.0, "weight of the reward for the share of the budget that is left")

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        from thinking.environments.arithmetic.sources import level_of

        least = {"updates": 0, "group": 2 if self.algorithm in ("grpo", "expert_iteration") else 1}
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if field.type == "int" and field.name != "seed" and value < least.get(field.name, 1):
                raise UserError(f"{flag} {value}: allowed is a whole number from {least.get(field.name, 1)}")
            if field.name in ("speech", "slip", "mastery", "gae_lambda") and not 0 <= value <= 1:
                raise UserError(f"{flag} {value}: allowed is a number from 0 to 1; take {field.default}")
            if field.name.endswith("_weight") and value < 0:
                raise UserError(f"{flag} {value}: allowed is a number from 0; take {field.default}")
            if "learning_rate" in field.name and value <= 0:
                raise UserError(f"{flag} {value}: allowed is a number above 0; take {field.default}")
        for name in ("styles", "lessons", "exams", "practice"):
            if not getattr(self, name):
                raise UserError(f"--{name}: name at least one")
        for source in (*self.lessons, *self.exams, *self.practice):
            level_of(source)
        if len(set(self.styles)) < len(self.styles):
            raise UserError(f"--styles {' '.join(self.styles)}: a style stands twice; name each once")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if (rows := self.problems * self.group) % self.minibatches:
            raise UserError(f"--minibatches {self.minibatches}: allowed is a divisor of {rows} answers; take 2")


PRESETS = {
    "default": Config(),
    "words": Config(
        styles=("worked", "direct"),
        lessons=("words", "add:3", "subtract:3", "multiply:2", "divide:2"),
        supervised_steps=4000,
        schedule_steps=4000,
        algorithm="none",
    ),
    "smoke": Config(
        lessons=("add:1", "words"),
        lesson_problems=50,
        exams=("add:1",),
        exam_problems=20,
        width=16,
        heads=2,
        layers=1,
        batch=4,
        supervised_steps=4,
        practice=("add:1",),
        updates=2,
        problems=4,
        group=2,
    ),
}


def run(config: Config, run: Run) -> None:
    """Teach, let practise, examine, and write what came of it."""
    from thinking.environments.arithmetic.lessons import exam, with_slips
    from thinking.experiment import plots
    from thinking.experiment.results import write_results

    trained: dict[str, Trained] = {}
    rows: list[dict[str, Any]] = []

    def examine(name: str, style: Style, params: Params) -> None:
        asked = exam(
            config.exams,
            style,
            count=config.exam_problems,
            seed=config.seed,
            speech=config.speech,
            least_first=config.least_first,
        )
        rows.extend({"model": name, **row} for row in marks(config, params, asked))
        if config.slips and style in ("worked", "revised"):
            begun = with_slips(asked, style, seed=config.seed, least_first=config.least_first)
            rows.extend({"model": f"{name}, after a slip", **row} for row in marks(config, params, begun))

    for style in config.styles:
        trained[style] = teach(config, run, style)
        examine(style, style, trained[style].state.learner.params)
    first = config.styles[0]
    if config.algorithm != "none":
        trained[config.algorithm] = practise(config, run, first, trained[first].state.learner.params)
        examine(config.algorithm, first, trained[config.algorithm].state.learner.params)
    plots.learning_curves(run, ["loss", "exact", "reward", "rewards/outcome", "entropy", "completions/mean_length"])
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in trained.items()},
        train_seconds={name: stage.seconds for name, stage in trained.items()},
        compile_seconds={name: stage.compile_seconds for name, stage in trained.items()},
    )


def build(config: Config) -> Decoder:
    """The decoder, the same for every style."""
    from thinking.environments.arithmetic.rows import VOCABULARY
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder

    return decoder(
        vocabulary=len(VOCABULARY),
        context_length=CONTEXT,
        block=BlockConfig(width=config.width, heads=config.heads, gated=True),
        layers=config.layers,
        value_head=True,
    )


def teach(config: Config, run: Run, style: Style) -> Trained:
    """Policy initialisation: supervised training on worked texts."""
    import jax

    from thinking.environments.arithmetic.lessons import lessons
    from thinking.experiment.training import train
    from thinking.learning.curriculum import by_level, curriculum, evenly
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.reasoning.supervision import pupil, supervised_step

    taught = lessons(
        config.lessons,
        style,
        count=config.lesson_problems,
        length=config.row_length,
        seed=config.seed,
        speech=config.speech,
        least_first=config.least_first,
        slip=config.slip,
    )
    model, levels = build(config), len(config.lessons)
    steps = config.schedule_steps
    optimizer = adamw(warmup_cosine(config.learning_rate, steps, min(100, steps // 10)), weight_decay=0.05)
    syllabus = evenly(len(taught.packed.tokens))
    if config.curriculum:
        syllabus = by_level(curriculum(levels, threshold=config.mastery), taught.starts)
    step = supervised_step(model, optimizer, taught.packed, syllabus, batch=config.batch, levels=levels)

    def begin() -> Any:
        return jax.jit(lambda key: pupil(model, optimizer, syllabus, key))(jax.random.key(config.seed))

    return train(run, style, init=begin, step=step, steps=config.supervised_steps, chunk=50, watch="exact")


def practise(config: Config, run: Run, style: Style, params: Params) -> Trained:
    """Reward design and learning: answers are tried, rewarded, and learned from."""
    import jax
    import jax.numpy as jnp
    import optax

    from thinking.environments.arithmetic.lessons import exam
    from thinking.environments.arithmetic.rows import VOCABULARY
    from thinking.experiment.training import train
    from thinking.learning.curriculum import by_level, curriculum, evenly
    from thinking.learning.learner import Learner
    from thinking.learning.optimizers import adamw
    from thinking.reasoning.post_training import Questions, post_training_step, records, student

    asked = exam(
        config.practice,
        style,
        count=config.lesson_problems,
        seed=config.seed,
        test=False,
        speech=config.speech,
        least_first=config.least_first,
    )
    tokens, lengths, answers, steps = map(jnp.asarray, asked.prompts)
    questions = Questions(tokens, lengths, {"answers": answers, "steps": steps})
    passes = 1 if config.algorithm == "reinforce" else config.epochs * config.minibatches
    # Adam's first steps are as long as any, whatever the gradient: without a warm-up they undo much of what was taught.
    schedule = optax.linear_schedule(0.0, config.policy_learning_rate, WARMUP * passes)
    model, optimizer = build(config), adamw(schedule, weight_decay=0.0, b2=0.99)
    credit, update = recipe(config, model, optimizer)
    syllabus = evenly(len(tokens))
    if config.curriculum:
        syllabus = by_level(curriculum(len(config.practice), threshold=config.mastery), asked.starts)
    step = post_training_step(
        model,
        questions,
        syllabus,
        rewards=rewards_of(config),
        credit=credit,
        update=update,
        problems=config.problems,
        group=config.group,
        max_new_tokens=room(asked),
    )

    def begin() -> Any:
        learner = Learner(params, optimizer.init(params))
        return student(learner, syllabus, jax.random.key(config.seed), anchored=config.kl_weight > 0)

    return train(
        run,
        config.algorithm,
        init=begin,
        step=step,
        steps=config.updates,
        chunk=10,
        watch="reward",
        tell=lambda sample: records(VOCABULARY, questions, sample),
    )


def rewards_of(config: Config) -> Callable:
    """The weighted sum of all rewards that have a weight; each is logged by its name."""
    from thinking.reasoning import rewards

    terms = {
        "outcome": (config.outcome_weight, rewards.outcome),
        "process": (config.process_weight, rewards.process),
        "format": (config.format_weight, rewards.format),
        "length": (config.length_weight, rewards.length),
    }
    return rewards.combined(**terms)


def recipe(config: Config, model: Decoder, optimizer: optax.GradientTransformation) -> tuple[Any, Any]:
    """How credit is given for rewards, and how the policy learns from it."""
    from thinking.learning.policy_gradient import grpo, imitation, ppo, reinforce
    from thinking.reasoning import post_training

    judge = post_training.judge_texts(model)
    passes = {"epochs": config.epochs, "minibatches": config.minibatches}
    weights = {"value_weight": config.value_weight, "entropy_weight": config.entropy_weight}
    if config.algorithm == "grpo":
        update = grpo(judge, optimizer, **passes, **weights, clip=config.clip, kl_weight=config.kl_weight)
        return post_training.by_group(config.group), update
    if config.algorithm == "ppo":
        return post_training.by_value(config.gae_lambda), ppo(judge, optimizer, **passes, **weights, clip=config.clip)
    if config.algorithm == "reinforce":
        return post_training.by_return, reinforce(judge, optimizer, **weights)
    update = imitation(judge, optimizer, **passes, value_weight=config.value_weight)
    return post_training.by_best(config.group, config.outcome_weight), update


def marks(config: Config, params: Params, asked: Exam) -> list[dict[str, Any]]:
    """What share of an exam is answered right, greedily."""
    import jax

    from thinking.reasoning.examination import by_subject, in_batches
    from thinking.reasoning.generation import generate
    from thinking.reasoning.rewards import outcome
    from thinking.reasoning.sampling import Sampling
    from thinking.reasoning.vocabulary import END

    model = build(config)

    def answer(part: Any) -> tuple[jax.Array, jax.Array]:
        written = generate(
            model,
            params,
            jax.random.key(0),
            part.tokens,
            part.lengths,
            max_new_tokens=room(asked),
            sampling=Sampling(temperature=0.0),
            stop_tokens=(END,),
        )
        return outcome(part.tokens, written, answers=part.answers), written.length

    right, length = in_batches(jax.jit(answer), asked.prompts, EXAM_BATCH)
    return by_subject(asked.subject, right, length)


def room(asked: Exam) -> int:
    """Tokens that an answer may have: as many as the longest worked one, and a few for who goes astray."""
    return -(-(asked.longest + 4) // 16) * 16


if __name__ == "__main__":
    main("arithmetic", run, PRESETS)
