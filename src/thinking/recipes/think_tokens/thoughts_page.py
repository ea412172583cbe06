"""An interactive page of thoughts over training; self-contained, with Plotly's script.

Axes: B words, N symbols of a word, S states, K thought tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from thinking.environments.automata.automaton import Automaton
from thinking.environments.automata.words import WordBatch

NUM_SHOWN = 10
"""Words shown step by step."""
MAX_FRAMES = 40
"""Maximum training steps shown."""
MAX_FREQUENT = 64
"""Maximum thoughts and states of the heatmap, the most frequent ones."""
HELP = "Move the slider, or press Play. A cell is a step of a word: point at it to see what it stands for."

Record = Mapping[str, Any]
"""A record of `samples.jsonl`: `step`, `answers` and `thoughts`, both [B][N], -1 for none."""


def make_record(sample: np.ndarray) -> list[dict[str, Any]]:
    """Records of a sample [2, B, N] of `thought_training.with_thought_records`; empty if nothing was recorded."""
    answers, thoughts = sample
    return [{"answers": answers.tolist(), "thoughts": thoughts.tolist()}] if (answers >= 0).any() else []


def render_page(records: Mapping[str, Sequence[Record]], words: WordBatch, machine: Automaton) -> str:
    """HTML with a figure for each kind of thoughts.

    Args:
        records: of each kind, in the order of training, at least one.
        words: the recorded words, all of length N.
        machine: their automaton.
    """
    figures = [_figure(kind, _select_frames(kind_records), words, machine) for kind, kind_records in records.items()]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=index == 0, auto_play=False)
        for index, figure in enumerate(figures)
    ]
    title = f"Thoughts over training: {machine.name}"
    style = "body { font-family: sans-serif; max-width: 1200px; margin: 1em auto; }"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return f"<!DOCTYPE html><html><head>{head}</head><body><h1>{title}</h1><p>{HELP}</p>{''.join(parts)}</body></html>"


def _select_frames(records: Sequence[Record]) -> list[Record]:
    """At most MAX_FRAMES evenly spaced records, including the last."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(MAX_FRAMES, len(records))).round().astype(int))
    return [records[index] for index in chosen]


def _figure(kind: str, records: Sequence[Record], words: WordBatch, machine: Automaton) -> go.Figure:
    states = np.asarray(words.states)
    discrete = any(np.max(record["thoughts"]) >= 0 for record in records)
    what = "thought" if discrete else "argmax of the answer head"
    size = 1 + max(int(np.max(record["thoughts" if discrete else "answers"])) for record in records)
    frequent = _find_frequent(records[-1], states, size, discrete)

    def traces(record: Record) -> list[Any]:
        shown = np.array(record["thoughts"] if discrete else record["answers"])
        last = np.array(record["answers"])[:, -1]
        # The last step has no thought; the answer takes its place.
        answered = np.where((np.arange(shown.shape[1]) == shown.shape[1] - 1)[None], last[:, None], shown)
        colours = max(size, len(machine.state_names))
        return [_plot_steps(answered, words, machine, colours, discrete), _heatmap(shown, states, size, frequent)]

    titles = [f"{kind}: steps of {min(NUM_SHOWN, len(states))} words", f"{what}, by the true state"]
    figure = make_subplots(cols=2, subplot_titles=titles, column_widths=[0.6, 0.4], horizontal_spacing=0.08)
    for column, trace in enumerate(traces(records[-1]), start=1):
        figure.add_trace(trace, row=1, col=column)
    figure.frames = [go.Frame(name=str(record["step"]), data=traces(record), traces=[0, 1]) for record in records]
    names = [str(record["step"]) for record in records]
    figure.update_layout(height=480, template="plotly_white", sliders=[_slider(names)], updatemenus=[_buttons(names)])
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="step", dtick=1, row=1, col=1)
    figure.update_yaxes(title_text="word", showticklabels=False, row=1, col=1)
    figure.update_xaxes(title_text="true state", type="category", row=1, col=2)
    figure.update_yaxes(title_text=what, showticklabels=False, row=1, col=2)
    return figure


def _find_frequent(record: Record, states: np.ndarray, size: int, discrete: bool) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent thoughts and true states, thoughts sorted by the state they coincide with most."""
    counts = _counts(np.array(record["thoughts" if discrete else "answers"]), states, size)
    columns = np.sort(np.argsort(-np.bincount(states.ravel()), kind="stable")[:MAX_FREQUENT])
    rows = np.argsort(-counts.sum(axis=1), kind="stable")[:MAX_FREQUENT]
    counts = counts[rows][:, columns]
    meaning = np.where(counts.any(axis=1), counts.argmax(axis=1), len(columns))
    return rows[np.argsort(meaning, kind="stable")], columns


def _counts(shown: np.ndarray, states: np.ndarray, size: int) -> np.ndarray:
    """[K, S] counts of thoughts by true state."""
    is_thought = shown >= 0
    counts = np.zeros((size, states.max() + 1), int)
    np.add.at(counts, (shown[is_thought], states[is_thought]), 1)
    return counts


def _heatmap(shown: np.ndarray, states: np.ndarray, size: int, frequent: tuple[np.ndarray, np.ndarray]) -> go.Heatmap:
    thoughts, columns = frequent
    counts = _counts(shown, states, size)[thoughts][:, columns]
    return go.Heatmap(
        z=counts,
        x=[str(state) for state in columns],
        colorscale="Viridis",
        showscale=False,
        hovertemplate="state %{x}, %{z} times<extra></extra>",
    )


def _plot_steps(shown: np.ndarray, words: WordBatch, machine: Automaton, size: int, discrete: bool) -> go.Heatmap:
    symbols, states = np.asarray(words.symbols)[:NUM_SHOWN], np.asarray(words.states)[:NUM_SHOWN]
    shown = shown[:NUM_SHOWN]
    last = shown.shape[1] - 1

    def text(row: int, step: int) -> str:
        token = shown[row, step]
        if token < 0:
            return ""
        return str(token) if discrete and step < last else machine.state_names[token]

    def hover(row: int, step: int) -> str:
        symbol, state = machine.symbol_names[symbols[row, step]], machine.state_names[states[row, step]]
        return f"symbol {symbol}<br>true state {state}<br>{'answer' if step == last else 'here'} {text(row, step)}"

    rows, steps = range(len(shown)), range(last + 1)
    return go.Heatmap(
        z=np.where(shown < 0, np.nan, shown),
        x=[step + 1 for step in steps],
        zmin=0,
        zmax=size,  # the hues at both ends are equal
        colorscale="HSV",
        opacity=0.6,
        showscale=False,
        text=[[text(row, step) for step in steps] for row in rows],
        texttemplate="%{text}",
        hovertext=[[hover(row, step) for step in steps] for row in rows],
        hoverinfo="text",
        xgap=2,
        ygap=2,
    )


def _slider(names: Sequence[str]) -> dict[str, Any]:
    return {
        "active": len(names) - 1,
        "currentvalue": {"prefix": "training step "},
        "pad": {"t": 45},
        "steps": [{"label": name, "method": "animate", "args": [[name], _animation_options(0)]} for name in names],
    }


def _buttons(names: Sequence[str]) -> dict[str, Any]:
    play = {"label": "Play", "method": "animate", "args": [list(names), _animation_options(250)]}
    stop = {"label": "Stop", "method": "animate", "args": [[None], _animation_options(0)]}
    return {"type": "buttons", "direction": "left", "x": 0, "y": -0.28, "xanchor": "right", "buttons": [play, stop]}


def _animation_options(milliseconds: int) -> dict[str, Any]:
    return {"mode": "immediate", "frame": {"duration": milliseconds, "redraw": True}, "transition": {"duration": 0}}
