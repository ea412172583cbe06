"""The report of a run: `report.html`, one file that loads nothing. Free of JAX."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinking.experiment import metrics
from thinking.experiment.config_fields import flatten
from thinking.experiment.curves import collect_curves, make_panels
from thinking.experiment.pages import render_page
from thinking.experiment.pictures import embed_pictures
from thinking.experiment.run_folders import REPORT_FILE
from thinking.experiment.run_records import RunRecord, read_run
from thinking.experiment.settings import to_flag
from thinking.experiment.summary import format_seconds
from thinking.experiment.tables import TextTable, format_rows
from thinking.files import write_atomic

_MAX_ROWS = 200
_NUM_SAMPLES = 8
_MAX_CELL = 400
"""Characters of a cell."""
_PACKAGES = ("python", "thinking", "jax", "jaxlib", "flax", "optax", "numpy")


def write_report(folder: Path) -> Path:
    """Write the report of a run, also of one that is not finished, and return its path.

    Raises:
        RunError: the run's files cannot be read.
        OSError: the report cannot be written.
    """
    path = folder / REPORT_FILE
    write_atomic(path, render_report(read_run(folder)))
    return path


def render_report(record: RunRecord, home: str | None = None) -> bytes:
    """Render what is known of a run as HTML of at most 5 MB; pictures that are too large for that are named.

    Args:
        record: the run.
        home: address of the page that lists all runs, of a report that is served; None for a file.
    """
    folder, config, results = record.folder, record.saved, record.results
    rows = results.get("rows", [])
    columns = results.get("columns")
    curves = collect_curves(metrics.read(folder), config["config"])
    return render_page(
        "report.html",
        title=record.name,
        home=home,
        sentences=_make_sentences(record),
        pages=_find_pages(folder),
        headline_table=_shorten(format_rows(rows[:_MAX_ROWS], columns)) if rows else None,
        all_columns=_shorten(format_rows(rows[:_MAX_ROWS])) if rows and columns else None,
        num_hidden_rows=max(0, len(rows) - _MAX_ROWS),
        panels=make_panels(curves),
        has_spread=any(len(seeds) > 1 for lines in curves.values() for seeds in lines.values()),
        pictures=embed_pictures(folder),
        samples=_read_samples(folder),
        preset=config.get("preset", ""),
        changed=_make_settings_table(config.get("changed", {})),
        settings=_make_settings_table({to_flag(path): value for path, value in flatten(config["config"]).items()}),
        command=config.get("command", ""),
        facts=_make_facts(record),
    )


def _make_sentences(record: RunRecord) -> list[str]:
    """What ran, what came out, and how long it took."""
    config, results = record.saved, record.results
    if results:
        found = results.get("headline") or f"It came to {len(results.get('rows', []))} rows of results"
    else:
        found = f"There are no results yet ({record.state}). What follows is what was measured so far"
    seed, seeds = config["config"].get("seed", 0), config["config"].get("seeds", 1)
    which = f"seed {seed}" if seeds == 1 else f"seeds {seed} to {seed + seeds - 1}"
    device = config.get("device", {})
    where = device.get("processor") if device.get("platform") == "cpu" else device.get("kind")
    took = f"{'It took' if results else 'It has taken'} {format_seconds(config.get('seconds', 0.0))}"
    sentences = [config.get("description", ""), found[:1].upper() + found[1:], f"{took} with {which} on {where}"]
    return [f"{sentence.rstrip('.')}." for sentence in sentences if sentence]


def _find_pages(folder: Path) -> list[str]:
    """The pages that a task wrote itself."""
    pages = [*sorted(folder.glob("*.html")), *sorted(folder.glob("plots/*.html"))]
    return [str(page.relative_to(folder)) for page in pages if page.name != REPORT_FILE]


def _read_samples(folder: Path) -> TextTable | None:
    """The last lines of `samples.jsonl`, the newest first; lists as JSON."""
    records = metrics.read(folder, metrics.SAMPLES_FILE)[-_NUM_SAMPLES:]
    rows = [{name: _to_cell(value) for name, value in record.items()} for record in reversed(records)]
    return _shorten(format_rows(rows)) if rows else None


def _make_settings_table(values: Mapping[str, Any]) -> TextTable:
    rows = [{"flag": flag, "value": str(_to_cell(value))} for flag, value in values.items()]
    return _shorten(format_rows(rows, {"flag": "flag", "value": "value"}))


def _make_facts(record: RunRecord) -> TextTable:
    config = record.saved
    versions, device, git = config.get("versions", {}), config.get("device", {}), config.get("git") or {}
    facts = {
        "started": config.get("date", ""),
        "folder": str(record.folder),
        "device": f"{device.get('count')} {device.get('kind')} ({device.get('platform')})",
        "processor": f"{device.get('processor')}, {config.get('cpu_count')} CPUs",
        "versions": ", ".join(f"{name} {versions[name]}" for name in _PACKAGES if versions.get(name)),
        "commit": f"{git.get('commit', 'none')}{', and changes' if git.get('dirty') else ''}",
        "weights": record.results.get("state_digest", ""),
    }
    return _shorten(format_rows([{"what": name, "value": value} for name, value in facts.items() if value]))


def _to_cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _shorten(table: TextTable) -> TextTable:
    """The table with its long cells cut off."""
    rows = [[f"{cell[:_MAX_CELL]} …" if len(cell) > _MAX_CELL else cell for cell in row] for row in table.rows]
    return TextTable(table.headers, table.is_number, rows)
