"""The common part of all sources: checking, sorting, counting, writing, renaming into place."""

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
import yaml
from converted import manifest_of, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.convert import Converter, base, cleaning, convert, option, register_source
from recbole_signed.convert.base import Features, Part, all_sources, source
from recbole_signed.convert.cleaning import Spool
from recbole_signed.convert.manifest import describe_rows
from recbole_signed.convert.options import OptionInfo, describe
from recbole_signed.errors import UsageError

FRAME = pl.DataFrame({"user_id": [1, 2, 1, 1], "item_id": ["x", "x", "y", "x"], "sign": [1, -1, 0, -1]})


def source_of(
    parts: Iterable[Part], user: Features | None = None, item: Features | None = None, **attributes: Any
) -> str:
    """Register a source that gives these parts; the fixture below forgets it again."""

    class Source(Converter):
        name = "made-up"
        summary = "for tests"
        licence = "none"
        input_needed = False

        def parts(self) -> Iterable[Part]:
            return parts

        def user_features(self) -> Features | None:
            return user

        def item_features(self) -> Features | None:
            return item

        def default_name(self) -> str:
            return "made"

    for name, value in attributes.items():
        setattr(Source, name, value)
    return register_source(Source).name


@pytest.fixture(autouse=True)
def _forget_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_registered", {})


@pytest.mark.parametrize(
    "frames", [FRAME, FRAME.lazy(), [FRAME[:2], FRAME[2:].lazy()], (FRAME[n : n + 1] for n in range(4))]
)
def test_frames_lazy_frames_and_streams_give_the_same(tmp_path: Path, frames: Any) -> None:
    name = source_of([Part(None, [frames] if isinstance(frames, (pl.DataFrame, pl.LazyFrame)) else frames)])
    made = convert(name, None, tmp_path)
    assert (made / "made.inter").read_text().splitlines()[1:] == ["1\tx\t1", "2\tx\t-1", "1\ty\t0", "1\tx\t-1"]
    record = manifest_of(made)
    assert record["rows"] == {"total": 4, "like": 1, "dislike": 2, "neutral": 1}
    assert (record["users"], record["items"]) == (2, 2)
    assert (record["repeated_rows"], record["repeated_pairs"], record["contradicting_pairs"]) == (1, 1, 1)
    assert record["warnings"] == ["1 pair is both liked and disliked"]
    assert record["time"] is None


def test_numbers_are_written_as_short_as_they_are_exact(tmp_path: Path) -> None:
    values = [3.0, 0.1, -0.0, 1650812741.436, 4.0e18, 1e300, 5e-324, -2.5]
    frame = pl.DataFrame({"user_id": range(8), "item_id": "x", "sign": [1] * 8, "rating": values})
    made = convert(source_of([Part(None, [frame])]), None, tmp_path)
    cells = [row[2] for row in rows_of(made / "made.inter")]
    assert [float(cell) for cell in cells] == values
    assert cells[:5] == ["3", "0.1", "0", "1650812741.436", "4000000000000000000"]


def test_large_times_keep_every_second_and_ties_keep_their_order(tmp_path: Path) -> None:
    times = [1_650_812_741, 1_650_812_740, 1_650_812_741, 1_650_812_739]
    frame = pl.DataFrame({"user_id": list("abcd"), "item_id": "x", "sign": 1, "timestamp": times})
    made = convert(source_of([Part(None, [frame])]), None, tmp_path)
    rows = rows_of(made / "made.inter")
    assert [(row[0], row[3]) for row in rows] == [
        ("d", "1650812739"),
        ("b", "1650812740"),
        ("a", "1650812741"),
        ("c", "1650812741"),
    ]
    assert manifest_of(made)["time"] == {
        "first": "2022-04-24T15:05:39Z",
        "last": "2022-04-24T15:05:41Z",
        "first_raw": 1_650_812_739,
        "last_raw": 1_650_812_741,
    }


def test_times_without_a_date_and_suspicious_ones(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "sign": [1], "timestamp": [7.5]})

    def record_of(name: str, *more: float, **attributes: Any) -> dict[str, Any]:
        frames = [frame, *(frame.with_columns(timestamp=pl.lit(each)) for each in more)]
        return manifest_of(convert(source_of([Part(None, frames)], **attributes), None, tmp_path, name=name))

    assert record_of("undated", unix_time=False)["time"] == {"first_raw": 7.5, "last_raw": 7.5}
    early = record_of("other")["warnings"]
    assert any("all times lie before 1977: they may not be unix times" in each for each in early)
    far = record_of("far", 1e15)
    assert far["time"]["last"] is None
    assert any("the last time, 1000000000000000, lies in the future" in each for each in far["warnings"])
    late = record_of("late", 4102444800.0)["warnings"]
    assert any("the last time, 2100-01-01T00:00:00Z, lies in the future" in each for each in late)
    for name, seconds, warned in (("hour", 3600, False), ("days", 3 * 86400, True)):
        found = record_of(name, time.time() + seconds)["warnings"]
        assert any("lies in the future" in each for each in found) is warned, name


def test_parts_become_benchmark_files(tmp_path: Path) -> None:
    parts = [Part("train", [FRAME]), Part("test", [FRAME[:1]])]
    made = convert(source_of(parts, settings=lambda self: {"protocol": "published"}), None, tmp_path, name="split")
    names = {path.name for path in made.iterdir()}
    assert names == {"split.train.inter", "split.test.inter", "split.yaml", "dataset.json"}
    settings_ = yaml.safe_load((made / "split.yaml").read_text())
    assert settings_ == {
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "SIGN_FIELD": "sign",
        "load_col": {"inter": ["user_id", "item_id", "sign"]}, "benchmark_filename": ["train", "test"],
        "protocol": "published",
    }  # fmt: skip
    record = manifest_of(made)
    assert (record["rows"]["total"], record["parts"]["train"]["rows"]["total"]) == (5, 4)
    assert record["parts"]["test"]["pairs_also_in"] == {"train": 1}
    assert "1 pair of 'test' is also in 'train'" in record["warnings"]


def test_parts_are_counted_by_pairs_and_their_times_go_together(tmp_path: Path) -> None:
    columns = ["user_id", "item_id", "sign", "timestamp"]
    rows = {
        "train": [("a", "x", 1, 500), ("a", "y", -1, 900.25)],
        "valid": [("b", "x", 1, 100), ("b", "y", -1, 200)],
        "test": [("a", "x", 1, 300), ("a", "x", -1, 400), ("b", "x", 1, 600)],
    }
    parts = [Part(name, [pl.DataFrame(part, columns, orient="row")]) for name, part in rows.items()]
    record = manifest_of(convert(source_of(parts), None, tmp_path))
    assert record["parts"]["test"]["pairs_also_in"] == {"train": 1, "valid": 1}, "pairs, not rows"
    assert record["contradicting_pairs"] == record["parts"]["test"]["contradicting_pairs"] == 1
    assert (record["users"], record["items"], record["repeated_rows"], record["repeated_pairs"]) == (2, 2, 3, 2)
    assert record["time"] == {
        "first": "1970-01-01T00:01:40Z",
        "last": "1970-01-01T00:15:00.250000Z",
        "first_raw": 100,
        "last_raw": 900.25,
    }


def test_features_of_those_who_occur(tmp_path: Path) -> None:
    user = Features(pl.DataFrame({"age": [30, 40, 50], "user_id": [1, 9, 2], "zip": ["00501", "x", "y"]}))
    item = Features(pl.DataFrame({"item_id": ["y", "x"], "tags": ["a b", "c"]}), {"tags": "token_seq"})
    made = convert(source_of([Part(None, [FRAME])], user, item), None, tmp_path)
    assert (made / "made.user").read_text() == "user_id:token\tage:float\tzip:token\n1\t30\t00501\n2\t50\ty\n"
    assert (made / "made.item").read_text() == "item_id:token\ttags:token_seq\ny\ta b\nx\tc\n"
    assert manifest_of(made)["fields"]["item"] == {"item_id": "token", "tags": "token_seq"}
    twice = Features(pl.DataFrame({"user_id": [1, 1], "age": [1, 2]}))
    with pytest.raises(UsageError, match="user features, row 2: user_id '1' has several rows"):
        convert(source_of([Part(None, [FRAME])], twice), None, tmp_path, name="twice")
    for batches in ([1], [1]), ([1, 2], [3, 2]):  # or in two batches
        twice = Features([pl.DataFrame({"user_id": ids, "age": ids}) for ids in batches])
        with pytest.raises(UsageError, match=r"user features, row [24]: user_id '[12]' has several rows"):
            convert(source_of([Part(None, [FRAME])], twice), None, tmp_path, name="twice")
    blank = Features(pl.DataFrame({"user_id": [1, 2], "age": [1, None]}))
    with pytest.raises(UsageError, match="user features, row 2: no value in column 'age'"):
        convert(source_of([Part(None, [FRAME])], blank), None, tmp_path, name="blank")
    assert {path.name for path in tmp_path.iterdir()} == {"made"}


@pytest.mark.parametrize(
    ("frames", "types", "message"),
    [
        ([FRAME.drop("sign")], {}, "no column 'sign' was given, got user_id, item_id"),
        ([FRAME, FRAME.drop("item_id")], {}, "the column 'item_id' is missing here, though earlier rows have it"),
        ([FRAME.with_columns(a=pl.lit("x"))], {"a": "text"}, "Column 'a' has the type 'text', RecBole knows token"),
        ([FRAME.with_columns(sign=pl.Series([1, 1, 1, 5]))], {}, "made-up, row 4: sign 5"),
        ([FRAME, FRAME.with_columns(user_id=pl.lit(None))], {}, "made-up, row 5|holds Null"),
        ([FRAME.clear()], {}, "made-up gives no interactions"),
        ([], {}, "made-up gives no interactions"),
    ],
)
def test_bad_frames_of_a_source(tmp_path: Path, frames: list, types: dict[str, str], message: str) -> None:
    check_refused(message, convert, source_of([Part(None, frames, types)]), None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_parts_and_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    check_refused("made-up gives no interactions", convert, source_of([]), None, tmp_path)
    raw = tmp_path / "raw.csv"
    raw.write_text("text", encoding="utf-8")
    for output in (raw, raw / "sets"):
        check_refused(r"raw.csv is a file, and .*; name another output folder", convert, "toy", None, output)
    assert raw.read_text(encoding="utf-8") == "text"


def test_hashes_and_bytes(tmp_path: Path) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("user,item,sign\na,x,1\nb,ü,-1\n", encoding="utf-8")
    made = convert("csv", raw, tmp_path / "one")
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "raw.csv"
    copy.write_bytes(raw.read_bytes())
    again, record = convert("csv", copy, tmp_path / "two"), manifest_of(made)
    assert record["inputs"] == {"raw.csv": hashlib.sha256(raw.read_bytes()).hexdigest()}
    assert set(record["outputs"]) == {"raw.inter", "raw.yaml"}
    for name, digest in record["outputs"].items():
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest
    for path in made.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    assert record["package_version"] == sys.modules["recbole_signed"].__version__
    assert record["options"]["separator"] is None
    assert str(tmp_path) not in (made / "dataset.json").read_text()


def test_an_existing_data_set_is_only_replaced_when_asked(tmp_path: Path) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("user,item,sign\na,x,1\n")
    made = convert("csv", raw, tmp_path)
    before = (made / "raw.inter").read_bytes()
    raw.write_text("user,item,sign\nb,y,1\nb,z,1\n")
    check_refused("raw is already there; give overwrite=True", convert, "csv", raw, tmp_path)
    assert (made / "raw.inter").read_bytes() == before
    assert convert("csv", raw, tmp_path, overwrite=True) == made
    assert manifest_of(made)["rows"]["total"] == 2
    raw.write_text("user,item,sign\nb,y,1\nb,z,7\n")
    check_refused("sign 7", convert, "csv", raw, tmp_path, overwrite=True)
    assert manifest_of(made)["rows"]["total"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(
        UsageError, match=r"mine is not a data set that recbole-signed made \(dataset.json is missing\)"
    ):
        convert("csv", raw, tmp_path, name="mine", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "raw.csv", "mine"}


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\\b", " a", "a\tb"])
def test_names_that_are_no_folders(tmp_path: Path, name: str) -> None:
    check_refused("can't be the name of a data set", convert, "toy", None, tmp_path, name=name)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        yield FRAME
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".made.")]  # under a hidden name
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source_of([Part(None, frames())]), None, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overwrite", "message"),
    [(False, "made is already there"), (True, "made is not a data set that recbole-signed made")],
)
def test_what_comes_to_be_meanwhile_is_not_replaced(tmp_path: Path, overwrite: bool, message: str) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "first").touch()
        yield FRAME

    check_refused(message, convert, source_of([Part(None, frames())]), None, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "first"]


def test_a_data_set_that_appears_at_the_last_moment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(old: Path, new: Path) -> None:
        if Path(new).name == "made" and not Path(new).exists():
            Path(new).mkdir()
            (Path(new) / "first").touch()
        rename(old, new)

    monkeypatch.setattr(os, "rename", late)
    check_refused("made is already there", convert, source_of([Part(None, [FRAME])]), None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "first").exists()


def test_a_replacement_that_fails_puts_the_old_data_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert(source_of([Part(None, [FRAME])]), None, tmp_path)
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    rename = os.rename

    def refused(old: Path, new: Path) -> None:
        if Path(old).name.endswith(".tmp"):
            raise PermissionError("no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError):
        convert(source_of([Part(None, [FRAME[:1]])]), None, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


event = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([-1, 0, 1]), st.integers(0, 6))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.lists(event, min_size=1, max_size=6), min_size=1, max_size=6),
    limit=st.integers(1, 8),
    which=st.sampled_from(["MEMORY_ROWS", "MEMORY_BYTES"]),
)
def test_spooling_to_disk_sorts_and_counts_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    events: list[list[tuple[int, ...]]],
    limit: int,
    which: str,
) -> None:
    monkeypatch.undo()
    bound = limit if which == "MEMORY_ROWS" else 40 * limit
    monkeypatch.setattr(cleaning, which, bound)
    columns = ["user_id", "item_id", "sign", "timestamp"]
    flat = [row for rows in events for row in rows]
    for timed in (True, False):
        folder = tmp_path_factory.mktemp("spool") / "segments"
        spooled, size = Spool(folder), 0
        for rows in events:
            frame = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
                pl.col("user_id", "item_id").cast(pl.String), pl.col("timestamp").cast(pl.Float64)
            )
            frame = frame if timed else frame.drop("timestamp")
            size += len(rows) if which == "MEMORY_ROWS" else int(frame.estimated_size())
            spooled.add(frame)
        assert spooled.pieces == -(-size // bound)
        assert folder.exists() == (size > bound), "or all is held in memory"
        got = pl.concat(spooled.in_time_order()).rows()
        expected = [(str(u), str(i), s, float(t))[: 4 if timed else 3] for u, i, s, t in flat]
        assert got == (sorted(expected, key=lambda row: row[3]) if timed else expected)
        counted = describe_rows({None: spooled})
        by_pair: dict[tuple[int, int], Counter[int]] = {}
        for u, i, s, _ in flat:
            by_pair.setdefault((u, i), Counter())[s] += 1
        assert counted["rows"]["total"] == len(flat)
        assert counted["rows"]["like"] == sum(s == 1 for _, _, s, _ in flat)
        assert counted["rows"]["neutral"] == sum(s == 0 for _, _, s, _ in flat)
        assert counted["users"] == len({u for u, _, _, _ in flat})
        assert counted["items"] == len({i for _, i, _, _ in flat})
        assert counted["repeated_rows"] == len(flat) - len(by_pair)
        assert counted["repeated_pairs"] == sum(sum(signs.values()) > 1 for signs in by_pair.values())
        assert counted["contradicting_pairs"] == sum(bool(signs[1] and signs[-1]) for signs in by_pair.values())


@pytest.mark.parametrize(
    ("name", "where", "options", "message"),
    [
        ("movielens100k", None, {}, r"no source 'movielens100k'; there are .*; did you mean 'movielens-100k'\?$"),
        ("toy", None, {"user": 3}, r"'toy' has no option 'user'; it has users, items.*; did you mean 'users'\?$"),
        ("csv", None, {}, "The source 'csv' needs an input; give input=PATH"),
        ("csv", "nowhere/x.csv", {}, r"There is no input .*nowhere"),
        ("toy", ".", {}, "makes its data by itself; leave the input out"),
        ("made-up", None, {"kcore": 5}, r"has no option 'kcore'; .*; did you mean 'k_core'"),
        ("made-up", None, {"like": "x"}, r"has no option 'like'.*; it has none; every source has on_error"),
    ],
)
def test_unknown_options(tmp_path: Path, name: str, where: str | None, options: dict[str, Any], message: str) -> None:
    source_of([Part(None, [FRAME])])
    check_refused(message, convert, name, where and tmp_path / where, tmp_path / "out", **options)


def test_every_source_describes_itself() -> None:
    assert {"csv", "movielens-100k", "signed-split", "toy"} <= set(all_sources())
    for name, converter in all_sources().items():
        assert converter.name == name
        assert converter.summary
        assert converter.licence
        assert all(info.help for info in describe(converter.options_class))
        assert source(name) is converter


def test_options_of_every_type_are_read_from_text_and_values(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Options:
        signal: Literal["click", "view"] = option("click", "what")
        count: int = option(3, "how many")
        share: float = option(0.5, "how much")
        exact: bool = option(False, "whether")
        names: tuple[str, ...] = option((), "which")
        rule: str | None = option(None, "rule")

    assert describe(Options)[0] == OptionInfo("signal", "click|view", "click", "what")
    assert [info.type for info in describe(Options)] == ["click|view", "integer", "number", "yes/no", "list", "text"]
    seen: list[Any] = []

    def settings(self: Any) -> dict[str, Any]:
        seen.append(self.options)
        return {}

    def made(name: str, **options: Any) -> Any:
        own = source_of([Part(None, [FRAME])], options_class=Options, settings=settings)
        convert(own, None, tmp_path, name=name, **options)
        return seen[-1]

    text = made("text", signal="view", count="7", share="1e-1", exact="yes", names="a, b,", rule="x > 1")
    values = made("values", signal="view", count=7.0, share=0.1, exact=True, names=["a", "b"], rule="x > 1")
    assert text == values == Options("view", 7, 0.1, True, ("a", "b"), "x > 1")
    assert made("default", count=None, exact="false") == Options()
    assert manifest_of(tmp_path / "text")["options"]["names"] == ["a", "b"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"signal": "clicks"}, "is 'clicks'; use one of click, view.*; did you mean 'click'.$"),
        ({"count": "many"}, "is 'many'; give an integer"), ({"count": 1.5}, "is 1.5; give an integer"),
        ({"count": True}, "is True; give an integer"), ({"count": -1}, "is -1; give an integer of 0 or more"),
        ({"share": "half"}, "is 'half'; give a number"), ({"share": "nan"}, "is 'nan'; give a number of 0 or more"),
        ({"share": float("inf")}, "is inf; give a number of 0 or more"),
        ({"exact": "perhaps"}, "is 'perhaps'; give true or false"), ({"names": 3}, "is 3; give names with commas"),
        ({"rule": 3}, "is 3; give a text"),
    ]  # fmt: skip
    for bad, message in wrong:
        check_refused(message, made, "bad", **bad)


def test_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Slow:
        def __iter__(self) -> Iterator[Any]:
            for each in (FRAME, FRAME):
                yield each
                time.sleep(0.3)

    name = source_of([Part(None, Slow())])
    convert(name, None, tmp_path / "quiet")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("recbole_signed.progress.AFTER", 0.0)  # else a step of so little time says nothing
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    made, output = convert(name, None, tmp_path / "shown"), capsys.readouterr()
    assert "reading made-up: 8 rows" in output.err
    assert output.out == ""
    assert manifest_of(made)["rows"]["total"] == 8
