"""A model that thinks before it answers: worked chains first, then rewards, then search.

A small decoder learns from nothing to solve arithmetic step by step between marks, improves on that by trying and being
rewarded, and searches among its own thoughts at test time. All are judged on problems that none of it ever saw.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import FlagCreatePairsOff

from thinking.errors import UserError, name_flags
from thinking.experiment import Run, RunConfig, main, option

if TYPE_CHECKING:
    from collections.abc import Callable

    import optax

    from thinking.experiment.training import Trained
    from thinking.networks.decoder import Decoder
    from thinking.recipes.arithmetic.datasets import Exam
    from thinking.recipes.arithmetic.searches import Searcher
    from thinking.types import Params

Style = Literal["worked", "direct", "subtasks", "revised"]
Method = Literal["greedy", "vote", "value", "likeliest", "check", "beam", "revision", "tree"]
Algorithm = Literal["none", "grpo", "ppo", "reinforce", "expert_iteration"]

CONTEXT = 1024
"""Tokens that a text may have."""
CHUNK = 10
"""Updates by rewards between two looks at them; supervised steps are five times as many."""


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
    exams: tuple[str, ...] = option(
        ("words",), "held-out problems to be examined in: words, or OPERATION:DIGITS", affects_weights=False
    )
    exam_problems: int = option(
        1000, "problems drawn for each OPERATION:DIGITS that is examined", affects_weights=False
    )
    speech: float = option(0.5, "share of problems that are asked in words instead of symbols, 0 to 1")
    least_first: bool = option(False, "write numbers with their least significant digit first")
    slips: bool = option(
        False,
        "examine too what becomes of thoughts that begin with a slip, for worked and revised",
        affects_weights=False,
    )
    slip: float = option(0.1, "revised: the probability that a taught step is wrong at first, and taken back")
    curriculum: bool = option(False, "open one lesson after another, as the one before is mastered")
    mastery: float = option(0.8, "curriculum: share of problems solved that opens the next lesson, 0 to 1")

    width: int = option(64, "dimensions of the decoder")
    heads: int = option(4, "attention heads")
    layers: int = option(2, "blocks")
    gated: bool = option(True, "gated blocks (SwiGLU) in place of rectifiers")
    weight_decay: float = option(0.05, "supervised: the share of a matrix that a step at rate 1 would take away")
    positions: Literal["number", "place"] = option(
        "number", "by what tokens are told apart: their number in the text, or the place of their digit"
    )
    highest_place: int = option(64, "place: places of digits; lessons name theirs at random among these")
    row_length: int = option(128, "tokens of a row, which holds several texts")
    batch: int = option(32, "rows of a supervised step")
    supervised_steps: int = option(485, "supervised steps")
    learning_rate: float = option(0.003, "supervised: highest learning rate, falling as a cosine")
    final_rate: float = option(0.1, "supervised: share of that rate that is left in the end, 0 to 1")
    schedule_steps: int = option(3000, "supervised: steps of that schedule; training may end before it does")

    algorithm: Algorithm = option("grpo", "how rewards teach: none, grpo, ppo, reinforce, expert_iteration")
    practice: tuple[str, ...] = option(("words",), "problems to practise on: words, or OPERATION:DIGITS")
    updates: int = option(280, "updates by rewards")
    problems: int = option(64, "problems of an update")
    tried: int = option(128, "problems that are tried for it; those stay whose answers differ most in their rewards")
    replay: bool = option(True, "draw problems by what is left to be learned of each, instead of evenly")
    group: int = option(8, "answers to each problem of an update")
    credit: Literal["step", "whole"] = option(
        "step",
        "step: each learns from being right itself, hard ones the most; whole: all tokens learn from the weighted "
        "rewards (expert_iteration: always)",
    )
    policy_learning_rate: float = option(5e-4, "rewards: highest learning rate, which falls to 0 in the second half")
    epochs: int = option(1, "rewards: passes over the answers of an update (reinforce: always 1)")
    minibatches: int = option(4, "rewards: parts of each pass (reinforce: always 1)")
    clip: float = option(0.2, "grpo and ppo: how far a ratio of probabilities may stray from 1")
    kl_weight: float = option(0.0, "grpo: weight of the divergence from the policy at the start")
    entropy_weight: float = option(0.1, "grpo, ppo and reinforce: weight of the entropy bonus")
    entropy_ceiling: float = option(0.2, "grpo, ppo and reinforce: mean entropy above which there is no bonus, in nats")
    value_weight: float = option(0.1, "weight of the value head's loss")
    gae_lambda: float = option(1.0, "ppo: decay of the advantages, 0 to 1")
    outcome_weight: float = option(1.0, "weight of the reward for the right answer")
    process_weight: float = option(0.5, "weight of the reward for the share of right steps")
    format_weight: float = option(0.1, "weight of the reward for a well-formed answer")
    length_weight: float = option(0.0, "weight of the reward for the share of the budget that is left")

    chat: FlagCreatePairsOff[bool] = option(False, "once trained, answer typed problems instead", affects_weights=False)
    method: Method = option(
        "greedy",
        "chat: how to answer: greedy, vote, value, likeliest, check, beam, revision, tree",
        affects_weights=False,
    )
    paths: int = option(8, "chat: attempts, or width of the beam, or simulations of each tree", affects_weights=False)

    search: tuple[str, ...] = option(
        (), "held-out problems to compare all ways of searching on: words, or OPERATION:DIGITS", affects_weights=False
    )
    search_problems: int = option(256, "problems that ways of searching are compared on", affects_weights=False)
    attempts: int = option(16, "search: the most attempts at a problem", affects_weights=False)
    temperature: float = option(
        0.7, "search: by which logits are divided before attempts are drawn", affects_weights=False
    )

    def validate(self) -> None:
        """Raises UserError for values that cannot be trained."""
        from thinking.environments.arithmetic.sources import level_of

        alone = self.algorithm == "none" or (self.credit == "whole" and self.algorithm in ("ppo", "reinforce"))
        least = {"group": 1 if alone else 2}
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if field.type == "int" and field.name != "seed" and value < least.get(field.name, 1):
                raise UserError(f"{flag} {value}: allowed is a whole number from {least.get(field.name, 1)}")
            if field.name in ("speech", "slip", "mastery", "gae_lambda", "final_rate") and not 0 <= value <= 1:
                raise UserError(f"{flag} {value}: allowed is a number from 0 to 1; take {field.default}")
            if field.name.endswith(("_weight", "weight_decay")) and value < 0:
                raise UserError(f"{flag} {value}: allowed is a number from 0; take {field.default}")
            if ("learning_rate" in field.name or field.name == "temperature") and value <= 0:
                raise UserError(f"{flag} {value}: allowed is a number above 0; take {field.default}")
        for name in ("styles", "lessons", "exams", "practice"):
            if not getattr(self, name):
                raise UserError(f"--{name}: name at least one")
        for name in ("lessons", "exams", "practice", "search"):
            with name_flags(source=f"--{name}"):
                for source in getattr(self, name):
                    level_of(source)
        if len(set(self.styles)) < len(self.styles):
            raise UserError(f"--styles {' '.join(self.styles)}: a style stands twice; name each once")
        if self.positions == "place" and not self.least_first:
            raise UserError("--positions place: places are counted from the last digit; give --least-first too")
        practised = self.algorithm != "none" or self.search
        if self.positions == "place" and (practised or self.chat or "subtasks" in self.styles):
            raise UserError("--positions place: allowed are lessons and exams alone; give --algorithm none")
        if self.styles[0] == "subtasks" and practised:
            raise UserError("--styles subtasks: allowed are lessons, exams and --chat; give --algorithm none")
        if not self.mastery > 0:
            raise UserError(f"--mastery {self.mastery}: allowed is a number above 0; take 0.8")
        if not self.clip > 0:
            raise UserError(f"--clip {self.clip}: allowed is a number above 0; take 0.2")
        if self.temperature < 0.01:
            raise UserError(f"--temperature {self.temperature}: allowed is a number from 0.01; take 0.7")
        if self.row_length > CONTEXT:
            raise UserError(f"--row-length {self.row_length}: allowed are at most {CONTEXT} tokens; take 128")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width}: allowed is a multiple of twice --heads, {2 * self.heads}")
        if self.tried < self.problems:
            raise UserError(f"--tried {self.tried}: allowed is a number from --problems, {self.problems}")
        if self.credit == "step" and self.styles[0] != "worked" and self.algorithm not in ("none", "expert_iteration"):
            raise UserError("--credit step: steps are told apart in the worked style alone; give --credit whole")
        if (rows := self.problems * self.group) % self.minibatches:
            raise UserError(f"--minibatches {self.minibatches}: allowed is a divisor of {rows} answers; take 1")


LADDER = (
    *("add:1", "subtract:1", "multiply:1", "divide:1", "add:2", "subtract:2", "divide:2"),
    *("add:3", "subtract:3", "multiply:2", "add:4", "subtract:4"),
)
PRESETS = {
    "default": Config(search=("words",)),
    "ppo": Config(algorithm="ppo", updates=300, entropy_weight=0.3, entropy_ceiling=0.08),
    "reinforce": Config(algorithm="reinforce", updates=1200, problems=16, tried=32),
    "words": Config(
        styles=("worked", "direct"),
        lessons=("words", "add:3", "subtract:3", "multiply:2", "divide:2"),
        supervised_steps=5000,
        schedule_steps=5000,
        final_rate=0.01,
        algorithm="none",
    ),
    "ladder": Config(
        lessons=LADDER,
        exams=LADDER,
        exam_problems=200,
        curriculum=True,
        supervised_steps=3000,
        algorithm="none",
    ),
    "slips": Config(
        styles=("revised", "worked"),
        lessons=("words", "add:3", "subtract:3"),
        slips=True,
        slip=0.2,
        row_length=192,
        batch=24,
        supervised_steps=3000,
        algorithm="none",
    ),
    "lengths": Config(
        lessons=("add:10x10:10000", *(f"add:{digits}:{180 * digits}" for digits in range(1, 11))),
        exams=("add:10", "add:10x10", "add:20", "add:20x20", "add:30x30", "add:40x40"),
        exam_problems=500,
        speech=0.0,
        least_first=True,
        positions="place",
        width=96,
        heads=2,
        gated=False,
        weight_decay=0.01,
        final_rate=0.01,
        row_length=384,
        batch=8,
        supervised_steps=1600,
        schedule_steps=1600,
        algorithm="none",
    ),
    "subtasks": Config(
        styles=("subtasks",),
        lessons=(
            *(f"add:{digits}:{200 * digits}" for digits in range(1, 9)),
            *("multiply:1:1000", "multiply:2:8000", "multiply:3:5000", "multiply:4:12000"),
        ),
        exams=("multiply:4x4",),
        exam_problems=256,
        speech=0.0,
        least_first=True,
        layers=3,
        final_rate=0.01,
        row_length=192,
        batch=16,
        supervised_steps=4800,
        schedule_steps=4800,
        algorithm="none",
    ),
    "smoke": Config(
        lessons=("add:1", "subtract:1"),
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
        tried=6,
        group=2,
    ),
}


def run(config: Config, run: Run) -> None:
    """Teach, let practise, examine, search, and write what came of it."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results

    for sources in (config.exams, config.practice, config.search):  # what cannot be asked is told before any training
        if sources:
            room(examined(config, sources, config.styles[0], 1))
    trained = {style: teach(config, run, style) for style in config.styles}
    style_of: dict[str, Style] = {style: style for style in config.styles}
    first = config.styles[0]
    if config.algorithm != "none":
        trained[config.algorithm] = practise(config, run, first, trained[first].state.train_state.params)
        style_of[config.algorithm] = first
    if config.chat:
        last = config.algorithm if config.algorithm != "none" else first
        return talk(config, first, trained[last].state.train_state.params)
    rows, searched = [], []
    for name, stage in trained.items():
        rows += [{"model": name, **row} for row in examine(config, style_of[name], stage.state.train_state.params)]
        if config.search and style_of[name] == first:
            searched += search(config, run, name, stage.state.train_state.params)
    plots.learning_curves(run, ["loss", "exact", "reward", "rewards/outcome", "entropy", "completions/mean_length"])
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in trained.items()},
        search=searched,
        train_seconds={name: stage.seconds for name, stage in trained.items()},
        compile_seconds={name: stage.compile_seconds for name, stage in trained.items()},
    )


@functools.lru_cache(maxsize=1)
def build(config: Config) -> Decoder:
    """The decoder, the same for every style."""
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder
    from thinking.networks.positions import orthogonal, rotary
    from thinking.recipes.arithmetic.rows import VOCABULARY

    position = orthogonal() if config.positions == "place" else rotary()
    return decoder(
        vocabulary=len(VOCABULARY),
        context_length=CONTEXT,
        block=BlockConfig(width=config.width, heads=config.heads, gated=config.gated, position=position),
        layers=config.layers,
        value_head=True,
    )


def teach(config: Config, run: Run, style: Style) -> Trained:
    """Policy initialisation: supervised training on worked texts."""
    import jax

    from thinking.experiment.training import train
    from thinking.learning.curriculum import by_level, curriculum, evenly
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.reasoning.post_training.fine_tuning import init_fine_tuning, supervised_step
    from thinking.recipes.arithmetic.datasets import lessons
    from thinking.recipes.arithmetic.digit_positions import most_places, practised_places

    with name_flags(length="--row-length"):
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
    schedule = warmup_cosine(config.learning_rate, steps, min(100, steps // 10), config.final_rate)
    optimizer = adamw(schedule, weight_decay=config.weight_decay)
    if not config.curriculum and config.batch > (packed := len(taught.packed.tokens)):
        raise UserError(f"--batch {config.batch}: allowed are at most {packed} rows, as many as there are")
    syllabus = evenly(len(taught.packed.tokens))
    if config.curriculum:
        syllabus = by_level(curriculum(levels, threshold=config.mastery), taught.starts)
    located = {}
    if config.positions == "place":
        located = {"places": functools.partial(practised_places, highest=config.highest_place), "mixed": True}
        if (most := most_places(taught.packed)) > config.highest_place:
            raise UserError(f"--highest-place {config.highest_place}: a row has {most} places; give at least so many")
    step = supervised_step(model, optimizer, taught.packed, syllabus, batch=config.batch, levels=levels, **located)

    def begin() -> Any:
        return jax.jit(lambda key: init_fine_tuning(model, optimizer, syllabus, key))(jax.random.key(config.seed))

    return train(run, style, init=begin, step=step, steps=config.supervised_steps, chunk=5 * CHUNK, watch="exact")


def practise(config: Config, run: Run, style: Style, params: Params) -> Trained:
    """Reward design and learning: answers are tried, rewarded, and learned from."""
    import jax
    import jax.numpy as jnp

    from thinking.experiment.training import train
    from thinking.learning.curriculum import by_level, curriculum, evenly, replay
    from thinking.learning.optimizers import adamw, warmup_stable_decay
    from thinking.reasoning.post_training.training_step import (
        Questions,
        init_post_training,
        post_training_step,
        records,
    )
    from thinking.recipes.arithmetic.datasets import exam
    from thinking.recipes.arithmetic.rows import VOCABULARY
    from thinking.train_state import init_train_state

    asked = exam(
        config.practice,
        style,
        count=config.lesson_problems,
        seed=config.seed,
        test=False,
        speech=config.speech,
        least_first=config.least_first,
    )
    tokens, lengths, answers, worked = map(jnp.asarray, asked.prompts)
    questions = Questions(tokens, lengths, {"answers": answers, "steps": worked})
    steps = config.updates * (1 if config.algorithm == "reinforce" else config.epochs * config.minibatches)
    # Adam's first steps are as long as any, whatever the gradient: without a warm-up they undo much of what was taught.
    schedule = warmup_stable_decay(config.policy_learning_rate, steps, steps // 10, steps // 2)
    model, optimizer = build(config), adamw(schedule, weight_decay=0.0, b2=0.99)
    credit, update = recipe(config, model, optimizer)
    if not config.curriculum and config.tried > len(tokens):
        raise UserError(f"--tried {config.tried}: allowed are at most {len(tokens)}, as many as there are")
    syllabus = (replay if config.replay else evenly)(len(tokens))
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
        tried=config.tried,
        group=config.group,
        max_new_tokens=room(asked),
    )

    anchored = config.algorithm == "grpo" and config.kl_weight > 0

    def begin() -> Any:
        train_state = init_train_state(params, optimizer)
        return init_post_training(train_state, syllabus, jax.random.key(config.seed), anchored=anchored)

    return train(
        run,
        config.algorithm,
        init=begin,
        step=step,
        steps=config.updates,
        chunk=CHUNK,
        watch="reward",
        tell=lambda sample: records(VOCABULARY, questions, sample),
    )


def rewards_of(config: Config) -> Callable:
    """The weighted sum of all rewards that have a weight; each is logged by its name."""
    from thinking.reasoning.post_training import rewards

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
    from thinking.reasoning.post_training import advantages as credit
    from thinking.reasoning.post_training import step_advantages
    from thinking.reasoning.post_training.training_step import judge_texts

    judge, by_step = judge_texts(model), config.credit == "step"
    passes = {"epochs": config.epochs, "minibatches": config.minibatches}
    weights = {
        "value_weight": config.value_weight,
        "entropy_weight": config.entropy_weight,
        "entropy_ceiling": config.entropy_ceiling,
    }
    if config.algorithm == "grpo":
        update = grpo(judge, optimizer, **passes, **weights, clip=config.clip, kl_weight=config.kl_weight)
        return (step_advantages.by_step_group if by_step else credit.by_group)(config.group), update
    if config.algorithm == "ppo":
        update, decay = ppo(judge, optimizer, **passes, **weights, clip=config.clip), config.gae_lambda
        return step_advantages.by_step_value(config.group, decay) if by_step else credit.by_value(decay), update
    if config.algorithm == "reinforce":
        given = step_advantages.by_step_return(config.group) if by_step else credit.by_return
        return given, reinforce(judge, optimizer, **weights, baseline=not by_step)
    update = imitation(judge, optimizer, **passes, value_weight=config.value_weight)
    return credit.by_best(config.group, config.outcome_weight), update


def examine(config: Config, style: Style, params: Params) -> list[dict[str, Any]]:
    """Rows of the held-out exam, and of one whose thoughts begin with a slip."""
    asked = examined(config, config.exams, style, config.exam_problems)
    rows = marks(config, style, params, asked)
    if config.slips and style in ("worked", "revised"):
        from thinking.recipes.arithmetic.datasets import with_slips

        begun = with_slips(asked, style, seed=config.seed, least_first=config.least_first)
        rows += [{**row, "subject": f"{row['subject']}, after a slip"} for row in marks(config, style, params, begun)]
    return rows


def examined(config: Config, sources: tuple[str, ...], style: Style, count: int) -> Exam:
    """Held-out problems."""
    from thinking.recipes.arithmetic.datasets import exam

    order = {"speech": config.speech, "least_first": config.least_first}
    return exam(sources, style, count=count, seed=config.seed, **order)


def marks(config: Config, style: Style, params: Params, asked: Exam) -> list[dict[str, Any]]:
    """What share of an exam is answered right, greedily."""
    from thinking.recipes.arithmetic import evaluation

    if style == "subtasks":
        return evaluation.marks_by_recursion(build(config), params, asked)
    return evaluation.marks(build(config), params, asked, room(asked), by_place=config.positions == "place")


def searcher(config: Config, params: Params, new: int) -> Searcher:
    """The model as all ways of searching ask it, for so many tokens."""
    from thinking.recipes.arithmetic.searches import Searcher

    return Searcher(build(config), params, new, config.temperature, config.least_first)


def search(config: Config, run: Run, name: str, params: Params) -> list[dict[str, Any]]:
    """Every way to search, at several sizes: what share of problems it solves, for how many tokens."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from thinking.experiment import plots
    from thinking.experiment.results import print_rows
    from thinking.reasoning.post_training.rewards import outcome
    from thinking.reasoning.search.budgets import at_budget, curves
    from thinking.recipes.arithmetic.searches import compare

    asked = examined(config, config.search, config.styles[0], config.search_problems)
    drawn = np.random.default_rng(config.seed).permutation(len(asked.problems))[: config.search_problems]
    prompts = jax.tree.map(lambda leaf: leaf[drawn], asked.prompts)
    problems = [asked.problems[index] for index in drawn]

    def right(solutions: Any) -> np.ndarray:
        return np.asarray(outcome(prompts.tokens, jax.tree.map(jnp.asarray, solutions), answers=prompts.answers))

    by, key = searcher(config, params, room(asked)), jax.random.key(config.seed)
    rows = compare(by, key, problems, prompts.tokens, prompts.lengths, right, config.attempts)
    greedy, *further = rows
    labels = "tokens written for a problem", f"solved, % (dashed: greedily, with {greedy['tokens_mean']:.0f} tokens)"
    plots.spread(run.plots / f"search_{name}.png", curves(further), *labels, round(greedy["exact_percent"], 1))
    run.log(f"{name}: within {config.attempts} times the tokens of a greedy answer, and 5 % more")
    print_rows(at_budget(rows, 1.05 * config.attempts * greedy["tokens_mean"]))
    return [{"model": name, **row} for row in rows]


def talk(config: Config, style: Style, params: Params) -> None:
    """Answer typed problems."""
    import jax

    from thinking.recipes.arithmetic import chat as talking

    by = searcher(config, params, CONTEXT // 2)
    talking.talk(by, config.method, config.paths, jax.random.key(config.seed), asks=style == "subtasks")


def room(asked: Exam) -> int:
    """Tokens that an answer may have: as many as the longest worked one, and a few for who goes astray.

    Raises:
        UserError: if question and answer do not fit a text.
    """
    new, longest = -(-(asked.longest + 4) // 16) * 16, asked.prompts.tokens.shape[1]
    if longest + new > CONTEXT:
        raise UserError(f"problems of {longest + new} tokens: allowed are {CONTEXT}; give fewer digits")
    return new


if __name__ == "__main__":
    main("arithmetic", run, PRESETS)
