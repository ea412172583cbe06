"""Arithmetic with chains of thought: supervised fine-tuning, then post-training by rewards, then search.

A small decoder is trained from scratch to solve arithmetic step by step. It is evaluated on held-out problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.arithmetic.presets import EXAMPLES, PRESETS

if TYPE_CHECKING:
    from thinking.environments.arithmetic.split import Split
    from thinking.experiment.training_loop import TrainResult
    from thinking.networks.decoder import Decoder
    from thinking.recipes.arithmetic.config import Config, Style
    from thinking.recipes.arithmetic.datasets import EvaluationSet
    from thinking.recipes.arithmetic.searches import SearchModel
    from thinking.recipes.arithmetic.trained import Reasoner
    from thinking.types import Params

CHUNK = 10
"""Post-training steps per chunk; a chunk of supervised training has five times as many."""

COLUMNS = {
    "model": "model",
    "subject": "problems",
    "num_problems": "number",
    "exact_match": "right, %",
    "mean_tokens": "tokens",
}
"""Headers of the columns of the table on the terminal, by name."""
METRIC_HEADERS = {name: header for name, header in COLUMNS.items() if name != "model"}
"""Headers of the metrics that `measure` returns, by name."""


def run(config: Config, run: Run) -> None:
    """Train, evaluate, search, and write the results."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.arithmetic.model import build_decoder

    decoder, first, algorithm = build_decoder(config.model), config.styles[0], config.rl.algorithm
    check_lengths(config, decoder)
    trained = {style: fine_tune(config, run, decoder, style) for style in config.styles}
    if algorithm != "none":
        trained[algorithm] = post_train(config, run, decoder, trained[first].state.train_state.params)
    params = {name: stage.state.train_state.params for name, stage in trained.items()}
    if config.chat:
        return chat(config, decoder, params[first if algorithm == "none" else algorithm])

    rows, searched = [], []
    for name in trained:
        style = first if name == algorithm else name
        rows += [{"model": name, **row} for row in evaluate(config, decoder, style, params[name])]
        if config.search.sources and style == first:
            searched += search(config, run, decoder, name, params[name])
    plots.plot_learning_curves(
        run, ["loss", "exact_match", "reward", "rewards/outcome", "entropy", "completions/mean_length"]
    )
    last = [row for row in rows if row["subject"] == "all"][-1]
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in trained.items()},
        headline=f"{last['model']} answers {100 * last['exact_match']:.1f} % of {last['num_problems']} new problems",
        columns=COLUMNS,
        next_steps=[] if config.model.positions == "digit" else ["chat RUN"],
        search=searched,
        train_seconds={name: stage.seconds for name, stage in trained.items()},
        compile_seconds={name: stage.compile_seconds for name, stage in trained.items()},
    )


def check_lengths(config: Config, decoder: Decoder) -> None:
    """Check before training that all problems fit the decoder.

    Raises:
        UserError: if prompt and completion exceed the context length.
    """
    from thinking.recipes.arithmetic.model import compute_max_new_tokens

    for group in ("eval", "rl", "search"):
        if sources := getattr(config, group).sources:
            split = "train" if group == "rl" else config.eval.split
            problems = make_problem_set(config, sources, config.styles[0], 1, split)
            compute_max_new_tokens(decoder, problems, f"--{group}.sources")


def fine_tune(config: Config, run: Run, decoder: Decoder, style: Style) -> TrainResult:
    """Supervised fine-tuning on worked problems."""
    import jax

    from thinking.experiment.training_loop import train
    from thinking.reasoning.post_training.fine_tuning import init_fine_tuning
    from thinking.recipes.arithmetic import sft
    from thinking.recipes.arithmetic.example_sampling import make_sampler

    settings, examples = config.sft, sft.sample_examples(config.data, style, config.seed)
    sampler = make_sampler(config.curriculum, examples.starts, batch_size=settings.batch_size, flag="--sft.batch-size")
    optimizer = sft.make_optimizer(settings.optimizer)
    step = sft.make_training_step(decoder, optimizer, examples, sampler, config.model, settings.batch_size)

    def init() -> Any:
        return jax.jit(lambda key: init_fine_tuning(decoder, optimizer, sampler, key))(jax.random.key(config.seed))

    return train(
        run,
        style,
        init=init,
        step=step,
        num_steps=settings.num_steps,
        chunk_size=5 * CHUNK,
        progress_metric="exact_match",
    )


def post_train(config: Config, run: Run, decoder: Decoder, params: Params) -> TrainResult:
    """Post-training by rewards."""
    import jax

    from thinking.experiment.training_loop import train
    from thinking.reasoning.post_training.training_step import init_post_training, sample_records
    from thinking.recipes.arithmetic import rl
    from thinking.recipes.arithmetic.example_sampling import make_sampler
    from thinking.recipes.arithmetic.model import compute_max_new_tokens
    from thinking.recipes.arithmetic.rows import VOCABULARY
    from thinking.train_state import init_train_state

    settings = config.rl
    examples = rl.sample_problems(settings.sources, config.data, config.styles[0], config.seed)
    prompts, optimizer = rl.make_prompts(examples), rl.make_optimizer(settings)
    sampler = make_sampler(
        config.curriculum,
        examples.starts,
        batch_size=settings.num_sampled_prompts,
        flag="--rl.num-sampled-prompts",
        prioritized=settings.prioritized,
    )
    budget = compute_max_new_tokens(decoder, examples, "--rl.sources")
    step = rl.make_update_step(decoder, optimizer, prompts, sampler, settings, config.rewards, budget)
    keep_reference = settings.algorithm == "grpo" and settings.kl_weight > 0

    def init() -> Any:
        train_state = init_train_state(params, optimizer)
        return init_post_training(train_state, sampler, jax.random.key(config.seed), keep_reference=keep_reference)

    return train(
        run,
        settings.algorithm,
        init=init,
        step=step,
        num_steps=settings.num_updates,
        chunk_size=CHUNK,
        progress_metric="reward",
        log_samples=lambda sample: sample_records(VOCABULARY, prompts, sample),
    )


def make_problem_set(
    config: Config, sources: tuple[str, ...], style: Style, num_problems: int, split: Split
) -> EvaluationSet:
    """Problems of a split, `num_problems` of each source that does not list all of its problems."""
    from thinking.recipes.arithmetic.datasets import make_evaluation_set

    options = {"verbal_fraction": config.data.verbal_fraction, "reverse_digits": config.data.reverse_digits}
    return make_evaluation_set(sources, style, num_problems=num_problems, seed=config.seed, split=split, **options)


def evaluate(config: Config, decoder: Decoder, style: Style, params: Params) -> list[dict[str, Any]]:
    """Rows by subject: exact match on held-out problems, and on those with injected errors."""
    from thinking.recipes.arithmetic.datasets import inject_errors
    from thinking.recipes.arithmetic.evaluation import evaluate_exact_match, evaluate_with_subtasks
    from thinking.recipes.arithmetic.model import compute_max_new_tokens

    problems = make_problem_set(config, config.eval.sources, style, config.eval.num_problems, config.eval.split)
    if style == "subtasks":
        return evaluate_with_subtasks(decoder, params, problems)
    by_place = config.model.positions == "digit"
    budget = compute_max_new_tokens(decoder, problems, "--eval.sources")
    rows = evaluate_exact_match(decoder, params, problems, budget, use_digit_positions=by_place)
    if config.eval.injected_errors and style in ("chain_of_thought", "self_correction"):
        with_errors = inject_errors(problems, style, seed=config.seed, reverse_digits=config.data.reverse_digits)
        budget = compute_max_new_tokens(decoder, with_errors, "--eval.sources")
        error_rows = evaluate_exact_match(decoder, params, with_errors, budget, use_digit_positions=by_place)
        rows += [{**row, "subject": f"{row['subject']}, after an injected error"} for row in error_rows]
    return rows


def make_search_model(config: Config, decoder: Decoder, params: Params, max_new_tokens: int) -> SearchModel:
    """The model of all search methods."""
    from thinking.recipes.arithmetic.searches import SearchModel

    return SearchModel(decoder, params, max_new_tokens, config.search.temperature, config.data.reverse_digits)


def search(config: Config, run: Run, decoder: Decoder, name: str, params: Params) -> list[dict[str, Any]]:
    """Rows of every search method at several sizes."""
    from thinking.recipes.arithmetic.comparison import compare_searches
    from thinking.recipes.arithmetic.model import compute_max_new_tokens

    problems = make_problem_set(
        config, config.search.sources, config.styles[0], config.search.num_problems, config.eval.split
    )
    search_model = make_search_model(
        config, decoder, params, compute_max_new_tokens(decoder, problems, "--search.sources")
    )
    sizes = {"num_problems": config.search.num_problems, "num_samples": config.search.num_samples}
    return compare_searches(run, name, search_model, problems, **sizes, seed=config.seed)


def chat(config: Config, decoder: Decoder, params: Params) -> None:
    """Answer typed problems."""
    import jax

    from thinking.recipes.arithmetic.chat import ChatSettings, run_chat
    from thinking.recipes.arithmetic.training_range import parse_training_range

    rewarded = config.rl.sources if config.rl.algorithm != "none" else ()
    settings = ChatSettings(
        parse_training_range((*config.data.sources, *rewarded)),
        config.styles[0],
        config.answer.method,
        config.answer.num_samples,
        verbose=config.verbose,
        as_json=config.json,
    )
    search_model = make_search_model(config, decoder, params, decoder.context_length // 2)
    run_chat(search_model, settings, jax.random.key(config.seed))


def use(config: Config, reasoner: Reasoner) -> None:
    """Answer typed problems by a model that was loaded."""
    chat(config, reasoner.model, reasoner.params)


def measure(config: Config, reasoner: Reasoner) -> list[dict[str, Any]]:
    """The rows of its evaluation."""
    return evaluate(config, reasoner.model, config.styles[0], reasoner.params)


if __name__ == "__main__":
    main("arithmetic", run, PRESETS, EXAMPLES)
