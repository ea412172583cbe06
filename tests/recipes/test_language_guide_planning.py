"""The language guide: saving and loading, plans as nodes, and their scores."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.errors import UserError
from thinking.guide.plan_trees.codecs import Whitening
from thinking.guide.plan_trees.unrolling import UnrolledPlan
from thinking.kernels import Context, Transition
from thinking.recipes.language_guide import evaluation, model, planning
from thinking.recipes.language_guide.model import GuideShape
from thinking.text import prepared_data
from thinking.text.clusters import Codebook
from thinking.text.embedders import hashing_embedder
from thinking.text.plans import PlanNode
from thinking.text.records import Section, Text

BOAT = Text("a boat", (Section("hull", ("saw", "glue", "paint")), Section("mast", ("fell", "trim"))))
TEXTS = (
    BOAT,
    Text("a boat", (Section("hull", ("cut", "glue")), Section("mast", ("fell",)))),
    Text("a shelf", ("saw", "screw")),
    Text("a table", ("saw", "glue"), "held_out"),
    Text("a boat and a shelf", ("cut", "trim", "screw"), "compound"),
)
CANONICAL_STEPS = {"cut": "saw"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepared_data.save(folder, prepared_data.prepare_texts(TEXTS, CANONICAL_STEPS, hashing_embedder(16), {}))
    return prepared_data.load(folder)


def compute_mean_vector(data, *steps):
    return np.mean([data.step_vectors[data.steps.index(step)] for step in steps], axis=0)


# Guide


def test_sub_trajectories_cover_only_training_texts(data):
    lowest, top = model.make_sub_trajectories(data, 2)
    assert [sub_trajectory.text_index for sub_trajectory in lowest] == [0, 0, 1, 1, 2]
    hull_vector = compute_mean_vector(data, "saw", "glue", "paint")
    np.testing.assert_allclose(lowest[0].target, hull_vector, atol=1e-6)
    np.testing.assert_array_equal(
        lowest[0].values, [compute_mean_vector(data, step) for step in ("saw", "glue", "paint")]
    )
    np.testing.assert_allclose(top[0].values, [hull_vector, compute_mean_vector(data, "fell", "trim")], atol=1e-6)
    np.testing.assert_array_equal(top[1].target, data.goal_vectors[data.goals.index("a boat")])


def make_shape(**overrides):
    sizes = {"width": 8, "upper_width": 8, "num_heads": 1, "num_layers": 1, "num_slots": 1}
    return GuideShape(**{"context_lengths": (2, 1), "kernel": "linear", **sizes, **overrides})


@pytest.mark.parametrize(("kind", "codec_type"), [("whitened", Whitening), ("tokens", Codebook)])
def test_guide_round_trips_only_for_the_same_data(data, tmp_path, kind, codec_type):
    sub_trajectories = model.make_sub_trajectories(data, 2)
    codecs = model.fit_codecs(sub_trajectories, kind=kind, dims=4, average_dims=4, goal_dims=2, seed=0)
    assert [type(codec) for codec in codecs] == [codec_type] * 3
    shape = make_shape(kernel="transformer", width=16)
    model.save_guide(tmp_path, shape, codecs, model.compute_checksum(data))
    loaded_shape, loaded_codecs = model.load_guide(tmp_path, model.compute_checksum(data))
    assert loaded_shape == shape
    for saved_codec, loaded_codec in zip(codecs, loaded_codecs, strict=True):
        for name, array in saved_codec._asdict().items():
            np.testing.assert_array_equal(getattr(loaded_codec, name), array)
    with pytest.raises(UserError, match=r"learned from other data .* run tasks/lm_guide_train\.py first"):
        model.load_guide(tmp_path, "another")


@pytest.mark.parametrize("name", ["guide.json", "codecs.safetensors"])
def test_damaged_or_missing_guide_raises(data, tmp_path, name):
    sub_trajectories = model.make_sub_trajectories(data, 1)
    shape = make_shape(context_lengths=(2,))
    model.save_guide(
        tmp_path,
        shape,
        model.fit_codecs(sub_trajectories, kind="whitened", dims=4, average_dims=4, goal_dims=1, seed=0),
        "data",
    )
    for content in ((tmp_path / name).read_bytes()[:-9], b"{}", b""):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is damaged or edited: run tasks/lm_guide_train"):
            model.load_guide(tmp_path, "data")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="has no trained guide: run tasks/lm_guide_train"):
        model.load_guide(tmp_path, "data")


def test_averages_equal_up_to_rounding_are_one_token():
    steps = ("paint it",)
    texts = [Text("one", steps), Text("many", (Section("all", steps * 3), Section("end", ("glue",))))]
    data = prepared_data.prepare_texts(texts, {}, hashing_embedder(16), {})
    sub_trajectories = model.make_sub_trajectories(data, 2)
    averages = np.concatenate([sub_trajectory.values for sub_trajectory in sub_trajectories[1]])
    assert not np.array_equal(averages[0], averages[1])  # of one step, and of three equal steps
    codecs = model.fit_codecs(sub_trajectories, kind="tokens", dims=9, average_dims=9, goal_dims=9, seed=0)
    assert [len(codec.centroids) for codec in codecs] == [2, 2, 2]


def test_level_with_one_goal_raises():
    data = prepared_data.prepare_texts([Text("one", ("saw", "glue"))], {}, hashing_embedder(16), {})
    with pytest.raises(UserError, match="level 1 of the plan trees has one goal alone; give more texts"):
        model.fit_codecs(
            model.make_sub_trajectories(data, 1), kind="whitened", dims=4, average_dims=4, goal_dims=4, seed=0
        )


def test_table_guide_recalls_a_transition_after_one_fit(data):
    sub_trajectories = model.make_sub_trajectories(data, 1)
    codecs = [
        model.make_codec(parameters)
        for parameters in model.fit_codecs(sub_trajectories, kind="tokens", dims=3, average_dims=3, goal_dims=2, seed=0)
    ]
    guide = model.build_guide(make_shape(kernel="table", context_lengths=(1,), width=32), codecs)
    steps, goals = codecs[0].encode(data.step_vectors[:2]), codecs[1].encode(data.goal_vectors[:1])
    context, ones = Context(steps[:1, None], np.ones(1, np.int32)), np.ones(1, np.float32)

    @jax.jit
    def fit_and_infer():
        state, _ = guide.fit(guide.init(jax.random.key(0)), [Transition(context, goals, steps[1:], ones, ones)])
        return guide.infer_sub_goal(state, 0, context, goals)

    sub_goal, is_known = fit_and_infer()
    assert (sub_goal.tolist(), is_known.tolist()) == (steps[1:].tolist(), [True])
    # 3 tokens and the separator, with 2 goals and a separator as targets: a value and a score for each.
    assert model.count_parameters(guide) == 2 * 4 * 3


def test_table_kernel_requires_token_codes(data):
    codecs = model.fit_codecs(
        model.make_sub_trajectories(data, 1), kind="whitened", dims=3, average_dims=3, goal_dims=2, seed=0
    )
    with pytest.raises(UserError, match=r"--layers\.kernel table: .* give --codes\.kind tokens"):
        model.build_guide(make_shape(kernel="table", context_lengths=(1,)), list(map(model.make_codec, codecs)))


# Plans as nodes


def sample_vectors(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_match_index_finds_noisy_vectors(monkeypatch):
    monkeypatch.setattr(planning, "MATCH_BATCH_SIZE", 16)  # several batches
    vectors = sample_vectors(0, 40, 6)
    index = planning.make_match_index([str(number) for number in range(40)], vectors, 6)
    np.testing.assert_array_equal(index.match(vectors + 0.01 * sample_vectors(1, 40, 6)), np.arange(40))
    assert index.match(vectors[:0]).shape == (0,)


def test_match_index_with_one_entry_matches_everything():
    assert (
        planning.make_match_index(["only"], sample_vectors(0, 1, 6), 3).match(sample_vectors(1, 4, 6)).tolist()
        == [0] * 4
    )


def test_section_vectors_average_all_steps_of_the_heading(data):
    steps, sections = planning.make_level_indices(data, 2, 8)
    assert steps.names == data.steps
    assert sections.names == ("hull", "mast", "saw ...")
    np.testing.assert_allclose(
        sections.vectors[0], compute_mean_vector(data, "saw", "glue", "paint", "cut", "glue"), atol=1e-6
    )
    np.testing.assert_allclose(sections.vectors[2], compute_mean_vector(data, "saw", "screw"), atol=1e-6)


def test_nodes_are_in_preorder_with_vectors_of_the_plans(data):
    indices = planning.make_level_indices(data, 3, 8)
    hull_vector, mast_vector, *_ = indices[1].vectors
    root_vector = indices[2].vectors[0]
    step_vectors = {name: data.step_vectors[data.steps.index(name)] for name in data.steps}
    unrolled = UnrolledPlan(
        steps=np.array(
            [
                [step_vectors["saw"], 2 * step_vectors["glue"], step_vectors["fell"]],
                [step_vectors["trim"], hull_vector, hull_vector],
            ]
        ),
        sub_goals=(
            np.array([[hull_vector, hull_vector, mast_vector], [mast_vector, hull_vector, hull_vector]]),
            np.array([[root_vector] * 3] * 2),
        ),
        num_new_sub_goals=np.array([[2, 0, 1], [2, 1, 1]]),
        done=np.zeros((2, 3), bool),
        length=np.array([3, 1]),
    )
    (first, second), vectors = planning.make_nodes(indices, unrolled, 7)
    names = [(2, "saw ..."), (1, "hull"), (0, "saw"), (0, "glue"), (1, "mast"), (0, "fell")]
    assert [(level, nearest_text, vector_index) for level, nearest_text, _, vector_index in first] == [
        (*name_and_level, 7 + vector_index) for vector_index, name_and_level in enumerate(names)
    ]
    assert [node.vector_index for node in second] == [13, 14, 15]
    assert second[2] == PlanNode(0, "trim", pytest.approx(1), 15)
    np.testing.assert_allclose([node.cosine for node in first], 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[3], 2 * step_vectors["glue"])
    np.testing.assert_array_equal(vectors[7], mast_vector)


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 9))
def test_planner_batches_equal_one_call(rows):
    def stub_react(guide, state, goals, observed):
        return UnrolledPlan(observed, (goals[:, None],), *[goals[:, 0]] * 3)

    goals, observed = sample_vectors(0, rows, 2), sample_vectors(1, rows, 3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MAX_BATCH_SIZE", 4)
        patch.setattr(planning, "react", stub_react)
        actual_plan = planning.make_planner(None, None, 2).react(goals, observed)
    for actual, expected in zip(
        jax.tree.leaves(actual_plan), jax.tree.leaves(stub_react(None, None, goals, observed)), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


# Evaluation of plans


def test_goal_set_has_each_goal_once_with_truncated_steps(data):
    goal_set = evaluation.make_goal_set(data, 4)
    assert goal_set.splits == ["train", "train", "held_out", "compound"]
    assert goal_set.names == ["a boat", "a shelf", "a table", "a boat and a shelf"]
    assert [data.steps[step] for step in goal_set.steps[0]] == ["saw", "glue", "paint", "fell"]
    saw, glue, paint, fell, trim = (data.steps.index(step) for step in ("saw", "glue", "paint", "fell", "trim"))
    assert goal_set.sections[0] == [[saw, glue, paint], [fell, trim]]
    assert goal_set.sections[3][0][0] == saw  # `cut` is a wording of it
    np.testing.assert_array_equal(goal_set.goals[2], data.goal_vectors[data.goals.index("a table")])


def make_perfect_plans(data, goal_set):
    """The plans of a planner that knows all references."""
    num_steps = max(map(len, goal_set.steps)) + 1
    steps = np.zeros((len(goal_set.steps), num_steps, 16), np.float32)
    done = np.zeros(steps.shape[:2], bool)
    for row, reference in enumerate(goal_set.steps):
        steps[row, : len(reference)] = data.step_vectors[reference]
        done[row, len(reference) :] = True
    return UnrolledPlan(
        steps, (), np.zeros(steps.shape[:2], int), done, np.array([len(reference) for reference in goal_set.steps])
    )


def test_plan_scores_count_wrong_ends_as_wrong(data):
    goal_set, index = evaluation.make_goal_set(data, 9), planning.make_level_indices(data, 1, 16)[0]
    perfect_plans = make_perfect_plans(data, goal_set)
    for scores in evaluation.score_plans(data, index, goal_set, perfect_plans, perfect_plans):
        assert scores == {"next_step_recall": 1, "step_f1": 1, "sub_goal_recall": 1}
    early_plans = perfect_plans._replace(
        done=np.ones_like(perfect_plans.done), length=np.maximum(perfect_plans.length - 1, 1)
    )
    scores = evaluation.score_plans(
        data, index, goal_set, perfect_plans._replace(done=np.ones_like(perfect_plans.done)), early_plans
    )
    assert [goal_scores["next_step_recall"] for goal_scores in scores] == [0] * 4
    assert [goal_scores["step_f1"] for goal_scores in scores] == [2 * (n - 1) / (2 * n - 1) for n in (5, 2, 2, 3)]
    assert scores[0]["sub_goal_recall"] == 0.5


def test_baselines_use_only_training_texts(data):
    goal_set = evaluation.make_goal_set(data, 9)
    scores = evaluation.compute_baseline_scores(data, goal_set, 9)
    assert [goal_scores["step_f1"] for goal_scores in scores["copied"][:2]] == [1, 1]
    assert [goal_scores["next_step_recall"] for goal_scores in scores["copied"][:2]] == [1, 1]
    assert all(goal_scores["step_f1"] < 1 for goal_scores in scores["copied"][2:])
    # `saw` begins both first texts. Of its successors glue and screw, glue was first. Then a boat's steps follow.
    expected = {"a boat": 1.0, "a shelf": 1 / 2, "a table": 1.0, "a boat and a shelf": 1 / 3}
    assert [goal_scores["next_step_recall"] for goal_scores in scores["bigram"]] == [
        expected[name] for name in goal_set.names
    ]


def test_rows_average_recall_over_steps_and_the_rest_over_goals():
    goal_set = evaluation.GoalSet(["train", "train", "compound"], ["a", "b", "c"], None, [[0], [0, 1, 2], [0]], None)
    scores = [
        {"next_step_recall": recall, "step_f1": f1, "sub_goal_recall": sub_goals}
        for recall, f1, sub_goals in ((1, 1, 0), (1 / 3, 0.5, 1), (0, 0, 0.25))
    ]
    train, compound = evaluation.make_rows("copied", goal_set, scores, plans_per_second=3.0)
    assert train == {
        "split": "train", "model": "copied", "num_goals": 2, "next_step_recall": pytest.approx(0.5),
        "plan_step_f1": 0.75, "sub_goal_recall": 0.5, "plans_per_second": 3.0,
    }  # fmt: skip
    assert (compound["split"], compound["sub_goal_recall"]) == ("compound", 0.25)
