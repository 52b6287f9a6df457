"""The reader by columns against pandas' own, and what it hands to RecBole."""

import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset
from refusals import check_refused

from recbole_signed.atomic import inter_file, read_rows
from recbole_signed.atomic.inter_file import MISSING, RawRows, parsed_blocks
from recbole_signed.data.columnar import concatenate, read_frame
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import normal
from recbole_signed.live.events import sign_of
from recbole_signed.live.replay.windows import events_of

HEADER = "user_id:token\titem_id:token\tsign:float\ttimestamp:float"


def read(path: Path, **options: Any) -> pd.DataFrame:
    arguments = {"separator": "\t", "encoding": "utf-8", "exact_integers": "timestamp", "wanted": lambda _: True}
    frame, _ = read_frame(str(path), **{**arguments, **options})
    return frame


def by_pandas(path: Path, time: type | None = None) -> pd.DataFrame:
    """Read as pandas does; time as integers where its first cell says so and all of them are integers of 64 bits."""
    names = HEADER.split("\t")
    kinds = dict(zip(names, (str, str, np.float64, time or np.float64), strict=True))
    with warnings.catch_warnings():  # a row of more fields than the header has is refused
        warnings.simplefilter("error", pd.errors.ParserWarning)
        options = {"index_col": False, "engine": "c", "float_precision": "round_trip"}
        frame = pd.read_csv(path, sep="\t", dtype=kinds, **options)
    frame.columns = [name.split(":")[0] for name in names]
    if time is None:
        with path.open(encoding="utf-8") as file:
            lines = file.read().split("\n")[1:]
        cells = next((line for line in lines if line.strip(" ")), "").split("\t")
        text = by_pandas(path, str)["timestamp"]
        if len(cells) > 3 and re.fullmatch(r"-*\d+", cells[3]) and all(map(is_int64, text)):
            frame["timestamp"] = np.array([int(cell) for cell in text], dtype=np.int64)
    return frame


def is_int64(cell: Any) -> bool:
    return isinstance(cell, str) and bool(re.fullmatch(r"\s*[-+]?\d+\s*", cell)) and -(2**63) <= int(cell) < 2**63


def outcome(make: Any) -> tuple[list[list[Any]], str] | str:
    try:
        frame = make()
    except (ValueError, pd.errors.ParserWarning):
        return "refused"
    if frame.astype(object).map(lambda cell: isinstance(cell, str) and "\n" in cell).to_numpy().any():
        return "refused"  # a quote that is not closed
    cells = frame.astype(object).map(lambda cell: normal(cell) if isinstance(cell, str) else cell)
    rows = [["-" if pd.isna(cell) else cell for cell in row] for row in cells.to_numpy().tolist()]
    return rows, str(frame["timestamp"].dtype)


CELLS = st.one_of(
    st.sampled_from(
        [*MISSING, "a", "7", "007", " 7", "7 ", "u 1", '"', '"q"', 'a"b', "é", "\x00", "#c", "NAN", "true"]
    ),
    st.sampled_from(['""', '"NA"', '"5"', '"-1.5"', '" 7"', '"a""b"', '""""', '"a"b', '"a""', 'a""b', '"a\tb"', '"é"']),
    st.sampled_from(["1", "-1", "+1", "1.5", ".5", "5.", "1e3", "1e400", "inf", "-Infinity", "0x10", "1_0", "1,5"]),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.integers(2**63, 2**70).map(str),
    st.floats(allow_nan=False).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=4),
)
LINES = st.one_of(
    st.tuples(
        st.sampled_from("abc12"),
        st.sampled_from("xyz34"),
        st.sampled_from(["1", "-1", "0", "1.0"]),
        st.integers(0, 2**62).map(str),
    ),
    st.tuples(CELLS, CELLS, CELLS, CELLS),
    st.lists(CELLS, max_size=6).map(tuple),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=1, max_size=5), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
@example(lines=[("a", "x", "1", "5"), (" ",), ("b", "y", "1", "6")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5"), ("b", "y", "1", "")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5"), ("b", "y", "1", "6.5")], end="\r\n", last=False)
@example(lines=[("e\u0301", "x", "1", "5"), ("\u00e9", '"e\u0301"', "1", "6")], end="\n", last=True)
@example(lines=[("a", "x", "NAN", "5")], end="\n", last=True)
@example(lines=[("a", "x", "1", "1e400")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5"), ("b", "y", "-inf", "6")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5"), ("b", "y")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5", "6"), ("b", "y", "1", "5")], end="\n", last=True)
@example(lines=[("a", "x", "1", "5"), ("b", "y", "1", "5", "6")], end="\n", last=True)
def test_reads_and_refuses_as_pandas_does(lines: list[tuple[str, ...]], end: str, last: bool, tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    text = end.join([HEADER, *("\t".join(line) for line in lines)]) + end * last
    path.write_bytes(text.encode())
    if "\0" in text:  # of which pandas leaves out the rest of the cell
        assert outcome(lambda: read(path)) == "refused"
    elif text.split(end)[1]:  # an empty first row is refused on its own account
        assert outcome(lambda: read(path)) == outcome(lambda: by_pandas(path))


def test_many_blocks_give_what_one_gives_and_times_of_one_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", s, t) for u, i, s, t in rng.integers(0, 50, (3000, 4))]
    path = tmp_path / "some.inter"
    path.write_text("\n".join([HEADER, *("\t".join(map(str, row)) for row in rows)]) + "\n")
    whole = read(path)
    monkeypatch.setattr(inter_file, "parsed_blocks", lambda *args: parsed_blocks(*args, size=1000))
    pd.testing.assert_frame_equal(read(path), whole)
    assert whole["user_id"].tolist() == [row[0] for row in rows]
    assert whole["timestamp"].dtype == np.int64
    times = [str(2**60 + row) for row in range(500)]
    times[400] = "0.5"
    path = tmp_path / "some.inter"
    path.write_text("\n".join([HEADER, *(f"u\ti\t1\t{time}" for time in times)]))
    monkeypatch.setattr(inter_file, "parsed_blocks", lambda *args: parsed_blocks(*args, size=1000))
    assert read(path)["timestamp"].tolist() == [float(time) for time in times]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_end_of_line(end: str, tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    path.write_bytes(end.join([HEADER, "a\tx\t1\t5", " b\ty\t-1\t6", ""]).encode())
    frame = read(path)
    assert (frame["user_id"].tolist(), frame["timestamp"].tolist()) == (["a", " b"], [5, 6])


def test_a_byte_order_mark_and_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    path.write_text(f"\ufeff{HEADER}\né\tx\t1\t5\n", encoding="utf-8")
    assert read(path)["user_id"].tolist() == ["é"]
    path.write_text(f"{HEADER}\né\tx\t1\t5\n", encoding="latin-1")
    assert read(path, encoding="latin-1")["user_id"].tolist() == ["é"]
    with pytest.raises(ValueError, match="utf-8"):
        read(path)


def test_files_of_one_data_set_share_their_tokens(tmp_path: Path) -> None:
    frames, vocabularies = [], {}
    for number, rows in enumerate((["b\tx\t1\t5", "a\ty\t1\t6"], ["c\tx\t1\t7", 'a\t"z"\t1\t8'])):
        path = tmp_path / f"{number}.inter"
        path.write_text("\n".join([HEADER, *rows]))
        frames.append(read(path, vocabularies=vocabularies))
    joined = concatenate(frames)
    assert (joined["user_id"].tolist(), joined["item_id"].tolist()) == (["b", "a", "c", "a"], ["x", "y", "x", "z"])
    assert joined["user_id"].cat.categories.tolist() == ["b", "a", "c"]
    assert joined["timestamp"].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('a\tx\t1\t4\n"b\tx\t-1\t5\n"c\tx\t1\t6\n', r"row 2 of .* holds a line end in 'user_id:token' \('b\\tx"),
        ("a\0b\tx\t1\t4\na\0c\tx\t-1\t5\n", "holds a null character"),
    ],
)
def test_cells_that_take_others_in_are_refused(rows: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    path.write_text(f"{HEADER}\n{rows}")
    check_refused(told, read, path)
    check_refused(told, read, path, wanted=lambda name: name != "user_id")


def test_an_unknown_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "any.inter"
    path.write_text("user_id:tokn\titem_id:token\na\tb\n")
    check_refused("'user_id:tokn' has an unknown type", read, path)


COLUMNS = ("user_id:token", "item_id:token", "sign:float", "timestamp:float")
Write = Callable[..., Path]


def test_one_file_and_the_shared_ids_of_parts(write_inter: Write) -> None:
    rows = read_rows(write_inter("a", COLUMNS, [("u1", "x", 1, 30), ("u2", "x", -1, 10), ("u1", '"y"', 0, 20.5)]))
    assert (rows.n_users, rows.n_items, len(rows), rows.parts) == (2, 2, 3, {})
    assert rows.users[0] == rows.users[2] != rows.users[1]
    assert rows.items[0] == rows.items[1] != rows.items[2]
    assert rows.signs.tolist() == [1, -1, 0]
    assert rows.times is not None
    assert rows.times.tolist() == [30, 10, 20.5]
    for part, row in (("train", ("1", "5", 1)), ("valid", ("01", "5", -1)), ("test", ("1", "6", 1))):
        folder = write_inter("split", COLUMNS[:3], [row], part)
    rows = read_rows(folder)
    assert list(rows.parts) == ["train", "valid", "test"]
    assert rows.users[rows.parts["train"]] == rows.users[rows.parts["test"]]
    assert (rows.n_users, rows.n_items) == (2, 2), "1 and 01 are two tokens"
    assert rows.times is None


def test_a_rule_and_names_from_the_yaml(write_inter: Write) -> None:
    folder = write_inter(
        "rated", ("who:token", "what:token", "stars:float", "at:float"), [(1, 1, 5, 9), (1, 2, 3, 8), (2, 1, 1, 7)]
    )
    settings = {
        "USER_ID_FIELD": "who",
        "ITEM_ID_FIELD": "what",
        "TIME_FIELD": "at",
        "sign_rule": {"like": "stars >= 4", "dislike": "stars <= 2"},
    }
    (folder / "rated.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    rows = read_rows(folder)
    assert rows.signs.tolist() == [1, 0, -1]
    assert rows.times is not None
    np.testing.assert_array_equal(rows.times, [9, 8, 7])


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (COLUMNS[:2], [(1, 2)], r"no column 'sign'; write a column .* or put a rule into .*a.yaml"),
        (("user:token", *COLUMNS[1:3]), [(1, 2, 1)], r"no column 'user_id:token'; set .*; did you mean 'user'\?$"),
        (COLUMNS[:3], [(1, 2, 1), (1, 3, 5)], r"'sign' of .*a\.inter holds 5 in row 2; it must hold -1 \(dislike\), 0"),
        (COLUMNS[:3], [(1, 2, 1), (1, "", 1)], r"a\.inter, line 3: the column 'item_id' is blank"),
        (COLUMNS, [(1, 2, 1, "nan")], r"a\.inter, line 2: the column 'timestamp' is blank"),
        (COLUMNS[:3], [(1, 2, "like")], "can't be read: row 1 of the column 'sign:float' holds 'like', not a number"),
        (COLUMNS[:3], [(1, 2, "True"), (1, 3, "False")], "holds 'True', and a sign is .*; set sign_rule={like: 'sign"),
        (COLUMNS[:3], [(1, 2, 1), (1, 2, 1, 4)], "can't be read: .*Expected 3 fields in line 3, saw 4"),
        (COLUMNS[:3], [(1, 2, 1, 4), (1, 2, 1)], "can't be read"),
        (COLUMNS[:3], [], "holds no rows"),
        ((*COLUMNS[:3], "sign:float"), [(1, 2, 1, 1)], "names the column 'sign' twice"),
    ],
)
def test_what_does_not_fit_is_said(write_inter: Write, columns: list[str], rows: list[tuple], message: str) -> None:
    check_refused(message, read_rows, write_inter("a", columns, rows))


def test_what_is_not_there_is_said(write_inter: Write, tmp_path: Path) -> None:
    folder = write_inter("movies", COLUMNS[:3], [(1, 2, 1)])
    check_refused(r"no data set folder .*; did you mean 'movies'\?", read_rows, folder.parent / "movie")
    with pytest.raises(UsageError, match=r"no data set folder .*; 'recbole-signed convert' makes one"):
        read_rows(tmp_path / "nowhere" / "movies")
    (folder / "movies.yaml").write_text("benchmark_filename: [train, later]", encoding="utf-8")
    check_refused(re.escape("holds no movies.train.inter"), read_rows, folder)
    (folder / "movies.yaml").write_text("benchmark_filename: train", encoding="utf-8")
    check_refused("benchmark_filename is 'train'; it must be a list, such as", read_rows, folder)
    (folder / "movies.yaml").write_text("a: [", encoding="utf-8")
    check_refused("is not valid yaml", read_rows, folder)


cells = st.text(st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.lists(cells, min_size=1, max_size=5), max_size=6),
    header=st.sampled_from([COLUMNS, COLUMNS[:3], COLUMNS[:1]]),
    raw=st.binary(max_size=12),
)
def test_anything_is_read_or_refused_in_a_sentence(
    lines: list[list[str]], header: tuple[str, ...], raw: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "any"
    folder.mkdir(exist_ok=True)
    text = "\t".join(header) + "\n" + "\n".join("\t".join(line) for line in lines)
    (folder / "any.inter").write_bytes(text.encode() + raw)
    rows: RawRows | str
    try:
        rows = read_rows(folder)
    except UsageError as error:
        rows = str(error)
    if isinstance(rows, str):
        assert "any.inter" in rows
    else:
        assert len(rows) >= 1
        assert set(rows.signs.tolist()) <= {-1, 0, 1}


Row = tuple[str, str, int, int]
NAME = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True).filter(lambda name: name not in ("and", "or"))  # of rules
NAMES = st.lists(NAME, min_size=5, max_size=5, unique=True)
TOKENS = st.sampled_from(["u", "7", "007", "é", '"q"', "a b", "x-y"])
VERDICTS = st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from([1, -1, 0])), max_size=12)


def by_run(name: str, root: Path) -> Counter[Row]:
    settings = {"data_path": str(root), "state": "ERROR", "show_progress": False, "duplicate_pairs": "keep"}
    data = create_dataset(Config(model="BPR", dataset=name, config_dict=settings))
    data._change_feat_format()
    rows: Counter[Row] = Counter()
    for table, sign in (("inter_feat", 1), ("neg_feat", -1), ("neutral_feat", 0)):
        feat, time = getattr(data, table), data._row_keys[table].time
        users, items = (data.id2token(field, feat[field].numpy()) for field in (data.uid_field, data.iid_field))
        rows.update((str(u), str(i), sign, int(t)) for u, i, t in zip(users, items, time, strict=True))
    return rows


def by_stats(folder: Path) -> Counter[Row]:
    rows = read_rows(folder)
    assert rows.tokens is not None
    assert rows.times is not None
    users, items = (rows.tokens[0].gather(rows.users), rows.tokens[1].gather(rows.items))
    return Counter(zip(users, items, rows.signs.tolist(), rows.times.tolist(), strict=True))


def by_replay(folder: Path) -> Counter[Row]:
    batch = events_of(folder)
    assert (np.diff(batch.timestamp) >= 0).all()
    seconds = (batch.timestamp // 1000).tolist()
    return Counter(zip(batch.user_id, batch.item_id, sign_of(batch.type).tolist(), seconds, strict=True))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=NAMES,
    separator=st.sampled_from(["\t", ",", ";", "|"]),
    encoding=st.sampled_from([None, "latin-1"]),
    verdicts=VERDICTS,
    by_rule=st.booleans(),
    in_parts=st.booleans(),
    order=st.permutations(range(5)),
    data=st.data(),
)
def test_run_stats_and_replay_read_the_same_rows(
    names: list[str],
    separator: str,
    encoding: str | None,
    verdicts: list[tuple[str, str, int]],
    by_rule: bool,
    in_parts: bool,
    order: list[int],
    data: st.DataObject,
    tmp_path: Path,
) -> None:
    name = f"set{len(list(tmp_path.iterdir()))}"
    folder = tmp_path / name
    folder.mkdir()
    user, item, signal, time, other = names
    # a user with both verdicts, in each of the parts
    rows = [("u", "x", 1), ("u", "y", -1), *verdicts, ("u", "z", 1), ("u", "y", -1)]
    times = data.draw(st.lists(st.integers(1_500_000_000, 1_600_000_000), min_size=len(rows), max_size=len(rows)))
    value = {1: 5, 0: 3, -1: 1} if by_rule else {1: 1, 0: 0, -1: -1}
    kinds = [f"{user}:token", f"{item}:token", f"{signal}:float", f"{time}:float", f"{other}:float"]
    cells = [[u, i, str(value[s]), str(t), "0.5"] for (u, i, s), t in zip(rows, times, strict=True)]
    lines = [separator.join(row[place] for place in order) for row in (kinds, *cells)]
    pieces = {"": lines}
    if in_parts:
        pieces = {".train": lines[:-2], ".test": [lines[0], *lines[-2:]]}
    for part, each in pieces.items():
        (folder / f"{name}{part}.inter").write_text("\n".join(each) + "\n", encoding=encoding or "utf-8")
    chosen: dict[str, Any] = {
        "USER_ID_FIELD": user, "ITEM_ID_FIELD": item, "TIME_FIELD": time, "field_separator": separator,
        "load_col": {"inter": names[:4]}, **({"encoding": encoding} if encoding else {}),
        **({"benchmark_filename": ["train", "test"]} if in_parts else {}),
    }  # fmt: skip
    if by_rule:
        chosen["sign_rule"] = {"like": f"{signal} >= 4", "dislike": f"{signal} <= 2"}
    else:
        chosen["SIGN_FIELD"] = signal
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    read = by_run(name, tmp_path)
    assert read == by_stats(folder) == by_replay(folder)
    assert sum(read.values()) == len(rows)


def test_a_sign_that_is_ignored_is_ignored_everywhere(write_inter: Any) -> None:
    folder = write_inter("set", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], [("a", "x", 1, 5)])
    (folder / "set.yaml").write_text("SIGN_FIELD: ~\n")
    for read in (read_rows, events_of):
        check_refused("has no column 'sign'; write a column", read, folder)
    assert events_of(folder, {"like": "sign == 1"}).type.tolist() == [1]


def test_a_file_is_read_by_the_yaml_of_its_folder(write_inter: Any) -> None:
    folder = write_inter("set", ["who:token", "what:token", "sign:float"], [("a", "x", 1)], part="train")
    (folder / "set.yaml").write_text("USER_ID_FIELD: who\nITEM_ID_FIELD: what\n")
    rows = read_rows(folder / "set.train.inter")
    assert (len(rows), rows.parts) == (1, {})
