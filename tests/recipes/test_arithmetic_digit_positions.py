"""Places of digits: told token by token, in packed rows alike; each step finds what it needs at a place of its own."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.environments.arithmetic.chains import chain
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
LENGTH, HIGHEST = 128, 16
numbers = st.integers(1, 8).flatmap(lambda digits: st.integers(0, 10**digits - 1))
places_of = jit(compute_coordinates)
locate_one = jit(locate)
shuffled = jit(functools.partial(shuffle_digit_positions, max_position=HIGHEST))


def located(problem):
    """Tokens of a row as text, and where each is."""
    rows = pack_examples([encode_example(problem, reverse_digits=True)], LENGTH)
    length = int((rows.segments > 0).sum())
    return rows.tokens[0, :length], np.asarray(places_of(rows.tokens, rows.segments))[0, :length].tolist()


def told(problem):
    """Where each token is, from what the text is made of."""
    found = [[0, 0, QUESTION_PART]]
    for index, operand in enumerate(problem.operands):
        found += [[place, 2 * index + 1, QUESTION_PART] for place in range(1, len(str(operand)) + 1)]
        found.append([0, 2 * index + 2, QUESTION_PART])  # the sign behind it
    found.append([1, 0, THOUGHT_PART])
    steps = len(chain(problem, reverse_digits=True))
    for place in range(1, steps + 1):  # as in `7+8+0=5,1<step>`
        found += [[place, slot, THOUGHT_PART] for slot in range(1, CARRY)]
        found += [[place + 1, CARRY, THOUGHT_PART], [place + 1, 0, THOUGHT_PART]]
    found[-1] = [steps + 1, CARRY + 1, THOUGHT_PART]  # the end of the thought in place of a further step
    digits = len(format_number(problem.value))
    found += [[1, 0, ANSWER_PART], *([place + 1, 1, ANSWER_PART] for place in range(1, digits + 1))]
    return [*found, [digits + 1, 2, ANSWER_PART]]


@given(numbers, numbers)
@QUICK
def test_places_follow_the_digits_of_a_sum(left, right):
    problem = Problem(ADD, (left, right))
    assert located(problem)[1] == told(problem)


@given(numbers, numbers)
@QUICK
def test_places_follow_the_digits_of_a_difference(left, right):
    problem = Problem(SUBTRACT, (max(left, right), min(left, right)))
    assert located(problem)[1] == told(problem)


@given(numbers, numbers)
@QUICK
def test_what_a_step_reads_stands_at_its_own_place(left, right):
    tokens, where = located(Problem(ADD, (left, right)))
    at = {tuple(place): VOCABULARY.decode([token]) for token, place in zip(tokens.tolist(), where, strict=True)}
    for place in range(1, max(len(str(left)), len(str(right))) + 1):
        a, b, carry, total = (at[place, slot, THOUGHT_PART] for slot in (1, 3, 5, 7))
        assert a == at.get((place, 1, QUESTION_PART), "0")
        assert b == at.get((place, 3, QUESTION_PART), "0")
        assert carry == at.get((place, CARRY, THOUGHT_PART), "0")
        assert total == f"{left + right:09}"[-place]


def test_words_of_a_question_do_not_count():
    rows = pack_examples([encode_example(Problem(ADD, (57, 8)), wording=1, reverse_digits=True)], LENGTH)
    asked = VOCABULARY.decode(rows.tokens[0, :9].tolist())
    assert asked == "<begin>Calculate the sum of 75 and 8"
    where = np.asarray(places_of(rows.tokens, rows.segments))[0, :10]
    assert where[:5].tolist() == [[0, 0, QUESTION_PART]] * 5
    assert where[5:].tolist() == [[1, 1, 0], [2, 1, 0], [0, 2, 0], [1, 3, 0], [1, 0, THOUGHT_PART]]


@given(st.lists(st.lists(st.integers(0, len(VOCABULARY) - 1), min_size=1, max_size=9), min_size=1, max_size=4))
@QUICK
def test_packed_texts_are_located_each_by_itself_token_by_token(texts):
    tokens, segments = np.zeros((2, 1, 40), np.int32)
    wanted, start = np.zeros((40, NUM_COORDINATES), np.int32), 0
    for index, text in enumerate(texts):
        where = np.zeros((1, NUM_COORDINATES), np.int32)
        for place, token in enumerate(text, start):
            where = locate_one(where, np.asarray([token], np.int32))
            tokens[0, place], segments[0, place], wanted[place] = token, index + 1, where[0]
        start += len(text)
    np.testing.assert_array_equal(places_of(tokens, segments)[0], wanted)


@given(st.integers(0, 2**31 - 1))
@QUICK
def test_shuffle_renames_places_one_to_one_and_leaves_all_else(seed):
    drawn = np.random.default_rng(seed).integers(0, HIGHEST + 1, (4, 24, NUM_COORDINATES)).astype(np.int32)
    moved = np.asarray(shuffled(jax.random.key(seed), drawn))
    np.testing.assert_array_equal(moved[:, :, 1:], drawn[:, :, 1:])
    np.testing.assert_array_equal(moved[:, :, 0] == 0, drawn[:, :, 0] == 0)
    assert moved[:, :, 0].max() <= HIGHEST
    for before, after in zip(drawn[:, :, 0], moved[:, :, 0], strict=True):
        assert len(set(zip(before, after, strict=True))) == len(set(before)) == len(set(after))


def test_shuffle_gives_every_place_every_name_alike_and_each_row_its_own():
    rows = 3200
    where = np.zeros((rows, 2, NUM_COORDINATES), np.int32)
    where[:, :, 0] = 1, HIGHEST
    for names in np.asarray(shuffled(jax.random.key(0), where))[:, :, 0].T:
        counts = np.bincount(names, minlength=HIGHEST + 1)[1:]
        assert np.abs(counts - rows / HIGHEST).max() < 5 * (rows / HIGHEST) ** 0.5


def test_texts_of_a_row_that_are_set_apart_share_no_place_and_keep_their_order():
    texts = [VOCABULARY.encode(f"<begin>{left}+{right}=") for left, right in ((12, 345), (7, 8), (4321, 1))]
    packed = pack(texts, 40)
    where = np.asarray(places_of(packed.tokens, packed.segments))
    found = np.asarray(jit(separate_texts)(where, packed.segments))
    np.testing.assert_array_equal(found[:, :, 1:], where[:, :, 1:])
    for told, before, segments in zip(found[:, :, 0], where[:, :, 0], packed.segments, strict=True):
        of = [told[segments == each] for each in range(1, segments.max() + 1)]
        used = [set(each[each > 0].tolist()) for each in of]
        assert sorted(set.union(*used)) == list(range(1, sum(map(len, used)) + 1))  # none twice, none left out
        assert [min(each) for each in used] == sorted(min(each) for each in used)
        for index, each in enumerate(of, 1):
            alone = before[segments == index]
            np.testing.assert_array_equal(each, np.where(alone > 0, alone + min(used[index - 1]) - 1, 0))


def test_practised_places_are_those_of_the_texts_apart_each_by_another_name():
    texts = [VOCABULARY.encode(f"<begin>{left}+{right}=") for left, right in ((12, 345), (7, 8), (43, 1))]
    packed = pack(texts, 24)
    found = jit(functools.partial(sample_coordinates, max_position=HIGHEST))(
        jax.random.key(0), packed.tokens, packed.segments
    )
    plain = np.asarray(separate_texts(compute_coordinates(packed.tokens, packed.segments), packed.segments))
    np.testing.assert_array_equal(found[:, :, 1:], plain[:, :, 1:])
    for told, before in zip(np.asarray(found)[:, :, 0], plain[:, :, 0], strict=True):
        assert set(told) <= set(range(HIGHEST + 1))
        assert len(set(zip(before, told, strict=True))) == len(set(before)) == len(set(told))
        assert not np.array_equal(told, before)


def test_what_is_written_is_located_as_what_is_read():
    block = BlockConfig(16, 2, position=positions.orthogonal())
    model = decoder(vocab_size=len(VOCABULARY), context_length=40, block=block, num_layers=1)
    params = jit(model.init)(jax.random.key(0))
    problem = Problem(ADD, (957, 68))
    asked, whole = (
        encode_prompts([problem], reverse_digits=True),
        np.asarray([encode_example(problem, reverse_digits=True).tokens], np.int32),
    )
    behind = whole[0, asked.tokens.shape[1] :]
    write = functools.partial(
        generate,
        model,
        max_new_tokens=20,
        forced_tokens=behind[:20],
        sampling=Sampling(temperature=0.0),
        locate=locate,
        num_coordinates=NUM_COORDINATES,
    )
    said = jit(write)(params, jax.random.key(1), asked.tokens, asked.lengths).log_prob[0]
    seen = whole[:, : asked.tokens.shape[1] + 20]
    where = places_of(seen, np.ones_like(seen))
    logits = jit(model.apply)(params, seen, coordinates=where).logits[0, asked.tokens.shape[1] - 1 : -1]
    wanted = jax.nn.log_softmax(logits)[np.arange(20), behind[:20]]
    np.testing.assert_allclose(said, wanted, atol=1e-5)


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"compute_coordinates: tokens \(1, 3\) and segments \(1, 2\); give both"):
        compute_coordinates(np.zeros((1, 3), np.int32), np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match=r"shuffle_digit_positions: max_position 0 is out of range; give at least 1"):
        shuffle_digit_positions(jax.random.key(0), np.zeros((1, 2, NUM_COORDINATES), np.int32), 0)
