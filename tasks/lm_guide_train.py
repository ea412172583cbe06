"""Train the language guide, a hierarchical goal-conditioned planner over sentence embeddings.

Layers learn from the plan trees of lm_data_prepare: the lowest predicts the next step, those above the next sub-goal,
each pursuing the prediction of the layer above it. A flat guide of one layer with as many parameters is the baseline.
"""

from thinking.experiment import Run, main
from thinking.recipes.language_guide.configs.train import EXAMPLES, PRESETS, Config

COLUMNS = {
    "model": "model",
    "num_layers": "layers",
    "num_parameters": "parameters",
    "num_examples": "examples",
    "train_seconds": "seconds",
    "compile_seconds": "compiling, s",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train the guide and its flat baseline."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.language_guide.configs.shared import find_input
    from thinking.recipes.language_guide.training import train_guide
    from thinking.text import prepared_data

    data = prepared_data.load(find_input(config.artifacts, "lm_data_prepare"))
    num_layers = len(config.layers.context_lengths)
    guide, row = train_guide(config, run, "guide", data)
    states, rows = {"guide": guide.state}, [row]
    if config.flat_baseline and num_layers > 1:
        flat, flat_row = train_guide(config, run, "flat", data, num_flat_parameters=row["num_parameters"])
        states["flat"] = flat.state
        rows.append(flat_row)
    plots.plot_learning_curves(run, [f"layer_{layer}/loss/value" for layer in range(num_layers)])
    write_results(
        run,
        rows,
        states,
        headline=f"a guide of {row['num_parameters']} parameters, trained in {row['train_seconds']:.0f} s",
        columns=COLUMNS,
        next_steps=["run lm_guide_inference"],
    )


if __name__ == "__main__":
    main("lm_guide_train", run, PRESETS, EXAMPLES)
