"""Lines of one plot, told apart by color and style."""

import numpy as np
import pytest

from thinking.colors import PALETTE, line_color, line_style
from thinking.experiment import plots


def test_lines_of_the_same_color_differ_in_style():
    looks = [(line_color(index), line_style(index)) for index in range(3 * len(PALETTE))]
    assert len(set(looks)) == len(looks)
    assert {style for _, style in looks[: len(PALETTE)]} == {"-"}


@pytest.mark.parametrize("count", [2, 9])
def test_the_legend_of_many_curves_is_beside_the_panel(tmp_path, monkeypatch, count):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure) or path)
    curves = {f"curve {index}": (np.array([[1.0, 10]]), np.array([[0.0, index]])) for index in range(count)}
    plots.plot_mean_and_spread(tmp_path / "curves.png", curves, "x", "y")
    ((panel,),) = [figure.axes for figure in figures]
    legends = {True: figures[0].legends, False: [panel.get_legend()] if panel.get_legend() else []}
    (legend,) = legends[count == 9]
    assert not legends[count != 9]
    assert [text.get_text() for text in legend.get_texts()] == list(curves)
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.lines}) == count
