"""From prepared texts to a guide on disk, and from its thoughts to plans in words that are judged."""

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
MEANT = {"cut": "saw"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepared_data.save(folder, prepared_data.prepare_texts(TEXTS, MEANT, hashing_embedder(16), {}))
    return prepared_data.load(folder)


def vector_of(data, *steps):
    return np.mean([data.step_vectors[data.steps.index(step)] for step in steps], axis=0)


# What a guide is built of.


def test_all_texts_of_training_are_learned_and_no_others(data):
    lowest, top = model.make_sub_trajectories(data, 2)
    assert [leg.text_index for leg in lowest] == [0, 0, 1, 1, 2]
    hull = vector_of(data, "saw", "glue", "paint")
    np.testing.assert_allclose(lowest[0].target, hull, atol=1e-6)
    np.testing.assert_array_equal(lowest[0].values, [vector_of(data, step) for step in ("saw", "glue", "paint")])
    np.testing.assert_allclose(top[0].values, [hull, vector_of(data, "fell", "trim")], atol=1e-6)
    np.testing.assert_array_equal(top[1].target, data.goal_vectors[data.goals.index("a boat")])


def some_shape(**changed):
    sizes = {"width": 8, "upper_width": 8, "num_heads": 1, "num_layers": 1, "num_slots": 1}
    return GuideShape(**{"context_lengths": (2, 1), "kernel": "linear", **sizes, **changed})


@pytest.mark.parametrize(("kind", "made"), [("whitened", Whitening), ("tokens", Codebook)])
def test_what_is_saved_is_loaded_for_the_same_data_alone(data, tmp_path, kind, made):
    legs = model.make_sub_trajectories(data, 2)
    fitted = model.fit_codecs(legs, kind=kind, dims=4, average_dims=4, goal_dims=2, seed=0)
    assert [type(each) for each in fitted] == [made] * 3
    shape = some_shape(kernel="transformer", width=16)
    model.save_guide(tmp_path, shape, fitted, model.compute_checksum(data))
    loaded, again = model.load_guide(tmp_path, model.compute_checksum(data))
    assert loaded == shape
    for one, other in zip(fitted, again, strict=True):
        for name, array in one._asdict().items():
            np.testing.assert_array_equal(getattr(other, name), array)
    with pytest.raises(UserError, match=r"learned from other data .*lm_guide_train\.py --clear, then again"):
        model.load_guide(tmp_path, "another")


@pytest.mark.parametrize("name", ["guide.json", "codecs.safetensors"])
def test_a_guide_that_is_damaged_or_lost_is_one_line(data, tmp_path, name):
    legs = model.make_sub_trajectories(data, 1)
    shape = some_shape(context_lengths=(2,))
    model.save_guide(
        tmp_path, shape, model.fit_codecs(legs, kind="whitened", dims=4, average_dims=4, goal_dims=1, seed=0), "data"
    )
    for content in ((tmp_path / name).read_bytes()[:-9], b"{}", b""):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is damaged or edited: run tasks/lm_guide_train"):
            model.load_guide(tmp_path, "data")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="has no trained guide: run tasks/lm_guide_train"):
        model.load_guide(tmp_path, "data")


def test_averages_that_differ_by_rounding_alone_are_one_token():
    one = ("paint it",)
    texts = [Text("one", one), Text("many", (Section("all", one * 3), Section("end", ("glue",))))]
    data = prepared_data.prepare_texts(texts, {}, hashing_embedder(16), {})
    legs = model.make_sub_trajectories(data, 2)
    averages = np.concatenate([leg.values for leg in legs[1]])
    assert not np.array_equal(averages[0], averages[1])  # of one step, and of three that are the same
    fitted = model.fit_codecs(legs, kind="tokens", dims=9, average_dims=9, goal_dims=9, seed=0)
    assert [len(each.centroids) for each in fitted] == [2, 2, 2]


def test_a_level_with_one_thing_alone_is_refused():
    data = prepared_data.prepare_texts([Text("one", ("saw", "glue"))], {}, hashing_embedder(16), {})
    with pytest.raises(UserError, match="level 1 of the plan trees has one goal alone; give more texts"):
        model.fit_codecs(
            model.make_sub_trajectories(data, 1), kind="whitened", dims=4, average_dims=4, goal_dims=4, seed=0
        )


def test_a_guide_of_tables_knows_at_once_what_it_was_taught(data):
    legs = model.make_sub_trajectories(data, 1)
    codecs = [
        model.make_codec(each)
        for each in model.fit_codecs(legs, kind="tokens", dims=3, average_dims=3, goal_dims=2, seed=0)
    ]
    guide = model.build_guide(some_shape(kernel="table", context_lengths=(1,), width=32), codecs)
    steps, goals = codecs[0].encode(data.step_vectors[:2]), codecs[1].encode(data.goal_vectors[:1])
    context, ones = Context(steps[:1, None], np.ones(1, np.int32)), np.ones(1, np.float32)

    @jax.jit
    def told():
        state, _ = guide.fit(guide.init(jax.random.key(0)), [Transition(context, goals, steps[1:], ones, ones)])
        return guide.infer_subgoal(state, 0, context, goals)

    answer, known = told()
    assert (answer.tolist(), known.tolist()) == (steps[1:].tolist(), [True])
    # 3 tokens and the mark, pursuing 2 goals and a mark: a value and a score for each.
    assert model.count_parameters(guide) == 2 * 4 * 3


def test_tables_of_vectors_are_refused(data):
    fitted = model.fit_codecs(
        model.make_sub_trajectories(data, 1), kind="whitened", dims=3, average_dims=3, goal_dims=2, seed=0
    )
    with pytest.raises(UserError, match=r"--layers\.kernel table: .* give --codes\.kind tokens"):
        model.build_guide(some_shape(kernel="table", context_lengths=(1,)), list(map(model.make_codec, fitted)))


# What plans mean in words.


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_what_is_known_is_nearest_to_itself_and_noise_does_not_hide_it(monkeypatch):
    monkeypatch.setattr(planning, "MATCH_BATCH_SIZE", 16)  # several parts
    vectors = drawn(0, 40, 6)
    place = planning.make_match_index([str(number) for number in range(40)], vectors, 6)
    np.testing.assert_array_equal(place.match(vectors + 0.01 * drawn(1, 40, 6)), np.arange(40))
    assert place.match(vectors[:0]).shape == (0,)


def test_of_one_thing_alone_all_is_nearest():
    assert planning.make_match_index(["only"], drawn(0, 1, 6), 3).match(drawn(1, 4, 6)).tolist() == [0] * 4


def test_sections_are_known_by_the_average_of_all_steps_they_ever_had(data):
    steps, sections = planning.make_level_indices(data, 2, 8)
    assert steps.names == data.steps
    assert sections.names == ("hull", "mast", "saw ...")
    np.testing.assert_allclose(sections.vectors[0], vector_of(data, "saw", "glue", "paint", "cut", "glue"), atol=1e-6)
    np.testing.assert_allclose(sections.vectors[2], vector_of(data, "saw", "screw"), atol=1e-6)


def test_plans_become_nodes_in_preorder_whose_vectors_are_those_of_the_plans(data):
    levels = planning.make_level_indices(data, 3, 8)
    hull, mast, *_ = levels[1].vectors
    whole = levels[2].vectors[0]
    step = {name: data.step_vectors[data.steps.index(name)] for name in data.steps}
    unrolled = UnrolledPlan(
        steps=np.array([[step["saw"], 2 * step["glue"], step["fell"]], [step["trim"], hull, hull]]),
        sub_goals=(np.array([[hull, hull, mast], [mast, hull, hull]]), np.array([[whole] * 3] * 2)),
        num_new_sub_goals=np.array([[2, 0, 1], [2, 1, 1]]),
        done=np.zeros((2, 3), bool),
        length=np.array([3, 1]),
    )
    (first, second), vectors = planning.make_nodes(levels, unrolled, 7)
    names = [(2, "saw ..."), (1, "hull"), (0, "saw"), (0, "glue"), (1, "mast"), (0, "fell")]
    assert [(level, near, number) for level, near, _, number in first] == [
        (*named, 7 + number) for number, named in enumerate(names)
    ]
    assert [node.vector_index for node in second] == [13, 14, 15]
    assert second[2] == PlanNode(0, "trim", pytest.approx(1), 15)
    np.testing.assert_allclose([node.cosine for node in first], 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[3], 2 * step["glue"])
    np.testing.assert_array_equal(vectors[7], mast)


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 9))
def test_goals_are_planned_for_in_blocks_as_one_by_one(rows):
    def doubled(guide, state, goals, observed):
        return UnrolledPlan(observed, (goals[:, None],), *[goals[:, 0]] * 3)

    goals, observed = drawn(0, rows, 2), drawn(1, rows, 3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MAX_BATCH_SIZE", 4)
        patch.setattr(planning, "react", doubled)
        found = planning.make_planner(None, None, 2).react(goals, observed)
    for own, whole in zip(jax.tree.leaves(found), jax.tree.leaves(doubled(None, None, goals, observed)), strict=True):
        np.testing.assert_array_equal(own, whole)


# What plans are worth.


def test_each_goal_is_asked_once_with_its_first_text_and_no_more_steps_than_may_be(data):
    asked = evaluation.make_goal_set(data, 4)
    assert asked.splits == ["train", "train", "held_out", "compound"]
    assert asked.names == ["a boat", "a shelf", "a table", "a boat and a shelf"]
    assert [data.steps[step] for step in asked.steps[0]] == ["saw", "glue", "paint", "fell"]
    saw, glue, paint, fell, trim = (data.steps.index(step) for step in ("saw", "glue", "paint", "fell", "trim"))
    assert asked.sections[0] == [[saw, glue, paint], [fell, trim]]
    assert asked.sections[3][0][0] == saw  # `cut` words it
    np.testing.assert_array_equal(asked.goals[2], data.goal_vectors[data.goals.index("a table")])


def perfect(data, asked):
    """What a planner that knows all references thinks and reacts."""
    longest = max(map(len, asked.steps)) + 1
    steps = np.zeros((len(asked.steps), longest, 16), np.float32)
    ended = np.zeros(steps.shape[:2], bool)
    for row, own in enumerate(asked.steps):
        steps[row, : len(own)] = data.step_vectors[own]
        ended[row, len(own) :] = True
    return UnrolledPlan(steps, (), np.zeros(steps.shape[:2], int), ended, np.array([len(own) for own in asked.steps]))


def test_scores_are_those_of_the_nearest_sentences_and_a_wrong_end_counts_as_wrong(data):
    asked, known = evaluation.make_goal_set(data, 9), planning.make_level_indices(data, 1, 16)[0]
    whole = perfect(data, asked)
    for scores in evaluation.score_plans(data, known, asked, whole, whole):
        assert scores == {"next_step_recall": 1, "step_f1": 1, "sub_goals": 1}
    hasty = whole._replace(done=np.ones_like(whole.done), length=np.maximum(whole.length - 1, 1))
    scores = evaluation.score_plans(data, known, asked, whole._replace(done=np.ones_like(whole.done)), hasty)
    assert [each["next_step_recall"] for each in scores] == [0] * 4
    assert [each["step_f1"] for each in scores] == [2 * (n - 1) / (2 * n - 1) for n in (5, 2, 2, 3)]
    assert scores[0]["sub_goals"] == 0.5


def test_controls_know_the_texts_of_training_alone(data):
    asked = evaluation.make_goal_set(data, 9)
    scores = evaluation.compute_baseline_scores(data, asked, 9)
    assert [each["step_f1"] for each in scores["copied"][:2]] == [1, 1]
    assert [each["next_step_recall"] for each in scores["copied"][:2]] == [1, 1]
    assert all(each["step_f1"] < 1 for each in scores["copied"][2:])
    # `saw` begins both first texts; of glue and screw behind it, glue was seen first; a boat's steps follow.
    told = {"a boat": 1.0, "a shelf": 1 / 2, "a table": 1.0, "a boat and a shelf": 1 / 3}
    assert [each["next_step_recall"] for each in scores["bigram"]] == [told[name] for name in asked.names]


def test_rows_weigh_recall_by_steps_and_the_rest_by_goals():
    asked = evaluation.GoalSet(["train", "train", "compound"], ["a", "b", "c"], None, [[0], [0, 1, 2], [0]], None)
    scores = [
        {"next_step_recall": recall, "step_f1": f1, "sub_goals": sub_goals}
        for recall, f1, sub_goals in ((1, 1, 0), (1 / 3, 0.5, 1), (0, 0, 0.25))
    ]
    train, compound = evaluation.make_rows("copied", asked, scores, plans_per_second=3.0)
    assert train == {
        "split": "train", "model": "copied", "num_goals": 2, "next_step_recall": pytest.approx(0.5),
        "plan_step_f1": 0.75, "sub_goal_recall": 0.5, "plans_per_second": 3.0,
    }  # fmt: skip
    assert (compound["split"], compound["sub_goal_recall"]) == ("compound", 0.25)
