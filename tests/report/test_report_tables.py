"""Rows of committed tables are found, placed and averaged without the data they came from."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import check_command_refused
from signed_report.cli import report
from signed_report.drawing import name_points, page, settle
from signed_report.figures import draw_all, draw_retention, draw_tradeoff
from signed_report.results import Results
from signed_report.tables import own_memory, table_values

from recbole_signed.errors import MissingExtraError
from recbole_signed.runs import RunRow
from recbole_signed.runs.rows import append_row, read_rows
from recbole_signed.runs.stored import View, stored_table, view_file
from recbole_signed.table import to_markdown

YAML = """
title: Small
datasets: {small: {}, small late: {dataset: small, order: late}}
models: {Pop: {}, wide: {model: BPR}, EASE: {}}
seeds: [1, 2]
columns: [recall@20]
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


def put(table: Path, label: str, recall: float, seed: int = 1, section: str = "small", **more: Any) -> None:
    """Store a row, and show it in the table."""
    rows = table.with_suffix(".jsonl")
    model = "BPR" if label == "wide" else label
    about = {"model": model, "dataset": "small", "seed": seed, "section": section, "label": label}
    row = RunRow.from_dict({**about, "request_hash": f"{section} {label} {seed}", "test": {"recall@20": recall}} | more)
    append_row(rows, row)
    view = View.read(view_file(rows)) or View({}, "", None)
    shown = view.rows.setdefault(section, {}).setdefault(label, [])
    if row.id not in shown:
        shown.append(row.id)
    view.write(view_file(rows))


@pytest.mark.parametrize(
    "name",
    ["cold", "cold-items", "cold-users", "cost", "first-pass", "headline", "ssf-ablation", "standard", "temporal"],
)
def test_the_committed_tables_print_as_they_were_printed(repository: Path, name: str) -> None:
    found = stored_table(repository / "yaml" / "bench" / f"{name}.yaml")
    assert found is not None
    assert found.not_run == {}
    assert to_markdown(found.table) == (repository / "results" / "bench" / f"{name}.md").read_text(encoding="utf-8")


def test_a_committed_row_lies_once(repository: Path) -> None:
    rows = [row for file in (repository / "results" / "bench").glob("*.jsonl") for row in read_rows(file)]
    assert len({row.id for row in rows}) == len(rows) > 400
    assert all(row.section and row.label for row in rows)


def test_without_rows_there_is_no_table_and_memory_may_be_unknown(table: Path) -> None:
    assert stored_table(table) is None
    assert own_memory(RunRow("A", "d", 1, peak_memory_bytes=5_000_000)) is None


def test_the_last_finished_row_of_a_seed_counts(table: Path) -> None:
    put(table, "Pop", 0.1)
    put(table, "Pop", 0.2)
    put(table, "Pop", 0.0, status="failed", reason="no memory")
    put(table, "Pop", 0.4, seed=2)
    put(table, "gone", 0.9)  # no model of the yaml file
    put(table, "wide", 0.3, section="small late")
    found = stored_table(table)
    assert found is not None
    sections = table_values(found)["sections"]
    line = sections["small"]["lines"]["Pop"]
    assert line["values"]["recall@20"]["mean"] == pytest.approx(0.3)
    assert line["seeds"] == 2
    assert sections["small late"]["lines"]["wide"]["model"] == "BPR"
    assert found.not_run == {"small": ["wide", "EASE"], "small late": ["Pop", "EASE"]}


def test_costs_and_what_stopped_a_training_come_along(table: Path) -> None:
    cost = {"fit_seconds": 2.0, "peak_memory_bytes": 700_000_000, "base_memory_bytes": 400_000_000, "epochs": 7}
    put(table, "Pop", 0.1, stopped_by="budget", **cost)
    put(table, "EASE", 0.2, status="failed", reason="singular")
    found = stored_table(table)
    assert found is not None
    lines = table_values(found)["sections"]["small"]["lines"]
    assert lines["Pop"]["budget"]
    assert lines["Pop"]["values"]["train"]["text"] == "2.00"
    assert lines["Pop"]["values"]["own memory"]["mean"] == pytest.approx(300)
    assert (lines["Pop"]["values"]["epochs"]["mean"], lines["EASE"]["failure"]) == (7, "failed: singular")
    assert lines["EASE"]["values"] == {}
    json.dumps(table_values(found), allow_nan=False)


# ---- figures are drawn of the results that are there, and names in them do not cover each other ----


def test_a_figure_is_written_as_png_and_pdf(results: Results, tmp_path: Path) -> None:
    png, pdf = draw_retention(results, tmp_path)
    assert (png.name, pdf.name) == ("retention.png", "retention.pdf")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.stat().st_size > 20_000
    assert not list(tmp_path.glob(".*"))


def test_the_same_results_give_the_same_file(results: Results, tmp_path: Path) -> None:
    few = replace(results, streams={"ml-100k": results.streams["ml-100k"]})
    first, second = (draw_retention(few, tmp_path / name, ("pdf",))[0].read_bytes() for name in "ab")
    assert first == second


def test_what_has_no_results_is_not_drawn(results: Results, tmp_path: Path) -> None:
    nothing = replace(results, tables={}, streams={}, statistics={}, kuairand={}, tradeoffs={})
    assert draw_all(nothing, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_names_cover_neither_points_nor_each_other() -> None:
    with page(3) as figure:
        axes = figure.subplots()
        places = [(0.5, 0.5), (0.51, 0.5), (0.5, 0.51), (0.9, 0.1)]
        axes.scatter(*zip(*places, strict=True))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        settle(figure)
        name_points(axes, [(f"model {n}", x, y, n == 2) for n, (x, y) in enumerate(places)] + [("", 0.9, 0.12, True)])
        boxes = [text.get_window_extent() for text in axes.texts]
        names = [text.get_text() for text in axes.texts]
    assert "model 2" in names
    assert "model 3" in names
    assert all(not box.overlaps(other) for n, box in enumerate(boxes) for other in boxes[n + 1 :])
    inside = axes.transData.transform([(0.9, 0.12)])[0]
    assert not any(box.contains(*inside) for box in boxes)


def test_a_missing_extra_is_named(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[plots\]"):
        draw_tradeoff(results, tmp_path)


def test_the_command_refuses_what_is_no_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "give --root, a clone of the repository"
    check_command_refused(said, capsys, "figures", "--root", tmp_path, commands=report)
