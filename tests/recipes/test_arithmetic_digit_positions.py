"""Digit positions: computed token by token or in packed rows, and shared by the inputs of a step."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import make_chain
from thinking.environments.arithmetic.problems import ADD, SUBTRACT, Problem, format_number
from thinking.generation.completions import generate
from thinking.generation.sampling import Sampling
from thinking.networks import positions
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.recipes.arithmetic.digit_positions import (
    ANSWER_PART,
    CARRY,
    NUM_COORDINATES,
    QUESTION_PART,
    THOUGHT_PART,
    compute_coordinates,
    locate,
    sample_coordinates,
    separate_texts,
    shuffle_digit_positions,
)
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_example, encode_prompts, pack_examples
from thinking.text.packing import pack

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
ROW_LENGTH, MAX_POSITION = 128, 16
naturals = st.integers(1, 8).flatmap(lambda digits: st.integers(0, 10**digits - 1))
jitted_coordinates = jit(compute_coordinates)
jitted_locate = jit(locate)
jitted_shuffle = jit(functools.partial(shuffle_digit_positions, max_position=MAX_POSITION))


def encode_and_locate(problem):
    """The tokens of a row, and their coordinates."""
    rows = pack_examples([encode_example(problem, reverse_digits=True)], ROW_LENGTH)
    length = int((rows.segments > 0).sum())
    return rows.tokens[0, :length], np.asarray(jitted_coordinates(rows.tokens, rows.segments))[0, :length].tolist()


def make_expected_coordinates(problem):
    """Coordinates of each token, derived from the structure of the text."""
    coordinates = [[0, 0, QUESTION_PART]]
    for index, operand in enumerate(problem.operands):
        coordinates += [[position, 2 * index + 1, QUESTION_PART] for position in range(1, len(str(operand)) + 1)]
        coordinates.append([0, 2 * index + 2, QUESTION_PART])  # the operator after it
    coordinates.append([1, 0, THOUGHT_PART])
    num_steps = len(make_chain(problem, reverse_digits=True))
    for position in range(1, num_steps + 1):  # as in `7+8+0=5,1<step>`
        coordinates += [[position, slot, THOUGHT_PART] for slot in range(1, CARRY)]
        coordinates += [[position + 1, CARRY, THOUGHT_PART], [position + 1, 0, THOUGHT_PART]]
    coordinates[-1] = [num_steps + 1, CARRY + 1, THOUGHT_PART]  # the end of the thought instead of another step
    num_digits = len(format_number(problem.value))
    coordinates += [[1, 0, ANSWER_PART], *([position + 1, 1, ANSWER_PART] for position in range(1, num_digits + 1))]
    return [*coordinates, [num_digits + 1, 2, ANSWER_PART]]


@given(naturals, naturals)
@QUICK
def test_coordinates_follow_the_digits_of_a_sum(left, right):
    problem = Problem(ADD, (left, right))
    assert encode_and_locate(problem)[1] == make_expected_coordinates(problem)


@given(naturals, naturals)
@QUICK
def test_coordinates_follow_the_digits_of_a_difference(left, right):
    problem = Problem(SUBTRACT, (max(left, right), min(left, right)))
    assert encode_and_locate(problem)[1] == make_expected_coordinates(problem)


@given(naturals, naturals)
@QUICK
def test_inputs_of_a_step_share_its_digit_position(left, right):
    tokens, coordinates = encode_and_locate(Problem(ADD, (left, right)))
    char_at = {
        tuple(each): VOCABULARY.decode([token]) for token, each in zip(tokens.tolist(), coordinates, strict=True)
    }
    for position in range(1, max(len(str(left)), len(str(right))) + 1):
        a, b, carry, total = (char_at[position, slot, THOUGHT_PART] for slot in (1, 3, 5, 7))
        assert a == char_at.get((position, 1, QUESTION_PART), "0")
        assert b == char_at.get((position, 3, QUESTION_PART), "0")
        assert carry == char_at.get((position, CARRY, THOUGHT_PART), "0")
        assert total == f"{left + right:09}"[-position]


def test_words_of_a_question_have_position_zero():
    rows = pack_examples([encode_example(Problem(ADD, (57, 8)), wording=1, reverse_digits=True)], ROW_LENGTH)
    question = VOCABULARY.decode(rows.tokens[0, :9].tolist())
    assert question == "<begin>Calculate the sum of 75 and 8"
    coordinates = np.asarray(jitted_coordinates(rows.tokens, rows.segments))[0, :10]
    assert coordinates[:5].tolist() == [[0, 0, QUESTION_PART]] * 5
    assert coordinates[5:].tolist() == [[1, 1, 0], [2, 1, 0], [0, 2, 0], [1, 3, 0], [1, 0, THOUGHT_PART]]


@given(st.lists(st.lists(st.integers(0, len(VOCABULARY) - 1), min_size=1, max_size=9), min_size=1, max_size=4))
@QUICK
def test_packed_coordinates_equal_token_by_token_locate(texts):
    tokens, segments = np.zeros((2, 1, 40), np.int32)
    expected, start = np.zeros((40, NUM_COORDINATES), np.int32), 0
    for segment, text in enumerate(texts):
        coordinates = np.zeros((1, NUM_COORDINATES), np.int32)
        for index, token in enumerate(text, start):
            coordinates = jitted_locate(coordinates, np.asarray([token], np.int32))
            tokens[0, index], segments[0, index], expected[index] = token, segment + 1, coordinates[0]
        start += len(text)
    np.testing.assert_array_equal(jitted_coordinates(tokens, segments)[0], expected)


@given(st.integers(0, 2**31 - 1))
@QUICK
def test_shuffle_maps_digit_positions_one_to_one(seed):
    coordinates = np.random.default_rng(seed).integers(0, MAX_POSITION + 1, (4, 24, NUM_COORDINATES)).astype(np.int32)
    actual = np.asarray(jitted_shuffle(jax.random.key(seed), coordinates))
    np.testing.assert_array_equal(actual[:, :, 1:], coordinates[:, :, 1:])
    np.testing.assert_array_equal(actual[:, :, 0] == 0, coordinates[:, :, 0] == 0)
    assert actual[:, :, 0].max() <= MAX_POSITION
    for before, after in zip(coordinates[:, :, 0], actual[:, :, 0], strict=True):
        assert len(set(zip(before, after, strict=True))) == len(set(before)) == len(set(after))


def test_shuffled_positions_are_uniform_over_rows():
    num_rows = 3200
    coordinates = np.zeros((num_rows, 2, NUM_COORDINATES), np.int32)
    coordinates[:, :, 0] = 1, MAX_POSITION
    for column in np.asarray(jitted_shuffle(jax.random.key(0), coordinates))[:, :, 0].T:
        counts = np.bincount(column, minlength=MAX_POSITION + 1)[1:]
        assert np.abs(counts - num_rows / MAX_POSITION).max() < 5 * (num_rows / MAX_POSITION) ** 0.5


def test_separated_texts_share_no_position_and_keep_their_order():
    texts = [VOCABULARY.encode(f"<begin>{left}+{right}=") for left, right in ((12, 345), (7, 8), (4321, 1))]
    packed = pack(texts, 40)
    coordinates = np.asarray(jitted_coordinates(packed.tokens, packed.segments))
    separated_coordinates = np.asarray(jit(separate_texts)(coordinates, packed.segments))
    np.testing.assert_array_equal(separated_coordinates[:, :, 1:], coordinates[:, :, 1:])
    for after, before, segments in zip(
        separated_coordinates[:, :, 0], coordinates[:, :, 0], packed.segments, strict=True
    ):
        by_text = [after[segments == segment] for segment in range(1, segments.max() + 1)]
        used_positions = [set(each[each > 0].tolist()) for each in by_text]
        assert sorted(set.union(*used_positions)) == list(range(1, sum(map(len, used_positions)) + 1))  # disjoint
        assert [min(each) for each in used_positions] == sorted(min(each) for each in used_positions)
        for index, text_positions in enumerate(by_text, 1):
            original = before[segments == index]
            np.testing.assert_array_equal(
                text_positions, np.where(original > 0, original + min(used_positions[index - 1]) - 1, 0)
            )


def test_sampled_coordinates_relabel_separated_positions():
    texts = [VOCABULARY.encode(f"<begin>{left}+{right}=") for left, right in ((12, 345), (7, 8), (43, 1))]
    packed = pack(texts, 24)
    sampled_coordinates = jit(functools.partial(sample_coordinates, max_position=MAX_POSITION))(
        jax.random.key(0), packed.tokens, packed.segments
    )
    separated_coordinates = np.asarray(
        separate_texts(compute_coordinates(packed.tokens, packed.segments), packed.segments)
    )
    np.testing.assert_array_equal(sampled_coordinates[:, :, 1:], separated_coordinates[:, :, 1:])
    for after, before in zip(np.asarray(sampled_coordinates)[:, :, 0], separated_coordinates[:, :, 0], strict=True):
        assert set(after) <= set(range(MAX_POSITION + 1))
        assert len(set(zip(before, after, strict=True))) == len(set(before)) == len(set(after))
        assert not np.array_equal(after, before)


def test_generation_locates_tokens_like_teacher_forcing():
    block = BlockConfig(16, 2, position=positions.orthogonal())
    model = decoder(vocab_size=len(VOCABULARY), context_length=40, block=block, num_layers=1)
    params = jit(model.init)(jax.random.key(0))
    problem = Problem(ADD, (957, 68))
    prompts, example = (
        encode_prompts([problem], reverse_digits=True),
        np.asarray([encode_example(problem, reverse_digits=True).tokens], np.int32),
    )
    completion = example[0, prompts.tokens.shape[1] :]
    generate_fn = functools.partial(
        generate,
        model,
        max_new_tokens=20,
        forced_tokens=completion[:20],
        sampling=Sampling(temperature=0.0),
        locate=locate,
        num_coordinates=NUM_COORDINATES,
    )
    log_probs = jit(generate_fn)(params, jax.random.key(1), prompts.tokens, prompts.lengths).log_prob[0]
    tokens = example[:, : prompts.tokens.shape[1] + 20]
    coordinates = jitted_coordinates(tokens, np.ones_like(tokens))
    logits = jit(model.apply)(params, tokens, coordinates=coordinates).logits[0, prompts.tokens.shape[1] - 1 : -1]
    expected = jax.nn.log_softmax(logits)[np.arange(20), completion[:20]]
    np.testing.assert_allclose(log_probs, expected, atol=1e-5)


def test_invalid_input_raises():
    with pytest.raises(ValueError, match=r"compute_coordinates: tokens \(1, 3\) and segments \(1, 2\); give both"):
        compute_coordinates(np.zeros((1, 3), np.int32), np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match=r"shuffle_digit_positions: max_position 0 is out of range; give at least 1"):
        shuffle_digit_positions(jax.random.key(0), np.zeros((1, 2, NUM_COORDINATES), np.int32), 0)
