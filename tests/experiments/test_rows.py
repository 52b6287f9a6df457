import json
import logging
import math
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import printed
from faults import files_of_at_most
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed.errors import UsageError, outside_cause
from recbole_signed.runs import RowStore, RunRow
from recbole_signed.runs.rows import FAILED, append_row, read_rows
from recbole_signed.runs.user_values import (
    SectionValues,
    best_of,
    has_none,
    is_there,
    pooled_sections,
    read_section,
    write,
)

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


def test_a_row_that_does_not_fit_on_the_disk_is_the_disks_fault(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with files_of_at_most(100), pytest.raises(OSError, match="only 100 of the") as refused:
        append_row(file, RunRow("A", "toy", 1))
    assert f"{file}: only 100 of the" in str(outside_cause(refused.value, ["compare", "t.yaml"]))


def test_rows_hold_null_for_what_is_not_finite_and_take_no_other_field(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_row(file, RunRow("BPR", "toy", 1, test={"recall@5": float("nan"), "ndcg@5": 0.5}))
    assert json.loads(file.read_text(encoding="utf-8"))["test"] == {"recall@5": None, "ndcg@5": 0.5}
    assert read_rows(tmp_path / "none.jsonl") == []
    (tmp_path / "other.jsonl").write_text("[1]\nhello\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no result rows"):
        read_rows(tmp_path / "other.jsonl")
    assert RunRow.from_dict({"model": "BPR", "dataset": "toy", "seed": 1, "new_field": 3}) == RunRow("BPR", "toy", 1)


def test_the_latest_finished_row_of_a_key_counts_and_of_failures_the_latest(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def find(rows: list[RunRow], key: tuple[Any, ...], *fits: Any) -> RunRow | None:
        """Return what is found by the store that the rows were added to, as by one that reads them."""
        file.unlink(missing_ok=True)
        store = RowStore(file)
        for row in rows:
            store.add(row)
        found = store.find(key, *fits)
        assert RowStore(file).find(key, *fits) == found
        assert RowStore(file).by_id() == store.by_id()
        return found

    failed = RunRow("BPR", "toy", 1, FAILED, "no", request_hash="a", data_sha256="d")
    done = RunRow("BPR", "toy", 1, test={"recall@5": 0.5}, request_hash="a", data_sha256="d")
    other = RunRow("BPR", "toy", 1, request_hash="b", data_sha256="d")
    newer, no_memory = replace(done, test={"recall@5": 0.75}), replace(failed, reason="no memory")
    assert find([failed, other, done], done.key) == done
    assert find([done, newer, failed], done.key) == newer
    assert find([failed, no_memory], failed.key) == no_memory
    assert find([done], other.key) is None
    assert find([done, newer], done.key, lambda row: row.test["recall@5"] == 0.5) == done
    assert find([failed, done, no_memory], done.key) == done
    assert RowStore(file).by_id() == {done.id: done}


def test_the_rows_of_the_table_itself_come_before_those_of_others(tmp_path: Path) -> None:
    own = RunRow("BPR", "toy", 1, test={"recall@5": 0.5}, request_hash="a", data_sha256="d")
    other, failed = replace(own, test={"recall@5": 0.75}), replace(own, status=FAILED, reason="no")
    append_row(tmp_path / "a.jsonl", other)
    append_row(tmp_path / "rows.jsonl", failed)
    assert RowStore(tmp_path / "rows.jsonl").find(own.key) == other
    append_row(tmp_path / "rows.jsonl", own)
    assert RowStore(tmp_path / "rows.jsonl").find(own.key) == own


def _append_many(file: Path, model: str) -> None:
    for seed in range(50):
        append_row(file, RunRow(model, "toy", seed, reason="x" * 3000))


def test_processes_may_append_at_once(tmp_path: Path) -> None:
    file, context = tmp_path / "rows.jsonl", multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(file, model)) for model in ("A", "B", "C")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = read_rows(file)
    assert sorted((row.model, row.seed) for row in rows) == [(model, seed) for model in "ABC" for seed in range(50)]


NAN = np.nan
RANDOM_SPLIT = {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": "user"}


def run_of(rows_file: Path, model: str, seed: int, values: dict[str, float], split: object = "predefined") -> RunRow:
    """Write recall@5 (and for A hit@5) of some users, and return the row that says so."""
    path = rows_file.parent / "t.users" / f"{model}{seed}.parquet"
    table = {"recall@5": np.array(list(values.values()))}
    table |= {"hit@5": table["recall@5"] * 2} if model == "A" else {}
    checksum = write(path, list(values), table)
    return RunRow(model, "d", seed, per_user=f"t.users/{path.name}", per_user_sha256=checksum, split=split)


def test_a_run_keeps_the_values_of_its_users(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "-m", "Pop", "-d", toy, "--no-save", "--json", "--per-user", "kept/pop.parquet"]
    row = RunRow.from_dict(json.loads(printed(capsys, *words, "state=ERROR", "metric_decimal_place=6")))
    assert row.per_user == "kept/pop.parquet"
    assert is_there(row, tmp_path / "rows.jsonl")
    kept = pl.read_parquet("kept/pop.parquet")
    assert set(kept.columns) == {"user", *row.test}
    assert set(kept.dtypes[1:]) == {pl.Float32}
    for metric, value in row.test.items():
        assert kept[metric].cast(pl.Float64).mean() == pytest.approx(value, abs=1e-6)
    raw = pl.read_csv("atomic_files/toy-signed/toy-signed.inter", separator="\t", infer_schema=False)
    assert set(kept["user"]) <= set(raw["user_id:token"]), "users as the data set names them"
    assert 0 < kept["dislikeshare@10"].null_count() < kept.height, "not everybody counts"


def test_values_count_as_written_and_are_not_kept_where_there_are_none(toy: str, tmp_path: Path) -> None:
    from recbole_signed.runs import run

    overrides = {"state": "ERROR", "metrics": ["GAUC"], "valid_metric": "GAUC"}
    row = run("Pop", "toy-signed", overrides=overrides, save=False, per_user=tmp_path / "x.parquet")
    assert (row.per_user, row.per_user_sha256) == ("", None)
    assert has_none(row)
    assert not (tmp_path / "x.parquet").exists()
    rows_file = tmp_path / "t.jsonl"
    row = run_of(rows_file, "A", 1, {"u": 0.5})
    assert is_there(row, rows_file)
    assert not is_there(replace(row, per_user=None, per_user_sha256=None), rows_file), "a row of older times"
    assert not is_there(row, tmp_path / "elsewhere" / "t.jsonl")
    assert [path.name for path in (tmp_path / "t.users").iterdir()] == ["A1.parquet"], "nothing is left beside it"
    run_of(rows_file, "A", 1, {"u": 0.25})
    assert not is_there(row, rows_file), "another run's values"


def test_runs_are_lined_up_by_user_and_averaged_over_seeds(tmp_path: Path) -> None:
    rows_file = tmp_path / "t.jsonl"
    a = run_of(rows_file, "A", 1, {"u": 0.5, "v": 0.25, "w": NAN})
    b = run_of(rows_file, "B", 1, {"x": 1.0, "v": 0.75, "u": 0.0})
    values = read_section("d", {"A": [a], "B": [b]}, rows_file, ["recall@5", "hit@5"])
    mine, theirs = values.pair("A", "B")
    assert values.n_users == 4
    both = ~np.isnan(mine[:, 0]) & ~np.isnan(theirs[:, 0])
    assert sorted(zip(mine[both, 0], theirs[both, 0], strict=True)) == [(0.25, 0.75), (0.5, 0.0)]
    assert np.isnan(mine[:, 0]).sum() == np.isnan(theirs[:, 0]).sum() == 2, "who does not count for both"
    assert np.isnan(mine[:, 1]).all(), "B has no hit@5"
    assert values.means(0) == {"A": 0.375, "B": pytest.approx(1.75 / 3)}
    assert values.means(1) == {"A": 0.75}
    rows_file = tmp_path / "t.jsonl"
    for split, expected in (("predefined", 0.5), (RANDOM_SPLIT, 0.25)):
        a = [run_of(rows_file, "A", seed, {"u": value}, split) for seed, value in ((1, 0.25), (2, 0.75))]
        b = [run_of(rows_file, "B", 1, {"u": 1.0}, split)]
        values = read_section("d", {"A": a, "B": b}, rows_file, ["recall@5"])
        mine, theirs = values.pair("A", "B")
        assert (mine.item(), theirs.item()) == (expected, 1.0)
    c = [run_of(rows_file, "C", 9, {"u": 1.0}, RANDOM_SPLIT)]
    values = read_section("d", {"A": a, "C": c}, rows_file, ["recall@5"])
    assert values.seeds_of("A", "C") == ([], [])
    assert all(np.isnan(each).all() for each in values.pair("A", "C")), "they saw different test items"


@pytest.mark.parametrize(("split", "expected"), [("predefined", (0.5, 0.5)), (RANDOM_SPLIT, (0.25, 0.5))])
def test_values_without_a_partner_do_not_count(tmp_path: Path, split: object, expected: tuple[float, float]) -> None:
    """As in DislikeShare: a list without a rated item says nothing, and which lists have one depends on the model."""
    rows_file, of_both = tmp_path / "t.jsonl", {"A": (0.25, 0.75), "B": (0.5, NAN)}
    rows = {
        model: [run_of(rows_file, model, seed, {"u": value}, split) for seed, value in enumerate(of_two)]
        for model, of_two in of_both.items()
    }
    values = read_section("d", rows, rows_file, ["recall@5"])
    assert tuple(each.item() for each in values.pair("A", "B")) == expected
    assert tuple(each.item() for each in values.pair("B", "A")) == expected[::-1]


def test_splits_that_are_random_are_pooled_seed_by_seed(tmp_path: Path) -> None:
    rows_file = tmp_path / "t.jsonl"
    for split, expected in (("predefined", (0.375, 0.5)), (RANDOM_SPLIT, (0.125, 0.5))):
        a = [run_of(rows_file, "A", seed, {"u": value}, split) for seed, value in ((1, 0.125), (2, 0.625))]
        b = [run_of(rows_file, "B", seed, {"u": value}, split) for seed, value in ((1, 0.5), (3, 0.5))]
        sections = [read_section(name, {"A": a, "B": b}, rows_file, ["recall@5"]) for name in ("one", "two")]
        mine, theirs = pooled_sections("both", sections).pair("A", "B")
        assert (mine.item(), theirs.item()) == expected, split


@pytest.mark.parametrize("drawn_by_seed", [False, True])
def test_a_user_of_one_split_counts_in_the_pool_by_that_split(drawn_by_seed: bool) -> None:
    def split(name: str, users: tuple[str, ...], a: list[float], b: list[float]) -> SectionValues:
        runs = {label: {1: np.array(values)[:, None]} for label, values in (("A", a), ("B", b))}
        return SectionValues(name, len(users), ("recall@5",), runs, drawn_by_seed, users=users)

    one = split("one", ("u", "v", "x"), [0.5, NAN, 0.2], [0.25, 0.5, 0.3])
    pooled = pooled_sections("both", [one, split("two", ("v", "w", "x"), [0.1, 0.3, 0.4], [0.2, 0.4, 0.9])])
    mine, theirs = pooled.pair("A", "B")
    found = dict(zip(pooled.users, zip(mine[:, 0], theirs[:, 0], strict=True), strict=True))
    expected = {"u": (0.5, 0.25), "v": (0.1, 0.2), "w": (0.3, 0.4), "x": (0.3, 0.6)}
    assert {user: pytest.approx(each) for user, each in expected.items()} == found


def test_means_over_seeds_and_the_best_of_them() -> None:
    first, second = np.array([[0.5], [NAN], [NAN]]), np.array([[0.1], [0.2], [0.3]])
    runs = {"A": {1: first, 2: second}, "B": {1: second, 2: np.full((3, 1), NAN)}}
    values = SectionValues("d", 3, ("recall@5",), runs, False)
    assert values.means(0) == {"A": pytest.approx((0.5 + 0.2) / 2)}, "B has no number there"
    means = {"A": 0.1, "B": 0.3, "C": 0.3}
    assert best_of(means, "recall@5") == "B"
    assert best_of(means, "dislikerecall@5") == "A"
    assert best_of({}, "recall@5") is None
