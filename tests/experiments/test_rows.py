from __future__ import annotations

import json
import logging
import math
import multiprocessing
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed.errors import UsageError, outside_cause
from recbole_signed.runs import RowStore, RunRow
from recbole_signed.runs.rows import FAILED, append_row, read_rows

TEXT = st.text(max_size=20)
ROWS = st.builds(
    RunRow,
    model=TEXT,
    dataset=TEXT,
    seed=st.integers(0, 2**31),
    reason=st.none() | TEXT,
    test=st.dictionaries(TEXT, st.none() | st.floats(), max_size=3),
    settings=st.dictionaries(TEXT, st.none() | st.booleans() | TEXT | st.lists(st.integers()), max_size=3),
    split=st.none() | TEXT,
    peak_memory_bytes=st.none() | st.integers(0, 2**50),
)


def finite(row: RunRow) -> dict[str, float | None]:
    return {key: None if value is None or not math.isfinite(value) else value for key, value in row.test.items()}


@given(rows=st.lists(ROWS, max_size=5), cut=st.integers(1, 10_000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_and_a_cut_off_write_costs_only_the_last(tmp_path: Path, rows: list[RunRow], cut: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.unlink(missing_ok=True)
    for row in rows:
        append_row(file, row)
    found = read_rows(file)
    assert [row.test for row in found] == [finite(row) for row in rows]
    assert [(row.model, row.seed, row.settings, row.split) for row in found] == [
        (row.model, row.seed, row.settings, row.split) for row in rows
    ]
    if rows:
        content = file.read_bytes()
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        keep = max(last + 1, len(content) - 1 - cut)  # cut somewhere inside the last line, its end at least
        file.write_bytes(content[:keep])
        whole = len(rows) if keep == len(content) - 1 else len(rows) - 1
        assert len(read_rows(file)) == whole
        append_row(file, rows[0])
        again = read_rows(file)
        assert len(again) == whole + 1
        assert again[-1].model == rows[0].model


def test_a_truncated_line_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "rows.jsonl"
    append_row(file, RunRow("BPR", "toy", 1))
    with file.open("ab") as out:
        out.write(b'{"model": "Pop", "data')
    with caplog.at_level(logging.WARNING):
        assert [row.model for row in read_rows(file)] == ["BPR"]
    assert "line 2" in caplog.text


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_row(file, RunRow("BPR", "toy", 1, test={"recall@5": float("nan"), "ndcg@5": 0.5}))
    assert json.loads(file.read_text(encoding="utf-8"))["test"] == {"recall@5": None, "ndcg@5": 0.5}


def test_no_file_no_rows_and_another_file_is_refused(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []
    (tmp_path / "other.jsonl").write_text("[1]\nhello\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no result rows"):
        read_rows(tmp_path / "other.jsonl")


def test_fields_of_another_version_are_left_out() -> None:
    assert RunRow.from_dict({"model": "BPR", "dataset": "toy", "seed": 1, "new_field": 3}) == RunRow("BPR", "toy", 1)


def test_the_latest_finished_row_of_a_key_counts(tmp_path: Path) -> None:
    def latest(rows: list[RunRow]) -> RowStore:
        file = tmp_path / "rows.jsonl"
        file.unlink(missing_ok=True)
        for row in rows:
            append_row(file, row)
        return RowStore(file)

    failed = RunRow("BPR", "toy", 1, FAILED, "no", request_hash="a", data_sha256="d")
    done = RunRow("BPR", "toy", 1, test={"recall@5": 0.5}, request_hash="a", data_sha256="d")
    other = RunRow("BPR", "toy", 1, request_hash="b", data_sha256="d")
    newer = replace(done, test={"recall@5": 0.75})
    assert latest([failed, other, done]).find(done.key) == done
    assert latest([done, newer, failed]).find(done.key) == newer
    assert latest([failed]).find(done.key) == failed
    assert latest([done]).find(other.key) is None
    assert latest([done, newer]).find(done.key, lambda row: row.test["recall@5"] == 0.5) == done


def test_a_row_that_failed_later_hides_no_finished_one(tmp_path: Path) -> None:
    done = RunRow("BPR", "toy", 1, request_hash="a", data_sha256="d")
    store = RowStore(tmp_path / "rows.jsonl")
    store.add(replace(done, status=FAILED, reason="no"))
    store.add(done)
    store.add(replace(done, status=FAILED, reason="no memory"))
    assert store.find(done.key) == done
    assert store.by_id() == {done.id: done}


def test_of_two_failures_the_newest_is_told(tmp_path: Path) -> None:
    failed = RunRow("BPR", "toy", 1, FAILED, "no data", request_hash="a", data_sha256="d")
    store = RowStore(tmp_path / "rows.jsonl")
    store.add(failed)
    store.add(newest := replace(failed, reason="no memory"))
    assert store.find(failed.key) == RowStore(store.file).find(failed.key) == newest


def test_the_rows_of_the_table_itself_come_before_those_of_others(tmp_path: Path) -> None:
    own = RunRow("BPR", "toy", 1, test={"recall@5": 0.5}, request_hash="a", data_sha256="d")
    other = replace(own, test={"recall@5": 0.75})
    failed = replace(own, status=FAILED, reason="no")
    append_row(tmp_path / "a.jsonl", other)
    append_row(tmp_path / "rows.jsonl", failed)
    assert RowStore(tmp_path / "rows.jsonl").find(own.key) == other
    append_row(tmp_path / "rows.jsonl", own)
    assert RowStore(tmp_path / "rows.jsonl").find(own.key) == own


def _append_many(file: Path, model: str) -> None:
    for seed in range(50):
        append_row(file, RunRow(model, "toy", seed, reason="x" * 3000))


def test_a_row_that_does_not_fit_on_the_disk_is_the_disks_fault(tmp_path: Path) -> None:
    file, limits = tmp_path / "rows.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="only 100 of the") as refused:
            append_row(file, RunRow("A", "toy", 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{file}: only 100 of the" in str(outside_cause(refused.value, ["compare", "t.yaml"]))


def test_processes_may_append_at_once(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(file, model)) for model in ("A", "B", "C")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = read_rows(file)
    assert sorted((row.model, row.seed) for row in rows) == [(model, seed) for model in "ABC" for seed in range(50)]
