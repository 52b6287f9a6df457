"""Rows of committed tables are found, placed and averaged without the data they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from signed_report.tables import own_memory, read_table, table_values

from recbole_signed.experiments.runs import RunRow, append_row
from recbole_signed.experiments.tables import to_markdown

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


def put(table: Path, label: str, recall: float, seed: int = 1, **more: Any) -> None:
    model = "BPR" if label == "wide" else label
    row = {"model": model, "dataset": "small", "seed": seed, "label": label, "test": {"recall@20": recall}} | more
    append_row(table.with_suffix(".jsonl"), RunRow.from_dict(row))


def test_the_committed_tables_print_as_they_were_printed(repository: Path) -> None:
    found = read_table(repository / "yaml" / "bench" / "sigformer.yaml")
    assert found is not None
    assert found.not_run == {}
    printed = (repository / "yaml" / "bench" / "sigformer.md").read_text(encoding="utf-8")
    ours, theirs = (
        [line for line in text.replace("‡", "").splitlines() if line.startswith("|")]
        for text in (to_markdown(found.table), printed)
    )
    assert ours == theirs


def test_a_table_without_rows_is_none(table: Path) -> None:
    assert read_table(table) is None


def test_the_last_finished_row_of_a_seed_counts(table: Path) -> None:
    put(table, "Pop", 0.1)
    put(table, "Pop", 0.2)
    put(table, "Pop", 0.0, status="failed", reason="no memory")
    put(table, "Pop", 0.4, seed=2)
    put(table, "Pop", 0.9, seed=3)  # no seed of the table
    put(table, "gone", 0.9)  # no model of it
    found = read_table(table)
    assert found is not None
    line = table_values(found)["sections"]["small"]["lines"]["Pop"]
    assert line["values"]["recall@20"]["mean"] == pytest.approx(0.3)
    assert line["seeds"] == 2
    assert found.not_run == {"small": ["wide", "EASE"], "small late": ["Pop", "wide", "EASE"]}


def test_a_section_that_is_a_variant_has_the_rows_with_its_settings(table: Path) -> None:
    put(table, "wide", 0.1)
    put(table, "wide", 0.2, settings={"order": "late", "more": 1})
    put(table, "wide", 0.3, settings={"order": "early"})  # the last one that is not late
    found = read_table(table)
    assert found is not None
    values = table_values(found)
    means = {name: each["lines"]["wide"]["values"]["recall@20"]["mean"] for name, each in values["sections"].items()}
    assert means == {"small": 0.3, "small late": 0.2}
    assert values["sections"]["small"]["lines"]["wide"]["model"] == "BPR"


def test_costs_and_what_stopped_a_training_come_along(table: Path) -> None:
    cost = {"fit_seconds": 2.0, "peak_memory_bytes": 700_000_000, "base_memory_bytes": 400_000_000, "epochs": 7}
    put(table, "Pop", 0.1, stopped_by="budget", **cost)
    put(table, "EASE", 0.2, status="failed", reason="singular")
    found = read_table(table)
    assert found is not None
    lines = table_values(found)["sections"]["small"]["lines"]
    assert lines["Pop"]["budget"]
    assert lines["Pop"]["values"]["train"]["text"] == "2.00"
    assert lines["Pop"]["values"]["own memory"]["mean"] == pytest.approx(300)
    assert lines["Pop"]["values"]["epochs"]["mean"] == 7
    assert lines["EASE"]["failure"] == "failed: singular"
    assert lines["EASE"]["values"] == {}
    json.dumps(table_values(found), allow_nan=False)


def test_memory_beyond_the_libraries_is_unknown_where_a_part_is() -> None:
    assert own_memory(RunRow("A", "d", 1, peak_memory_bytes=5_000_000)) is None
