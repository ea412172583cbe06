"""The text that `--help` prints."""

import pytest
from tests.experiment import nested

from thinking.experiment import flags


@pytest.fixture
def format_help(capsys, monkeypatch):
    def call(*arguments, columns=100):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as error:
            flags.parse(nested.PRESETS, arguments, "python tasks/nested.py", nested.EXAMPLES)
        assert error.value.code == 0
        out, err = capsys.readouterr()
        assert not err
        return out

    return call


@pytest.mark.parametrize("columns", [30, 80, 100, 300])
def test_help_sections_are_in_order(format_help, columns):
    out = format_help("--help", columns=columns)
    expected_order = [
        "Learn with groups.", "presets:", "--seeds INT", "--model.width INT", "--sft.steps INT",
        "--sft.optimizer.learning-rate FLOAT", "--rl.steps INT", "--eval.num-problems INT",
        "--seed INT", "--artifacts PATH", "--wandb", "--help", "examples:", *nested.EXAMPLES,
    ]  # fmt: skip
    indices = [out.index(part) for part in expected_order]
    assert indices == sorted(indices)
    assert max(len(line) for line in out[: indices[-3]].splitlines()) <= max(80, columns)


def test_help_has_one_line_for_each_preset(format_help):
    lines = [line.strip() for line in format_help("-h").splitlines()]
    for line in ("default: what the figures show", "smoke: seconds only", "bare"):
        assert line in lines


def test_help_shows_bounds_and_defaults_of_the_preset(format_help):
    out = " ".join(format_help("--preset", "smoke", "--help").split())
    for part in (
        "--model.width INT dimensions (from 1 to 16384; default: 16)",
        "--model.gated, --model.no-gated whether blocks are gated (default: True)",
        "--model.kinds [{table,linear} ...] kinds of layers (default: table)",
        "--sft.optimizer.betas FLOAT FLOAT",
        "(from 0, below 1; default: 0.9 0.99)",
        "--sft.warmup INT|None",
        "learning from rewards, 100 % by trial",
        "--chat answer typed problems (default: False)",
    ):
        assert part in out
