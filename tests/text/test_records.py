"""Files of texts: round trips, and one-line errors of invalid files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinking.errors import UserError
from thinking.text import records
from thinking.text.records import Section, Text

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
STEPS = st.lists(WORDS, min_size=1, max_size=3).map(tuple)
PARTS = st.lists(st.builds(Section, WORDS, STEPS), min_size=1, max_size=3).map(tuple)
DEEP = st.lists(st.builds(Section, WORDS, STEPS | PARTS), min_size=1, max_size=3).map(tuple)
TEXTS = st.builds(Text, WORDS, STEPS | PARTS | DEEP, st.sampled_from(records.SPLITS))


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_records_round_trip(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "again.jsonl"
    records.write(path, texts)
    assert records.read(path) == texts


def test_hand_written_file_is_read(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text(
        '{"goal": "building a shelf", "steps": ["saw", "screw"]}\r\n\n'
        '{"goal": "建船", "steps": [{"heading": "hull", "steps": ["bend"]}], "split": "held_out"}\n'
        '{"steps": ["hammer"], "goal": "building a shelf"}',
        encoding="utf-8",
    )
    assert records.read(path) == [
        Text("building a shelf", ("saw", "screw")),
        Text("建船", (("hull", ("bend",)),), "held_out"),
        Text("building a shelf", ("hammer",)),
    ]


def test_written_file_is_plain_utf8(tmp_path):
    records.write(tmp_path / "new" / "texts.jsonl", [Text("Wände", ("mauern",))])
    [path] = (tmp_path / "new").iterdir()
    assert path.read_text(encoding="utf-8") == '{"goal": "Wände", "steps": ["mauern"], "split": "train"}\n'


def test_ten_thousand_steps_round_trip(tmp_path):
    text = Text("much", tuple(f"step {number}" for number in range(10_000)))
    records.write(tmp_path / "texts.jsonl", [text, Text("little", ("one",))])
    assert records.read(tmp_path / "texts.jsonl")[0] == text


def test_iter_steps_yields_only_steps():
    steps = (Section("part", (Section("operation", ("a", "b")),)), Section("part 2", ("c",)))
    assert list(records.iter_steps(steps)) == ["a", "b", "c"]


VALID_LINE = b'{"goal": "g", "steps": ["s"]}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"goal": "a", "steps": [' + b"9" * 5000 + b"]}", "not JSON that can be read"),
        (b"{", "not JSON"),
        (b"goal: x", "not JSON"),
        (b"[1]", "allowed is an object with goal, steps, split"),
        (b"null", "allowed is an object"),
        (b'{"goal": "g"}', "no steps"),
        (b"{}", "no goal and no steps"),
        (b'{"goal": "g", "steps": ["s"], "step": 1}', 'unknown field "step"'),
        (b'{"goal": "g", "goal": "h", "steps": ["s"]}', "`goal` stands twice"),
        (b'{"goal": " ", "steps": ["s"]}', "goal is"),
        (b'{"goal": 5, "steps": ["s"]}', "goal is 5"),
        (b'{"goal": "g", "steps": []}', "steps is []"),
        (b'{"goal": "g", "steps": "s"}', 'steps is "s"'),
        (b'{"goal": "g", "steps": ["s", ""]}', 'steps[1] is ""'),
        (b'{"goal": "g", "steps": ["s", 7]}', "steps holds 7"),
        (b'{"goal": "g", "steps": ["s", {"heading": "h", "steps": ["s"]}]}', "both strings and sections"),
        (b'{"goal": "g", "steps": [{"heading": "h"}]}', "steps[0] has no steps"),
        (b'{"goal": "g", "steps": [{"heading": "", "steps": ["s"]}]}', "steps[0].heading"),
        (b'{"goal": "g", "steps": [{"heading": "h", "steps": ["s"], "split": "train"}]}', 'unknown field "split"'),
        (b'{"goal": "g", "steps": ["s"], "split": "test"}', "train, held_out, compound"),
        (b'{"goal": "g", "steps": ["s"], "split": ["train"]}', "train, held_out, compound"),
        (b'{"goal": "g", "steps": ["\\ud800"]}', "half a character"),
        (b'{"goal": "\xff", "steps": ["s"]}', "byte 11 of it is not UTF-8"),
        (b'{"goal": "g", "steps": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deep"),
        (
            b'{"goal": "g", "steps": ' + b'[{"heading": "h", "steps": ' * 3 + b'["s"]' + b"}]" * 3 + b"}",
            "steps[0].steps[0].steps nests sections three deep",
        ),
    ],
)
def test_invalid_line_is_reported(tmp_path, line, reason):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(VALID_LINE + b"\n" + line + b"\n" + VALID_LINE)
    with pytest.raises(UserError) as error:
        records.read(path)
    message = str(error.value)
    assert message.startswith(f"{path}, line 3: ")
    assert reason in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_file_raises(tmp_path, content):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="line 1: no text in it"):
        records.read(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_raises(tmp_path, encoding):
    path = tmp_path / "texts.jsonl"
    path.write_text(VALID_LINE.decode(), encoding=encoding)
    with pytest.raises(UserError, match="byte order mark"):
        records.read(path)


def test_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        records.read(tmp_path / "none.jsonl")


@pytest.mark.parametrize("text", [Text("g", ()), Text("", ("s",)), Text("g", ("s",), "test"), Text("g", ("\ud800",))])
def test_invalid_text_raises_and_keeps_the_file(tmp_path, text):
    path = tmp_path / "texts.jsonl"
    records.write(path, [Text("g", ("s",))])
    with pytest.raises(ValueError, match="text 1"):
        records.write(path, [Text("h", ("s",)), text])
    assert records.read(path) == [Text("g", ("s",))]
    assert list(tmp_path.iterdir()) == [path]
