from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed.atomic import read_rows
from recbole_signed.atomic.inter_file import RawRows
from recbole_signed.errors import UsageError

COLUMNS = ("user_id:token", "item_id:token", "sign:float", "timestamp:float")
Write = Callable[..., Path]


def test_one_file(write_inter: Write) -> None:
    rows = read_rows(write_inter("a", COLUMNS, [("u1", "x", 1, 30), ("u2", "x", -1, 10), ("u1", '"y"', 0, 20.5)]))
    assert (rows.n_users, rows.n_items, len(rows), rows.parts) == (2, 2, 3, {})
    assert rows.users[0] == rows.users[2] != rows.users[1]
    assert rows.items[0] == rows.items[1] != rows.items[2]
    assert rows.signs.tolist() == [1, -1, 0]
    assert rows.times is not None
    assert rows.times.tolist() == [30, 10, 20.5]


def test_parts_share_their_ids(write_inter: Write) -> None:
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
)  # fmt: skip
def test_what_does_not_fit_is_said(write_inter: Write, columns: list[str], rows: list[tuple], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_rows(write_inter("a", columns, rows))


def test_what_is_not_there_is_said(write_inter: Write, tmp_path: Path) -> None:
    folder = write_inter("movies", COLUMNS[:3], [(1, 2, 1)])
    with pytest.raises(UsageError, match=r"no data set folder .*; did you mean 'movies'\?"):
        read_rows(folder.parent / "movie")
    with pytest.raises(UsageError, match=r"no data set folder .*; 'recbole-signed convert' makes one"):
        read_rows(tmp_path / "nowhere" / "movies")
    (folder / "movies.yaml").write_text("benchmark_filename: [train, later]", encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape("holds no movies.train.inter")):
        read_rows(folder)
    (folder / "movies.yaml").write_text("benchmark_filename: train", encoding="utf-8")
    with pytest.raises(UsageError, match="benchmark_filename is 'train'; it must be a list, such as"):
        read_rows(folder)
    (folder / "movies.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid yaml"):
        read_rows(folder)


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
