"""What `--help` prints, and in which order."""

import pytest
from tests.experiment import nested

from thinking.experiment import flags


@pytest.fixture
def printed(capsys, monkeypatch):
    def call(*arguments, columns=100):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as stop:
            flags.parse(nested.PRESETS, arguments, "python tasks/nested.py", nested.EXAMPLES)
        assert stop.value.code == 0
        out, err = capsys.readouterr()
        assert not err
        return out

    return call


@pytest.mark.parametrize("columns", [30, 80, 100, 300])
def test_presets_come_first_then_groups_then_the_flags_of_every_task_and_examples_last(printed, columns):
    out = printed("--help", columns=columns)
    order = [
        "Learn with groups.", "presets:", "--seeds INT", "--model.width INT", "--sft.steps INT",
        "--sft.optimizer.learning-rate FLOAT", "--rl.steps INT", "--eval.num-problems INT",
        "--seed INT", "--artifacts PATH", "--wandb", "--help", "examples:", *nested.EXAMPLES,
    ]  # fmt: skip
    places = [out.index(part) for part in order]
    assert places == sorted(places)
    assert max(len(line) for line in out[: places[-3]].splitlines()) <= max(80, columns)


def test_each_preset_has_a_line(printed):
    lines = [line.strip() for line in printed("-h").splitlines()]
    for line in ("default: what the figures show", "smoke: seconds only", "bare"):
        assert line in lines


def test_flags_show_help_bounds_and_the_defaults_of_the_preset(printed):
    out = " ".join(printed("--preset", "smoke", "--help").split())
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
