"""The task of light networks, from its config to its results."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import light_networks
from thinking.errors import UserError
from thinking.experiment import Run
from thinking.experiment.config_fields import check
from thinking.experiment.identity import compute_digest
from thinking.experiment.settings import find_declaration_errors
from thinking.networks.decoder import DecoderOutput
from thinking.recipes.groups import TrainingConfig
from thinking.recipes.light_networks import config as settings
from thinking.recipes.light_networks import evaluation, training
from thinking.recipes.light_networks.evaluation import compute_accuracy, count_state_bytes
from thinking.recipes.light_networks.model import build_network
from thinking.recipes.light_networks.problem_families import make_problem
from thinking.recipes.light_networks.training import make_loss, make_test, sample_rows, train_network
from thinking.trees import count_parameters

RECALL = "associative_recall"
SMALL = settings.Config(
    seeds=1,
    problems=("parity",),
    networks=("gru",),
    sizes=settings.SizesConfig(word=8),
    model=settings.ModelConfig(16, 2, num_layers=1),
    training=TrainingConfig(400, 64),
    optimizer=settings.OptimizerConfig((1e-5, 0.01)),
    eval=settings.EvalConfig((1, 4), 128),
)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished small run."""
    run = Run(folder=tmp_path_factory.mktemp("light_networks"), config=SMALL)
    light_networks.run(SMALL, run)
    return run


def test_a_recurrence_tracks_parity_beyond_the_trained_length(finished_run):
    rows = {row["network"]: row for row in json.loads((finished_run.folder / "results.json").read_text())["rows"]}
    assert rows["gru"]["accuracy_at_1x"] > 0.99
    assert rows["gru"]["accuracy_at_4x"] > 0.95
    assert rows["gru"]["learning_rate"] == 0.01  # chosen on another seed


def test_words_grew_to_the_trained_length(finished_run):
    lines = [json.loads(line) for line in (finished_run.folder / "metrics.jsonl").read_text().splitlines()]
    levels = [line["curriculum/level"] for line in lines if line["stage"] == "parity-gru-0.01-0"]
    assert levels[-1] == 8
    assert levels == sorted(levels)


def test_the_moving_average_of_the_weights_is_evaluated(tmp_path, monkeypatch):
    config = dataclasses.replace(
        SMALL, training=TrainingConfig(1, 4), optimizer=settings.OptimizerConfig((0.1,), ema_decay=0.75)
    )
    result = train_network(config, Run(folder=tmp_path, config=config), "gru", "parity", 0, 0.1)
    first, last = build_network(config, "gru", "parity").init(jax.random.key(0)), result.state.train_state.params
    average = jax.tree.map(lambda before, after: 0.75 * before + 0.25 * after, first, last)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), result.state.ema_params, average)

    evaluated = []
    monkeypatch.setattr(evaluation, "compute_accuracy", lambda network, params, rows: evaluated.append(params) or 0.0)
    monkeypatch.setattr(evaluation, "measure_generation", lambda *args: 0.0)
    evaluation.make_row(config, "gru", "parity", 0.1, [result], {1: None})
    assert evaluated == [result.state.ema_params]


def test_a_heat_map_is_drawn(finished_run):
    assert (finished_run.folder / "plots" / "heat_map.png").stat().st_size > 1000


def test_networks_have_equally_many_parameters():
    config = dataclasses.replace(
        settings.DEFAULT, networks=("memory", "delta+attention"), model=settings.ModelConfig(32, 2)
    )
    counts = [
        count_parameters(jax.eval_shape(build_network(config, name, "s3").init, jax.random.key(0)))
        for name in config.networks
    ]
    assert max(counts) / min(counts) < 1.03


@pytest.mark.parametrize(
    ("changes", "problem"), [({"networks": ("attention",)}, "parity"), ({"eval": settings.EvalConfig((1, 2))}, RECALL)]
)
def test_what_changes_the_size_of_a_network_makes_another_run(changes, problem):
    config = dataclasses.replace(SMALL, networks=("attention", "gru"), eval=settings.EvalConfig((1, 4)))
    changed = dataclasses.replace(config, **changes)
    sizes = [
        count_parameters(jax.eval_shape(build_network(each, "attention", problem).init, jax.random.key(0)))
        for each in (config, changed)
    ]
    assert sizes[0] != sizes[1]
    assert compute_digest(config) != compute_digest(changed)


def test_more_rows_of_evaluation_are_the_same_run():
    more = dataclasses.replace(settings.DEFAULT, eval=settings.EvalConfig(num_rows=1024))
    assert compute_digest(more) == compute_digest(settings.DEFAULT)


def test_state_bytes_grow_with_the_row_for_attention_alone():
    gru, attention = (build_network(SMALL, name, "parity") for name in ("gru", "attention"))
    assert count_state_bytes(gru, 8) == count_state_bytes(gru, 32) == 4 * 16
    assert count_state_bytes(attention, 32) == 4 * count_state_bytes(attention, 8) == 32 * 2 * 16 * 4


def test_accuracy_counts_the_last_label_where_each_token_has_one():
    network = build_network(SMALL, "gru", "parity")
    params = network.init(jax.random.key(0))
    test = make_test(SMALL, "parity", 0, 4)
    answer = np.asarray(network.apply(params, test.tokens).logits[:, -1]).argmax(axis=-1)
    assert compute_accuracy(network, params, test) == pytest.approx(
        np.mean(answer == np.asarray(test.targets)[:, -1]), abs=0.01
    )


@pytest.mark.parametrize("level", [2, 3, 8])
def test_the_last_symbols_of_whole_words_alone_unlock_longer_ones(level):
    rows = sample_rows(make_problem(SMALL, "parity").family, jax.random.key(0), 8, jnp.full(16, level))
    is_last = np.arange(9) % (level + 1) == level
    network = build_network(SMALL, "gru", "parity")._replace(
        apply=lambda params, *_, **__: DecoderOutput(params, None, None)
    )
    for is_wrong, last_accuracy in ((is_last, 0.0), (~is_last, 1.0)):
        logits = jax.nn.one_hot((np.asarray(rows.targets) + is_wrong) % 2, 3)
        _, metrics = make_loss(network)(logits, rows, None)
        assert metrics["last_accuracy"] == last_accuracy
        assert metrics["accuracy"] == pytest.approx(1 - is_wrong.mean())


@pytest.mark.parametrize(("state_noise", "differ"), [(0.5, True), (0.0, False)])
def test_the_key_of_the_loss_is_that_of_noise_on_the_state(state_noise, differ):
    config = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, state_noise=state_noise))
    network = build_network(config, "gru", "parity")
    rows = sample_rows(make_problem(config, "parity").family, jax.random.key(0), 8, jnp.full(4, 8))
    compute_loss = jax.jit(make_loss(network))
    params = network.init(jax.random.key(0))
    first, second = (compute_loss(params, rows, jax.random.key(seed))[0] for seed in (1, 2))
    assert (float(first) != float(second)) == differ


@pytest.mark.parametrize(("problem", "expected"), [("parity", [2 / 8, 4 / 8, 8 / 8]), (RECALL, [1.0])])
def test_noise_grows_with_the_words(problem, expected, tmp_path, monkeypatch):
    config = dataclasses.replace(
        SMALL,
        problems=(problem,),
        sizes=settings.SizesConfig(word=8, num_pairs=2),
        training=TrainingConfig(100, 4),
        curriculum=settings.CurriculumConfig(0.01),
    )
    scales = []

    def make_spy(network):
        def loss(params, rows, key, noise_scale):
            jax.debug.callback(scales.append, noise_scale)
            return make_loss(network)(params, rows, key, noise_scale)

        return loss

    monkeypatch.setattr(training, "make_loss", make_spy)
    train_network(config, Run(folder=tmp_path, config=config), "gru", problem, 0, 0.01)
    jax.effects_barrier()
    assert sorted(set(map(float, scales))) == expected


def test_all_presets_are_sound():
    for preset in settings.PRESETS.values():
        assert not find_declaration_errors(preset.config)
        check(preset.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": ("lstm",)}, "'lstm' is no mixer"),
        ({"networks": ("gru+gru+gru",)}, "3 mixers need as many layers; take --model.num-layers 3"),
        ({"problems": ()}, "name at least one"),
        ({"eval": settings.EvalConfig((2,))}, "begin with 1"),
        ({"optimizer": settings.OptimizerConfig(())}, "give at least one"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        check(dataclasses.replace(settings.DEFAULT, **changes))
